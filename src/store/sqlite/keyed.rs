//! What SQLite does for keyed requests.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use super::SqliteStore;
use crate::{
    clock::Timestamp,
    key::{KeyId, KeyRecord, SavedResponse},
    store::{
        Hold, StoreError,
        keys::{Begin, Begun, KeyCounts, KeyFilter, Keys, Resolution, Resolved},
    },
};

#[async_trait]
impl Keys for SqliteStore {
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
    StoreError::Failed("this store does not keep keyed requests yet".to_owned())
}
