//! Lines of deliveries that run one after another: see [`order`](crate::order).
//!
//! Only deliveries that have an order come here; for the others nothing is read or written.

use rusqlite::params;

use super::{delivery::Kept, writer::Work};
use crate::{clock::Timestamp, delivery::State, order::OnDead};

impl Work<'_> {
    /// Gives a delivery that has an order the last place in its line, where it is due only if it is the
    /// first one there.
    pub(super) fn find_place(&self, kept: &mut Kept) -> rusqlite::Result<()> {
        let Some(order) = kept.order else { return Ok(()) };
        let last: Option<u64> = self
            .connection
            .prepare_cached(
                "SELECT max(place) FROM deliveries INDEXED BY deliveries_in_line
                 WHERE place IS NOT NULL AND handler = ?1 AND order_key = ?2",
            )?
            .query_row(params![kept.handler, order.key.as_bytes()], |row| row.get(0))?;
        kept.place = Some(last.unwrap_or(0) + 1);
        if last.is_some() && kept.state == State::Queued {
            kept.due_at = Timestamp::NEVER;
        }
        Ok(())
    }

    /// Puts a delivery that is there at the end of its line, to be due at `due_at` if nobody is before it.
    pub(super) fn join_line(&self, kept: &mut Kept, due_at: Timestamp) -> rusqlite::Result<()> {
        if kept.state == State::Queued {
            kept.due_at = due_at;
        }
        self.find_place(kept)?;
        self.write_place(kept)
    }

    /// Takes a delivery out of its line, where the next one is due now if it was the first. Says whether
    /// it stood there.
    pub(super) fn leave_line(&self, kept: &mut Kept, now: Timestamp) -> rusqlite::Result<bool> {
        if kept.place.take().is_none() {
            return Ok(false);
        }
        self.write_place(kept)?;
        self.call_up(kept, now)?;
        Ok(true)
    }

    /// What follows for its line when a delivery has changed its state, to be due at `due_at`.
    pub(super) fn change_line(
        &self,
        kept: &mut Kept,
        from: State,
        due_at: Timestamp,
    ) -> rusqlite::Result<()> {
        let Some(order) = kept.order else { return Ok(()) };
        match (from, kept.state) {
            (_, State::Done) => self.leave_line(kept, due_at).map(drop),
            (_, State::Dead) if order.on_dead == OnDead::Skip => {
                self.leave_line(kept, due_at).map(drop)
            }
            (State::Dead, State::Queued) if kept.place.is_none() => self.join_line(kept, due_at),
            (State::Dead, State::Queued) => {
                if !self.is_first(kept)? {
                    kept.due_at = Timestamp::NEVER;
                }
                Ok(())
            }
            _ => Ok(()), // only the first of a line is ever leased, and it stays the first
        }
    }

    /// Makes the first of a line due now, if it awaits its turn. The line is that of `member`, whether
    /// that still stands there or not.
    pub(super) fn call_up(&self, member: &Kept, now: Timestamp) -> rusqlite::Result<()> {
        let Some(order) = member.order else { return Ok(()) };
        self.connection
            .prepare_cached(
                "UPDATE deliveries SET due_at = ?3
                 WHERE state = 0 AND due_at = ?4 AND id = (
                     SELECT id FROM deliveries INDEXED BY deliveries_in_line
                     WHERE place IS NOT NULL AND handler = ?1 AND order_key = ?2
                     ORDER BY place LIMIT 1)",
            )?
            .execute(params![
                member.handler,
                order.key.as_bytes(),
                now.as_millis(),
                Timestamp::NEVER.as_millis(),
            ])?;
        Ok(())
    }

    fn is_first(&self, kept: &Kept) -> rusqlite::Result<bool> {
        let before = self
            .connection
            .prepare_cached(
                "SELECT 1 FROM deliveries INDEXED BY deliveries_in_line
                 WHERE place IS NOT NULL AND handler = ?1 AND order_key = ?2 AND place < ?3",
            )?
            .exists(params![
                kept.handler,
                kept.order.as_ref().map(|order| order.key.as_bytes()),
                kept.place
            ])?;
        Ok(!before)
    }

    /// The handler goes with it, so that a moved delivery is not for a moment in the line it left.
    fn write_place(&self, kept: &Kept) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("UPDATE deliveries SET handler = ?2, place = ?3 WHERE id = ?1")?
            .execute(params![kept.id.as_bytes(), kept.handler, kept.place])?;
        Ok(())
    }
}
