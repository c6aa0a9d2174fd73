//! The one writer: a thread of its own that runs whatever waits, all verbs mixed, in one
//! transaction, and answers only after its COMMIT.
//!
//! An error in a batch rolls all of it back. Its members then run one by one, each in a transaction
//! of its own and within its own deadline, so that one bad call does not refuse its neighbours.

use std::{slice, sync::Arc, thread, time::Duration};

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::{count::Counted, error, generation::Riser, jump::Jumps, keyed};
use crate::{
    clock::{Clock, Timestamp},
    control::Setting,
    delivery::{Claim, Lease, Settlement},
    event::{EventId, NewEvent},
    receipt::Admission,
    refusal::RefusalId,
    store::{
        Claimed, Granted, Hold, Prune, Readmission, Refused, Release, StoreError, Wish,
        batch::{self, Batches, Calls},
        keys::{KeyedAnswer, KeyedCall},
        moving::{Record, Standing, Step},
    },
};

/// What can be asked of the writer.
#[derive(Debug)]
pub(super) enum Call {
    Admit(Box<NewEvent>, Timestamp),
    Claim(Claim, Timestamp),
    Extend(Vec<Lease>, Duration),
    Settle(Settlement),
    Release(Release),
    Wish(Wish, Timestamp),
    Prune(Prune),
    Control(String, Setting),
    KeepRefusals(Vec<Refused>),
    NoteReadmitted(RefusalId, Readmission),
    Keyed(Box<KeyedCall>),
    Probe,
    Accept,
    Step(Step),
    Import(Uuid, Vec<Record>),
}

/// What it answers to each.
#[derive(Debug)]
pub(super) enum Answer {
    Admitted((EventId, Admission)),
    Claimed(Claimed),
    Extended(Vec<Hold>),
    Settled(Hold),
    Granted(Granted),
    Pruned(usize),
    Accepted(bool),
    Standing(Standing),
    Keyed(KeyedAnswer),
    Done,
}

/// The queue to the writer, and its thread. Dropped, it lets the writer finish what waits.
#[derive(Debug)]
pub(super) struct Writer {
    calls: Option<Calls<Call, Result<Answer, StoreError>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread on this connection.
    pub(super) fn start(
        connection: Connection,
        riser: Riser,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let (calls, batches) = batch::queue();
        let work = move || write(&connection, riser, clock.as_ref(), batches);
        let thread = thread::Builder::new()
            .name("hookonce-sqlite".to_owned())
            .spawn(work)
            .map_err(|error| StoreError::Unavailable(format!("no thread for it: {error}")))?;
        Ok(Self { calls: Some(calls), thread: Some(thread) })
    }

    /// Asks the writer, with a call of about `bytes` bytes.
    pub(super) async fn call(&self, call: Call, bytes: usize) -> Result<Answer, StoreError> {
        match &self.calls {
            Some(calls) => calls.call(call, bytes).await?,
            None => Err(StoreError::Unavailable("it was shut down".to_owned())),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.calls = None;
        if let Some(thread) = self.thread.take() {
            // A writer that panicked has told so by hanging up on its callers.
            drop(thread.join());
        }
    }
}

fn write(
    connection: &Connection,
    mut riser: Riser,
    clock: &dyn Clock,
    mut batches: Batches<Call, Result<Answer, StoreError>>,
) {
    let mut jumps = Jumps::since(clock);
    while let Some(batch) = batches.blocking_next() {
        let (calls, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.call, waiting.reply)).unzip();
        let answers = match riser.forgotten().cloned() {
            Some(problem) => refuse_or_accept(connection, &mut riser, clock, &calls, &problem),
            None => match jumps.follow(connection, clock) {
                Ok(()) => answer(connection, clock, &calls),
                Err(error) => refused(&error.into(), calls.len()),
            },
        };
        for (reply, answer) in replies.into_iter().zip(answers) {
            reply.send(answer);
        }
        riser.rise_in_time(connection, clock);
    }
}

/// The same as long as the file is not what it was: nothing is done but what a person accepts.
fn refuse_or_accept(
    connection: &Connection,
    riser: &mut Riser,
    clock: &dyn Clock,
    calls: &[Call],
    problem: &StoreError,
) -> Vec<Result<Answer, StoreError>> {
    let mut run = |call: &Call| match call {
        Call::Accept => {
            keyed::void_leases(connection)?;
            Ok(Answer::Accepted(riser.accept(connection, clock)?))
        }
        _ => Err(problem.clone()),
    };
    calls.iter().map(&mut run).collect()
}

/// One answer per call, in order.
fn answer(
    connection: &Connection,
    clock: &dyn Clock,
    calls: &[Call],
) -> Vec<Result<Answer, StoreError>> {
    match together(connection, clock, calls) {
        Ok(answers) => answers,
        // The store is in trouble, not one of the calls: asking again at once would not help.
        Err(error @ StoreError::Unavailable(_)) => refused(&error, calls.len()),
        Err(error) if calls.len() == 1 => refused(&error, 1),
        Err(_) => calls
            .iter()
            .flat_map(|call| {
                together(connection, clock, slice::from_ref(call))
                    .unwrap_or_else(|error| refused(&error, 1))
            })
            .collect(),
    }
}

fn refused(error: &StoreError, calls: usize) -> Vec<Result<Answer, StoreError>> {
    (0..calls).map(|_| Err(error.clone())).collect()
}

