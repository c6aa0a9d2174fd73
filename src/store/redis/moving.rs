//! Moving house.

use async_trait::async_trait;
use uuid::Uuid;

use super::RedisStore;
use crate::store::{
    StoreError,
    moving::{Cursor, Moving, Record, Standing, Step},
};

#[async_trait]
impl Moving for RedisStore {
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
    StoreError::Moving("not in this version yet".to_owned())
}
