//! What a batch of admissions writes: rows gathered, and written in one statement for each table.

use std::collections::BTreeMap;

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{
    codes,
    connection::Turn,
    delivery::{Changes, Kept, column},
    error::Trouble,
};
use crate::{
    clock::Timestamp,
    event::{EventId, EventState, KeptRequest, NewEvent, RequestId},
    limits,
    store::encrypted::plain_bytes,
};

/// The statements of this file.
pub(super) const STATEMENTS: &[&str] =
    &[REQUESTS, EVENTS, CONTENTS, NOTE_DUPLICATES, FORGET_OLD_DUPLICATES, TAKE_BACK_MARKS];

/// The first of its events brings a request. Whoever finds it there locks it, so that prune does not
/// take it away with the last event before.
pub(super) const REQUESTS: &str = "INSERT INTO requests
    SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS new(id) ORDER BY new.id
    ON CONFLICT (id) DO UPDATE SET id = excluded.id";

const EVENTS: &str = "INSERT INTO events
    SELECT id, received_at, ended_at, mark_until, body_bytes, 0, open, 0, state, resent, shadow,
        source, event_id, event_type, retry_marker, identity, mark, digest, digest_key, request
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
            $7::smallint[], $8::boolean[], $9::text[], $10::text[], $11::text[], $12::text[],
            $13::text[], $14::bytea[], $15::bytea[], $16::bytea[], $17::boolean[], $18::uuid[])
        AS new(id, received_at, ended_at, mark_until, body_bytes, open, state, resent, source,
            event_id, event_type, retry_marker, identity, mark, digest, digest_key, shadow, request)";

/// The bytes of events.
pub(super) const CONTENTS: &str =
    "INSERT INTO contents SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[])";

/// Each gets its number from its event, which is locked: the events in order, so that nobody waits for
/// somebody who waits for him. An event that is pruned has no list any more; its mark goes on.
const NOTE_DUPLICATES: &str = "WITH new AS MATERIALIZED (
        SELECT event, received_at, retry_marker,
            row_number() OVER (PARTITION BY event ORDER BY place DESC) - 1 AS later
        FROM unnest($1::uuid[], $2::bigint[], $3::text[]) WITH ORDINALITY
            AS new(event, received_at, retry_marker, place)),
    locked AS MATERIALIZED (
        SELECT id FROM events WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE),
    noted AS (
        UPDATE events SET duplicates = duplicates + more.number
        FROM locked JOIN (SELECT event, count(*) AS number FROM new GROUP BY event) AS more
            ON more.event = locked.id
        WHERE events.id = locked.id
        RETURNING events.id, events.duplicates)
    INSERT INTO duplicates
    SELECT new.event, noted.duplicates - new.later, new.received_at, new.retry_marker
    FROM new JOIN noted ON noted.id = new.event";

const FORGET_OLD_DUPLICATES: &str = "DELETE FROM duplicates USING events
    WHERE events.id = ANY($1) AND duplicates.event = events.id
        AND duplicates.number <= events.duplicates - $2";

const TAKE_BACK_MARKS: &str = "DELETE FROM marks WHERE key = ANY($1)";

/// What a batch writes.
#[derive(Debug, Default)]
pub(super) struct Rows<'a> {
    events: Vec<EventRow<'a>>,
    duplicates: Vec<(EventId, &'a NewEvent)>,
    marks_back: Vec<&'a [u8]>,
    changes: Changes,
}

/// An event as it is inserted.
#[derive(Debug)]
struct EventRow<'a> {
    event: &'a NewEvent,
    mark: Option<&'a [u8]>,
    digest: Option<&'a [u8]>,
    resent: bool,
    state: EventState,
    ended_at: Option<Timestamp>,
    open: usize,
}

/// An event that is admitted, and what the marks said of it.
#[derive(Debug)]
pub(super) struct Admitted<'a> {
    pub(super) event: &'a NewEvent,
    pub(super) mark: Option<&'a [u8]>,
    pub(super) digest: Option<&'a [u8]>,
    pub(super) resent: bool,
    pub(super) held: bool,
}

