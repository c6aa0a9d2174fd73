//! Reading: connections of their own, which see what is committed, in short transactions.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::sync::Semaphore;

use super::{
    codes,
    delivery::{self, Kept},
    schema,
};
use crate::{
    clock::Timestamp,
    delivery::{Attempt, Delivery, DeliveryId, Lease, Leased, State},
    event::{Duplicate, Event, EventId, KeptRequest, RequestId},
    request::Headers,
    store::{DeliveryFilter, EventRecord, EventRow, StoreError},
};

/// How many may read at once. The rest wait: reading is for people, and must not crowd out intake.
const READERS_MAX: usize = 4;

/// The connections that read.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    free: Semaphore,
}

impl Readers {
    /// Readers of the database at `path`. They are opened when needed.
    pub(super) fn new(path: PathBuf) -> Arc<Self> {
        Arc::new(Self { path, idle: Mutex::default(), free: Semaphore::new(READERS_MAX) })
    }

    /// The database.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` in one read transaction on a thread that may block.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::Unavailable("it was shut down".to_owned());
        let _turn = self.free.acquire().await.map_err(|_| gone())?;
        let readers = Arc::clone(self);
        let read = move || readers.read_now(work);
        tokio::task::spawn_blocking(read).await.map_err(|_| gone())?
    }

    fn read_now<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => schema::open_reader(&self.path)?,
        };
        let transaction = connection.transaction()?;
        let read = work(&transaction);
        transaction.finish()?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(read?)
    }
}

/// The columns of a line in the list of events, as [`event_row`] reads them.
pub(super) const ROW_COLUMNS: &str = "id, source, event_id, event_type, received_at, state,
    (SELECT max(number) FROM duplicates WHERE event = events.id), resent, body_bytes, shadow,
    erased_at";

/// A line in the list of events.
pub(super) fn event_row(row: &Row<'_>) -> rusqlite::Result<EventRow> {
    Ok(EventRow {
        id: codes::event_id(row, 0)?,
        source: row.get(1)?,
        event_id: row.get(2)?,
        event_type: row.get(3)?,
        received_at: codes::time(row, 4)?,
        state: codes::event_state(row, 5)?,
        duplicates: row.get::<_, Option<u64>>(6)?.unwrap_or(0),
        resent_under_new_id: row.get(7)?,
        body_bytes: row.get(8)?,
        shadow: row.get(9)?,
        erased_at: row.get::<_, Option<i64>>(10)?.map(Timestamp::from_millis),
    })
}

/// One page of deliveries.
pub(super) fn deliveries(
    connection: &Connection,
    filter: &DeliveryFilter,
) -> rusqlite::Result<Vec<Delivery>> {
    let (index, state) = match filter.state {
        None => ("", ""),
        Some(State::Queued) => ("INDEXED BY deliveries_queued", "AND state = 0"),
        Some(State::Leased) => ("INDEXED BY deliveries_leased", "AND state = 1"),
        Some(State::Done) => ("", "AND state = 2"),
        Some(State::Dead) => ("INDEXED BY deliveries_dead", "AND state = 3"),
    };
    let direction = if filter.after.is_some() { "ASC" } else { "DESC" };
    let sql = format!(
        "SELECT {} FROM deliveries {index}
         WHERE id < ?1 AND id > ?2 {state} AND (?3 IS NULL OR handler = ?3)
         ORDER BY id {direction} LIMIT ?4",
        Kept::COLUMNS
    );
    let before = filter.before.map(|id| id.as_bytes().to_vec());
    let after = filter.after.map(|id| id.as_bytes().to_vec());
    let mut select = connection.prepare_cached(&sql)?;
    let rows = select.query_map(
        params![
            before.unwrap_or_else(above_all_ids),
            after.unwrap_or_default(), // no bytes at all come before every id
            filter.handler,
            filter.limit
        ],
        |row| Kept::read(row).map(shown),
    )?;
    rows.collect()
}

/// When the delivery of this handler fell due that waits longest: the first in the queue's own index.
pub(super) fn waiting_since(
    connection: &Connection,
    handler: &str,
) -> rusqlite::Result<Option<Timestamp>> {
    let since: Option<i64> = connection
        .prepare_cached(
            "SELECT min(due_at) FROM deliveries INDEXED BY deliveries_queued
             WHERE handler = ?1 AND state = 0",
        )?
        .query_row([handler], |row| row.get(0))?;
    Ok(since.map(Timestamp::from_millis).filter(|since| *since < Timestamp::NEVER))
}

/// What sorts after every id of 16 bytes.
fn above_all_ids() -> Vec<u8> {
    vec![0xff; 17]
}

fn shown(kept: Kept) -> Delivery {
    Delivery {
        id: kept.id,
        event: kept.event,
        source: kept.source,
        handler: kept.handler,
        state: kept.state,
        attempts: kept.attempts,
        due_at: kept.due_at,
        replay_of: kept.replay_of,
        last_error: kept.last_error,
        order_key: kept.order.map(|order| order.key),
        in_line: kept.place.is_some(),
    }
}

