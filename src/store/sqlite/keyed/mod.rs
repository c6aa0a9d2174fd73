//! Keyed requests: each verb is one more call in the writer's queue, and reading is beside it.

mod copy;
mod read;
mod verbs;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

pub(super) use self::{copy::export, verbs::void_leases};
use super::{
    SqliteStore, mixed_up,
    writer::{Answer, Call},
};
use crate::{
    clock::Timestamp,
    key::{KeyId, KeyRecord, KeyState, SavedResponse},
    store::{
        Hold, StoreError,
        keys::{
            Begin, Begun, KeyCounts, KeyFilter, KeyedAnswer, KeyedCall, Keys, Resolution, Resolved,
        },
    },
};

/// What is written about a key. Its state follows from this, its lease and the time.
///
/// These numbers are in the file, and `keyed_open` is made for them.
mod stage {
    pub(super) const BEGUN: i64 = 0;
    pub(super) const MARKED_UNKNOWN: i64 = 1;
    pub(super) const COMPLETED: i64 = 2;
}

#[async_trait]
impl Keys for SqliteStore {
    async fn begin(&self, begin: &Begin, not_after: Timestamp) -> Result<Begun, StoreError> {
        self.keyed(KeyedCall::Begin(begin.clone(), not_after)).await?.begun()
    }

    async fn extend_key(
        &self,
        key: KeyId,
        owner: Uuid,
        lease: Duration,
    ) -> Result<Hold, StoreError> {
        self.keyed(KeyedCall::Extend { key, owner, lease }).await?.held()
    }

    async fn complete(
        &self,
        key: KeyId,
        owner: Uuid,
        response: &SavedResponse,
        retention: Duration,
    ) -> Result<Hold, StoreError> {
        let response = response.clone();
        self.keyed(KeyedCall::Complete { key, owner, response, retention }).await?.held()
    }

    async fn abandon(&self, key: KeyId, owner: Uuid) -> Result<Hold, StoreError> {
        self.keyed(KeyedCall::Abandon { key, owner }).await?.held()
    }

    async fn mark_unknown(&self, key: KeyId, owner: Uuid, note: &str) -> Result<Hold, StoreError> {
        let note = note.to_owned();
        self.keyed(KeyedCall::MarkUnknown { key, owner, note }).await?.held()
    }

    async fn resolve(
        &self,
        key: KeyId,
        resolution: &Resolution,
        not_after: Timestamp,
    ) -> Result<Resolved, StoreError> {
        let resolution = resolution.clone();
        self.keyed(KeyedCall::Resolve { key, resolution, not_after }).await?.resolved()
    }

    async fn keys(&self, filter: &KeyFilter) -> Result<Vec<KeyRecord>, StoreError> {
        let (filter, now) = (filter.clone(), self.clock.now());
        self.readers.read(move |connection| read::keys(connection, &filter, now)).await
    }

    async fn key(&self, key: KeyId) -> Result<Option<KeyRecord>, StoreError> {
        let now = self.clock.now();
        self.readers.read(move |connection| read::key(connection, key, now)).await
    }

    async fn key_counts(&self) -> Result<BTreeMap<String, KeyCounts>, StoreError> {
        let now = self.clock.now();
        self.readers.read(move |connection| read::counts(connection, now)).await
    }
}

impl SqliteStore {
    async fn keyed(&self, call: KeyedCall) -> Result<KeyedAnswer, StoreError> {
        let bytes = call.bytes();
        match self.writer.call(Call::Keyed(Box::new(call)), bytes).await? {
            Answer::Keyed(answer) => Ok(answer),
            _ => Err(mixed_up()),
        }
    }
}

/// How a key stands at `now` that is in this stage.
fn state(stage: i64, lease_until: Timestamp, now: Timestamp) -> KeyState {
    match stage {
        stage::COMPLETED => KeyState::Completed,
        stage::BEGUN if now < lease_until => KeyState::InProgress,
        _ => KeyState::Unknown,
    }
}
