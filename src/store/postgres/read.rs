//! Reading: what is committed, in short transactions.

use std::{collections::BTreeMap, sync::Arc};

use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    codes::{self, get, number},
    connection::Turn,
    count,
    delivery::Kept,
    error::Trouble,
};
use crate::{
    clock::Timestamp,
    delivery::{Attempt, Delivery, DeliveryId, State},
    event::{Duplicate, Event, EventId, EventState, KeptRequest, RequestId},
    request::Headers,
    store::{DeliveryFilter, EventFilter, EventRecord, EventRow, Stats},
};

/// The statements of this file.
pub(super) const STATEMENTS: &[&str] =
    &[EVENTS_WITH_CONTENT, EVENT, DUPLICATES, DELIVERIES_OF, ATTEMPTS, WAITING_SINCE, count::STATS];

/// Events whole, for the worker that handles them.
pub(super) const EVENTS_WITH_CONTENT: &str = "SELECT events.*, query, contents.body,
        coalesce(requests.headers, contents.headers) AS headers
    FROM events JOIN contents ON contents.event = events.id
    LEFT JOIN requests ON requests.id = events.request WHERE events.id = ANY($1)";

const EVENT: &str = "SELECT events.*, query, contents.body,
        coalesce(requests.headers, contents.headers) AS headers, requests.body AS request_body
    FROM events JOIN contents ON contents.event = events.id
    LEFT JOIN requests ON requests.id = events.request WHERE events.id = $1";

const DUPLICATES: &str = "SELECT received_at, retry_marker FROM duplicates
    WHERE event = $1 ORDER BY number DESC";

const DELIVERIES_OF: &str = "SELECT * FROM deliveries WHERE event = $1 ORDER BY id";

const ATTEMPTS: &str = "SELECT number, started_at, took_ms, outcome, status, error, excerpt
    FROM attempts WHERE delivery = $1 ORDER BY number";

const WAITING_SINCE: &str = "SELECT due_at FROM deliveries
    WHERE handler = $1 AND state = 0 ORDER BY due_at, id LIMIT 1";

/// One page of events, newest first.
pub(super) async fn events(
    turn: &Turn<'_>,
    filter: &EventFilter,
) -> Result<Vec<EventRow>, Trouble> {
    // A state that few events are in is looked up by its index: the condition of the index is written
    // out, because a value that comes in later does not tell the planner that it fits.
    let state = match filter.state {
        None => String::new(),
        Some(state) => {
            let few = match state {
                EventState::Open | EventState::Dead | EventState::Held => "AND state IN (0, 2, 4)",
                EventState::Done | EventState::Unrouted => "",
            };
            format!("{few} AND state = {}", codes::of_event_state(state))
        }
    };
    let sql = format!(
        "SELECT * FROM events
         WHERE ($1::uuid IS NULL OR id < $1) {state}
             AND ($2::text IS NULL OR source = $2)
             AND ($3::text IS NULL OR coalesce(event_type, '') = $3)
             AND ($4::text IS NULL OR starts_with(coalesce(event_type, ''), $4))
             AND ($5::text IS NULL OR event_id = $5)
         ORDER BY id DESC LIMIT $6"
    );
    let wanted = filter.event_type.as_deref();
    let head = wanted.and_then(|wanted| wanted.strip_suffix('*'));
    let whole = wanted.filter(|_| head.is_none());
    let rows = turn
        .query_text(
            &sql,
            &[
                &filter.before.map(codes::of_event),
                &filter.source,
                &codes::of_some_text(whole),
                &codes::of_some_text(head),
                &codes::of_some_text(filter.event_id.as_deref()),
                &codes::of_number(filter.limit),
            ],
        )
        .await?;
    rows.iter().map(|row| event_row(turn, row)).collect()
}

/// One page of deliveries.
pub(super) async fn deliveries(
    turn: &Turn<'_>,
    filter: &DeliveryFilter,
) -> Result<Vec<Delivery>, Trouble> {
    let state = match filter.state {
        None => "",
        Some(State::Queued) => "AND state = 0",
        Some(State::Leased) => "AND state = 1",
        Some(State::Done) => "AND state = 2",
        Some(State::Dead) => "AND state = 3",
    };
    let direction = if filter.after.is_some() { "ASC" } else { "DESC" };
    let sql = format!(
        "SELECT * FROM deliveries
         WHERE ($1::uuid IS NULL OR id < $1) AND ($2::uuid IS NULL OR id > $2) {state}
             AND ($3::text IS NULL OR handler = $3)
         ORDER BY id {direction} LIMIT $4"
    );
    let before = filter.before.map(codes::of_delivery);
    let after = filter.after.map(codes::of_delivery);
    let limit = codes::of_number(filter.limit);
    let rows = turn.query_text(&sql, &[&before, &after, &filter.handler, &limit]).await?;
    rows.iter().map(|row| shown(turn, row)).collect()
}

/// One event with everything known about it.
pub(super) async fn record(turn: &Turn<'_>, id: EventId) -> Result<Option<EventRecord>, Trouble> {
    let key = codes::of_event(id);
    let key = [&key as &(dyn ToSql + Sync)];
    let ((), rows, deliveries, duplicates, ()) = tokio::try_join!(
        biased;
        turn.begin_reading(),
        turn.query(EVENT, &key),
        turn.query(DELIVERIES_OF, &key),
        turn.query(DUPLICATES, &key),
        turn.roll_back(),
    )?;
    let Some(row) = rows.first() else { return Ok(None) };
    let marks: [Option<&[u8]>; 2] = [get(row, "mark")?, get(row, "digest")?];
    let is_marked = marks.iter().any(Option::is_some);
    Ok(Some(EventRecord {
        row: event_row(turn, row)?,
        event: event(row)?,
        identity: codes::some_text(row, "identity")?,
        mark_until: is_marked.then_some(codes::time(row, "mark_until")?),
        duplicates: duplicates.iter().map(duplicate).collect::<Result<_, _>>()?,
        request: request(row)?,
        deliveries: deliveries.iter().map(|row| shown(turn, row)).collect::<Result<_, _>>()?,
    }))
}

