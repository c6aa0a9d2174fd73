//! Keyed requests: each verb is one more call in the writer's queue, and reading is beside it.

mod copy;
mod read;
mod verbs;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

pub(super) use self::{copy::export, verbs::void_leases};
use super::{
    CALL_BYTES, SqliteStore, mixed_up,
    writer::{Answer, Call},
};
use crate::{
    clock::Timestamp,
    key::{KeyId, KeyRecord, KeyState, SavedResponse},
    store::{
        Hold, StoreError,
        keys::{Begin, Begun, KeyCounts, KeyFilter, Keys, Resolution, Resolved},
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

/// What can be asked of the writer about a key.
#[derive(Debug)]
pub(super) enum KeyedCall {
    Begin(Begin, Timestamp),
    Extend { key: KeyId, owner: Uuid, lease: Duration },
    Complete { key: KeyId, owner: Uuid, response: SavedResponse, retention: Duration },
    Abandon { key: KeyId, owner: Uuid },
    MarkUnknown { key: KeyId, owner: Uuid, note: String },
    Resolve { key: KeyId, resolution: Resolution, not_after: Timestamp },
}

impl KeyedCall {
    /// Whether it only lets end what was begun.
    pub(super) fn ends(&self) -> bool {
        match self {
            Self::Extend { .. }
            | Self::Complete { .. }
            | Self::Abandon { .. }
            | Self::MarkUnknown { .. } => true,
            Self::Begin(..) | Self::Resolve { .. } => false,
        }
    }
}

/// What it answers.
#[derive(Debug)]
pub(super) enum KeyedAnswer {
    Begun(Begun),
    Held(Hold),
    Resolved(Resolved),
}

#[async_trait]
impl Keys for SqliteStore {
    async fn begin(&self, begin: &Begin, not_after: Timestamp) -> Result<Begun, StoreError> {
        let scope = &begin.scope;
        let bytes = scope.api.len() + scope.method.len() + scope.path.len() + scope.key.len();
        match self.keyed(KeyedCall::Begin(begin.clone(), not_after), bytes).await? {
            KeyedAnswer::Begun(begun) => Ok(begun),
            KeyedAnswer::Held(_) | KeyedAnswer::Resolved(_) => Err(mixed_up()),
        }
    }

    async fn extend_key(
        &self,
        key: KeyId,
        owner: Uuid,
        lease: Duration,
    ) -> Result<Hold, StoreError> {
        self.hold(KeyedCall::Extend { key, owner, lease }, 0).await
    }

    async fn complete(
        &self,
        key: KeyId,
        owner: Uuid,
        response: &SavedResponse,
        retention: Duration,
    ) -> Result<Hold, StoreError> {
        let (response, bytes) = (response.clone(), response.bytes());
        self.hold(KeyedCall::Complete { key, owner, response, retention }, bytes).await
    }

    async fn abandon(&self, key: KeyId, owner: Uuid) -> Result<Hold, StoreError> {
        self.hold(KeyedCall::Abandon { key, owner }, 0).await
    }

    async fn mark_unknown(&self, key: KeyId, owner: Uuid, note: &str) -> Result<Hold, StoreError> {
        let note = note.to_owned();
        let bytes = note.len();
        self.hold(KeyedCall::MarkUnknown { key, owner, note }, bytes).await
    }

    async fn resolve(
        &self,
        key: KeyId,
        resolution: &Resolution,
        not_after: Timestamp,
    ) -> Result<Resolved, StoreError> {
        let bytes = match resolution {
            Resolution::Complete { response, .. } => response.bytes(),
            Resolution::Free => 0,
        };
        let resolution = resolution.clone();
        match self.keyed(KeyedCall::Resolve { key, resolution, not_after }, bytes).await? {
            KeyedAnswer::Resolved(resolved) => Ok(resolved),
            KeyedAnswer::Begun(_) | KeyedAnswer::Held(_) => Err(mixed_up()),
        }
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
    async fn keyed(&self, call: KeyedCall, bytes: usize) -> Result<KeyedAnswer, StoreError> {
        match self.writer.call(Call::Keyed(Box::new(call)), CALL_BYTES + bytes).await? {
            Answer::Keyed(answer) => Ok(answer),
            _ => Err(mixed_up()),
        }
    }

    async fn hold(&self, call: KeyedCall, bytes: usize) -> Result<Hold, StoreError> {
        match self.keyed(call, bytes).await? {
            KeyedAnswer::Held(hold) => Ok(hold),
            KeyedAnswer::Begun(_) | KeyedAnswer::Resolved(_) => Err(mixed_up()),
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