/// One event with everything known about it.
pub(super) fn record(
    connection: &Connection,
    id: EventId,
) -> rusqlite::Result<Option<EventRecord>> {
    let Some(event) = event(connection, id)? else { return Ok(None) };
    let sql = format!("SELECT {ROW_COLUMNS} FROM events WHERE id = ?1");
    let row = connection.prepare_cached(&sql)?.query_row([id.as_bytes()], event_row)?;
    let (identity, mark_until) = connection
        .prepare_cached(
            "SELECT identity, CASE WHEN identity IS NULL AND digest IS NULL THEN NULL
                 ELSE mark_until END
             FROM events WHERE id = ?1",
        )?
        .query_row([id.as_bytes()], |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?)))?;
    Ok(Some(EventRecord {
        row,
        event,
        request: request(connection, id)?,
        identity,
        mark_until: mark_until.map(Timestamp::from_millis),
        duplicates: duplicates(connection, id)?,
        deliveries: delivery::of_event(connection, id)?.into_iter().map(shown).collect(),
    }))
}

/// The request that an event came in, where it held several and none of them was erased.
pub(super) fn request(
    connection: &Connection,
    event: EventId,
) -> rusqlite::Result<Option<KeptRequest>> {
    connection
        .prepare_cached(
            "SELECT requests.id, requests.body
             FROM events JOIN requests ON requests.id = events.request
             WHERE events.id = ?1 AND length(requests.body) > 0",
        )?
        .query_row([event.as_bytes()], |row| {
            let body = row.get::<_, Vec<u8>>(1)?.into();
            Ok(KeptRequest { id: RequestId::from_bytes(row.get(0)?), body })
        })
        .optional()
}

/// The duplicates of an event that are kept, newest first.
pub(super) fn duplicates(connection: &Connection, id: EventId) -> rusqlite::Result<Vec<Duplicate>> {
    let mut select = connection.prepare_cached(
        "SELECT received_at, retry_marker FROM duplicates WHERE event = ?1 ORDER BY number DESC",
    )?;
    let duplicates = select.query_map([id.as_bytes()], |row| {
        Ok(Duplicate { received_at: codes::time(row, 0)?, retry_marker: row.get(1)? })
    })?;
    duplicates.collect()
}

/// The attempts of a delivery, oldest first.
pub(super) fn attempts(
    connection: &Connection,
    delivery: DeliveryId,
) -> rusqlite::Result<Vec<Attempt>> {
    let mut select = connection.prepare_cached(
        "SELECT number, started_at, took_ms, outcome, status, error, excerpt
         FROM attempts WHERE delivery = ?1 ORDER BY number",
    )?;
    let attempts = select.query_map([delivery.as_bytes()], |row| {
        Ok(Attempt {
            number: row.get(0)?,
            started_at: codes::time(row, 1)?,
            took_ms: row.get(2)?,
            outcome: codes::outcome(row, 3)?,
            status: row.get(4)?,
            error: row.get(5)?,
            excerpt: row.get(6)?,
        })
    })?;
    attempts.collect()
}

/// What a worker gets of a delivery that is leased. `None` if its event is not there, which prune
/// does not let happen.
pub(super) fn leased(connection: &Connection, kept: &Kept) -> rusqlite::Result<Option<Leased>> {
    Ok(event(connection, kept.event)?.map(|event| Leased {
        lease: kept.lease(),
        handler: Arc::clone(&kept.handler),
        attempt: kept.attempts,
        attempts_before_redrive: kept.attempts_before_redrive,
        replay_of: kept.replay_of,
        deaths_in_a_row: kept.deaths_in_a_row,
        order_key: kept.order.map(|order| order.key),
        event: Arc::new(event),
    }))
}

/// Of these leases those that are still held.
pub(super) fn still_leased(
    connection: &Connection,
    leases: &[Lease],
) -> rusqlite::Result<Vec<Leased>> {
    let mut still = Vec::new();
    for lease in leases {
        let kept = delivery::find(connection, lease.delivery)?;
        if let Some(kept) = kept.filter(|kept| kept.is_held_by(lease)) {
            still.extend(leased(connection, &kept)?);
        }
    }
    Ok(still)
}

/// Every lease there is.
pub(super) fn leases(connection: &Connection) -> rusqlite::Result<Vec<Lease>> {
    let mut select = connection
        .prepare("SELECT id, token FROM deliveries INDEXED BY deliveries_leased WHERE state = 1")?;
    let leases = select.query_map([], |row| {
        Ok(Lease { delivery: codes::delivery_id(row, 0)?, token: row.get(1)? })
    })?;
    leases.collect()
}

/// The event itself.
pub(super) fn event(connection: &Connection, id: EventId) -> rusqlite::Result<Option<Event>> {
    connection
        .prepare_cached(
            "SELECT events.id, source, event_id, event_type, received_at, resent, retry_marker,
                 query, coalesce(requests.headers, contents.headers), contents.body, shadow
             FROM events JOIN contents ON contents.number = events.content
                 LEFT JOIN requests ON requests.id = events.request
             WHERE events.id = ?1",
        )?
        .query_row([id.as_bytes()], |row| {
            Ok(Event {
                id: codes::event_id(row, 0)?,
                source: row.get(1)?,
                event_id: row.get(2)?,
                event_type: row.get(3)?,
                received_at: codes::time(row, 4)?,
                resent_under_new_id: row.get(5)?,
                retry_marker: row.get(6)?,
                query: row.get(7)?,
                headers: Headers::from_lines(row.get_ref(8)?.as_blob()?),
                body: row.get::<_, Vec<u8>>(9)?.into(),
                shadow: row.get(10)?,
            })
        })
        .optional()
}
