//! A delivery's row: read, changed, and written back with others at the end of a transaction.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    codes::{self, get, number},
    connection::Turn,
    count::Counted,
    error::Trouble,
    line::Lines,
};
use crate::{
    clock::Timestamp,
    delivery::{Attempt, DeliveryId, Lease, State},
    event::{EventId, NewDelivery},
    limits,
    order::Order,
};

/// All of a delivery's row.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) id: DeliveryId,
    pub(super) event: EventId,
    pub(super) source: Arc<str>,
    pub(super) handler: Arc<str>,
    pub(super) state: State,
    pub(super) due_at: Timestamp,
    pub(super) token: u64,
    pub(super) attempts: u32,
    pub(super) attempts_before_redrive: u32,
    pub(super) deaths_in_a_row: u32,
    pub(super) leased_at: Timestamp,
    pub(super) replay_of: Option<DeliveryId>,
    pub(super) redriven_by: Option<Uuid>,
    pub(super) last_error: Option<String>,
    pub(super) order: Option<Order>,
    /// Its place in line, while it stands there. Who joins one is given it by `line.rs`.
    pub(super) place: Option<u64>,
}

/// What a transaction has read and changed of deliveries, and what follows for their events.
///
/// Rows are locked deliveries first, then lines, then events, each in order, and counters are added
/// last: so no two transactions wait for each other.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) counted: Counted,
    lines: Lines,
    new: Vec<Kept>,
    read: BTreeMap<DeliveryId, Kept>,
    changed: BTreeSet<DeliveryId>,
    attempts: Vec<(DeliveryId, Attempt)>,
    events: BTreeMap<EventId, EventChange>,
}

/// How far the numbers of an event's open and dead deliveries have moved, and when they last did.
#[derive(Debug, Default)]
struct EventChange {
    open: i64,
    dead: i64,
    at: Timestamp,
}

/// The statements of this file.
pub(super) const STATEMENTS: &[&str] =
    &[LOCK, INSERT, UPDATE, NOTE, FORGET_OLD_ATTEMPTS, CHANGE_EVENTS];

const LOCK: &str = "SELECT * FROM deliveries WHERE id = ANY($1) ORDER BY id FOR UPDATE";

const INSERT: &str = "INSERT INTO deliveries
    SELECT id, event, due_at, 0, 0, 0, 0, due_at, 0, source, handler, replay_of
    FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::uuid[])
        AS new(id, event, due_at, source, handler, replay_of)";

const UPDATE: &str = "UPDATE deliveries SET
        handler = new.handler, state = new.state, due_at = new.due_at, token = new.token,
        attempts = new.attempts, attempts_before_redrive = new.attempts_before_redrive,
        deaths_in_a_row = new.deaths_in_a_row, leased_at = new.leased_at,
        redriven_by = new.redriven_by, last_error = new.last_error, place = new.place
    FROM unnest($1::uuid[], $2::text[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[],
            $7::bigint[], $8::bigint[], $9::bigint[], $10::uuid[], $11::text[], $12::bigint[])
        AS new(id, handler, state, due_at, token, attempts, attempts_before_redrive,
            deaths_in_a_row, leased_at, redriven_by, last_error, place)
    WHERE deliveries.id = new.id";

const NOTE: &str = "INSERT INTO attempts
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::smallint[],
        $6::integer[], $7::text[], $8::text[])
    ON CONFLICT (delivery, number) DO UPDATE SET started_at = excluded.started_at,
        took_ms = excluded.took_ms, outcome = excluded.outcome, status = excluded.status,
        error = excluded.error, excerpt = excluded.excerpt";

const FORGET_OLD_ATTEMPTS: &str = "DELETE FROM attempts
    USING unnest($1::uuid[], $2::bigint[]) AS old(delivery, number)
    WHERE attempts.delivery = old.delivery AND attempts.number <= old.number";

const CHANGE_EVENTS: &str = "WITH locked AS MATERIALIZED (
        SELECT id FROM events WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE)
    UPDATE events SET
        deliveries_open = deliveries_open + change.open,
        deliveries_dead = deliveries_dead + change.dead,
        state = CASE
            WHEN deliveries_open + change.open > 0 THEN 0
            WHEN deliveries_dead + change.dead > 0 THEN 2
            ELSE 1 END,
        ended_at = CASE WHEN deliveries_open + change.open > 0 THEN NULL ELSE change.at END
    FROM locked JOIN unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[])
        AS change(id, open, dead, at) ON change.id = locked.id
    WHERE events.id = locked.id";

impl Kept {
    /// A delivery that is queued, due at a time of the server's.
    pub(super) fn new(
        new: &NewDelivery,
        event: EventId,
        source: &Arc<str>,
        due_at: Timestamp,
    ) -> Self {
        Self {
            id: new.id,
            event,
            source: Arc::clone(source),
            handler: Arc::clone(&new.handler),
            state: State::Queued,
            due_at,
            token: 0,
            attempts: 0,
            attempts_before_redrive: 0,
            deaths_in_a_row: 0,
            leased_at: due_at,
            replay_of: None,
            redriven_by: None,
            last_error: None,
            order: new.order,
            place: None,
        }
    }

