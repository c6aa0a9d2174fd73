//! Taking over what another store has given away.
//!
//! Each page is one transaction, with nobody else at the store. An event or a key that is there came
//! whole, so there is nothing to add to it; counters and marks are written over.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{
    admit_rows::{CONTENTS, REQUESTS},
    codes::{self, get},
    connection::{Purpose, Turn},
    control,
    count::Counted,
    delivery::{self, column},
    error::Trouble,
    keyed, moving,
};
use crate::{
    clock::Timestamp,
    delivery::{Attempt, DeliveryId, State},
    event::{EventId, EventState, Identity, KeptRequest},
    order::OnDead,
    store::{
        encrypted::plain_bytes,
        mark::MarkKey,
        moving::{DeliveryCopy, EventCopy, MarkCopy, Record},
    },
};

/// The statements of this file.
pub(super) const STATEMENTS: &[&str] =
    &[KNOWN, REQUESTS, EVENTS, CONTENTS, DUPLICATES, DELIVERIES, LINES, MARKS, DIGESTS];

const KNOWN: &str = "SELECT id FROM events WHERE id = ANY($1)";

const EVENTS: &str = "INSERT INTO events SELECT * FROM unnest($1::uuid[], $2::bigint[],
    $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
    $9::smallint[], $10::boolean[], $11::boolean[], $12::text[], $13::text[], $14::text[],
    $15::text[], $16::text[], $17::bytea[], $18::bytea[], $19::bytea[], $20::uuid[], $21::bigint[])";

const DUPLICATES: &str = "INSERT INTO duplicates
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[])";

const DELIVERIES: &str = "INSERT INTO deliveries SELECT * FROM unnest($1::uuid[], $2::uuid[],
    $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
    $9::smallint[], $10::text[], $11::text[], $12::uuid[], $13::uuid[], $14::text[], $15::bytea[],
    $16::boolean[], $17::bigint[])";

/// They keep the places they had: those on other pages may stand between them.
const LINES: &str = "INSERT INTO lines
    SELECT handler, order_key, max(place), count(*)
    FROM unnest($1::text[], $2::bytea[], $3::bigint[]) AS member(handler, order_key, place)
    GROUP BY handler, order_key
    ON CONFLICT (handler, order_key) DO UPDATE SET length = lines.length + excluded.length,
        last_place = greatest(lines.last_place, excluded.last_place)";

const MARKS: &str = "INSERT INTO marks (event, expires_at, key, digest)
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bytea[], $4::bytea[])
    ON CONFLICT (key) DO UPDATE SET event = excluded.event, expires_at = excluded.expires_at,
        digest = excluded.digest";

const DIGESTS: &str = "INSERT INTO digests (event, expires_at, key)
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bytea[])
    ON CONFLICT (key) DO UPDATE SET event = excluded.event, expires_at = excluded.expires_at";

/// See [`Moving::import`](crate::store::moving::Moving::import).
pub(super) async fn import(turn: &Turn<'_>, copy: Uuid, records: &[Record]) -> Result<(), Trouble> {
    turn.begin(Purpose::Move).await?;
    moving::standing(turn).await?.expect_filling(copy).map_err(Trouble::refused)?;
    let mut counted = Counted::default();
    let (mut events, mut keys) = (Vec::new(), Vec::new());
    let (mut marks, mut digests) = (Marks::default(), Marks::default());
    for record in records {
        match record {
            Record::Counts { source, handler, counts } => {
                counted.take_over(source, handler, counts);
            }
            Record::Control { handler, control } => {
                for setting in control.settings() {
                    control::write(turn, handler, setting).await?;
                }
            }
            Record::Event(copy) => events.push(&**copy),
            Record::Mark(copy) => marks.carry(copy),
            Record::Digest(copy) => digests.carry(copy),
            Record::Key(copy) => keys.push(&**copy),
        }
    }
    let events = new_ones(turn, events).await?;
    for copy in &events {
        marks.add(copy.mark_key(), copy.event.id);
        digests.add(copy.digest_key().filter(|_| copy.is_first_of_digest), copy.event.id);
    }
    counted.replace(turn).await?;
    write_events(turn, &events).await?;
    marks.write(turn, MARKS, true).await?;
    digests.write(turn, DIGESTS, false).await?;
    keyed::import(turn, &keys).await?;
    turn.commit().await
}

/// Those events that are not there yet.
async fn new_ones<'a>(
    turn: &Turn<'_>,
    events: Vec<&'a EventCopy>,
) -> Result<Vec<&'a EventCopy>, Trouble> {
    let ids = column(&events, |copy| codes::of_event(copy.event.id));
    let rows = turn.query(KNOWN, &[&ids]).await?;
    let known = rows.iter().map(|row| get(row, "id")).collect::<Result<BTreeSet<Uuid>, _>>()?;
    Ok(events.into_iter().filter(|copy| !known.contains(&codes::of_event(copy.event.id))).collect())
}

