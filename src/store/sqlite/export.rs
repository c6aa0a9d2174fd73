//! Giving away everything, page by page.

use rusqlite::{Connection, Row, params};

use super::{
    codes, control, count,
    delivery::{self, Kept},
    keyed, read,
};
use crate::{
    clock::Timestamp,
    delivery::State,
    event::{Digest, EventId, Identity},
    limits,
    store::{
        mark::{MARK_KEY_BYTES, MarkKey},
        moving::{Cursor, DeliveryCopy, EventCopy, MarkCopy, OrderCopy, Record},
    },
};

/// A page of records, and where the next one begins.
type Page = (Vec<Record>, Option<Cursor>);

/// See [`Moving::export`](crate::store::moving::Moving::export).
pub(super) fn page(
    connection: &Connection,
    from: &Cursor,
    now: Timestamp,
) -> rusqlite::Result<Page> {
    match from.stage {
        0 => {
            let mut records = counts(connection)?;
            records.extend(Record::of_controls(control::controls(connection)?));
            Ok((records, Some(from.next_stage())))
        }
        1 => events(connection, from),
        2 => marks(connection, from, now),
        3 => digests(connection, from, now),
        4 => carried(connection, from, now),
        _ => keyed::export(connection, from, now),
    }
}

fn counts(connection: &Connection) -> rusqlite::Result<Vec<Record>> {
    Ok(count::all(connection)?
        .into_iter()
        .map(|((source, handler), counts)| Record::Counts { source, handler, counts })
        .collect())
}

fn events(connection: &Connection, from: &Cursor) -> rusqlite::Result<Page> {
    let mut select =
        connection.prepare_cached("SELECT id FROM events WHERE id > ?1 ORDER BY id LIMIT ?2")?;
    let ids = select
        .query_map(params![from.after, limits::EXPORT_ROWS], |row| codes::event_id(row, 0))?
        .collect::<Result<Vec<_>, _>>()?;
    let (mut records, mut bytes) = (Vec::new(), 0);
    for id in &ids {
        if let Some(copy) = event(connection, *id)? {
            let record = Record::Event(Box::new(copy));
            bytes += record.bytes();
            records.push(record);
        }
        if bytes >= limits::BATCH_BYTES_MAX {
            return Ok((records, Some(from.behind(id.as_bytes().as_slice()))));
        }
    }
    let next = match ids.last() {
        Some(last) => from.behind(last.as_bytes().as_slice()),
        None => from.next_stage(),
    };
    Ok((records, Some(next)))
}

fn event(connection: &Connection, id: EventId) -> rusqlite::Result<Option<EventCopy>> {
    let Some(event) = read::event(connection, id)? else { return Ok(None) };
    let sql = "SELECT identity, digest, mark_until, state = 4, ended_at,
             (SELECT max(number) FROM duplicates WHERE event = events.id),
             (SELECT event = events.id FROM digests
              WHERE digests.source = events.source AND digests.digest = events.digest),
             erased_at
         FROM events WHERE id = ?1";
    let read_row = |row: &Row<'_>| {
        Ok(EventCopy {
            identity: row.get::<_, Option<String>>(0)?.map(Identity::from_kept),
            digest: row.get::<_, Option<[u8; 32]>>(1)?.map(Digest::from_bytes),
            mark_until: codes::time(row, 2)?,
            held: row.get(3)?,
            ended_at: row.get::<_, Option<i64>>(4)?.map(Timestamp::from_millis),
            duplicate_count: row.get::<_, Option<u64>>(5)?.unwrap_or(0),
            is_first_of_digest: row.get::<_, Option<bool>>(6)?.unwrap_or(false),
            erased_at: row.get::<_, Option<i64>>(7)?.map(Timestamp::from_millis),
            request: None,
            duplicates: Vec::new(),
            deliveries: Vec::new(),
            event,
        })
    };
    let mut copy = connection.prepare_cached(sql)?.query_row([id.as_bytes()], read_row)?;
    copy.request = read::request(connection, id)?;
    copy.duplicates = read::duplicates(connection, id)?;
    for kept in delivery::of_event(connection, id)? {
        copy.deliveries.push(delivery_copy(connection, kept)?);
    }
    Ok(Some(copy))
}

fn delivery_copy(connection: &Connection, kept: Kept) -> rusqlite::Result<DeliveryCopy> {
    Ok(DeliveryCopy {
        attempts_kept: read::attempts(connection, kept.id)?,
        id: kept.id,
        handler: kept.handler,
        state: kept.state,
        due_at: kept.due_at,
        token: kept.token,
        attempts: kept.attempts,
        attempts_before_redrive: kept.attempts_before_redrive,
        deaths_in_a_row: kept.deaths_in_a_row,
        leased_at: (kept.state == State::Leased).then_some(kept.leased_at),
        replay_of: kept.replay_of,
        redriven_by: kept.redriven_by,
        last_error: kept.last_error,
        order: kept.order.map(|order| OrderCopy::of(order, kept.place)),
    })
}

