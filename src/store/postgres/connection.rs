//! Connections: one lane for each kind of work, opened when it is needed, checked when it is opened,
//! given up when it is silent.
//!
//! A connection carries one transaction at a time. Whoever has the turn takes the connection out of its
//! lane and puts it back at the end: one that was left in the middle of something, for whatever reason,
//! is closed, and the server rolls back what was begun on it. It may also commit it, a good while later: so
//! the next transaction of the lane waits for that one on the server.
//!
//! A server that is away is no error until somebody calls. Each call tries anew.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::future::try_join_all;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, timeout_at},
};
use tokio_postgres::{Client, Row, Statement, types::ToSql};

use super::{check, error::Trouble, generation, schema, target::Target};
use crate::{
    clock::{Clock, Timestamp},
    limits,
    store::{StoreError, generation::Seen},
};

/// How often the distance between our clock and the server's is measured.
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);

/// The values for a statement.
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The way to one server, and how to tell its time.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) target: Arc<Target>,
    pub(super) clock: Arc<dyn Clock>,
    /// The standbys that a commit waits for, as the server names them; `None` until it was seen.
    pub(super) standbys: Arc<std::sync::Mutex<Option<String>>>,
    /// What was last seen of the database.
    pub(super) seen: Arc<Seen>,
    /// The server's clock less ours.
    offset_ms: Arc<AtomicI64>,
}

/// One connection, for one kind of work, and the turns on it.
#[derive(Debug)]
pub(super) struct Lane {
    way: Way,
    /// The lock on the server that every transaction of this lane holds.
    lock: i64,
    patience: Duration,
    /// Whether it also says to the database that it has come further.
    rises: bool,
    /// Prepared when the connection is opened, so that they can be sent without waiting.
    statements: Vec<&'static str>,
    slot: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    client: Client,
    prepared: HashMap<&'static str, Statement>,
    /// Begins a transaction whose commit is durable.
    begin: String,
    measured_at: Duration,
}

/// What a transaction writes for. While the store moves house, not everything is allowed: the server looks
/// at that, so that it costs no round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To begin something, or anything else that needs a store which serves.
    Serve,
    /// To end what runs: also allowed while the store is handed over.
    End,
    /// To move the store, with nobody else at it. Waits for all who are.
    Move,
}

/// One caller's use of a lane, with a deadline for everything it asks.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    slot: MutexGuard<'a, Option<Open>>,
    way: &'a Way,
    lock: i64,
    open: Open,
    given_up: bool,
    deadline: Instant,
}

impl Way {
    /// The way to `target`. Nothing is sent yet.
    pub(super) fn new(target: Target, seen: Arc<Seen>, clock: Arc<dyn Clock>) -> Self {
        let (standbys, offset_ms) = (Arc::default(), Arc::default());
        Self { target: Arc::new(target), clock, standbys, seen, offset_ms }
    }

    fn offset_ms(&self) -> i64 {
        self.offset_ms.load(Ordering::Relaxed)
    }
}

impl Lane {
    /// A lane whose calls may each take `patience`. Nothing is sent yet.
    pub(super) fn new(way: &Way, patience: Duration, statements: &[&[&'static str]]) -> Self {
        Self {
            way: way.clone(),
            lock: rand::random(),
            patience,
            rises: false,
            statements: statements.concat(),
            slot: Mutex::default(),
        }
    }

    /// The same, and it also says to the database that it has come further.
    pub(super) fn rising(self) -> Self {
        Self { rises: true, ..self }
    }

    /// A person accepts what the database has lost. Says whether it had lost anything.
    pub(super) async fn accept(&self) -> Result<bool, StoreError> {
        let deadline = Instant::now() + self.patience;
        let mut slot = self.slot.lock().await;
        *slot = None; // what it saw last may be some seconds old
        let accept = async {
            match self.opened().await {
                Ok(open) => *slot = Some(open),
                Err(Trouble { error: StoreError::Forgotten(_), .. }) => {
                    let (client, begin) = self.reached().await?;
                    generation::accept(&self.way, &client, &begin).await?;
                    return Ok(true);
                }
                Err(trouble) => return Err(trouble),
            }
            Ok(false)
        };
        Ok(timeout_at(deadline, accept).await.map_err(|_| silent())??)
    }

    /// A turn on an open, checked connection, which is opened if there is none.
    pub(super) async fn turn(&self) -> Result<Turn<'_>, Trouble> {
        let deadline = Instant::now() + self.patience;
        let turn = async {
            let mut slot = self.slot.lock().await;
            let known = slot.take().filter(|open| !open.client.is_closed());
            let open = match known {
                Some(open) if self.is_measured(&open) => Some(open),
                Some(open) => self.measured(open).await.ok(),
                None => None,
            };
            let open = match open {
                Some(open) => open,
                None => self.opened().await?,
            };
            Ok(Turn { slot, way: &self.way, lock: self.lock, open, given_up: false, deadline })
        };
        timeout_at(deadline, turn).await.map_err(|_| silent())?
    }

    /// A new connection, to a server that is as strong as it must be and has our tables.
    async fn opened(&self) -> Result<Open, Trouble> {
        let (client, begin) = self.reached().await?;
        if !schema::is_there(&client).await? {
            generation::may_be_new(&self.way)?;
        }
        schema::make_if_new(&client).await?;
        client.batch_execute(&self.settings()).await?;
        let prepared = try_join_all(self.statements.iter().map(|sql| client.prepare(sql))).await?;
        let prepared = self.statements.iter().copied().zip(prepared).collect();
        self.measured(Open { client, prepared, begin, measured_at: Duration::ZERO }).await
    }

    /// A new connection to a server that is strong enough, and how a durable transaction begins there.
    async fn reached(&self) -> Result<(Client, String), Trouble> {
        let client = self.way.target.connect().await?;
        let found = check::server(&client).await?;
        let synchronous_commit = found.synchronous_commit;
        *self.way.standbys.lock().unwrap_or_else(PoisonError::into_inner) = Some(found.standbys);
        // Whatever the defaults of server, database or user are.
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE;
             SET LOCAL synchronous_commit = {synchronous_commit}"
        );
        Ok((client, begin))
    }

