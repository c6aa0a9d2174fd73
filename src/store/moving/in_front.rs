//! Stores in front of another one: what moves house is the one behind.

use async_trait::async_trait;
use uuid::Uuid;

use super::{Cursor, Moving, Record, Standing, Step};
use crate::store::{Store, StoreError};

/// A store that stands in front of another one, and keeps nothing itself that would have to move.
pub trait InFront: Send + Sync {
    /// The one behind it.
    fn behind(&self) -> &dyn Store;
}

#[async_trait]
impl<S: InFront> Moving for S {
    async fn standing(&self) -> Result<Standing, StoreError> {
        self.behind().standing().await
    }

    async fn step(&self, step: &Step) -> Result<Standing, StoreError> {
        self.behind().step(step).await
    }

    async fn live(&self) -> Result<u64, StoreError> {
        self.behind().live().await
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        self.behind().is_empty().await
    }

    async fn size(&self) -> Result<u64, StoreError> {
        self.behind().size().await
    }

    async fn export(&self, from: &Cursor) -> Result<(Vec<Record>, Option<Cursor>), StoreError> {
        self.behind().export(from).await
    }

    async fn import(&self, copy: Uuid, records: Vec<Record>) -> Result<(), StoreError> {
        self.behind().import(copy, records).await
    }
}
