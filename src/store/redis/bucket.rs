//! One bucket with everything that serves it: a connection and batchers of its own, so that a shard that
//! is slow or away stalls no other.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    admit,
    connection::Connection,
    keyed,
    keys::Bucket,
    read::Reader,
    refusals,
    scripts::{self, Call},
    work,
};
use crate::{
    delivery::Settlement,
    store::{
        Hold, Prune, Release, StoreError,
        batch::{self, Calls},
    },
};

/// How long a bucket that did not answer is passed over by claims: much longer than they wait for it.
const ASIDE: Duration = Duration::from_secs(4);

/// How many events one script prunes: a few milliseconds.
const PRUNED_AT_ONCE_MAX: usize = 200;

/// How many claims that were not answered are remembered, to be given back.
const UNANSWERED_MAX: usize = 1024;

/// A bucket, and the way to it.
pub(super) struct Served {
    pub(super) connection: Arc<Connection>,
    pub(super) bucket: Bucket,
    pub(super) admissions: Calls<admit::Asked, admit::Answer>,
    pub(super) settlements: Calls<Settlement, Result<Hold, StoreError>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Until when claims pass it over, by the monotonic clock.
    aside_until: Duration,
    /// What may be held under a claim whose answer never came, or came too weak.
    unanswered: Vec<Release>,
}

impl Served {
    /// Serves a bucket as long as this lives.
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        let bucket = connection.bucket.clone();
        let (admissions, admit_batches) = batch::queue();
        let (settlements, settle_batches) = batch::queue();
        spawn(admit::serve(Arc::clone(&connection), admit_batches));
        spawn(work::serve(Arc::clone(&connection), settle_batches));
        Self { connection, bucket, admissions, settlements, state: Mutex::default() }
    }

    /// What reads in it.
    pub(super) fn reader(&self) -> Reader<'_> {
        Reader { connection: &self.connection, bucket: &self.bucket }
    }

    /// Whether claims pass it over for now.
    pub(super) fn is_aside(&self) -> bool {
        self.connection.clock.monotonic() < self.lock().aside_until
    }

    /// Lets claims pass it over for a while: it did not answer.
    pub(super) fn put_aside(&self) {
        self.lock().aside_until = self.connection.clock.monotonic() + ASIDE;
    }

    /// Remembers that a claim may have got something here that nobody will run.
    pub(super) fn remember_unanswered(&self, release: Release) {
        let mut state = self.lock();
        if state.unanswered.len() < UNANSWERED_MAX {
            state.unanswered.push(release); // what is beyond falls due when its lease ends
        }
    }

    /// Gives back, uncounted, what claims have got here that were not answered.
    pub(super) async fn give_back_unanswered(&self) -> Result<(), StoreError> {
        let unanswered = std::mem::take(&mut self.lock().unanswered);
        if unanswered.is_empty() {
            return Ok(());
        }
        let mut failed = Ok(());
        for release in unanswered {
            if failed.is_ok() {
                failed = self.release(&release).await;
            }
            if failed.is_err() {
                self.remember_unanswered(release);
            }
        }
        failed
    }

    /// See [`Store::release`](crate::store::Store::release).
    pub(super) async fn release(&self, release: &Release) -> Result<(), StoreError> {
        work::release(&self.connection.session().await?, release).await
    }

    /// See [`Store::prune`](crate::store::Store::prune). It takes small bites: while one is taken, Redis
    /// does nothing else.
    pub(super) async fn prune(&self, prune: &Prune, lot: usize) -> Result<usize, StoreError> {
        let mut gone = 0;
        while gone < lot {
            let more = self.prune_some(prune, PRUNED_AT_ONCE_MAX.min(lot - gone)).await?;
            gone += more;
            if more == 0 {
                break;
            }
        }
        Ok(gone)
    }

    async fn prune_some(&self, prune: &Prune, lot: usize) -> Result<usize, StoreError> {
        let session = self.connection.session().await?;
        let mut call = Call::of(&scripts::PRUNE, &session);
        call.arg(session.to_server(prune.now))
            .arg(session.to_server(prune.done_before))
            .arg(session.to_server(prune.dead_before))
            .arg(session.to_server(prune.held_before))
            .arg(lot);
        let events_and_marks: usize = session.call(&call).await?;
        refusals::prune(&session, prune.held_before).await?;
        Ok(events_and_marks + keyed::prune(&session, prune.now, lot).await?)
    }

    /// Whether it can be written to now.
    pub(super) async fn ready(&self) -> Result<(), StoreError> {
        let session = self.connection.session().await?;
        let mut command = redis::cmd("HINCRBY");
        command.arg(self.bucket.key("c", b"")).arg("scripts").arg(0);
        let _: i64 = session.query(&command).await?;
        session.is_what_it_was().await?;
        super::moving::standing(self).await?.refusal().map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a task that ends by itself when the store is dropped, because nobody can call it any more.
#[expect(
    clippy::disallowed_methods,
    reason = "it ends with the store, and holds nothing to wait for"
)]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Served").field(&self.connection).finish()
    }
}
