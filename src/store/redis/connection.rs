//! The connection of one bucket: opened when it is needed, checked when it is opened, given up when it
//! is silent or leads to the wrong server.
//!
//! One multiplexed connection carries all calls of this process on the bucket. The client answers them in the
//! order they were sent, and an answer that nobody waits for any more is dropped in its turn, so a
//! late answer is never taken for another call's. Even so a connection that was silent for a whole
//! call is not used again: the server may have gone away without a word.
//!
//! A server that is away is no error until somebody calls. Each call tries anew, so that a server
//! that came back is in use with the next call.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, Value,
    aio::MultiplexedConnection, from_redis_value,
};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout_at},
};

use super::{address::Host, check, keys::Bucket, meet, primary::Primaries, scripts::Call};
use crate::{
    clock::{Clock, Timestamp},
    limits,
    store::{Durability, StoreError, generation::Seen, moving::Standing},
};

/// How often the distance between our clock and the server's is measured, and the generation rises.
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);

/// How long a replica has to take what was written, out of the time of the call.
const REPLICA_TIMEOUT: Duration = Duration::from_millis(300);

/// How long a server that refuses us, or that we refuse, is not asked again.
const REFUSAL_LIVES: Duration = Duration::from_millis(100);

/// How long to wait before a call that was turned away is sent again; each time twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The way to the server that has one bucket.
pub(super) struct Connection {
    pub(super) bucket: Bucket,
    pub(super) durability: Durability,
    pub(super) seen: Arc<Seen>,
    pub(super) clock: Arc<dyn Clock>,
    primaries: Arc<Primaries>,
    latest: Mutex<Latest>,
}

/// How the last opening went.
#[derive(Default)]
struct Latest {
    open: Option<Open>,
    refused: Option<(Duration, StoreError)>,
}

#[derive(Clone)]
pub(super) struct Open {
    host: Host,
    connection: MultiplexedConnection,
    /// Where writes wait for a replica, what only reads has a connection of its own.
    reads: MultiplexedConnection,
    waits_for_replica: bool,
    /// Whether somebody has given it up; shared by all who use it.
    given_up: Arc<AtomicBool>,
    /// The generation that the bucket is in.
    generation: Arc<str>,
    /// The server's clock less ours.
    offset_ms: i64,
    measured_at: Duration,
}

/// One caller's use of the connection, with a deadline for everything it asks.
pub(super) struct Session {
    way: Arc<Connection>,
    open: Open,
    deadline: Instant,
}

impl Connection {
    /// The way to a bucket. Nothing is sent yet.
    pub(super) fn new(
        primaries: Arc<Primaries>,
        bucket: Bucket,
        durability: Durability,
        seen: Arc<Seen>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let latest = Mutex::default();
        Arc::new(Self { bucket, durability, seen, clock, primaries, latest })
    }

    /// A session on an open, checked connection, which is opened if there is none.
    pub(super) async fn session(self: &Arc<Self>) -> Result<Session, StoreError> {
        let deadline = Instant::now() + limits::STORE_CALL_TIMEOUT;
        let open = timeout_at(deadline, self.open()).await.map_err(|_| silent())??;
        Ok(Session { way: Arc::clone(self), open, deadline })
    }

    /// A person accepts what this bucket has lost. Says whether it had lost anything.
    pub(super) async fn accept(&self) -> Result<bool, StoreError> {
        let mut latest = self.latest.lock().await;
        latest.open = None;
        match self.opened().await {
            Ok(_) => return Ok(false),
            Err(StoreError::Forgotten(_)) => {}
            Err(error) => return Err(error),
        }
        let (_, open) = self.reached().await?;
        meet::accept(self, &open).await?;
        latest.refused = None;
        Ok(true)
    }

    /// How many buckets the store has.
    pub(super) fn buckets(&self) -> u8 {
        self.primaries.address.buckets
    }

    /// Whether another server may come to have the bucket, and know less of it.
    pub(super) fn may_fail_over(&self) -> bool {
        self.primaries.address.has_replicas()
    }

