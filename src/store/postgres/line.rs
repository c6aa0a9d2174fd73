//! Lines of deliveries that run one after another: see [`order`](crate::order).
//!
//! A line is a row that whoever joins or leaves it holds until the commit. Only deliveries that have an
//! order come here; for the others no statement is sent.

use std::collections::BTreeMap;

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{
    codes,
    connection::Turn,
    delivery::{Kept, column},
    error::Trouble,
};
use crate::{
    clock::Timestamp,
    delivery::State,
    event::NewDelivery,
    order::{OnDead, Order, OrderKey},
};

/// The statements of this file.
pub(super) const STATEMENTS: &[&str] =
    &[LOCK, LOCK_OF_EVENTS, FORGET_EMPTY, SHORTEN, BEGIN, JOIN, CALL_UP];

/// The lines that anything changes in, in order. What comes after it sees what whoever held them has done:
/// a redrive does not join or leave, and still it must not pass by the settlement of the one in front.
const LOCK: &str =
    "SELECT FROM lines JOIN unnest($1::text[], $2::bytea[]) AS line(handler, order_key)
        ON lines.handler = line.handler AND lines.order_key = line.order_key
    ORDER BY lines.handler, lines.order_key FOR UPDATE OF lines";

/// The lines that deliveries of these events stand in, in order. With `+ 0` only the index of events fits.
const LOCK_OF_EVENTS: &str = "SELECT FROM lines JOIN (
        SELECT DISTINCT handler, order_key FROM deliveries
        WHERE event = ANY($1) AND place + 0 IS NOT NULL) AS line
        ON lines.handler = line.handler AND lines.order_key = line.order_key
    ORDER BY lines.handler, lines.order_key FOR UPDATE OF lines";

/// The lines that all who are in them leave.
const FORGET_EMPTY: &str = "DELETE FROM lines
    USING unnest($1::text[], $2::bytea[], $3::bigint[]) AS leaving(handler, order_key, members)
    WHERE lines.handler = leaving.handler AND lines.order_key = leaving.order_key
        AND lines.length <= leaving.members";

/// The others that are left.
const SHORTEN: &str = "UPDATE lines SET length = length - leaving.members
    FROM unnest($1::text[], $2::bytea[], $3::bigint[]) AS leaving(handler, order_key, members)
    WHERE lines.handler = leaving.handler AND lines.order_key = leaving.order_key";

/// Begins a statement about deliveries, `new`, that go to the end of their lines, `line`.
macro_rules! at_the_end_of_their_lines {
    ($deliveries:literal) => {
        concat!(
            "WITH new AS MATERIALIZED (
                SELECT *, row_number() OVER (PARTITION BY handler, order_key ORDER BY number) AS rank,
                    count(*) OVER (PARTITION BY handler, order_key) AS members
                FROM ",
            $deliveries,
            "),
            line AS (
                INSERT INTO lines SELECT handler, order_key, members, members FROM new WHERE rank = 1
                ORDER BY handler, order_key
                ON CONFLICT (handler, order_key) DO UPDATE SET length = lines.length + excluded.length,
                    last_place = lines.last_place + excluded.last_place
                RETURNING *) "
        )
    };
}

/// New deliveries, each at the end of its line. Whoever finds nobody there is due when it is to be.
const BEGIN: &str = concat!(
    at_the_end_of_their_lines!(
        "unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::uuid[], $7::bytea[],
            $8::boolean[]) WITH ORDINALITY
            AS new(id, event, due_at, source, handler, replay_of, order_key, skips, number)"
    ),
    "INSERT INTO deliveries
    SELECT new.id, new.event,
        CASE WHEN line.length = new.members AND new.rank = 1 THEN new.due_at ELSE $9 END,
        0, 0, 0, 0, new.due_at, 0, new.source, new.handler, new.replay_of, NULL, NULL,
        new.order_key, new.skips, line.last_place - new.members + new.rank
    FROM new JOIN line ON line.handler = new.handler AND line.order_key = new.order_key"
);

