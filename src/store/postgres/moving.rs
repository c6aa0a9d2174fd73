//! Moving house: how the store stands, and the steps.
//!
//! How it stands is one row. Every transaction that writes looks at it first, on the server, and holds a
//! lock with the others until it ends (`enter` in `schema.sql`); a step holds that lock alone. So a step
//! comes after everything that was allowed before it, in whichever process.

use async_trait::async_trait;
use tokio_postgres::types::FromSqlOwned;
use uuid::Uuid;

use super::{
    PostgresStore,
    codes::get,
    connection::{Purpose, Turn},
    error::Trouble,
    export, import,
};
use crate::store::{
    StoreError,
    moving::{Cursor, Moving, Record, Standing, Step},
};

/// The statements of this file.
pub(super) const STATEMENTS: &[&str] = &[STANDING, STAND, LIVE, IS_EMPTY, SIZE, FORGET_CONTROLS];

const STANDING: &str = "SELECT standing FROM moving";

const STAND: &str = "UPDATE moving SET standing = $1";

const LIVE: &str = "SELECT (SELECT count(*) FROM deliveries WHERE state = 1 AND due_at > now)
        + (SELECT count(*) FROM keyed WHERE stage < 2 AND stage = 0 AND lease_until > now)
    FROM now_ms() AS now";

const IS_EMPTY: &str = "SELECT NOT (EXISTS (SELECT FROM events) OR EXISTS (SELECT FROM marks)
    OR EXISTS (SELECT FROM digests) OR EXISTS (SELECT FROM counts) OR EXISTS (SELECT FROM keyed))";

/// What was said about handlers before the store is filled: it is not looked at when it must be empty.
const FORGET_CONTROLS: &str = "DELETE FROM controls";

const SIZE: &str = "SELECT (SELECT count(*) FROM events)
    + (SELECT count(*) FROM marks WHERE expires_at IS NOT NULL)
    + (SELECT count(*) FROM digests WHERE expires_at IS NOT NULL) + (SELECT count(*) FROM keyed)";

#[async_trait]
impl Moving for PostgresStore {
    async fn standing(&self) -> Result<Standing, StoreError> {
        let turn = self.moving.turn().await?;
        let standing = standing(&turn).await;
        turn.end(standing).await
    }

    async fn step(&self, step: &Step) -> Result<Standing, StoreError> {
        let turn = self.moving.turn().await?;
        let taken = take(&turn, step).await;
        // What it was filled with may be due long since.
        self.horizons.forget();
        turn.end(taken).await
    }

    async fn live(&self) -> Result<u64, StoreError> {
        let turn = self.moving.turn().await?;
        let live = number(&turn, LIVE).await;
        turn.end(live).await
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        let turn = self.moving.turn().await?;
        let is_empty = one(&turn, IS_EMPTY).await;
        turn.end(is_empty).await
    }

    async fn size(&self) -> Result<u64, StoreError> {
        let turn = self.moving.turn().await?;
        let size = number(&turn, SIZE).await;
        turn.end(size).await
    }

    async fn export(&self, from: &Cursor) -> Result<(Vec<Record>, Option<Cursor>), StoreError> {
        let turn = self.moving.turn().await?;
        let page = export::page(&turn, from).await;
        turn.end(page).await
    }

    async fn import(&self, copy: Uuid, records: Vec<Record>) -> Result<(), StoreError> {
        let turn = self.moving.turn().await?;
        let imported = import::import(&turn, copy, &records).await;
        turn.end(imported).await
    }
}

/// How the store stands.
pub(super) async fn standing(turn: &Turn<'_>) -> Result<Standing, Trouble> {
    let rows = turn.query(STANDING, &[]).await?;
    let row = rows.first().ok_or_else(|| Trouble::odd("it does not say how it stands"))?;
    get::<&str>(row, "standing")?.parse().map_err(Trouble::refused)
}

/// See [`Moving::step`].
async fn take(turn: &Turn<'_>, step: &Step) -> Result<Standing, Trouble> {
    turn.begin(Purpose::Move).await?;
    let before = standing(turn).await?;
    let after = before.after(step).map_err(Trouble::refused)?;
    if after == before {
        turn.roll_back().await?;
        return Ok(after);
    }
    let in_the_way = match step {
        Step::Seal(_) if number(turn, LIVE).await? > 0 => Some("something in it still runs"),
        Step::Fill(_) if !one::<bool>(turn, IS_EMPTY).await? => {
            Some("there are events in it already")
        }
        _ => None,
    };
    if let Some(why) = in_the_way {
        return Err(Trouble::refused(StoreError::Moving(why.to_owned())));
    }
    if let Step::Fill(_) = step {
        turn.execute(FORGET_CONTROLS, &[]).await?;
    }
    turn.execute(STAND, &[&after.to_string()]).await?;
    turn.commit().await?;
    Ok(after)
}

async fn number(turn: &Turn<'_>, sql: &'static str) -> Result<u64, Trouble> {
    let number: i64 = one(turn, sql).await?;
    u64::try_from(number).map_err(|_| Trouble::odd("it counts below zero"))
}

/// The one value that a statement answers.
async fn one<T: FromSqlOwned>(turn: &Turn<'_>, sql: &'static str) -> Result<T, Trouble> {
    let rows = turn.query(sql, &[]).await?;
    let row = rows.first().ok_or_else(|| Trouble::odd("a count without an answer"))?;
    Ok(row.try_get(0)?)
}
