//! A store that keeps nothing and says yes: what is left is the floor.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use hookonce::{
    clock::Timestamp,
    control::{Controls, Setting},
    delivery::{Attempt, Claim, Delivery, DeliveryId, Lease, Leased, Settlement},
    event::{EventId, NewEvent},
    key::{KeyId, KeyRecord, SavedResponse},
    receipt::Admission,
    refusal::RefusalId,
    store::{
        Claimed, DeliveryFilter, EventFilter, EventRecord, EventRow, Granted, Hold, Prune,
        Readmission, RefusalFilter, RefusalRow, Refusals, Refused, Release, Stats, Store,
        StoreError, Wish,
        keys::{Begin, Begun, KeyCounts, KeyFilter, Keys, Resolution, Resolved},
        moving::{Cursor, Moving, Record, Standing, Step},
    },
};
use uuid::Uuid;

#[derive(Debug)]
pub(crate) struct NullStore;

#[async_trait]
impl Store for NullStore {
    fn survives(&self) -> String {
        "nothing".to_owned()
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn admit(
        &self,
        events: Vec<NewEvent>,
        _: Timestamp,
    ) -> Vec<Result<(EventId, Admission), StoreError>> {
        events.iter().map(|event| Ok((event.id, Admission::Fresh))).collect()
    }

    async fn claim(&self, _: &Claim, _: Timestamp) -> Result<Claimed, StoreError> {
        Ok(Claimed::default())
    }

    async fn extend(&self, leases: &[Lease], _: Duration) -> Vec<Result<Hold, StoreError>> {
        leases.iter().map(|_| Ok(Hold::Lost)).collect()
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Vec<Result<Hold, StoreError>> {
        settlements.iter().map(|_| Ok(Hold::Lost)).collect()
    }

    async fn release(&self, _: &Release) -> Result<(), StoreError> {
        Ok(())
    }

    async fn orphans(&self) -> Result<Vec<Leased>, StoreError> {
        Ok(Vec::new())
    }

    async fn wish(&self, _: &Wish, _: Timestamp) -> Result<Granted, StoreError> {
        Ok(Granted::NotFound)
    }

    async fn events(&self, _: &EventFilter) -> Result<Vec<EventRow>, StoreError> {
        Ok(Vec::new())
    }

    async fn event(&self, _: EventId) -> Result<Option<EventRecord>, StoreError> {
        Ok(None)
    }

    async fn deliveries(&self, _: &DeliveryFilter) -> Result<Vec<Delivery>, StoreError> {
        Ok(Vec::new())
    }

    async fn attempts(&self, _: DeliveryId) -> Result<Vec<Attempt>, StoreError> {
        Ok(Vec::new())
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        Ok(Stats::default())
    }

    async fn control(&self, _handler: &str, _setting: Setting) -> Result<(), StoreError> {
        Ok(())
    }

    async fn controls(&self) -> Result<Controls, StoreError> {
        Ok(Controls::new())
    }

    async fn prune(&self, _: &Prune) -> Result<usize, StoreError> {
        Ok(0)
    }
}

#[async_trait]
impl Refusals for NullStore {
    async fn keep_refusals(&self, _: Vec<Refused>) -> Result<(), StoreError> {
        Ok(())
    }

    async fn refusals(&self, _: &RefusalFilter) -> Result<Vec<RefusalRow>, StoreError> {
        Ok(Vec::new())
    }

    async fn refusal(&self, _: RefusalId) -> Result<Option<Refused>, StoreError> {
        Ok(None)
    }

    async fn note_readmitted(&self, _: RefusalId, _: &Readmission) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl Keys for NullStore {
    async fn begin(&self, _: &Begin, _: Timestamp) -> Result<Begun, StoreError> {
        Err(missing())
    }

    async fn extend_key(&self, _: KeyId, _: Uuid, _: Duration) -> Result<Hold, StoreError> {
        Err(missing())
    }

    async fn complete(
        &self,
        _: KeyId,
        _: Uuid,
        _: &SavedResponse,
        _: Duration,
    ) -> Result<Hold, StoreError> {
        Err(missing())
    }

    async fn abandon(&self, _: KeyId, _: Uuid) -> Result<Hold, StoreError> {
        Err(missing())
    }

    async fn mark_unknown(&self, _: KeyId, _: Uuid, _: &str) -> Result<Hold, StoreError> {
        Err(missing())
    }

    async fn resolve(
        &self,
        _: KeyId,
        _: &Resolution,
        _: Timestamp,
    ) -> Result<Resolved, StoreError> {
        Err(missing())
    }

    async fn keys(&self, _: &KeyFilter) -> Result<Vec<KeyRecord>, StoreError> {
        Err(missing())
    }

    async fn key(&self, _: KeyId) -> Result<Option<KeyRecord>, StoreError> {
        Err(missing())
    }

    async fn key_counts(&self) -> Result<BTreeMap<String, KeyCounts>, StoreError> {
        Err(missing())
    }
}

fn missing() -> StoreError {
    StoreError::Failed("this store keeps no keyed requests".to_owned())
}

#[async_trait]
impl Moving for NullStore {
    async fn standing(&self) -> Result<Standing, StoreError> {
        Ok(Standing::Serving)
    }

    async fn step(&self, step: &Step) -> Result<Standing, StoreError> {
        Standing::Serving.after(step)
    }

    async fn live(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn size(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn export(&self, _: &Cursor) -> Result<(Vec<Record>, Option<Cursor>), StoreError> {
        Ok((Vec::new(), None))
    }

    async fn import(&self, _: Uuid, _: Vec<Record>) -> Result<(), StoreError> {
        Ok(())
    }
}
