//! Giving away everything, page by page.
//!
//! Times by the server's clock go out as our own tells them.

use std::collections::BTreeMap;

use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    codes::{self, get, number},
    connection::Turn,
    control, count,
    delivery::Kept,
    error::Trouble,
    keyed, read,
};
use crate::{
    clock::Timestamp,
    delivery::{Attempt, State},
    event::{Digest, EventState, Identity},
    limits,
    store::{
        mark::MarkKey,
        moving::{Cursor, DeliveryCopy, EventCopy, MarkCopy, OrderCopy, Record},
    },
};

/// The statements of this file.
pub(super) const STATEMENTS: &[&str] =
    &[count::STATS, EVENT_SIZES, EVENTS, DUPLICATES, DELIVERIES, ATTEMPTS, MARKS, DIGESTS];

const EVENT_SIZES: &str = "SELECT events.id,
        body_bytes + coalesce(octet_length(requests.body), 0) AS bytes
    FROM events LEFT JOIN requests ON requests.id = events.request
    WHERE events.id > $1 ORDER BY events.id LIMIT $2";

const EVENTS: &str = "SELECT events.*, query, contents.body,
        coalesce(requests.headers, contents.headers) AS headers, requests.body AS request_body,
        coalesce(digests.event = events.id, false) AS is_first_of_digest
    FROM events JOIN contents ON contents.event = events.id
    LEFT JOIN requests ON requests.id = events.request
    LEFT JOIN digests ON digests.key = events.digest_key
    WHERE events.id = ANY($1) ORDER BY events.id";

const DUPLICATES: &str = "SELECT event, received_at, retry_marker FROM duplicates
    WHERE event = ANY($1) ORDER BY event, number DESC";

const DELIVERIES: &str = "SELECT * FROM deliveries WHERE event = ANY($1) ORDER BY id";

const ATTEMPTS: &str = "SELECT attempts.* FROM deliveries
    JOIN attempts ON attempts.delivery = deliveries.id
    WHERE deliveries.event = ANY($1) ORDER BY delivery, number";

/// Those whose events are gone; the others go with their events.
const MARKS: &str = "SELECT key, event, expires_at, digest FROM marks
    WHERE expires_at IS NOT NULL AND expires_at >= $1 AND (expires_at, key) > ($1, $2)
    ORDER BY expires_at, key LIMIT $3";

const DIGESTS: &str = "SELECT key, event, expires_at, NULL::bytea AS digest FROM digests
    WHERE expires_at IS NOT NULL AND expires_at >= $1 AND (expires_at, key) > ($1, $2)
    ORDER BY expires_at, key LIMIT $3";

/// A page of records, and where the next one begins.
pub(super) type Page = (Vec<Record>, Option<Cursor>);

/// See [`Moving::export`](crate::store::moving::Moving::export).
pub(super) async fn page(turn: &Turn<'_>, from: &Cursor) -> Result<Page, Trouble> {
    turn.begin_reading().await?;
    let page = match from.stage {
        0 => {
            let mut records = counts(turn).await?;
            records.extend(Record::of_controls(control::all(turn).await?));
            (records, Some(from.next_stage()))
        }
        1 => events(turn, from).await?,
        2 => marks(turn, from, MARKS, Record::Mark).await?,
        3 => marks(turn, from, DIGESTS, Record::Digest).await?,
        _ => keyed::export(turn, from).await?,
    };
    turn.roll_back().await?;
    Ok(page)
}

/// Of rows with a size those that a page has room for, and the first in any case.
pub(super) fn that_fit<T>(sized: Vec<(T, usize)>) -> Vec<T> {
    let mut bytes: usize = 0;
    let fits = |(_, size): &(T, usize)| {
        let fits = bytes < limits::BATCH_BYTES_MAX;
        bytes = bytes.saturating_add(*size);
        fits
    };
    sized.into_iter().take_while(fits).map(|(row, _)| row).collect()
}

async fn counts(turn: &Turn<'_>) -> Result<Vec<Record>, Trouble> {
    let rows = turn.query(count::STATS, &[]).await?;
    let record = |row: &Row| {
        let (source, handler) = (get(row, "source")?, get(row, "handler")?);
        Ok(Record::Counts { source, handler, counts: count::counts(row)? })
    };
    rows.iter().map(record).collect()
}