    /// The delivery in a row of all columns.
    pub(super) fn read(row: &Row) -> Result<Self, Trouble> {
        Ok(Self {
            id: codes::delivery_id(row, "id")?,
            event: codes::event_id(row, "event")?,
            source: get::<&str>(row, "source")?.into(),
            handler: get::<&str>(row, "handler")?.into(),
            state: codes::state(row, "state")?,
            due_at: codes::time(row, "due_at")?,
            token: number(row, "token")?,
            attempts: number(row, "attempts")?,
            attempts_before_redrive: number(row, "attempts_before_redrive")?,
            deaths_in_a_row: number(row, "deaths_in_a_row")?,
            leased_at: codes::time(row, "leased_at")?,
            replay_of: codes::some_delivery_id(row, "replay_of")?,
            redriven_by: get(row, "redriven_by")?,
            last_error: codes::some_text(row, "last_error")?,
            order: codes::order(row)?,
            place: codes::some_number(row, "place")?,
        })
    }

    pub(super) fn is_held_by(&self, lease: &Lease) -> bool {
        self.state == State::Leased && self.token == lease.token
    }

    pub(super) fn lease(&self) -> Lease {
        Lease { delivery: self.id, token: self.token }
    }
}

/// The deliveries with these ids, locked, in the order of their ids.
pub(super) async fn lock(turn: &Turn<'_>, ids: &[DeliveryId]) -> Result<Vec<Kept>, Trouble> {
    let ids: Vec<Uuid> = ids.iter().copied().map(codes::of_delivery).collect();
    turn.query(LOCK, &[&ids]).await?.iter().map(Kept::read).collect()
}

impl Changes {
    /// Changes to these deliveries, which were read.
    pub(super) fn of(read: Vec<Kept>) -> Self {
        let read = read.into_iter().map(|kept| (kept.id, kept)).collect();
        Self { read, ..Self::default() }
    }

    /// A delivery as it stands after the changes so far.
    pub(super) fn delivery(&self, id: DeliveryId) -> Option<Kept> {
        self.read.get(&id).cloned()
    }

    /// Puts a changed row back.
    pub(super) fn put(&mut self, kept: Kept) {
        self.changed.insert(kept.id);
        self.read.insert(kept.id, kept);
    }

    /// Adds a new delivery.
    pub(super) fn queue(&mut self, kept: Kept) {
        self.counted.of_deliveries(&kept.source, &kept.handler).queued += 1;
        match kept.order {
            Some(order) => self.lines.begin(kept, order),
            None => self.new.push(kept),
        }
    }

    /// Moves a delivery into a state, keeps the gauges right, and notices the end of its event.
    /// The row is put back by [`Changes::put`], once all about it is changed.
    pub(super) fn change(&mut self, kept: &mut Kept, to: State, due_at: Timestamp) {
        let from = std::mem::replace(&mut kept.state, to);
        kept.due_at = due_at;
        let counted = self.counted.of_deliveries(&kept.source, &kept.handler);
        // What is done is counted, not gauged: nothing is subtracted when a done delivery goes.
        *counted.gauge(from) -= i64::from(from != State::Done);
        *counted.gauge(to) += 1;
        counted.dead += i64::from(to == State::Dead);

        let open = |state| i64::from(matches!(state, State::Queued | State::Leased));
        let dead = |state| i64::from(state == State::Dead);
        let (open, dead) = (open(to) - open(from), dead(to) - dead(from));
        if (open, dead) != (0, 0) {
            self.change_event(kept.event, open, dead, due_at);
        }
        self.lines.change(kept, from, due_at);
    }

    /// Gives a delivery to another handler. One that stands in line goes last in a line there.
    pub(super) fn reroute(&mut self, kept: &mut Kept, to: &Arc<str>, now: Timestamp) {
        *self.counted.of_deliveries(&kept.source, &kept.handler).gauge(kept.state) -= 1;
        *self.counted.of_deliveries(&kept.source, to).gauge(kept.state) += 1;
        let was_in_line = self.lines.leave(kept, now);
        kept.handler = Arc::clone(to);
        if was_in_line {
            self.lines.join(kept, now);
        }
    }

    /// Takes a delivery out of its line, so that those behind it go on.
    pub(super) fn leave_line(&mut self, kept: &mut Kept, now: Timestamp) {
        self.lines.leave(kept, now);
    }

    /// Moves an event whose number of open and dead deliveries has changed at `now`.
    pub(super) fn change_event(&mut self, event: EventId, open: i64, dead: i64, now: Timestamp) {
        let change = self.events.entry(event).or_default();
        change.open += open;
        change.dead += dead;
        change.at = now;
    }

    /// Writes down how an attempt ended, in our own time.
    pub(super) fn note(&mut self, kept: &mut Kept, attempt: Attempt) {
        kept.last_error.clone_from(&attempt.error);
        self.attempts.push((kept.id, attempt));
    }

