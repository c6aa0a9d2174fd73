//! Moving house: not in this version yet, and nothing is begun that could not be ended.

use async_trait::async_trait;
use uuid::Uuid;

use super::PostgresStore;
use crate::store::{
    StoreError,
    moving::{Cursor, Moving, Record, Standing, Step},
};

#[async_trait]
impl Moving for PostgresStore {
    async fn standing(&self) -> Result<Standing, StoreError> {
        Ok(Standing::Serving)
    }

    async fn step(&self, _: &Step) -> Result<Standing, StoreError> {
        Err(not_yet())
    }

    async fn live(&self) -> Result<u64, StoreError> {
        Err(not_yet())
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        Err(not_yet())
    }

    async fn size(&self) -> Result<u64, StoreError> {
        Err(not_yet())
    }

    async fn export(&self, _: &Cursor) -> Result<(Vec<Record>, Option<Cursor>), StoreError> {
        Err(not_yet())
    }

    async fn import(&self, _: Uuid, _: Vec<Record>) -> Result<(), StoreError> {
        Err(not_yet())
    }
}

fn not_yet() -> StoreError {
    StoreError::Moving("a move into or out of Postgres is not in this version yet".to_owned())
}