async fn write_events(turn: &Turn<'_>, events: &[&EventCopy]) -> Result<(), Trouble> {
    if events.is_empty() {
        return Ok(());
    }
    write_requests(turn, events).await?;
    write_rows(turn, events).await?;
    let contents: [&(dyn ToSql + Sync); 4] = [
        &column(events, |copy| codes::of_event(copy.event.id)),
        &column(events, |copy| codes::of_text(&copy.event.query)),
        // Those of a request that is kept go with that.
        &column(events, |copy| match copy.request {
            Some(_) => Vec::new(),
            None => copy.event.headers.to_lines(),
        }),
        &column(events, |copy| copy.event.body.as_ref()),
    ];
    turn.execute(CONTENTS, &contents).await?;
    write_duplicates(turn, events).await?;
    write_deliveries(turn, events).await
}

async fn write_requests(turn: &Turn<'_>, events: &[&EventCopy]) -> Result<(), Trouble> {
    let mut requests: BTreeMap<Uuid, (&EventCopy, &KeptRequest)> = BTreeMap::new();
    for copy in events {
        if let Some(request) = &copy.request {
            requests.insert(Uuid::from_bytes(*request.id.as_bytes()), (copy, request));
        }
    }
    let ids: Vec<Uuid> = requests.keys().copied().collect();
    let requests: Vec<_> = requests.into_values().collect();
    let values: [&(dyn ToSql + Sync); 3] = [
        &ids,
        &column(&requests, |(copy, _)| copy.event.headers.to_lines()),
        &column(&requests, |(_, request)| request.body.as_ref()),
    ];
    turn.execute(REQUESTS, &values).await.map(drop)
}

async fn write_rows(turn: &Turn<'_>, events: &[&EventCopy]) -> Result<(), Trouble> {
    let text = |text: &Option<String>| codes::of_some_text(text.as_deref());
    let key = |key: Option<MarkKey>| key.map(|key| key.as_bytes().to_vec());
    let values: [&(dyn ToSql + Sync); 21] = [
        &column(events, |copy| codes::of_event(copy.event.id)),
        &column(events, |copy| copy.event.received_at.as_millis()),
        &column(events, |copy| copy.ended_at.map(|at| turn.to_server(at).as_millis())),
        &column(events, |copy| copy.mark_until.as_millis()),
        &column(events, |copy| {
            codes::of_number(plain_bytes(&copy.event.headers, &copy.event.body))
        }),
        &column(events, |copy| codes::of_number(copy.duplicate_count)),
        &column(events, |copy| in_states(copy, &[State::Queued, State::Leased])),
        &column(events, |copy| in_states(copy, &[State::Dead])),
        &column(events, |copy| codes::of_event_state(state(copy))),
        &column(events, |copy| copy.event.resent_under_new_id),
        &column(events, |copy| copy.event.shadow),
        &column(events, |copy| copy.event.source.to_string()),
        &column(events, |copy| text(&copy.event.event_id)),
        &column(events, |copy| text(&copy.event.event_type)),
        &column(events, |copy| text(&copy.event.retry_marker)),
        &column(events, |copy| codes::of_some_text(copy.identity.as_ref().map(Identity::as_str))),
        &column(events, |copy| key(copy.mark_key())),
        &column(events, |copy| copy.digest.as_ref().map(|digest| digest.as_bytes().as_slice())),
        &column(events, |copy| key(copy.digest_key())),
        &column(events, |copy| {
            copy.request.as_ref().map(|request| Uuid::from_bytes(*request.id.as_bytes()))
        }),
        &column(events, |copy| copy.erased_at.map(|at| turn.to_server(at).as_millis())),
    ];
    turn.execute(EVENTS, &values).await.map(drop)
}

fn state(copy: &EventCopy) -> EventState {
    let states: Vec<State> = copy.deliveries.iter().map(|delivery| delivery.state).collect();
    EventState::of(copy.held, &states)
}

/// How many of an event's deliveries are in one of these states.
fn in_states(copy: &EventCopy, states: &[State]) -> i64 {
    let those = copy.deliveries.iter().filter(|delivery| states.contains(&delivery.state));
    codes::of_number(those.count())
}

/// Numbered from the newest, whose number is how many there were.
async fn write_duplicates(turn: &Turn<'_>, events: &[&EventCopy]) -> Result<(), Trouble> {
    let mut rows = Vec::new();
    for copy in events {
        for (duplicate, number) in copy.duplicates.iter().zip((0..=copy.duplicate_count).rev()) {
            rows.push((copy.event.id, number, duplicate));
        }
    }
    let values: [&(dyn ToSql + Sync); 4] = [
        &column(&rows, |(event, ..)| codes::of_event(*event)),
        &column(&rows, |(_, number, _)| codes::of_number(*number)),
        &column(&rows, |(.., duplicate)| duplicate.received_at.as_millis()),
        &column(&rows, |(.., duplicate)| codes::of_some_text(duplicate.retry_marker.as_deref())),
    ];
    turn.execute(DUPLICATES, &values).await.map(drop)
}