/// The marks whose events are gone; the others go with their events.
fn marks(connection: &Connection, from: &Cursor, now: Timestamp) -> rusqlite::Result<Page> {
    let mut select = connection.prepare_cached(
        "SELECT source, identity, event, expires_at, digest FROM marks INDEXED BY marks_expiring
         WHERE expires_at IS NOT NULL AND (expires_at, source, identity) > (?1, ?2, ?3)
         ORDER BY expires_at, source, identity LIMIT ?4",
    )?;
    let (expires_at, source, identity) = place(from, now);
    let identity = String::from_utf8_lossy(identity).into_owned();
    let rows =
        select.query_map(params![expires_at, source, identity, limits::EXPORT_ROWS], |row| {
            let (source, identity): (String, String) = (row.get(0)?, row.get(1)?);
            let digest = row.get::<_, Option<[u8; 32]>>(4)?.map(Digest::from_bytes);
            let expires_at = codes::time(row, 3)?;
            let place = placed(expires_at, &source, identity.as_bytes());
            let mark = MarkCopy {
                key: MarkKey::of_identity(&source, &Identity::from_kept(identity)),
                event: codes::event_id(row, 2)?,
                expires_at,
                digest: digest.map(|digest| MarkKey::of_digest(&source, &digest)),
            };
            Ok((Record::Mark(mark), place))
        })?;
    Ok(of_rows(rows.collect::<Result<_, _>>()?, from))
}

fn digests(connection: &Connection, from: &Cursor, now: Timestamp) -> rusqlite::Result<Page> {
    let mut select = connection.prepare_cached(
        "SELECT source, digest, event, expires_at FROM digests INDEXED BY digests_expiring
         WHERE expires_at IS NOT NULL AND (expires_at, source, digest) > (?1, ?2, ?3)
         ORDER BY expires_at, source, digest LIMIT ?4",
    )?;
    let (expires_at, source, digest) = place(from, now);
    let rows =
        select.query_map(params![expires_at, source, digest, limits::EXPORT_ROWS], |row| {
            let (source, digest): (String, [u8; 32]) = (row.get(0)?, row.get(1)?);
            let expires_at = codes::time(row, 3)?;
            let mark = MarkCopy {
                key: MarkKey::of_digest(&source, &Digest::from_bytes(digest)),
                event: codes::event_id(row, 2)?,
                expires_at,
                digest: None,
            };
            Ok((Record::Digest(mark), placed(expires_at, &source, &digest)))
        })?;
    Ok(of_rows(rows.collect::<Result<_, _>>()?, from))
}

/// What came from another store itself.
fn carried(connection: &Connection, from: &Cursor, now: Timestamp) -> rusqlite::Result<Page> {
    let mut select = connection.prepare_cached(
        "SELECT kind, key, event, expires_at, digest FROM carried_marks
         WHERE (kind, key) > (?1, ?2) AND expires_at >= ?3 ORDER BY kind, key LIMIT ?4",
    )?;
    let (kind, key) =
        from.after.split_first().map_or((0, [].as_slice()), |(kind, key)| (*kind, key));
    let rows =
        select.query_map(params![kind, key, now.as_millis(), limits::EXPORT_ROWS], |row| {
            let (kind, key): (u8, [u8; MARK_KEY_BYTES]) = (row.get(0)?, row.get(1)?);
            let mark = MarkCopy {
                key: MarkKey::from_bytes(key),
                event: codes::event_id(row, 2)?,
                expires_at: codes::time(row, 3)?,
                digest: row.get::<_, Option<_>>(4)?.map(MarkKey::from_bytes),
            };
            let is_mark = i64::from(kind) == codes::MARK;
            let record = if is_mark { Record::Mark(mark) } else { Record::Digest(mark) };
            Ok((record, [[kind].as_slice(), &key].concat()))
        })?;
    Ok(of_rows(rows.collect::<Result<_, _>>()?, from))
}

/// The records of rows, each with its place; the next page begins behind the last.
fn of_rows(rows: Vec<(Record, Vec<u8>)>, from: &Cursor) -> Page {
    let next = match rows.last() {
        Some((_, place)) => from.behind(place.clone()),
        None => from.next_stage(),
    };
    (rows.into_iter().map(|(record, _)| record).collect(), Some(next))
}

/// A place in an index by the time of expiry.
fn placed(expires_at: Timestamp, source: &str, name: &[u8]) -> Vec<u8> {
    [&expires_at.as_millis().to_be_bytes(), source.as_bytes(), b"\0", name].concat()
}

/// What [`placed`] has put together. At the beginning: what is not over yet.
fn place(from: &Cursor, now: Timestamp) -> (i64, String, &[u8]) {
    let Some((expires_at, rest)) = from.after.split_first_chunk() else {
        return (now.as_millis(), String::new(), &[]);
    };
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    let (source, name) = rest.split_at_checked(end).unwrap_or_default();
    let name = name.split_first().map_or([].as_slice(), |(_, name)| name);
    (i64::from_be_bytes(*expires_at), String::from_utf8_lossy(source).into_owned(), name)
}