    fn settings(&self) -> String {
        let patience_ms = self.patience.as_millis();
        let lock_ms = limits::STORE_LOCK_TIMEOUT.as_millis();
        // What was abandoned ends by itself. The last three see to it
        // that a plan made while the tables were empty is still right when they are not.
        format!(
            "SET statement_timeout = {patience_ms}; SET lock_timeout = {lock_ms};
             SET idle_in_transaction_session_timeout = {patience_ms};
             SET client_min_messages = error; SET jit = off;
             SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"
        )
    }

    fn is_measured(&self, open: &Open) -> bool {
        let age = self.way.clock.monotonic().saturating_sub(open.measured_at);
        age < MEASURE_INTERVAL
    }

    async fn measured(&self, mut open: Open) -> Result<Open, Trouble> {
        let before = self.way.clock.now().as_millis();
        let theirs: i64 = open.client.query_one("SELECT now_ms()", &[]).await?.try_get(0)?;
        let after = self.way.clock.now().as_millis();
        let offset_ms = theirs - (before + (after - before) / 2);
        // A difference that the journey there and back explains is none: times that are written and
        // read again stay as they were.
        if (offset_ms - self.way.offset_ms()).abs() > (after - before) / 2 + 1 {
            self.way.offset_ms.store(offset_ms, Ordering::Relaxed);
        }
        let begin = self.rises.then_some(open.begin.as_str());
        generation::meet(&self.way, &open.client, begin).await?;
        open.measured_at = self.way.clock.monotonic();
        Ok(open)
    }
}

