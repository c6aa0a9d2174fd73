//! The verbs: what goes in is sealed, and what comes out is opened.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use super::{EncryptedStore, content::Requests};
use crate::{
    clock::Timestamp,
    control::{Controls, Setting},
    delivery::{Attempt, Claim, Delivery, DeliveryId, Lease, Leased, Settlement},
    event::{EventId, NewEvent},
    key::{KeyId, KeyRecord, SavedResponse},
    receipt::Admission,
    refusal::RefusalId,
    request::Headers,
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
impl Store for EncryptedStore {
    fn survives(&self) -> String {
        self.store.survives()
    }

    async fn snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        self.store.snapshot().await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.store.ready().await
    }

    fn steps_back(&self) -> u64 {
        self.store.steps_back()
    }

    fn generation(&self) -> Option<String> {
        self.store.generation()
    }

    async fn accept(&self) -> Result<usize, StoreError> {
        self.store.accept().await
    }

    fn cache(&self) -> Option<CacheCounts> {
        self.store.cache()
    }

    async fn admit(
        &self,
        events: Vec<NewEvent>,
        not_after: Timestamp,
    ) -> Vec<Result<(EventId, Admission), StoreError>> {
        if self.keys.is_empty() {
            return self.store.admit(events, not_after).await;
        }
        let mut requests = Requests::new();
        let events = events.into_iter().map(|event| self.keys.seal_event(event, &mut requests));
        self.store.admit(events.collect(), not_after).await
    }

    async fn claim(&self, claim: &Claim, not_after: Timestamp) -> Result<Claimed, StoreError> {
        self.open_claimed(self.store.claim(claim, not_after).await?).await
    }

    async fn extend(&self, leases: &[Lease], lease: Duration) -> Vec<Result<Hold, StoreError>> {
        self.store.extend(leases, lease).await
    }

    async fn settle(&self, mut settlements: Vec<Settlement>) -> Vec<Result<Hold, StoreError>> {
        for settlement in settlements.iter_mut().filter(|_| !self.keys.is_empty()) {
            self.keys.seal_attempt(&mut settlement.attempt, &settlement.lease.delivery);
        }
        self.store.settle(settlements).await
    }

    async fn release(&self, release: &Release) -> Result<(), StoreError> {
        self.store.release(release).await
    }

    async fn orphans(&self) -> Result<Vec<Leased>, StoreError> {
        let mut orphans = self.store.orphans().await?;
        for leased in &mut orphans {
            // Their attempts are over: who settles them needs no content, and it is shown to nobody.
            if self.open_leased(leased).is_err() {
                let event = Arc::make_mut(&mut leased.event);
                (event.headers, event.body) = (Headers::default(), Bytes::new());
            }
        }
        Ok(orphans)
    }

    async fn wish(&self, wish: &Wish, not_after: Timestamp) -> Result<Granted, StoreError> {
        self.store.wish(wish, not_after).await
    }

    async fn events(&self, filter: &EventFilter) -> Result<Vec<EventRow>, StoreError> {
        self.store.events(filter).await
    }

    async fn event(&self, id: EventId) -> Result<Option<EventRecord>, StoreError> {
        let mut record = self.store.event(id).await?;
        if let Some(record) = &mut record {
            self.open_record(record)?;
        }
        Ok(record)
    }

    async fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<Delivery>, StoreError> {
        let mut deliveries = self.store.deliveries(filter).await?;
        deliveries.iter_mut().for_each(|delivery| self.keys.show_delivery(delivery));
        Ok(deliveries)
    }

    async fn attempts(&self, delivery: DeliveryId) -> Result<Vec<Attempt>, StoreError> {
        let mut attempts = self.store.attempts(delivery).await?;
        attempts.iter_mut().for_each(|attempt| self.keys.show_attempt(attempt, &delivery));
        Ok(attempts)
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
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
impl Keys for EncryptedStore {
    async fn begin(&self, begin: &Begin, not_after: Timestamp) -> Result<Begun, StoreError> {
        let begun = self.store.begin(begin, not_after).await?;
        let Begun::Completed { response, completed_at, expires_at } = begun else {
            return Ok(begun);
        };
        let response = self.keys.open_response(&response, &begin.scope.id())?;
        Ok(Begun::Completed { response, completed_at, expires_at })
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
        if self.keys.is_empty() {
            return self.store.complete(key, owner, response, retention).await;
        }
        let response = self.keys.seal_response(response, &key);
        self.store.complete(key, owner, &response, retention).await
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
        let sealed = match resolution {
            Resolution::Complete { response, retention } => Resolution::Complete {
                response: self.keys.seal_response(response, &key),
                retention: *retention,
            },
            Resolution::Free => Resolution::Free,
        };
        self.store.resolve(key, &sealed, not_after).await
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

/// What moves house goes as it is kept: the other store opens it with the same keys.
impl InFront for EncryptedStore {
    fn behind(&self) -> &dyn Store {
        &*self.store
    }
}

#[async_trait]
impl Refusals for EncryptedStore {
    async fn keep_refusals(&self, refused: Vec<Refused>) -> Result<(), StoreError> {
        let sealed = refused.into_iter().map(|refused| self.keys.seal_refused(refused)).collect();
        self.store.keep_refusals(sealed).await
    }

    async fn refusals(&self, filter: &RefusalFilter) -> Result<Vec<RefusalRow>, StoreError> {
        let mut rows = self.store.refusals(filter).await?;
        rows.iter_mut().for_each(|row| self.keys.show_refusal(row));
        Ok(rows)
    }

    async fn refusal(&self, id: RefusalId) -> Result<Option<Refused>, StoreError> {
        let mut refused = self.store.refusal(id).await?;
        if let Some(refused) = &mut refused {
            self.keys.open_refused(refused)?;
        }
        Ok(refused)
    }

    async fn note_readmitted(
        &self,
        id: RefusalId,
        readmission: &Readmission,
    ) -> Result<(), StoreError> {
        self.store.note_readmitted(id, readmission).await
    }
}