/// The same for deliveries that are there.
const JOIN: &str = concat!(
    at_the_end_of_their_lines!(
        "unnest($1::uuid[], $2::text[], $3::bytea[]) WITH ORDINALITY
            AS new(id, handler, order_key, number)"
    ),
    "UPDATE deliveries SET place = line.last_place - new.members + new.rank
    FROM new JOIN line ON line.handler = new.handler AND line.order_key = new.order_key
    WHERE deliveries.id = new.id"
);

/// The first of each line is due now, if it awaits its turn. Its row is locked behind the lines, which is
/// safe from other workers: only a wish and a prune look at what awaits its turn. Should one of these wait
/// for us while we wait for it, Postgres ends one of the two, and what was settled is settled again.
///
/// It is found by its id alone: with `+ 0` no index of the queue fits, which a plan that was made while the
/// tables were empty would go through from end to end.
const CALL_UP: &str = "WITH line AS MATERIALIZED (
        SELECT DISTINCT handler, order_key
        FROM unnest($1::text[], $2::bytea[]) AS line(handler, order_key)),
    first AS MATERIALIZED (
        SELECT first.id FROM line, LATERAL (SELECT id FROM deliveries AS member
            WHERE member.place IS NOT NULL AND member.handler = line.handler
                AND member.order_key = line.order_key
            ORDER BY member.place LIMIT 1) AS first)
    UPDATE deliveries SET due_at = $3 FROM first
    WHERE deliveries.id = first.id AND deliveries.state + 0 = 0 AND deliveries.due_at + 0 = $4";

/// Locks the lines that deliveries of these events stand in: for whoever is about to lock the events.
pub(super) async fn lock_of_events(turn: &Turn<'_>, events: &[Uuid]) -> Result<(), Trouble> {
    turn.execute(LOCK_OF_EVENTS, &[&events]).await.map(drop)
}

/// Locks the lines that these new deliveries will stand in, those that are there: for whoever is about to
/// lock their event.
pub(super) async fn lock_of_new(turn: &Turn<'_>, new: &[NewDelivery]) -> Result<(), Trouble> {
    let in_line = |new: &NewDelivery| {
        new.order.map(|order| Line { handler: new.handler.to_string(), key: order.key })
    };
    lock(turn, &new.iter().filter_map(in_line).collect::<Vec<_>>()).await
}

async fn lock(turn: &Turn<'_>, lines: &[Line]) -> Result<(), Trouble> {
    if lines.is_empty() {
        return Ok(());
    }
    let values: [&(dyn ToSql + Sync); 2] = [
        &column(lines, |line| line.handler.as_str()),
        &column(lines, |line| line.key.as_bytes().as_slice()),
    ];
    turn.execute(LOCK, &values).await.map(drop)
}

/// What a transaction changes about lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    new: Vec<(Kept, Order)>,
    /// How many leave each line.
    leaving: BTreeMap<Line, i64>,
    joining: Vec<(Kept, Order)>,
    /// Where somebody may have become the first, and when that is.
    to_call_up: Vec<Line>,
    now: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    handler: String,
    key: OrderKey,
}

impl Line {
    fn of(kept: &Kept, order: Order) -> Self {
        Self { handler: kept.handler.to_string(), key: order.key }
    }
}

impl Lines {
    /// Adds a new delivery, at the end of its line.
    pub(super) fn begin(&mut self, kept: Kept, order: Order) {
        self.new.push((kept, order));
    }

    /// Takes a delivery out of its line. Says whether it stood there.
    pub(super) fn leave(&mut self, kept: &mut Kept, now: Timestamp) -> bool {
        let stood_in_line = kept.place.take().is_some();
        if let Some(order) = kept.order.filter(|_| stood_in_line) {
            *self.leaving.entry(Line::of(kept, order)).or_default() += 1;
            self.call_up(kept, order, now);
        }
        stood_in_line
    }

    /// Puts a delivery that is there at the end of its line. It is given its place when it is written.
    pub(super) fn join(&mut self, kept: &mut Kept, now: Timestamp) {
        let Some(order) = kept.order else { return };
        if kept.state == State::Queued {
            kept.due_at = Timestamp::NEVER;
        }
        self.joining.push((kept.clone(), order));
        self.call_up(kept, order, now);
    }