    async fn open(&self) -> Result<Open, StoreError> {
        // One caller opens; the others wait for it, each until its own deadline.
        let mut latest = self.latest.lock().await;
        let now = self.clock.monotonic();
        if let Some((since, error)) = &latest.refused
            && now.saturating_sub(*since) < REFUSAL_LIVES
        {
            return Err(error.clone());
        }
        // It is taken out and put back: should this be given up half-way, it is not used again.
        let known = latest.open.take().filter(|open| !open.given_up.load(Ordering::Relaxed));
        let measured = match known {
            Some(open) if now.saturating_sub(open.measured_at) < MEASURE_INTERVAL => Some(open),
            Some(open) => self.measured(open).await.ok(),
            None => None,
        };
        let opened = match measured {
            Some(open) => Ok(open),
            None => self.opened().await,
        };
        latest.open = opened.as_ref().ok().cloned();
        // Who is away may be back at any moment. What refuses does so until somebody has acted.
        let refused = opened.as_ref().err().filter(|e| !matches!(e, StoreError::Unavailable(_)));
        latest.refused = refused.map(|error| (now, error.clone()));
        opened
    }

    /// A new connection, to a server that is as strong as it must be, and has what it had.
    async fn opened(&self) -> Result<Open, StoreError> {
        let (mut connection, open) = self.reached().await?;
        check::server(&mut connection, self.durability).await?;
        check::user(&mut connection, &self.bucket).await?;
        self.measured(open).await
    }

    /// A connection to the primary, not looked at yet.
    async fn reached(&self) -> Result<(MultiplexedConnection, Open), StoreError> {
        let host = self.primaries.of(self.bucket.tag().as_bytes()).await?;
        let client = self.primaries.address.client(&host)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(limits::STORE_CALL_TIMEOUT))
            .set_response_timeout(Some(limits::STORE_CALL_TIMEOUT));
        let connect = || async {
            let connecting = client.get_multiplexed_async_connection_with_config(&config);
            connecting.await.map_err(|error| store_error(&error))
        };
        let connection = connect().await?;
        let waits_for_replica = self.durability == Durability::Replicated;
        let reads = if waits_for_replica { connect().await? } else { connection.clone() };
        let open = Open {
            host,
            connection: connection.clone(),
            reads,
            waits_for_replica,
            given_up: Arc::default(),
            generation: "".into(),
            offset_ms: 0,
            measured_at: Duration::ZERO,
        };
        Ok((connection, open))
    }

    /// The same connection with the server's time and the bucket's generation as they are now.
    async fn measured(&self, mut open: Open) -> Result<Open, StoreError> {
        open.generation = meet::meet(self, &open).await?;
        // Asked by itself: the time that a replica or a disk takes would be taken for that of the way.
        let before = self.clock.now().as_millis();
        let asked = redis::cmd("TIME").query_async(&mut open.reads).await;
        let (seconds, micros): (i64, i64) = asked.map_err(|error| store_error(&error))?;
        let after = self.clock.now().as_millis();
        let way_ms = (after - before) / 2;
        let offset_ms = seconds * 1000 + micros / 1000 - (before + way_ms);
        // What may be nothing but the way is taken for nothing: buckets on nodes whose clocks agree then
        // agree on what is due first.
        open.offset_ms = if offset_ms.abs() <= way_ms + 1 { 0 } else { offset_ms };
        open.measured_at = self.clock.monotonic();
        Ok(open)
    }
}

