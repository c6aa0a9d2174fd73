//! Erasing what the sender of one event has written.
//!
//! Within this transaction SQLite writes zeros over what it frees, and afterwards the writer has the
//! write-ahead log cut short: see [`Work::has_erased`]. What the disk itself keeps of old blocks, and
//! copies of the file, are out of reach.

use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use super::{
    codes,
    delivery::{self, Kept},
    writer::Work,
};
use crate::{
    clock::Timestamp,
    delivery::{AttemptOutcome, DeliveryId, State},
    event::EventId,
    store::{ERASED, Granted},
};

impl Work<'_> {
    /// See [`Wish::Erase`](crate::store::Wish::Erase).
    pub(super) fn erase(&mut self, event: EventId, now: Timestamp) -> rusqlite::Result<Granted> {
        let mut known = self.connection.prepare_cached("SELECT 1 FROM events WHERE id = ?1")?;
        if !known.exists([event.as_bytes()])? {
            return Ok(Granted::NotFound);
        }
        let deliveries = delivery::of_event(self.connection, event)?;
        if deliveries.iter().any(|kept| kept.state == State::Leased && kept.due_at > now) {
            return Ok(Granted::Running);
        }
        self.has_erased = true;
        self.connection.execute_batch("PRAGMA secure_delete = ON")?;
        self.erase_content(event, now)?;
        let mut killed = Vec::new();
        for kept in deliveries {
            killed.extend(self.erase_delivery(kept, now)?);
        }
        Ok(Granted::Deliveries(killed))
    }

    /// Whether this event was erased.
    pub(super) fn is_erased(&self, event: EventId) -> rusqlite::Result<bool> {
        let sql = "SELECT 1 FROM events WHERE id = ?1 AND erased_at IS NOT NULL";
        self.connection.prepare_cached(sql)?.exists([event.as_bytes()])
    }

    /// Takes those out whose event was erased, unless this wish has redriven them before that. Says
    /// whether there were any.
    pub(super) fn keep_those_not_erased(
        &self,
        those: &mut Vec<Kept>,
        wish: Uuid,
    ) -> rusqlite::Result<bool> {
        let before = those.len();
        for kept in std::mem::take(those) {
            if kept.redriven_by == Some(wish) || !self.is_erased(kept.event)? {
                those.push(kept);
            }
        }
        Ok(those.len() < before)
    }

    fn erase_content(&self, event: EventId, now: Timestamp) -> rusqlite::Result<()> {
        let request: Option<Vec<u8>> = self
            .connection
            .prepare_cached("SELECT request FROM events WHERE id = ?1")?
            .query_row([event.as_bytes()], |row| row.get(0))
            .optional()?
            .flatten();
        for sql in [
            "UPDATE contents SET query = '', headers = x'', body = x''
             WHERE number = (SELECT content FROM events WHERE id = ?1)",
            "UPDATE duplicates SET retry_marker = NULL WHERE event = ?1",
        ] {
            self.connection.prepare_cached(sql)?.execute([event.as_bytes()])?;
        }
        self.connection
            .prepare_cached(
                "UPDATE events SET retry_marker = NULL, request = NULL, body_bytes = 0,
                     erased_at = coalesce(erased_at, ?2)
                 WHERE id = ?1",
            )?
            .execute(params![event.as_bytes(), now.as_millis()])?;
        let Some(request) = request else { return Ok(()) };
        // Its headers stay as long as another event has them for its own.
        self.connection
            .prepare_cached("UPDATE requests SET body = x'' WHERE id = ?1")?
            .execute([&request])?;
        self.forget_request(&request)
    }

    /// Says its id if it was killed for this, now or before.
    fn erase_delivery(
        &mut self,
        mut kept: Kept,
        now: Timestamp,
    ) -> rusqlite::Result<Option<DeliveryId>> {
        self.connection
            .prepare_cached(
                "UPDATE attempts SET error = NULL, excerpt = NULL
                 WHERE delivery = ?1 AND outcome <> ?2",
            )?
            // What is written down of one that died is in our own words.
            .execute(params![kept.id.as_bytes(), codes::of_outcome(AttemptOutcome::Died)])?;
        kept.last_error.take_if(|error| error != ERASED);
        // Whoever held it until its lease ran out may not settle it any more. By two, since by one it would
        // be one that was buried, and what was done of that still counts.
        kept.token += 2;
        if matches!(kept.state, State::Queued | State::Leased) {
            kept.last_error = Some(ERASED.to_owned());
            self.change(&mut kept, State::Dead, now)?;
        }
        self.write(&kept)?;
        Ok(kept.last_error.is_some().then_some(kept.id))
    }
}