async fn events(turn: &Turn<'_>, from: &Cursor) -> Result<Page, Trouble> {
    let after = from.after.as_slice().try_into().map_or(Uuid::nil(), Uuid::from_bytes);
    let rows = turn.query(EVENT_SIZES, &[&after, &codes::of_number(limits::EXPORT_ROWS)]).await?;
    let sizes = rows.iter().map(|row| Ok((get::<Uuid>(row, "id")?, number(row, "bytes")?)));
    let ids = that_fit(sizes.collect::<Result<_, Trouble>>()?);
    let Some(last) = ids.last() else { return Ok((Vec::new(), Some(from.next_stage()))) };
    let next = from.behind(last.as_bytes().as_slice());

    let those = [&ids as &(dyn ToSql + Sync)];
    let (events, duplicates, deliveries, attempts) = tokio::try_join!(
        biased;
        turn.query(EVENTS, &those),
        turn.query(DUPLICATES, &those),
        turn.query(DELIVERIES, &those),
        turn.query(ATTEMPTS, &those),
    )?;
    let mut duplicates = by_id(&duplicates, "event", read::duplicate)?;
    let mut attempts = by_id(&attempts, "delivery", read::attempt)?;
    let mut deliveries = by_id(&deliveries, "event", |row| {
        let attempts = attempts.remove(&get(row, "id")?).unwrap_or_default();
        Ok(delivery(turn, Kept::read(row)?, attempts))
    })?;
    let record = |row: &Row| {
        let id: Uuid = get(row, "id")?;
        Ok(Record::Event(Box::new(EventCopy {
            duplicates: duplicates.remove(&id).unwrap_or_default(),
            deliveries: deliveries.remove(&id).unwrap_or_default(),
            ..event(turn, row)?
        })))
    };
    let records = events.iter().map(record).collect::<Result<_, Trouble>>()?;
    Ok((records, Some(next)))
}

/// What rows hold for each event or delivery, in their order.
fn by_id<T>(
    rows: &[Row],
    id: &str,
    mut read: impl FnMut(&Row) -> Result<T, Trouble>,
) -> Result<BTreeMap<Uuid, Vec<T>>, Trouble> {
    let mut all: BTreeMap<Uuid, Vec<T>> = BTreeMap::new();
    for row in rows {
        all.entry(get(row, id)?).or_default().push(read(row)?);
    }
    Ok(all)
}

/// An event without its duplicates and deliveries.
fn event(turn: &Turn<'_>, row: &Row) -> Result<EventCopy, Trouble> {
    let to_ours = |time: i64| turn.to_ours(Timestamp::from_millis(time));
    let ended_at: Option<i64> = get(row, "ended_at")?;
    let erased_at: Option<i64> = get(row, "erased_at")?;
    Ok(EventCopy {
        event: read::event(row)?,
        request: read::request(row)?,
        identity: codes::some_text(row, "identity")?.map(Identity::from_kept),
        digest: codes::some_bytes(row, "digest")?.map(Digest::from_bytes),
        is_first_of_digest: get(row, "is_first_of_digest")?,
        mark_until: codes::time(row, "mark_until")?,
        held: codes::event_state(row, "state")? == EventState::Held,
        ended_at: ended_at.map(to_ours),
        erased_at: erased_at.map(to_ours),
        duplicate_count: number(row, "duplicates")?,
        duplicates: Vec::new(),
        deliveries: Vec::new(),
    })
}

fn delivery(turn: &Turn<'_>, kept: Kept, attempts_kept: Vec<Attempt>) -> DeliveryCopy {
    let is_leased = kept.state == State::Leased;
    DeliveryCopy {
        id: kept.id,
        handler: kept.handler,
        state: kept.state,
        due_at: turn.to_ours(kept.due_at),
        token: kept.token,
        attempts: kept.attempts,
        attempts_before_redrive: kept.attempts_before_redrive,
        deaths_in_a_row: kept.deaths_in_a_row,
        leased_at: is_leased.then(|| turn.to_ours(kept.leased_at)),
        replay_of: kept.replay_of,
        redriven_by: kept.redriven_by,
        last_error: kept.last_error,
        order: kept.order.map(|order| OrderCopy::of(order, kept.place)),
        attempts_kept,
    }
}

/// Marks or digests, those that end first first, and of these what is not over yet. Their end is told by the
/// clock of whoever admitted their events, so the earlier clock counts here, as it does when they are pruned.
async fn marks(
    turn: &Turn<'_>,
    from: &Cursor,
    sql: &'static str,
    record: fn(MarkCopy) -> Record,
) -> Result<Page, Trouble> {
    let (expires_at, key) = match from.after.split_first_chunk() {
        Some((expires_at, key)) => (i64::from_be_bytes(*expires_at), key),
        None => {
            let marks_now = turn.our_now().min(turn.now().await?);
            (marks_now.as_millis(), [].as_slice())
        }
    };
    let rows =
        turn.query(sql, &[&expires_at, &key, &codes::of_number(limits::EXPORT_ROWS)]).await?;
    let mark = |row: &Row| {
        Ok(MarkCopy {
            key: MarkKey::from_bytes(codes::bytes(row, "key")?),
            event: codes::event_id(row, "event")?,
            expires_at: codes::time(row, "expires_at")?,
            digest: codes::some_bytes(row, "digest")?.map(MarkKey::from_bytes),
        })
    };
    let marks = rows.iter().map(mark).collect::<Result<Vec<_>, Trouble>>()?;
    let place = |last: &MarkCopy| {
        let expires_at = last.expires_at.as_millis().to_be_bytes();
        from.behind([expires_at.as_slice(), last.key.as_bytes()].concat())
    };
    let next = marks.last().map_or_else(|| from.next_stage(), place);
    Ok((marks.into_iter().map(record).collect(), Some(next)))
}