impl Open {
    /// Calls a script, which is loaded first where the server does not know it (any more). What is to
    /// be on a replica too is waited for on the connection that wrote it: no other one knows of it.
    pub(super) async fn script(&self, call: &Call) -> RedisResult<(Value, IsSafe)> {
        let mut connection = self.connection.clone();
        if !self.waits_for_replica {
            let answered = match call.command.query_async(&mut connection).await {
                Err(error) if error.code() == Some("NOSCRIPT") => {
                    call.script.load_async(&mut connection).await?;
                    call.command.query_async(&mut connection).await
                }
                answered => answered,
            };
            return Ok((answered?, true));
        }
        let mut pair = Pipeline::with_capacity(2);
        pair.add_command(call.command.clone()).ignore_errors();
        pair.cmd("WAIT").arg(1).arg(u64::try_from(REPLICA_TIMEOUT.as_millis()).unwrap_or(1));
        let mut answers: Vec<RedisResult<Value>> = pair.query_async(&mut connection).await?;
        if answers.first().is_some_and(|answer| {
            answer.as_ref().is_err_and(|error| error.code() == Some("NOSCRIPT"))
        }) {
            call.script.load_async(&mut connection).await?;
            answers = pair.query_async(&mut connection).await?;
        }
        let replicas: i64 = match answers.pop() {
            Some(answer) => from_redis_value(answer?)?,
            None => 0,
        };
        let answer = answers.pop().unwrap_or(Ok(Value::Nil))?;
        Ok((answer, replicas >= 1))
    }
}

/// Whether as many servers have what was written, or what was seen, as must have it.
type IsSafe = bool;

impl Session {
    /// Asks one command that only reads.
    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let asked = |mut open: Open| async move { command.query_async(&mut open.reads).await };
        self.ask(asked).await
    }

    /// Asks several commands at once that only read.
    pub(super) async fn pipeline<T: FromRedisValue>(
        &self,
        commands: &Pipeline,
    ) -> Result<T, StoreError> {
        let asked = |mut open: Open| async move { commands.query_async(&mut open.reads).await };
        self.ask(asked).await
    }

    /// Calls a script. When it has answered, what it did and what it saw is as safe as it must be.
    pub(super) async fn call<T: FromRedisValue>(&self, call: &Call) -> Result<T, StoreError> {
        let asked = |open: Open| async move { open.script(call).await };
        let (answer, is_safe) = self.ask(asked).await?;
        if !is_safe {
            return Err(not_replicated());
        }
        from_redis_value(answer).map_err(|_| {
            StoreError::Failed("redis answered something else than the script does".to_owned())
        })
    }

    /// The bucket it is about.
    pub(super) fn bucket(&self) -> &Bucket {
        &self.way.bucket
    }

    /// The key that is there as long as the bucket is what it was.
    pub(super) fn counter_key(&self) -> Vec<u8> {
        self.bucket().key("G", self.open.generation.as_bytes())
    }

    /// Whether the bucket is still what it was when it was last looked at.
    pub(super) async fn is_what_it_was(&self) -> Result<(), StoreError> {
        let is_there: bool = self.query(redis::cmd("EXISTS").arg(self.counter_key())).await?;
        if is_there {
            return Ok(());
        }
        self.open.given_up.store(true, Ordering::Relaxed);
        timeout_at(self.deadline, self.way.open()).await.map_err(|_| silent())?.map(drop)
    }

    /// A time of ours as the server tells it.
    pub(super) fn to_server(&self, time: Timestamp) -> i64 {
        // Far beyond any calendar, and still exact in a script's numbers.
        const LAST: i64 = 1 << 52;
        time.shifted(self.open.offset_ms).as_millis().clamp(-LAST, LAST)
    }

    /// A time of the server's as we tell it.
    pub(super) fn to_ours(&self, millis: i64) -> Timestamp {
        Timestamp::from_millis(millis).shifted(self.open.offset_ms.saturating_neg())
    }

    /// Asks, and asks again where a server has turned it away or is gone, until there is no time left.
    async fn ask<T, F>(&self, asked: impl Fn(Open) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let mut open = self.open.clone();
        let mut pause = FIRST_PAUSE;
        loop {
            let answered = timeout_at(self.deadline, asked(open.clone())).await;
            if is_over(&answered) {
                open.given_up.store(true, Ordering::Relaxed);
            }
            let error = match answered {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => return Err(silent()),
            };
            if error.code() == Some("GENERATION") {
                // Whoever looks finds out what has become of it.
                timeout_at(self.deadline, self.way.open()).await.map_err(|_| silent())??;
                return Err(StoreError::Unavailable("its generation has just changed".to_owned()));
            }
            // What a lost connection has done is not known: asked again, it answers the same.
            let is_elsewhere = error.is_connection_dropped()
                || matches!(error.code(), Some("MOVED" | "ASK" | "TRYAGAIN" | "READONLY"));
            if !is_elsewhere || Instant::now() + pause >= self.deadline {
                return Err(store_error(&error));
            }
            sleep(pause).await;
            pause *= 2;
            open = timeout_at(self.deadline, self.way.open()).await.map_err(|_| silent())??;
        }
    }
}