/// Runs these calls in one transaction. An error means that none of them is done, unless it is
/// `Unavailable`: then nobody knows.
fn together(
    connection: &Connection,
    clock: &dyn Clock,
    calls: &[Call],
) -> Result<Vec<Result<Answer, StoreError>>, StoreError> {
    roll_back(connection)?;
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let answers = Work::of(connection, clock).and_then(|mut work| {
        let answers: Vec<_> = calls.iter().map(|call| work.run(call)).collect::<Result<_, _>>()?;
        work.counted.write(connection)?;
        Ok((answers, work.has_erased))
    });
    let (answers, has_erased) = match answers {
        Ok(done) => done,
        Err(error) => {
            roll_back(connection)?;
            return Err(error.into());
        }
    };
    // After a failed fsync the transaction is rolled back, and SQLite writes the next one over the same
    // part of the write-ahead log: nothing that is answered later rests on pages that may be lost.
    match connection.prepare_cached("COMMIT")?.execute([]) {
        Ok(_) => {
            if has_erased {
                cut_log(connection);
            }
            Ok(answers)
        }
        Err(error) => {
            roll_back(connection)?;
            Err(error::of_commit(error))
        }
    }
}

/// Brings what was erased out of the write-ahead log too, where pages lie as they were before. A reader
/// in the middle of a page of rows is waited for, but not for long.
fn cut_log(connection: &Connection) {
    let cut = connection.execute_batch("PRAGMA secure_delete = OFF").and_then(|()| {
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0))
    });
    match cut {
        Ok(false) => {}
        Ok(true) => tracing::warn!(
            "somebody reads the store for long, so what was erased stays in its write-ahead log for a while: erase it again later"
        ),
        Err(error) => tracing::warn!(%error, "what was erased may still be in the write-ahead log"),
    }
}

/// Ends a transaction that failed. SQLite may have ended it already, depending on the error.
fn roll_back(connection: &Connection) -> Result<(), StoreError> {
    if connection.is_autocommit() {
        return Ok(());
    }
    let rolled_back = connection.execute_batch("ROLLBACK");
    rolled_back.map_err(|error| StoreError::Unavailable(error.to_string()))
}

/// A transaction at work. Its verbs are in the file of each.
///
/// There are two kinds of errors in here. `rusqlite::Error`: the transaction is void. A
/// [`StoreError`] inside an answer: this call was refused and has done nothing, the others go on.
#[derive(Debug)]
pub(super) struct Work<'a> {
    pub(super) connection: &'a Connection,
    pub(super) clock: &'a dyn Clock,
    pub(super) counted: Counted,
    pub(super) standing: Standing,
    /// Whether there are marks that came from another store.
    pub(super) has_carried_marks: bool,
    /// Whether what was there before is to leave the file too, and its log.
    pub(super) has_erased: bool,
}

impl Work<'_> {
    fn run(&mut self, call: &Call) -> rusqlite::Result<Result<Answer, StoreError>> {
        if let Err(moving) = self.allows(call) {
            return Ok(Err(moving));
        }
        Ok(match call {
            Call::Admit(event, not_after) => self.admit(event, *not_after)?.map(Answer::Admitted),
            Call::Claim(claim, not_after) => self.claim(claim, *not_after)?.map(Answer::Claimed),
            Call::Extend(leases, lease) => Ok(Answer::Extended(self.extend(leases, *lease)?)),
            Call::Settle(settlement) => Ok(Answer::Settled(self.settle(settlement)?)),
            Call::Release(release) => {
                self.release(release)?;
                Ok(Answer::Done)
            }
            Call::Wish(wish, not_after) => self.wish(wish, *not_after)?.map(Answer::Granted),
            Call::Prune(prune) => Ok(Answer::Pruned(self.prune(prune)?)),
            Call::Control(handler, setting) => {
                self.control(handler, *setting)?;
                Ok(Answer::Done)
            }
            Call::KeepRefusals(refused) => {
                self.keep_refusals(refused)?;
                Ok(Answer::Done)
            }
            Call::NoteReadmitted(id, readmission) => {
                self.note_readmitted(*id, readmission)?;
                Ok(Answer::Done)
            }
            Call::Keyed(call) => self.keyed(call)?.map(Answer::Keyed),
            Call::Probe => {
                self.probe()?;
                Ok(Answer::Done)
            }
            Call::Accept => Ok(Answer::Accepted(false)),
            Call::Step(step) => self.step(step)?.map(Answer::Standing),
            Call::Import(copy, records) => self.import(*copy, records)?.map(|()| Answer::Done),
        })
    }

    /// While the store moves house only what runs may end, and later not even that.
    fn allows(&self, call: &Call) -> Result<(), StoreError> {
        let may = match call {
            Call::Step(_) | Call::Import(..) => true,
            // It is not copied, and who pauses a handler before a move must be able to.
            Call::Control(..) | Call::Accept => true,
            Call::Extend(..) | Call::Settle(_) | Call::Release(_) => self.standing.lets_end(),
            Call::Keyed(keyed) if keyed.ends() => self.standing.lets_end(),
            Call::Keyed(_) => false,
            Call::KeepRefusals(_) | Call::NoteReadmitted(..) => false,
            Call::Admit(..) | Call::Claim(..) | Call::Wish(..) | Call::Prune(_) | Call::Probe => {
                false
            }
        };
        if may { Ok(()) } else { self.standing.refusal().map_or(Ok(()), Err) }
    }

    /// The time, unless it is past `not_after`.
    pub(super) fn in_time(&self, not_after: Timestamp) -> Result<Timestamp, StoreError> {
        let now = self.clock.now();
        if now > not_after { Err(StoreError::Late) } else { Ok(now) }
    }

    fn probe(&self) -> rusqlite::Result<()> {
        let now = self.clock.now().as_millis();
        self.connection.prepare_cached("UPDATE probe SET at = ?1")?.execute(params![now])?;
        Ok(())
    }
}
