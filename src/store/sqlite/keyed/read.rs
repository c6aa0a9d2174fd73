//! Keys as a person sees them. What is over is free, whether it was pruned or not.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{stage, state};
use crate::{
    clock::Timestamp,
    key::{Fingerprint, KeyId, KeyRecord, KeyScope, KeyState},
    store::{
        keys::{KeyCounts, KeyFilter},
        sqlite::codes,
    },
};

const COLUMNS: &str = "id, api, method, path, principal, key, fingerprint, stage, begun_at,
    lease_until, completed_at, expires_at, replays, note";

/// One page of keys, those begun last first.
pub(super) fn keys(
    connection: &Connection,
    filter: &KeyFilter,
    now: Timestamp,
) -> rusqlite::Result<Vec<KeyRecord>> {
    // The few that are open are looked up by their index, not among all keys. SQLite takes an index
    // on a condition only for a query that repeats it.
    let few = "INDEXED BY keyed_open";
    let (index, state) = match filter.state {
        None => ("", String::new()),
        Some(KeyState::Completed) => ("", format!("AND stage = {}", stage::COMPLETED)),
        Some(KeyState::InProgress) => {
            (few, format!("AND stage < 2 AND stage = {} AND lease_until > ?1", stage::BEGUN))
        }
        Some(KeyState::Unknown) => {
            let unknown = format!("stage = {} OR lease_until <= ?1", stage::MARKED_UNKNOWN);
            (few, format!("AND stage < 2 AND ({unknown})"))
        }
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM keyed {index}
         WHERE (expires_at IS NULL OR expires_at > ?1) {state}
             AND (?2 IS NULL OR api = ?2) AND (begun_at, id) < (?3, ?4)
         ORDER BY begun_at DESC, id DESC LIMIT ?5"
    );
    let (begun_at, id) = match &filter.before {
        Some((begun_at, id)) => (begun_at.as_millis(), id.as_bytes().as_slice()),
        None => (i64::MAX, [].as_slice()),
    };
    let mut select = connection.prepare_cached(&sql)?;
    let rows = select
        .query_map(params![now.as_millis(), filter.api, begun_at, id, filter.limit], |row| {
            record(row, now)
        })?;
    rows.collect()
}

/// One key, unless it is free.
pub(super) fn key(
    connection: &Connection,
    key: KeyId,
    now: Timestamp,
) -> rusqlite::Result<Option<KeyRecord>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM keyed
         WHERE id = ?1 AND (expires_at IS NULL OR expires_at > ?2)"
    );
    connection
        .prepare_cached(&sql)?
        .query_row(params![key.as_bytes(), now.as_millis()], |row| record(row, now))
        .optional()
}

/// The gauges of each API that has any key in progress or unknown.
pub(super) fn counts(
    connection: &Connection,
    now: Timestamp,
) -> rusqlite::Result<BTreeMap<String, KeyCounts>> {
    let mut select = connection.prepare_cached(
        "SELECT api, stage, lease_until > ?1, count(*) FROM keyed INDEXED BY keyed_open
         WHERE stage < 2 GROUP BY 1, 2, 3",
    )?;
    let rows = select.query_map([now.as_millis()], |row| {
        let state = match (row.get(1)?, row.get(2)?) {
            (stage::BEGUN, true) => KeyState::InProgress,
            _ => KeyState::Unknown,
        };
        Ok((row.get::<_, String>(0)?, state, row.get(3)?))
    })?;
    let mut counts = BTreeMap::<String, KeyCounts>::new();
    for row in rows {
        let (api, state, keys) = row?;
        counts.entry(api).or_default().add(state, keys);
    }
    Ok(counts)
}

fn record(row: &Row<'_>, now: Timestamp) -> rusqlite::Result<KeyRecord> {
    let lease_until = codes::time(row, 9)?;
    let some_time = |column| row.get::<_, Option<i64>>(column);
    Ok(KeyRecord {
        id: KeyId::from_bytes(row.get(0)?),
        scope: KeyScope {
            api: row.get(1)?,
            method: row.get(2)?,
            path: row.get(3)?,
            principal: row.get(4)?,
            key: row.get(5)?,
        },
        fingerprint: Fingerprint::from_bytes(row.get(6)?),
        state: state(row.get(7)?, lease_until, now),
        begun_at: codes::time(row, 8)?,
        lease_until,
        completed_at: some_time(10)?.map(Timestamp::from_millis),
        expires_at: some_time(11)?.map(Timestamp::from_millis),
        replays: row.get(12)?,
        note: row.get(13)?,
    })
}