    /// What follows for its line when a delivery has changed its state, at `now`.
    pub(super) fn change(&mut self, kept: &mut Kept, from: State, now: Timestamp) {
        let Some(order) = kept.order else { return };
        match (from, kept.state) {
            (_, State::Done) => drop(self.leave(kept, now)),
            (_, State::Dead) if order.on_dead == OnDead::Skip => drop(self.leave(kept, now)),
            (State::Dead, State::Queued) if kept.place.is_none() => self.join(kept, now),
            (State::Dead, State::Queued) => {
                kept.due_at = Timestamp::NEVER; // unless it is the first
                self.call_up(kept, order, now);
            }
            _ => {} // only the first of a line is ever leased, and it stays the first
        }
    }

    fn call_up(&mut self, kept: &Kept, order: Order, now: Timestamp) {
        self.to_call_up.push(Line::of(kept, order));
        self.now = now;
    }

    /// Sends all of it, after the rows themselves. The statements go out with the first poll, in this order.
    pub(super) async fn write(&self, turn: &Turn<'_>) -> Result<(), Trouble> {
        tokio::try_join!(
            biased;
            lock(turn, &self.to_call_up), // also those that anybody leaves or joins
            self.shorten(turn),
            self.write_joining(turn),
            self.write_new(turn),
            self.write_first(turn),
        )
        .map(drop)
    }

    async fn shorten(&self, turn: &Turn<'_>) -> Result<(), Trouble> {
        if self.leaving.is_empty() {
            return Ok(());
        }
        let leaving: Vec<_> = self.leaving.iter().collect();
        let values: [&(dyn ToSql + Sync); 3] = [
            &column(&leaving, |(line, _)| line.handler.as_str()),
            &column(&leaving, |(line, _)| line.key.as_bytes().as_slice()),
            &column(&leaving, |(_, members)| **members),
        ];
        tokio::try_join!(
            biased;
            turn.execute(FORGET_EMPTY, &values),
            turn.execute(SHORTEN, &values),
        )
        .map(drop)
    }

    async fn write_joining(&self, turn: &Turn<'_>) -> Result<(), Trouble> {
        if self.joining.is_empty() {
            return Ok(());
        }
        let values: [&(dyn ToSql + Sync); 3] = [
            &column(&self.joining, |(kept, _)| codes::of_delivery(kept.id)),
            &column(&self.joining, |(kept, _)| kept.handler.to_string()),
            &column(&self.joining, |(_, order)| order.key.as_bytes().as_slice()),
        ];
        turn.execute(JOIN, &values).await.map(drop)
    }

    async fn write_new(&self, turn: &Turn<'_>) -> Result<(), Trouble> {
        if self.new.is_empty() {
            return Ok(());
        }
        let values: [&(dyn ToSql + Sync); 9] = [
            &column(&self.new, |(kept, _)| codes::of_delivery(kept.id)),
            &column(&self.new, |(kept, _)| codes::of_event(kept.event)),
            &column(&self.new, |(kept, _)| kept.due_at.as_millis()),
            &column(&self.new, |(kept, _)| kept.source.to_string()),
            &column(&self.new, |(kept, _)| kept.handler.to_string()),
            &column(&self.new, |(kept, _)| kept.replay_of.map(codes::of_delivery)),
            &column(&self.new, |(_, order)| order.key.as_bytes().as_slice()),
            &column(&self.new, |(_, order)| order.on_dead == OnDead::Skip),
            &Timestamp::NEVER.as_millis(),
        ];
        turn.execute(BEGIN, &values).await.map(drop)
    }

    async fn write_first(&self, turn: &Turn<'_>) -> Result<(), Trouble> {
        if self.to_call_up.is_empty() {
            return Ok(());
        }
        let values: [&(dyn ToSql + Sync); 4] = [
            &column(&self.to_call_up, |line| line.handler.as_str()),
            &column(&self.to_call_up, |line| line.key.as_bytes().as_slice()),
            &self.now.as_millis(),
            &Timestamp::NEVER.as_millis(),
        ];
        turn.execute(CALL_UP, &values).await.map(drop)
    }
}
