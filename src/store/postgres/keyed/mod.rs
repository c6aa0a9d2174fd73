//! Keyed requests: verbs go in batches, as admissions do, and reading is beside them.

mod batch;
mod copy;
mod kept;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use self::kept::Kept;
pub(super) use self::{
    batch::STATEMENTS,
    copy::{MOVING_STATEMENTS, export, import},
};
use super::{
    PostgresStore,
    codes::{self, get, number},
    connection::Turn,
    error::Trouble,
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

/// The statements of this file, for the lane that reads.
pub(super) const READING_STATEMENTS: &[&str] = &[KEY, COUNTS];

/// Takes away a lot of completed keys whose retention is over, unless somebody is at them.
pub(super) const FORGET_OVER: &str = "WITH over AS MATERIALIZED (
        SELECT id FROM keyed WHERE expires_at IS NOT NULL AND expires_at <= $1
        LIMIT $2 FOR UPDATE SKIP LOCKED),
    gone AS (DELETE FROM keyed USING over WHERE keyed.id = over.id RETURNING keyed.id)
    DELETE FROM saved_responses USING gone WHERE saved_responses.id = gone.id";

const KEY: &str = "SELECT * FROM keyed
    WHERE id = $1 AND (expires_at IS NULL OR expires_at > (SELECT now_ms()))";

const COUNTS: &str = "SELECT api,
        count(*) FILTER (WHERE stage = 0 AND lease_until > now) AS in_progress,
        count(*) FILTER (WHERE stage = 1 OR lease_until <= now) AS unknown
    FROM keyed, now_ms() AS now WHERE stage < 2 GROUP BY api";

impl PostgresStore {
    async fn keyed(&self, call: KeyedCall) -> Result<KeyedAnswer, StoreError> {
        let bytes = call.bytes();
        self.keyed.call(call, bytes).await?
    }
}

#[async_trait]
impl Keys for PostgresStore {
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
        let turn = self.reading.turn().await?;
        let keys = keys(&turn, filter).await;
        turn.end(keys).await
    }

    async fn key(&self, key: KeyId) -> Result<Option<KeyRecord>, StoreError> {
        let turn = self.reading.turn().await?;
        let found = find(&turn, key).await;
        turn.end(found).await
    }

    async fn key_counts(&self) -> Result<BTreeMap<String, KeyCounts>, StoreError> {
        let turn = self.reading.turn().await?;
        let counts = counts(&turn).await;
        turn.end(counts).await
    }
}

async fn keys(turn: &Turn<'_>, filter: &KeyFilter) -> Result<Vec<KeyRecord>, Trouble> {
    let state = match filter.state {
        None => "",
        Some(KeyState::InProgress) => "AND stage < 2 AND stage = 0 AND lease_until > now",
        Some(KeyState::Unknown) => "AND stage < 2 AND (stage = 1 OR lease_until <= now)",
        Some(KeyState::Completed) => "AND stage = 2",
    };
    let sql = format!(
        "SELECT keyed.*, now FROM keyed, now_ms() AS now
         WHERE ($1::bigint IS NULL OR (begun_at, id) < ($1, $2::bytea))
             AND ($3::text IS NULL OR api = $3)
             AND (expires_at IS NULL OR expires_at > now) {state}
         ORDER BY begun_at DESC, id DESC LIMIT $4"
    );
    let begun_at = filter.before.map(|(begun_at, _)| turn.to_server(begun_at).as_millis());
    let id = filter.before.map(|(_, id)| id.as_bytes().to_vec());
    let api = codes::of_some_text(filter.api.as_deref());
    let limit = codes::of_number(filter.limit);
    let rows = turn.query_text(&sql, &[&begun_at, &id, &api, &limit]).await?;
    rows.iter().map(|row| Ok(record(turn, Kept::read(row)?, codes::time(row, "now")?))).collect()
}

async fn find(turn: &Turn<'_>, key: KeyId) -> Result<Option<KeyRecord>, Trouble> {
    let id = key.as_bytes().as_slice();
    let id = [&id as &(dyn ToSql + Sync)];
    let (now, rows) = tokio::try_join!(biased; turn.now(), turn.query(KEY, &id))?;
    rows.first().map(|row| Ok(record(turn, Kept::read(row)?, now))).transpose()
}

async fn counts(turn: &Turn<'_>) -> Result<BTreeMap<String, KeyCounts>, Trouble> {
    let count = |row: &Row| {
        let counts = KeyCounts {
            in_progress: number(row, "in_progress")?,
            unknown: number(row, "unknown")?,
        };
        Ok((get(row, "api")?, counts))
    };
    turn.query(COUNTS, &[]).await?.iter().map(count).collect()
}

fn record(turn: &Turn<'_>, kept: Kept, now: Timestamp) -> KeyRecord {
    KeyRecord {
        state: kept.state(now),
        id: kept.id,
        scope: kept.scope,
        fingerprint: kept.fingerprint,
        begun_at: turn.to_ours(kept.begun_at),
        lease_until: turn.to_ours(kept.lease_until),
        completed_at: kept.completed_at.map(|time| turn.to_ours(time)),
        expires_at: kept.expires_at.map(|time| turn.to_ours(time)),
        replays: kept.replays,
        note: kept.note,
    }
}
