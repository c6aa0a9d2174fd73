//! A delivery's row: read, changed and written back within one transaction.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::{codes, writer::Work};
use crate::{
    clock::Timestamp,
    delivery::{Attempt, DeliveryId, Lease, State},
    event::{EventId, NewDelivery},
    limits,
    order::{OnDead, Order},
};

/// All of a delivery's row.
#[derive(Debug)]
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
    /// Its place in line, while it stands there. It is written by `line.rs`, whenever it changes.
    pub(super) place: Option<u64>,
}

impl Kept {
    /// The columns in the order of [`Kept::read`], which is that of the table.
    pub(super) const COLUMNS: &str = "id, event, source, handler, state, due_at, token, attempts,
        attempts_before_redrive, deaths_in_a_row, leased_at, replay_of, redriven_by, last_error,
        order_key, skips, place";

    /// A delivery that has just been queued.
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

    /// The delivery in a row of [`Kept::COLUMNS`].
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: codes::delivery_id(row, 0)?,
            event: codes::event_id(row, 1)?,
            source: row.get(2)?,
            handler: row.get(3)?,
            state: codes::state(row, 4)?,
            due_at: codes::time(row, 5)?,
            token: row.get(6)?,
            attempts: row.get(7)?,
            attempts_before_redrive: row.get(8)?,
            deaths_in_a_row: row.get(9)?,
            leased_at: codes::time(row, 10)?,
            replay_of: codes::some_delivery_id(row, 11)?,
            redriven_by: codes::some_uuid(row, 12)?,
            last_error: row.get(13)?,
            order: codes::order(row, 14)?,
            place: row.get(16)?,
        })
    }

    pub(super) fn is_held_by(&self, lease: &Lease) -> bool {
        self.state == State::Leased && self.token == lease.token
    }

    pub(super) fn lease(&self) -> Lease {
        Lease { delivery: self.id, token: self.token }
    }
}

/// The delivery with this id.
pub(super) fn find(connection: &Connection, id: DeliveryId) -> rusqlite::Result<Option<Kept>> {
    let sql = format!("SELECT {} FROM deliveries WHERE id = ?1", Kept::COLUMNS);
    connection.prepare_cached(&sql)?.query_row([id.as_bytes()], Kept::read).optional()
}

/// The deliveries of an event, oldest first.
pub(super) fn of_event(connection: &Connection, event: EventId) -> rusqlite::Result<Vec<Kept>> {
    let sql = format!(
        "SELECT {} FROM deliveries INDEXED BY deliveries_of_event WHERE event = ?1 ORDER BY id",
        Kept::COLUMNS
    );
    let mut select = connection.prepare_cached(&sql)?;
    select.query_map([event.as_bytes()], Kept::read)?.collect()
}

impl Work<'_> {
    pub(super) fn delivery(&self, id: DeliveryId) -> rusqlite::Result<Option<Kept>> {
        find(self.connection, id)
    }

    pub(super) fn held_by(&self, lease: &Lease) -> rusqlite::Result<Option<Kept>> {
        Ok(self.delivery(lease.delivery)?.filter(|kept| kept.is_held_by(lease)))
    }

    /// Inserts a new delivery, and counts it.
    pub(super) fn queue(&mut self, mut kept: Kept) -> rusqlite::Result<()> {
        self.find_place(&mut kept)?;
        self.insert_row(&kept)?;
        *self.counted.of_deliveries(&kept.source, &kept.handler).gauge(kept.state) += 1;
        Ok(())
    }

    /// Inserts the row of a delivery that had no attempt yet.
    pub(super) fn insert_row(&self, kept: &Kept) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO deliveries VALUES
                 (?1, ?2, ?3, ?4, ?5, ?6, 0, 0, 0, 0, ?7, ?8, NULL, NULL, ?9, ?10, ?11)",
            )?
            .execute(params![
                kept.id.as_bytes(),
                kept.event.as_bytes(),
                kept.source,
                kept.handler,
                codes::of_state(kept.state),
                kept.due_at.as_millis(),
                kept.leased_at.as_millis(),
                kept.replay_of.as_ref().map(DeliveryId::as_bytes),
                kept.order.as_ref().map(|order| order.key.as_bytes()),
                kept.order.map(|order| order.on_dead == OnDead::Skip),
                kept.place,
            ])?;
        Ok(())
    }

    /// Moves a delivery into a state, keeps the gauges right, and notices the end of its event.
    /// The row itself is written by [`Work::write`], once all about it is changed.
    pub(super) fn change(
        &mut self,
        kept: &mut Kept,
        to: State,
        due_at: Timestamp,
    ) -> rusqlite::Result<()> {
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
            self.change_event(kept.event, open, dead, due_at)?;
        }
        self.change_line(kept, from, due_at)
    }

    /// Moves an event whose number of open and dead deliveries has changed at `now`.
    pub(super) fn change_event(
        &self,
        event: EventId,
        open: i64,
        dead: i64,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "UPDATE events SET
                     deliveries_open = deliveries_open + ?2,
                     deliveries_dead = deliveries_dead + ?3,
                     state = CASE
                         WHEN deliveries_open + ?2 > 0 THEN 0
                         WHEN deliveries_dead + ?3 > 0 THEN 2
                         ELSE 1 END,
                     ended_at = CASE WHEN deliveries_open + ?2 > 0 THEN NULL ELSE ?4 END
                 WHERE id = ?1",
            )?
            .execute(params![event.as_bytes(), open, dead, now.as_millis()])?;
        Ok(())
    }

    /// Writes a changed row back.
    pub(super) fn write(&self, kept: &Kept) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "UPDATE deliveries SET
                     handler = ?2, state = ?3, due_at = ?4, token = ?5, attempts = ?6,
                     attempts_before_redrive = ?7, deaths_in_a_row = ?8, leased_at = ?9,
                     redriven_by = ?10, last_error = ?11
                 WHERE id = ?1",
            )?
            .execute(params![
                kept.id.as_bytes(),
                kept.handler,
                codes::of_state(kept.state),
                kept.due_at.as_millis(),
                kept.token,
                kept.attempts,
                kept.attempts_before_redrive,
                kept.deaths_in_a_row,
                kept.leased_at.as_millis(),
                kept.redriven_by.as_ref().map(Uuid::as_bytes),
                kept.last_error,
            ])?;
        Ok(())
    }

    /// Writes down how an attempt ended.
    pub(super) fn note(&self, kept: &mut Kept, attempt: &Attempt) -> rusqlite::Result<()> {
        kept.last_error.clone_from(&attempt.error);
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO attempts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                kept.id.as_bytes(),
                attempt.number,
                attempt.started_at.as_millis(),
                attempt.took_ms,
                codes::of_outcome(attempt.outcome),
                attempt.status,
                attempt.error,
                attempt.excerpt,
            ])?;
        let kept_max = u32::try_from(limits::ATTEMPTS_KEPT_MAX).unwrap_or(u32::MAX);
        if attempt.number > kept_max {
            self.connection
                .prepare_cached("DELETE FROM attempts WHERE delivery = ?1 AND number <= ?2")?
                .execute(params![kept.id.as_bytes(), attempt.number - kept_max])?;
        }
        Ok(())
    }
}
