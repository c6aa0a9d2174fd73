//! The connection: opened when it is needed, checked when it is opened, given up when it is silent.
//!
//! One multiplexed connection carries all calls of this process. The client answers them in the
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
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, Pipeline, RedisError, RedisResult,
    aio::MultiplexedConnection,
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};

use super::{check, scripts::Call};
use crate::{
    clock::{Clock, Timestamp},
    limits,
    store::{Durability, StoreError},
};

/// How often the distance between our clock and the server's is measured.
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);

/// The way to one server.
pub(super) struct Connection {
    client: Client,
    durability: Durability,
    clock: Arc<dyn Clock>,
    latest: Mutex<Option<Open>>,
}

#[derive(Clone)]
struct Open {
    connection: MultiplexedConnection,
    /// Whether somebody has given it up; shared by all who use it.
    given_up: Arc<AtomicBool>,
    /// The server's clock less ours.
    offset_ms: i64,
    measured_at: Duration,
}

/// One caller's use of the connection, with a deadline for everything it asks.
pub(super) struct Session {
    open: Open,
    deadline: Instant,
}

impl Connection {
    /// The way to the server at `url`. Nothing is sent yet.
    pub(super) fn new(
        url: &str,
        durability: Durability,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StoreError> {
        // The error of the client may quote the URL, and with it the password.
        let client = Client::open(url).map_err(|_| {
            StoreError::Failed(
                "its url is not one of the form redis://user:password@host:port/db".to_owned(),
            )
        })?;
        Ok(Arc::new(Self { client, durability, clock, latest: Mutex::default() }))
    }

    /// A session on an open, checked connection, which is opened if there is none.
    pub(super) async fn session(&self) -> Result<Session, StoreError> {
        let deadline = Instant::now() + limits::STORE_CALL_TIMEOUT;
        let open = timeout_at(deadline, self.open()).await.map_err(|_| silent())??;
        Ok(Session { open, deadline })
    }

    /// The time by our own clock.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Where it leads, without user and password.
    pub(super) fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }

    async fn open(&self) -> Result<Open, StoreError> {
        // One caller opens; the others wait for it, each until its own deadline.
        let mut latest = self.latest.lock().await;
        // It is taken out and put back: should this be given up half-way, it is not used again.
        let known = latest.take().filter(|open| !open.given_up.load(Ordering::Relaxed));
        let measured = match known {
            Some(open) if self.is_measured(&open) => Some(open),
            Some(open) => self.measured(open).await.ok(),
            None => None,
        };
        let open = match measured {
            Some(open) => open,
            None => self.opened().await?,
        };
        *latest = Some(open.clone());
        Ok(open)
    }

    /// A new connection, to a server that is as strong as it must be.
    async fn opened(&self) -> Result<Open, StoreError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(limits::STORE_CALL_TIMEOUT))
            .set_response_timeout(Some(limits::STORE_CALL_TIMEOUT));
        let opening = self.client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = opening.await.map_err(|error| store_error(&error))?;
        check::server(&mut connection, self.durability).await?;
        let (given_up, measured_at) = (Arc::default(), Duration::ZERO);
        let open = Open { connection, given_up, offset_ms: 0, measured_at };
        self.measured(open).await.map_err(|error| store_error(&error))
    }

    fn is_measured(&self, open: &Open) -> bool {
        let age = self.clock.monotonic().saturating_sub(open.measured_at);
        age < MEASURE_INTERVAL
    }

    async fn measured(&self, mut open: Open) -> RedisResult<Open> {
        let before = self.clock.now().as_millis();
        let (seconds, micros): (i64, i64) =
            redis::cmd("TIME").query_async(&mut open.connection).await?;
        let after = self.clock.now().as_millis();
        open.offset_ms = seconds * 1000 + micros / 1000 - (before + (after - before) / 2);
        open.measured_at = self.clock.monotonic();
        Ok(open)
    }
}

impl Session {
    /// Asks one command.
    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let mut connection = self.open.connection.clone();
        self.answer(command.query_async(&mut connection)).await
    }

    /// Asks several commands at once.
    pub(super) async fn pipeline<T: FromRedisValue>(
        &self,
        commands: &Pipeline,
    ) -> Result<T, StoreError> {
        let mut connection = self.open.connection.clone();
        self.answer(commands.query_async(&mut connection)).await
    }

    /// Calls a script, which is loaded first where the server does not know it (any more).
    pub(super) async fn call<T: FromRedisValue>(&self, call: &Call) -> Result<T, StoreError> {
        let mut connection = self.open.connection.clone();
        let answer = async {
            match call.command.query_async(&mut connection).await {
                Err(error) if error.code() == Some("NOSCRIPT") => {
                    call.script.load_async(&mut connection).await?;
                    call.command.query_async(&mut connection).await
                }
                answered => answered,
            }
        };
        self.answer(answer).await
    }

    /// A time of ours as the server tells it.
    pub(super) fn to_server(&self, time: Timestamp) -> i64 {
        // Far beyond any calendar, and still exact in a script's numbers.
        const LAST: i64 = 1 << 52;
        time.as_millis().saturating_add(self.open.offset_ms).clamp(-LAST, LAST)
    }

    /// A time of the server's as we tell it.
    pub(super) fn to_ours(&self, millis: i64) -> Timestamp {
        Timestamp::from_millis(millis.saturating_sub(self.open.offset_ms))
    }

    async fn answer<T>(
        &self,
        answer: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, StoreError> {
        let answered = timeout_at(self.deadline, answer).await;
        let is_over = match &answered {
            Ok(Ok(_)) => false,
            // A primary that became a replica takes no write any more: another may have its address.
            Ok(Err(error)) => {
                error.is_io_error()
                    || error.is_unrecoverable_error()
                    || error.code() == Some("READONLY")
            }
            Err(_) => true,
        };
        if is_over {
            self.open.given_up.store(true, Ordering::Relaxed);
        }
        answered.map_err(|_| silent())?.map_err(|error| store_error(&error))
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
    const PASSES: [&str; 9] = [
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

/// Without user and password.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("address", &self.address())
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn errors_are_sorted_by_who_must_act() {
        let sorted = |text| server_error(text);
        assert!(matches!(sorted("OOM command not allowed"), StoreError::Full(_)));
        assert!(matches!(sorted("LOADING Redis is loading"), StoreError::Unavailable(_)));
        assert!(matches!(sorted("READONLY You can't write"), StoreError::Unavailable(_)));
        assert!(matches!(sorted("WRONGTYPE Operation against"), StoreError::Failed(_)));
        assert!(matches!(sorted("NOPERM this user"), StoreError::Failed(_)));
    }

    #[test]
    fn no_debug_output_shows_a_password() {
        let url = "redis://worker:swordfish@127.0.0.1:6379/0";
        let connection = Connection::new(url, Durability::Always, SystemClock::start()).unwrap();
        assert!(!format!("{connection:?}").contains("swordfish"), "{connection:?}");
        let refused =
            Connection::new("redis:/worker:swordfish@", Durability::Always, SystemClock::start());
        assert!(!format!("{:?}", refused.unwrap_err()).contains("swordfish"));
    }
}