/// Whether an answer says that the connection is of no use any more.
fn is_over<T>(answered: &Result<RedisResult<T>, tokio::time::error::Elapsed>) -> bool {
    // Another server may have the bucket by now: who says so, or cannot say, is not asked again.
    const ENDS: [&str; 6] = ["READONLY", "MOVED", "ASK", "CLUSTERDOWN", "MASTERDOWN", "GENERATION"];
    match answered {
        Ok(Ok(_)) => false,
        Ok(Err(error)) => {
            error.is_io_error()
                || error.is_unrecoverable_error()
                || error.code().is_some_and(|code| ENDS.contains(&code))
        }
        Err(_) => true,
    }
}

/// Whether what `error` says can pass by itself, or somebody has to act.
pub(super) fn store_error(error: &RedisError) -> StoreError {
    if error.is_io_error() || error.is_connection_dropped() {
        return StoreError::Unavailable(format!("redis: {error}"));
    }
    match (error.code(), error.detail()) {
        (Some(code), detail) => server_error(&format!("{code} {}", detail.unwrap_or_default())),
        (None, _) => {
            StoreError::Failed(format!("redis answered unexpectedly: {}", error.category()))
        }
    }
}

/// The same for an error as the server words it: its code first.
pub(super) fn server_error(text: &str) -> StoreError {
    const PASSES: [&str; 12] = [
        "MOVED",
        "ASK",
        "GENERATION",
        "LOADING",
        "READONLY",
        "BUSY",
        "MISCONF",
        "NOREPLICAS",
        "CLUSTERDOWN",
        "MASTERDOWN",
        "TRYAGAIN",
        "NOSCRIPT",
    ];
    if let Some(standing) = text.strip_prefix("MOVING ") {
        return match standing.trim().parse::<Standing>() {
            Ok(standing) => standing.refusal_or("it is not being filled by that copy"),
            Err(error) => error,
        };
    }
    let code = text.split_whitespace().next().unwrap_or_default();
    let said = format!("redis said: {}", text.trim());
    if code == "OOM" {
        StoreError::Full(said)
    } else if PASSES.contains(&code) {
        StoreError::Unavailable(said)
    } else {
        StoreError::Failed(said)
    }
}

fn silent() -> StoreError {
    let waited_ms = limits::STORE_CALL_TIMEOUT.as_millis();
    StoreError::Unavailable(format!("redis did not answer within {waited_ms} ms"))
}

pub(super) fn not_replicated() -> StoreError {
    let waited_ms = REPLICA_TIMEOUT.as_millis();
    StoreError::Unavailable(format!("no replica had it within {waited_ms} ms"))
}

/// Where it leads to, for who looks for the reason of an error.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("host", &self.open.host).finish_non_exhaustive()
    }
}

/// Without user and password.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("address", &self.primaries.address)
            .field("bucket", &self.bucket.tag())
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_sorted_by_who_must_act() {
        let sorted = |text| server_error(text);
        assert!(matches!(sorted("OOM command not allowed"), StoreError::Full(_)));
        assert!(matches!(sorted("LOADING Redis is loading"), StoreError::Unavailable(_)));
        assert!(matches!(sorted("READONLY You can't write"), StoreError::Unavailable(_)));
        assert!(matches!(sorted("WRONGTYPE Operation against"), StoreError::Failed(_)));
        assert!(matches!(sorted("NOPERM this user"), StoreError::Failed(_)));
    }
}
