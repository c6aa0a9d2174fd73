//! The store in Redis, for several processes at once.
//!
//! Each verb is a Lua script, which Redis runs by itself and never half at the same time as another.
//! It does not roll back, though: a script that breaks off leaves what it wrote. So every script
//! writes in an order that the next call can complete; `admit.lua` and `common.lua` say how, and
//! which keys there are.
//!
//! Leases and due times are counted by the server's clock, which all processes share.
//! It asks for Redis 7.0 or Valkey 7.2.

mod admit;
pub(super) mod cache;
mod check;
mod connection;
mod keyed;
mod keys;
mod read;
mod refusals;
mod scripts;
mod wish;
mod work;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::future::join_all;

use self::{connection::Connection, keys::Bucket, read::Reader, scripts::Call};
use super::{
    Claimed, DeliveryFilter, Durability, EventFilter, EventRecord, EventRow, Granted, Hold, Prune,
    Readmission, RefusalFilter, RefusalRow, Refusals, Refused, Release, Stats, Store, StoreError,
    Wish,
    batch::{self, Calls},
};
use crate::{
    clock::{Clock, Timestamp},
    delivery::{Attempt, Claim, Delivery, DeliveryId, Lease, Leased, Settlement},
    event::{EventId, NewEvent},
    receipt::Admission,
    refusal::RefusalId,
};

/// A store on a Redis server.
pub struct RedisStore {
    connection: Arc<Connection>,
    durability: Durability,
    bucket: Bucket,
    admissions: Calls<admit::Asked, admit::Answer>,
    settlements: Calls<Settlement, Result<Hold, StoreError>>,
}

impl RedisStore {
    /// The store at `url`: `redis://user:password@host:port/db`.
    ///
    /// A server that cannot be reached is no error here: calls answer [`StoreError::Unavailable`]
    /// until it is there.
    ///
    /// # Errors
    /// [`StoreError::Weak`] when the server's settings do not keep what `durability` promises, with
    /// all that is to be changed; [`StoreError::Newer`]; [`StoreError::Failed`] when the URL is none
    /// or the server refuses us.
    pub async fn connect(
        url: &str,
        durability: Durability,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let connection = Connection::new(url, durability, clock)?;
        match connection.session().await {
            Ok(_) => {}
            Err(StoreError::Unavailable(problem)) => {
                tracing::warn!(problem, "the store is not there yet; it is used as soon as it is");
            }
            Err(error) => return Err(error),
        }
        let bucket = Bucket::number(0);
        let (admissions, admit_batches) = batch::queue();
        let (settlements, settle_batches) = batch::queue();
        spawn(admit::serve(Arc::clone(&connection), bucket.clone(), admit_batches));
        spawn(work::serve(Arc::clone(&connection), bucket.clone(), settle_batches));
        Ok(Self { connection, durability, bucket, admissions, settlements })
    }

    fn reader(&self) -> Reader<'_> {
        Reader { connection: &self.connection, bucket: &self.bucket }
    }
}

/// Runs a task that ends by itself when the store is dropped, because nobody can call it any more.
#[expect(
    clippy::disallowed_methods,
    reason = "it ends with the store, and holds nothing to wait for"
)]
pub(super) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}

#[async_trait]
impl Store for RedisStore {
    fn survives(&self) -> String {
        check::survives(self.durability).to_owned()
    }

    async fn ready(&self) -> Result<(), StoreError> {
        let session = self.connection.session().await?;
        let mut command = redis::cmd("HINCRBY");
        command.arg(self.bucket.key("c", b"")).arg("scripts").arg(0);
        session.query(&command).await
    }

    async fn admit(
        &self,
        events: Vec<NewEvent>,
        not_after: Timestamp,
    ) -> Vec<Result<(EventId, Admission), StoreError>> {
        let sizes = batch::sizes(&events);
        let asked = events.into_iter().zip(sizes).map(|(event, size)| async move {
            self.admissions.call((event, not_after), size).await?
        });
        join_all(asked).await
    }

    async fn claim(&self, claim: &Claim, not_after: Timestamp) -> Result<Claimed, StoreError> {
        let session = self.connection.session().await?;
        work::claim(&session, &self.bucket, claim, not_after).await
    }

    async fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<Hold>, StoreError> {
        let session = self.connection.session().await?;
        work::extend(&session, &self.bucket, leases, lease).await
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Vec<Result<Hold, StoreError>> {
        let asked = settlements.into_iter().map(|settlement| async move {
            let size = work::size(&settlement);
            self.settlements.call(settlement, size).await?
        });
        join_all(asked).await
    }

    async fn release(&self, release: &Release) -> Result<(), StoreError> {
        let session = self.connection.session().await?;
        work::release(&session, &self.bucket, release).await
    }

    async fn orphans(&self) -> Result<Vec<Leased>, StoreError> {
        Ok(Vec::new())
    }

    async fn wish(&self, wish: &Wish, not_after: Timestamp) -> Result<Granted, StoreError> {
        wish::grant(&self.connection, &self.bucket, wish, not_after).await
    }

    async fn events(&self, filter: &EventFilter) -> Result<Vec<EventRow>, StoreError> {
        self.reader().events(filter).await
    }

    async fn event(&self, id: EventId) -> Result<Option<EventRecord>, StoreError> {
        self.reader().event(id).await
    }

    async fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<Delivery>, StoreError> {
        self.reader().deliveries(filter).await
    }

    async fn attempts(&self, delivery: DeliveryId) -> Result<Vec<Attempt>, StoreError> {
        self.reader().attempts(delivery).await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.reader().stats().await
    }

    async fn waiting_since(&self, handler: &str) -> Result<Option<Timestamp>, StoreError> {
        self.reader().waiting_since(handler).await
    }

    async fn prune(&self, prune: &Prune) -> Result<usize, StoreError> {
        let session = self.connection.session().await?;
        let mut call = Call::of(&scripts::PRUNE, &self.bucket);
        call.arg(session.to_server(prune.now))
            .arg(session.to_server(prune.done_before))
            .arg(session.to_server(prune.dead_before))
            .arg(session.to_server(prune.held_before))
            .arg(prune.lot);
        refusals::prune(&session, &self.bucket, prune.held_before).await?;
        let events_and_marks: usize = session.call(&call).await?;
        Ok(events_and_marks + self.prune_keys(&session, prune).await?)
    }
}

#[async_trait]
impl Refusals for RedisStore {
    async fn keep_refusals(&self, refused: Vec<Refused>) -> Result<(), StoreError> {
        refusals::keep(&self.connection, &self.bucket, &refused).await
    }

    async fn refusals(&self, filter: &RefusalFilter) -> Result<Vec<RefusalRow>, StoreError> {
        refusals::page(&self.connection, &self.bucket, filter).await
    }

    async fn refusal(&self, id: RefusalId) -> Result<Option<Refused>, StoreError> {
        refusals::one(&self.connection, &self.bucket, id).await
    }

    async fn note_readmitted(
        &self,
        id: RefusalId,
        readmission: &Readmission,
    ) -> Result<(), StoreError> {
        refusals::note_readmitted(&self.connection, &self.bucket, id, readmission).await
    }
}

/// Without the password in its URL.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("connection", &self.connection).finish_non_exhaustive()
    }
}