impl Turn<'_> {
    /// Runs a statement of the lane's.
    pub(super) async fn query(
        &self,
        sql: &'static str,
        values: Values<'_>,
    ) -> Result<Vec<Row>, Trouble> {
        let statement = self.prepared(sql);
        self.answer(Box::pin(self.open.client.query(statement, values))).await
    }

    /// The same for one without an answer. Says how many rows it was about.
    pub(super) async fn execute(
        &self,
        sql: &'static str,
        values: Values<'_>,
    ) -> Result<u64, Trouble> {
        let statement = self.prepared(sql);
        self.answer(Box::pin(self.open.client.execute(statement, values))).await
    }

    /// Runs a statement that is put together, for a person who looks at a list.
    pub(super) async fn query_text(
        &self,
        sql: &str,
        values: Values<'_>,
    ) -> Result<Vec<Row>, Trouble> {
        self.answer(Box::pin(self.open.client.query(sql, values))).await
    }

    /// Begins a transaction, unless its purpose is not allowed now: then it is broken off with
    /// [`StoreError::Moving`]. It may be sent together with the statements that follow.
    ///
    /// It waits for the one before it on this lane, should that have been given up while the server was still
    /// at it: what it did is seen by all that follows, or it did nothing. Where that takes too long this
    /// is `Unavailable`, so no more than one that was given up is ever left to a lane.
    pub(super) async fn begin(&self, purpose: Purpose) -> Result<(), Trouble> {
        let enter = match purpose {
            Purpose::Serve => "SELECT enter('serve')",
            Purpose::End => "SELECT enter('end')",
            // Those it waits for may take as long as a chore does.
            Purpose::Move => "SET LOCAL lock_timeout = 0; SELECT enter('move')",
        };
        let begin =
            format!("{}; SELECT pg_advisory_xact_lock({}); {enter}", self.open.begin, self.lock);
        let begun = self.answer(self.open.client.batch_execute(&begin)).await;
        begun.map_err(|trouble| Trouble { is_of_one: false, ..trouble })
    }

    /// Begins a transaction whose statements all see the same.
    pub(super) async fn begin_reading(&self) -> Result<(), Trouble> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
        self.answer(self.open.client.batch_execute(begin)).await
    }

    /// Commits. It may be sent together with the statements before it: after an error in one of them
    /// the server does not commit. An error means that it may have committed or not.
    pub(super) async fn commit(&self) -> Result<(), Trouble> {
        // A time-out while it waits for a synchronous standby would end in a commit that says nothing
        // of the standby. So there is none, and whoever waits here gives up by itself.
        let commit = "SET LOCAL statement_timeout = 0; COMMIT";
        self.answer(self.open.client.batch_execute(commit)).await
    }

    /// The same for a transaction that writes nothing, or whose writes are not wanted any more.
    pub(super) async fn roll_back(&self) -> Result<(), Trouble> {
        self.answer(self.open.client.batch_execute("ROLLBACK")).await
    }

    /// The server's time.
    pub(super) async fn now(&self) -> Result<Timestamp, Trouble> {
        let row = self.query(NOW, &[]).await?.into_iter().next();
        let row = row.ok_or_else(|| Trouble::odd("it does not say what time it is"))?;
        Ok(Timestamp::from_millis(row.try_get(0)?))
    }

    /// Writes something, to learn whether that can be done.
    pub(super) async fn probe(&self) -> Result<(), Trouble> {
        let begin = self.begin(Purpose::Serve);
        tokio::try_join!(biased; begin, self.execute(PROBE, &[]), self.commit()).map(drop)
    }

    /// Breaks the transaction off if it is later than `not_after` on the server. Sent before a commit,
    /// it keeps a server that hung from doing late what nobody waits for.
    pub(super) async fn in_time(&self, not_after: Timestamp) -> Result<(), Trouble> {
        let not_after = self.to_server(not_after).as_millis();
        self.query(IN_TIME, &[&not_after]).await.map(drop)
    }

    /// Tidies up and gives the connection back, if it can be used again.
    pub(super) async fn end<T>(mut self, result: Result<T, Trouble>) -> Result<T, StoreError> {
        self.tidy_up(&result).await;
        self.give_back();
        Ok(result?)
    }

    /// Gives the connection back after [`Turn::tidy_up`].
    pub(super) fn give_back(self) {
        let Self { mut slot, open, given_up, .. } = self;
        *slot = (!given_up).then_some(open);
    }

    /// Ends what an error left half done. Says whether the turn can go on.
    pub(super) async fn tidy_up<T>(&mut self, result: &Result<T, Trouble>) -> bool {
        if let Err(trouble) = result {
            self.given_up |= !trouble.is_connected || self.roll_back().await.is_err();
        }
        !self.given_up
    }

    /// Our own time.
    pub(super) fn our_now(&self) -> Timestamp {
        self.way.clock.now()
    }

    /// Our own time that is never set.
    pub(super) fn monotonic(&self) -> Duration {
        self.way.clock.monotonic()
    }

    /// A time of ours as the server tells it.
    pub(super) fn to_server(&self, time: Timestamp) -> Timestamp {
        time.shifted(self.way.offset_ms())
    }

    /// A time of the server's as we tell it.
    pub(super) fn to_ours(&self, time: Timestamp) -> Timestamp {
        time.shifted(self.way.offset_ms().saturating_neg())
    }

    fn prepared(&self, sql: &'static str) -> &Statement {
        self.open.prepared.get(sql).expect("a lane knows all statements of its work")
    }

    async fn answer<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Trouble> {
        Ok(timeout_at(self.deadline, answer).await.map_err(|_| silent())??)
    }
}

/// What every lane needs.
pub(super) const STATEMENTS: &[&str] = &[NOW, IN_TIME];

/// What a lane needs that is asked whether the store can be written to.
pub(super) const PROBE_STATEMENTS: &[&str] = &[PROBE];

const NOW: &str = "SELECT now_ms()";
const IN_TIME: &str = "SELECT in_time($1)";
const PROBE: &str = "UPDATE probe SET at = now_ms()";

fn silent() -> Trouble {
    Trouble::silent("postgres did not answer in time")
}