impl<'a> Rows<'a> {
    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.duplicates.is_empty() && self.marks_back.is_empty()
    }

    /// Adds an event and, unless it is held, its deliveries. It is `now` on the server.
    pub(super) fn admit(&mut self, turn: &Turn<'_>, admitted: &Admitted<'a>, now: Timestamp) {
        let Admitted { event, mark, digest, resent, held } = *admitted;
        let open = if held { 0 } else { event.deliveries.len() };
        let state = match (held, open) {
            (true, _) => EventState::Held,
            (false, 0) => EventState::Unrouted,
            (false, _) => EventState::Open,
        };
        // Due times and ends are the server's. Should our clock have been moved forward since it was compared
        // with the server's, nothing is received later than now all the same.
        let received_at = turn.to_server(event.received_at).min(now);
        let ended_at = (state != EventState::Open).then_some(received_at);
        self.events.push(EventRow { event, mark, digest, resent, state, ended_at, open });
        let counted = self.changes.counted.of_events(&event.source);
        counted.events += 1;
        counted.held += i64::from(held);
        counted.held_now += i64::from(held);
        counted.shadow += i64::from(event.shadow);
        counted.unrouted += i64::from(state == EventState::Unrouted);
        for delivery in event.deliveries.iter().take(open) {
            self.changes.queue(Kept::new(delivery, event.id, &event.source, received_at));
            let counted = self.changes.counted.of_deliveries(&event.source, &delivery.handler);
            counted.events += 1;
        }
    }

    /// Notes that `known` came again.
    pub(super) fn note_duplicate(&mut self, known: EventId, event: &'a NewEvent) {
        self.changes.counted.of_events(&event.source).duplicates += 1;
        self.duplicates.push((known, event));
    }

    /// Takes back the mark of an event that is refused after all.
    pub(super) fn take_back_mark(&mut self, mark: &'a [u8]) {
        self.marks_back.push(mark);
    }

    /// Sends all of it. The statements go out with the first poll, in this order: lines are locked before the
    /// events that came again, as everywhere.
    pub(super) async fn write(&self, turn: &Turn<'_>) -> Result<(), Trouble> {
        tokio::try_join!(
            biased;
            self.write_requests(turn),
            self.write_events(turn),
            self.write_contents(turn),
            self.changes.write(turn),
            self.write_duplicates(turn),
            self.forget_old_duplicates(turn),
            self.take_back_marks(turn),
        )
        .map(drop)
    }

    async fn write_requests(&self, turn: &Turn<'_>) -> Result<(), Trouble> {
        let mut requests: BTreeMap<RequestId, (&NewEvent, &KeptRequest)> = BTreeMap::new();
        for EventRow { event, .. } in &self.events {
            if let Some(request) = &event.request {
                requests.entry(request.id).or_insert((event, request));
            }
        }
        if requests.is_empty() {
            return Ok(());
        }
        let requests: Vec<_> = requests.into_values().collect();
        let values: [&(dyn ToSql + Sync); 3] = [
            &column(&requests, |(_, request)| Uuid::from_bytes(*request.id.as_bytes())),
            &column(&requests, |(event, _)| event.headers.to_lines()),
            &column(&requests, |(_, request)| request.body.as_ref()),
        ];
        turn.execute(REQUESTS, &values).await.map(drop)
    }

    async fn write_events(&self, turn: &Turn<'_>) -> Result<(), Trouble> {
        if self.events.is_empty() {
            return Ok(());
        }
        let named = |row: &EventRow<'a>| &row.event.named;
        let mark_until = |row: &EventRow<'_>| row.event.received_at.plus(row.event.window);
        let values: [&(dyn ToSql + Sync); 18] = [
            &column(&self.events, |row| codes::of_event(row.event.id)),
            &column(&self.events, |row| row.event.received_at.as_millis()),
            &column(&self.events, |row| row.ended_at.map(Timestamp::as_millis)),
            &column(&self.events, |row| mark_until(row).as_millis()),
            &column(&self.events, |row| {
                codes::of_number(plain_bytes(&row.event.headers, &row.event.named.body))
            }),
            &column(&self.events, |row| codes::of_number(row.open)),
            &column(&self.events, |row| codes::of_event_state(row.state)),
            &column(&self.events, |row| row.resent),
            &column(&self.events, |row| row.event.source.to_string()),
            &column(&self.events, |row| codes::of_some_text(named(row).event_id.as_deref())),
            &column(&self.events, |row| codes::of_some_text(named(row).event_type.as_deref())),
            &column(&self.events, |row| codes::of_some_text(row.event.retry_marker.as_deref())),
            &column(&self.events, |row| {
                named(row).identity.as_ref().map(|identity| codes::of_text(identity.as_str()))
            }),
            &column(&self.events, |row| row.mark),
            &column(&self.events, |row| {
                named(row).digest.as_ref().map(|digest| digest.as_bytes().as_slice())
            }),
            &column(&self.events, |row| row.digest),
            &column(&self.events, |row| row.event.shadow),
            &column(&self.events, |row| {
                row.event.request.as_ref().map(|request| Uuid::from_bytes(*request.id.as_bytes()))
            }),
        ];
        turn.execute(EVENTS, &values).await.map(drop)
    }

    async fn write_contents(&self, turn: &Turn<'_>) -> Result<(), Trouble> {
        if self.events.is_empty() {
            return Ok(());
        }
        let values: [&(dyn ToSql + Sync); 4] = [
            &column(&self.events, |row| codes::of_event(row.event.id)),
            &column(&self.events, |row| codes::of_text(&row.event.query)),
            // Those of a request that is kept go with that.
            &column(&self.events, |row| match row.event.request {
                Some(_) => Vec::new(),
                None => row.event.headers.to_lines(),
            }),
            &column(&self.events, |row| row.event.named.body.as_ref()),
        ];
        turn.execute(CONTENTS, &values).await.map(drop)
    }

    async fn write_duplicates(&self, turn: &Turn<'_>) -> Result<(), Trouble> {
        if self.duplicates.is_empty() {
            return Ok(());
        }
        let marker = |event: &NewEvent| codes::of_some_text(event.retry_marker.as_deref());
        let values: [&(dyn ToSql + Sync); 3] = [
            &column(&self.duplicates, |(known, _)| codes::of_event(*known)),
            &column(&self.duplicates, |(_, event)| event.received_at.as_millis()),
            &column(&self.duplicates, |(_, event)| marker(event)),
        ];
        turn.execute(NOTE_DUPLICATES, &values).await.map(drop)
    }

    async fn forget_old_duplicates(&self, turn: &Turn<'_>) -> Result<(), Trouble> {
        if self.duplicates.is_empty() {
            return Ok(());
        }
        let events: Vec<Uuid> = column(&self.duplicates, |(known, _)| codes::of_event(*known));
        let kept_max = codes::of_number(limits::DUPLICATES_KEPT_MAX);
        turn.execute(FORGET_OLD_DUPLICATES, &[&events, &kept_max]).await.map(drop)
    }

    async fn take_back_marks(&self, turn: &Turn<'_>) -> Result<(), Trouble> {
        if self.marks_back.is_empty() {
            return Ok(());
        }
        turn.execute(TAKE_BACK_MARKS, &[&self.marks_back]).await.map(drop)
    }
}