async fn write_deliveries(turn: &Turn<'_>, events: &[&EventCopy]) -> Result<(), Trouble> {
    let mut rows: Vec<(&EventCopy, &DeliveryCopy)> = Vec::new();
    let mut attempts: Vec<(DeliveryId, &Attempt)> = Vec::new();
    for copy in events {
        for delivery in &copy.deliveries {
            rows.push((copy, delivery));
            attempts.extend(delivery.attempts_kept.iter().map(|attempt| (delivery.id, attempt)));
        }
    }
    let to_server = |time: Timestamp| turn.to_server(time).as_millis();
    let values: [&(dyn ToSql + Sync); 17] = [
        &column(&rows, |(_, copy)| codes::of_delivery(copy.id)),
        &column(&rows, |(event, _)| codes::of_event(event.event.id)),
        &column(&rows, |(_, copy)| to_server(copy.due_at)),
        &column(&rows, |(_, copy)| codes::of_number(copy.token)),
        &column(&rows, |(_, copy)| i64::from(copy.attempts)),
        &column(&rows, |(_, copy)| i64::from(copy.attempts_before_redrive)),
        &column(&rows, |(_, copy)| i64::from(copy.deaths_in_a_row)),
        &column(&rows, |(_, copy)| to_server(copy.leased_at.unwrap_or(copy.due_at))),
        &column(&rows, |(_, copy)| codes::of_state(copy.state)),
        &column(&rows, |(event, _)| event.event.source.to_string()),
        &column(&rows, |(_, copy)| copy.handler.to_string()),
        &column(&rows, |(_, copy)| copy.replay_of.map(codes::of_delivery)),
        &column(&rows, |(_, copy)| copy.redriven_by),
        &column(&rows, |(_, copy)| codes::of_some_text(copy.last_error.as_deref())),
        &column(&rows, |(_, copy)| {
            copy.order.as_ref().map(|order| order.key.as_bytes().as_slice())
        }),
        &column(&rows, |(_, copy)| copy.order.map(|order| order.on_dead == OnDead::Skip)),
        &column(&rows, |(_, copy)| place(copy)),
    ];
    turn.execute(DELIVERIES, &values).await?;
    let in_line: Vec<_> = rows.iter().filter(|(_, copy)| place(copy).is_some()).collect();
    if !in_line.is_empty() {
        let lines: [&(dyn ToSql + Sync); 3] = [
            &column(&in_line, |(_, copy)| copy.handler.to_string()),
            &column(&in_line, |(_, copy)| copy.order.map(|order| order.key.as_bytes().to_vec())),
            &column(&in_line, |(_, copy)| place(copy)),
        ];
        turn.execute(LINES, &lines).await?;
    }
    delivery::note(turn, &attempts).await
}

fn place(copy: &DeliveryCopy) -> Option<i64> {
    copy.order?.place.map(codes::of_number)
}

/// Marks or digests to write, each once.
#[derive(Debug, Default)]
struct Marks(BTreeMap<MarkKey, MarkRow>);

/// Without an end while the event is there.
#[derive(Debug)]
struct MarkRow {
    event: EventId,
    expires_at: Option<Timestamp>,
    digest: Option<MarkKey>,
}

impl Marks {
    /// One whose event is gone.
    fn carry(&mut self, copy: &MarkCopy) {
        let MarkCopy { key, event, expires_at, digest } = *copy;
        self.0.insert(key, MarkRow { event, expires_at: Some(expires_at), digest });
    }

    /// One of an event, if it has any.
    fn add(&mut self, key: Option<MarkKey>, event: EventId) {
        if let Some(key) = key {
            self.0.insert(key, MarkRow { event, expires_at: None, digest: None });
        }
    }

    async fn write(
        &self,
        turn: &Turn<'_>,
        sql: &'static str,
        with_digests: bool,
    ) -> Result<(), Trouble> {
        let rows: Vec<(&MarkKey, &MarkRow)> = self.0.iter().collect();
        let events = column(&rows, |(_, row)| codes::of_event(row.event));
        let ends = column(&rows, |(_, row)| row.expires_at.map(Timestamp::as_millis));
        let keys = column(&rows, |(key, _)| key.as_bytes().as_slice());
        let digests =
            column(&rows, |(_, row)| row.digest.as_ref().map(|key| key.as_bytes().as_slice()));
        let values: [&(dyn ToSql + Sync); 4] = [&events, &ends, &keys, &digests];
        let values = if with_digests { &values[..] } else { &values[..3] };
        turn.execute(sql, values).await.map(drop)
    }
}