    /// Sends all of it. The statements go out with the first poll, in this order.
    pub(super) async fn write(&self, turn: &Turn<'_>) -> Result<(), Trouble> {
        tokio::try_join!(
            biased;
            insert(turn, &self.new),
            self.update(turn),
            self.lines.write(turn),
            self.note_attempts(turn),
            self.forget_old_attempts(turn),
            self.change_events(turn),
            self.counted.add(turn),
        )
        .map(drop)
    }

    async fn update(&self, turn: &Turn<'_>) -> Result<(), Trouble> {
        let kept: Vec<&Kept> = self.changed.iter().filter_map(|id| self.read.get(id)).collect();
        if kept.is_empty() {
            return Ok(());
        }
        let errors = column(&kept, |kept| codes::of_some_text(kept.last_error.as_deref()));
        let values: [&(dyn ToSql + Sync); 12] = [
            &column(&kept, |kept| codes::of_delivery(kept.id)),
            &column(&kept, |kept| kept.handler.to_string()),
            &column(&kept, |kept| codes::of_state(kept.state)),
            &column(&kept, |kept| kept.due_at.as_millis()),
            &column(&kept, |kept| codes::of_number(kept.token)),
            &column(&kept, |kept| i64::from(kept.attempts)),
            &column(&kept, |kept| i64::from(kept.attempts_before_redrive)),
            &column(&kept, |kept| i64::from(kept.deaths_in_a_row)),
            &column(&kept, |kept| kept.leased_at.as_millis()),
            &column(&kept, |kept| kept.redriven_by),
            &errors,
            &column(&kept, |kept| kept.place.map(codes::of_number)),
        ];
        turn.execute(UPDATE, &values).await.map(drop)
    }

    async fn note_attempts(&self, turn: &Turn<'_>) -> Result<(), Trouble> {
        let attempts: Vec<_> = self.attempts.iter().map(|(id, attempt)| (*id, attempt)).collect();
        note(turn, &attempts).await
    }

    async fn forget_old_attempts(&self, turn: &Turn<'_>) -> Result<(), Trouble> {
        let kept_max = codes::of_number(limits::ATTEMPTS_KEPT_MAX);
        let oldest = |attempt: &Attempt| i64::from(attempt.number) - kept_max;
        let old: Vec<_> = self.attempts.iter().filter(|(_, attempt)| oldest(attempt) > 0).collect();
        if old.is_empty() {
            return Ok(());
        }
        let deliveries = column(&old, |(id, _)| codes::of_delivery(*id));
        let numbers = column(&old, |(_, attempt)| oldest(attempt));
        turn.execute(FORGET_OLD_ATTEMPTS, &[&deliveries, &numbers]).await.map(drop)
    }

    async fn change_events(&self, turn: &Turn<'_>) -> Result<(), Trouble> {
        if self.events.is_empty() {
            return Ok(());
        }
        let changes: Vec<_> = self.events.iter().collect();
        let values: [&(dyn ToSql + Sync); 4] = [
            &column(&changes, |(id, _)| codes::of_event(**id)),
            &column(&changes, |(_, change)| change.open),
            &column(&changes, |(_, change)| change.dead),
            &column(&changes, |(_, change)| change.at.as_millis()),
        ];
        turn.execute(CHANGE_EVENTS, &values).await.map(drop)
    }
}

/// Writes down how attempts ended; one that is there already is written over.
pub(super) async fn note(
    turn: &Turn<'_>,
    attempts: &[(DeliveryId, &Attempt)],
) -> Result<(), Trouble> {
    if attempts.is_empty() {
        return Ok(());
    }
    let values: [&(dyn ToSql + Sync); 8] = [
        &column(attempts, |(id, _)| codes::of_delivery(*id)),
        &column(attempts, |(_, attempt)| i64::from(attempt.number)),
        &column(attempts, |(_, attempt)| attempt.started_at.as_millis()),
        &column(attempts, |(_, attempt)| attempt.took_ms.map(codes::of_number)),
        &column(attempts, |(_, attempt)| codes::of_outcome(attempt.outcome)),
        &column(attempts, |(_, attempt)| attempt.status),
        &column(attempts, |(_, attempt)| codes::of_some_text(attempt.error.as_deref())),
        &column(attempts, |(_, attempt)| codes::of_some_text(attempt.excerpt.as_deref())),
    ];
    turn.execute(NOTE, &values).await.map(drop)
}

/// Inserts new deliveries.
async fn insert(turn: &Turn<'_>, new: &[Kept]) -> Result<(), Trouble> {
    if new.is_empty() {
        return Ok(());
    }
    let new: Vec<&Kept> = new.iter().collect();
    let values: [&(dyn ToSql + Sync); 6] = [
        &column(&new, |kept| codes::of_delivery(kept.id)),
        &column(&new, |kept| codes::of_event(kept.event)),
        &column(&new, |kept| kept.due_at.as_millis()),
        &column(&new, |kept| kept.source.to_string()),
        &column(&new, |kept| kept.handler.to_string()),
        &column(&new, |kept| kept.replay_of.map(codes::of_delivery)),
    ];
    turn.execute(INSERT, &values).await.map(drop)
}

/// One value of each row: what `unnest` makes rows of again.
pub(super) fn column<'a, Row, T>(rows: &'a [Row], value: impl Fn(&'a Row) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}