/// The attempts of a delivery, oldest first.
pub(super) async fn attempts(
    turn: &Turn<'_>,
    delivery: DeliveryId,
) -> Result<Vec<Attempt>, Trouble> {
    let rows = turn.query(ATTEMPTS, &[&codes::of_delivery(delivery)]).await?;
    rows.iter().map(attempt).collect()
}

/// When the delivery of this handler fell due that waits longest.
pub(super) async fn waiting_since(
    turn: &Turn<'_>,
    handler: &str,
) -> Result<Option<Timestamp>, Trouble> {
    let rows = turn.query(WAITING_SINCE, &[&handler]).await?;
    let since = rows.first().map(|row| codes::time(row, "due_at")).transpose()?;
    Ok(since.filter(|since| *since < Timestamp::NEVER).map(|since| turn.to_ours(since)))
}

/// The counters and gauges as they are committed.
pub(super) async fn stats(turn: &Turn<'_>) -> Result<Stats, Trouble> {
    count::stats(&turn.query(count::STATS, &[]).await?)
}

/// These events, whole.
pub(super) async fn events_with_content(
    turn: &Turn<'_>,
    ids: &[EventId],
) -> Result<BTreeMap<EventId, Arc<Event>>, Trouble> {
    let ids: Vec<Uuid> = ids.iter().copied().map(codes::of_event).collect();
    let rows = turn.query(EVENTS_WITH_CONTENT, &[&ids]).await?;
    let events = rows.iter().map(event).map(|event| event.map(|event| (event.id, Arc::new(event))));
    events.collect()
}

/// The event in a row of all columns, with its content.
pub(super) fn event(row: &Row) -> Result<Event, Trouble> {
    Ok(Event {
        id: codes::event_id(row, "id")?,
        source: get::<&str>(row, "source")?.into(),
        event_id: codes::some_text(row, "event_id")?,
        event_type: codes::some_text(row, "event_type")?,
        received_at: codes::time(row, "received_at")?,
        resent_under_new_id: get(row, "resent")?,
        shadow: get(row, "shadow")?,
        retry_marker: codes::some_text(row, "retry_marker")?,
        query: codes::text(row, "query")?,
        headers: Headers::from_lines(get(row, "headers")?),
        body: get::<Vec<u8>>(row, "body")?.into(),
    })
}

/// The request an event came in, where that is kept beside it.
pub(super) fn request(row: &Row) -> Result<Option<KeptRequest>, Trouble> {
    let id: Option<Uuid> = get(row, "request")?;
    let body: Option<Vec<u8>> = get(row, "request_body")?;
    // Without its body once one of its events was erased.
    let body = body.filter(|body| !body.is_empty());
    let request = id.zip(body).map(|(id, body)| KeptRequest {
        id: RequestId::from_bytes(id.into_bytes()),
        body: body.into(),
    });
    Ok(request)
}

/// The duplicate in a row.
pub(super) fn duplicate(row: &Row) -> Result<Duplicate, Trouble> {
    Ok(Duplicate {
        received_at: codes::time(row, "received_at")?,
        retry_marker: codes::some_text(row, "retry_marker")?,
    })
}

/// The attempt in a row.
pub(super) fn attempt(row: &Row) -> Result<Attempt, Trouble> {
    let took_ms: Option<i64> = get(row, "took_ms")?;
    Ok(Attempt {
        number: number(row, "number")?,
        started_at: codes::time(row, "started_at")?,
        took_ms: took_ms.map(|took_ms| u64::try_from(took_ms).unwrap_or(0)),
        outcome: codes::outcome(row, "outcome")?,
        status: get(row, "status")?,
        error: codes::some_text(row, "error")?,
        excerpt: codes::some_text(row, "excerpt")?,
    })
}

fn event_row(turn: &Turn<'_>, row: &Row) -> Result<EventRow, Trouble> {
    let erased_at: Option<i64> = get(row, "erased_at")?;
    Ok(EventRow {
        id: codes::event_id(row, "id")?,
        source: get::<&str>(row, "source")?.into(),
        event_id: codes::some_text(row, "event_id")?,
        event_type: codes::some_text(row, "event_type")?,
        received_at: codes::time(row, "received_at")?,
        state: codes::event_state(row, "state")?,
        duplicates: number(row, "duplicates")?,
        resent_under_new_id: get(row, "resent")?,
        shadow: get(row, "shadow")?,
        body_bytes: number(row, "body_bytes")?,
        erased_at: erased_at.map(|at| turn.to_ours(Timestamp::from_millis(at))),
    })
}

fn shown(turn: &Turn<'_>, row: &Row) -> Result<Delivery, Trouble> {
    let kept = Kept::read(row)?;
    let due_at: Timestamp = turn.to_ours(kept.due_at);
    Ok(Delivery {
        id: kept.id,
        event: kept.event,
        source: kept.source,
        handler: kept.handler,
        state: kept.state,
        attempts: kept.attempts,
        due_at,
        replay_of: kept.replay_of,
        last_error: kept.last_error,
        order_key: kept.order.map(|order| order.key),
        in_line: kept.place.is_some(),
    })
}
