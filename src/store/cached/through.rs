//! What goes through to the store behind the cache: everything but `admit`.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use super::CachedStore;
use crate::{
    clock::Timestamp,
    control::{Controls, Setting},
    delivery::{Attempt, Claim, Delivery, DeliveryId, Lease, Leased, Settlement},
    event::{EventId, NewEvent},
    key::{KeyId, KeyRecord, SavedResponse},
    receipt::Admission,
    refusal::RefusalId,
    store::{
        CacheCounts, Claimed, DeliveryFilter, EventFilter, EventRecord, EventRow, Granted, Hold,
        Prune, Readmission, RefusalFilter, RefusalRow, Refusals, Refused, Release, Stats, Store,
        StoreError, Wish,
        keys::{Begin, Begun, KeyCounts, KeyFilter, Keys, Resolution, Resolved},
        moving::InFront,
        snapshot::Snapshot,
    },
};

#[async_trait]
impl Store for CachedStore {
    fn survives(&self) -> String {
        self.store.survives()
    }

    async fn snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        self.store.snapshot().await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.store.ready().await
    }

    fn generation(&self) -> Option<String> {
        self.store.generation()
    }

    fn steps_back(&self) -> u64 {
        self.store.steps_back()
    }

    async fn accept(&self) -> Result<usize, StoreError> {
        self.store.accept().await
    }

    fn cache(&self) -> Option<CacheCounts> {
        let read = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        Some(CacheCounts {
            hits: read(&self.counts.hits),
            misses: read(&self.counts.misses),
            failures: read(&self.counts.failures),
            notes_lost: read(&self.notes.lost),
        })
    }

    async fn admit(
        &self,
        events: Vec<NewEvent>,
        not_after: Timestamp,
    ) -> Vec<Result<(EventId, Admission), StoreError>> {
        self.admit_through(events, not_after).await
    }

    async fn claim(&self, claim: &Claim, not_after: Timestamp) -> Result<Claimed, StoreError> {
        self.store.claim(claim, not_after).await
    }

    async fn extend(&self, leases: &[Lease], lease: Duration) -> Vec<Result<Hold, StoreError>> {
        self.store.extend(leases, lease).await
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Vec<Result<Hold, StoreError>> {
        self.store.settle(settlements).await
    }

    async fn release(&self, release: &Release) -> Result<(), StoreError> {
        self.store.release(release).await
    }

    async fn orphans(&self) -> Result<Vec<Leased>, StoreError> {
        self.store.orphans().await
    }

    async fn wish(&self, wish: &Wish, not_after: Timestamp) -> Result<Granted, StoreError> {
        self.store.wish(wish, not_after).await
    }

    async fn events(&self, filter: &EventFilter) -> Result<Vec<EventRow>, StoreError> {
        self.notes.flush().await;
        self.store.events(filter).await
    }

    async fn event(&self, id: EventId) -> Result<Option<EventRecord>, StoreError> {
        self.notes.flush().await;
        self.store.event(id).await
    }

    async fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<Delivery>, StoreError> {
        self.store.deliveries(filter).await
    }

    async fn attempts(&self, delivery: DeliveryId) -> Result<Vec<Attempt>, StoreError> {
        self.store.attempts(delivery).await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.notes.flush().await;
        self.store.stats().await
    }

    async fn waiting_since(&self, handler: &str) -> Result<Option<Timestamp>, StoreError> {
        self.store.waiting_since(handler).await
    }

    async fn prune(&self, prune: &Prune) -> Result<usize, StoreError> {
        self.store.prune(prune).await
    }

    async fn control(&self, handler: &str, setting: Setting) -> Result<(), StoreError> {
        self.store.control(handler, setting).await
    }

    async fn controls(&self) -> Result<Controls, StoreError> {
        self.store.controls().await
    }
}

#[async_trait]
impl Keys for CachedStore {
    async fn begin(&self, begin: &Begin, not_after: Timestamp) -> Result<Begun, StoreError> {
        self.store.begin(begin, not_after).await
    }

    async fn extend_key(
        &self,
        key: KeyId,
        owner: Uuid,
        lease: Duration,
    ) -> Result<Hold, StoreError> {
        self.store.extend_key(key, owner, lease).await
    }

    async fn complete(
        &self,
        key: KeyId,
        owner: Uuid,
        response: &SavedResponse,
        retention: Duration,
    ) -> Result<Hold, StoreError> {
        self.store.complete(key, owner, response, retention).await
    }

    async fn abandon(&self, key: KeyId, owner: Uuid) -> Result<Hold, StoreError> {
        self.store.abandon(key, owner).await
    }

    async fn mark_unknown(&self, key: KeyId, owner: Uuid, note: &str) -> Result<Hold, StoreError> {
        self.store.mark_unknown(key, owner, note).await
    }

    async fn resolve(
        &self,
        key: KeyId,
        resolution: &Resolution,
        not_after: Timestamp,
    ) -> Result<Resolved, StoreError> {
        self.store.resolve(key, resolution, not_after).await
    }

    async fn keys(&self, filter: &KeyFilter) -> Result<Vec<KeyRecord>, StoreError> {
        self.store.keys(filter).await
    }

    async fn key(&self, key: KeyId) -> Result<Option<KeyRecord>, StoreError> {
        self.store.key(key).await
    }

    async fn key_counts(&self) -> Result<BTreeMap<String, KeyCounts>, StoreError> {
        self.store.key_counts().await
    }
}

/// A cached duplicate is answered also while the store hands over: its event is in there for sure, and
/// goes with it.
impl InFront for CachedStore {
    fn behind(&self) -> &dyn Store {
        &*self.store
    }
}

#[async_trait]
impl Refusals for CachedStore {
    async fn keep_refusals(&self, refused: Vec<Refused>) -> Result<(), StoreError> {
        self.store.keep_refusals(refused).await
    }

    async fn refusals(&self, filter: &RefusalFilter) -> Result<Vec<RefusalRow>, StoreError> {
        self.store.refusals(filter).await
    }

    async fn refusal(&self, id: RefusalId) -> Result<Option<Refused>, StoreError> {
        self.store.refusal(id).await
    }

    async fn note_readmitted(
        &self,
        id: RefusalId,
        readmission: &Readmission,
    ) -> Result<(), StoreError> {
        self.store.note_readmitted(id, readmission).await
    }
}
