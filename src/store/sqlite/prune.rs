//! Pruning, in small lots: one more call in the writer's queue, between the others.

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::{codes, writer::Work};
use crate::{
    clock::Timestamp,
    delivery::State,
    event::{EventId, EventState},
    store::Prune,
};

impl Work<'_> {
    /// See [`Store::prune`](crate::store::Store::prune).
    pub(super) fn prune(&mut self, prune: &Prune) -> rusqlite::Result<usize> {
        let mut events = 0;
        for (state, before) in [
            (EventState::Done, prune.done_before),
            (EventState::Dead, prune.dead_before),
            (EventState::Unrouted, prune.dead_before),
            (EventState::Held, prune.held_before),
        ] {
            for id in self.over(state, before, prune.lot - events)? {
                self.forget(id)?;
                events += 1;
            }
        }
        self.prune_refusals(prune.held_before)?;
        let marks = self.forget_marks(prune.now, prune.lot)?;
        let keys = self.prune_keys(prune.now, prune.lot)?;
        Ok(events + marks + keys)
    }

    fn over(
        &self,
        state: EventState,
        before: Timestamp,
        lot: usize,
    ) -> rusqlite::Result<Vec<EventId>> {
        let mut select = self.connection.prepare_cached(
            "SELECT id FROM events INDEXED BY events_ended
             WHERE ended_at IS NOT NULL AND state = ?1 AND ended_at < ?2
             ORDER BY ended_at LIMIT ?3",
        )?;
        let over = select
            .query_map(params![codes::of_event_state(state), before.as_millis(), lot], |row| {
                codes::event_id(row, 0)
            })?;
        over.collect()
    }

    /// Takes an event away with all that is about it, but for its marks, whose time begins to run.
    fn forget(&mut self, id: EventId) -> rusqlite::Result<()> {
        self.forget_deliveries(id)?;
        for sql in [
            "UPDATE marks SET expires_at = events.mark_until, digest = events.digest FROM events
             WHERE events.id = ?1 AND marks.source = events.source
                 AND marks.identity = events.identity AND marks.event = events.id",
            "UPDATE digests SET expires_at = events.mark_until FROM events
             WHERE events.id = ?1 AND digests.source = events.source
                 AND digests.digest = events.digest AND digests.event = events.id",
            "DELETE FROM contents WHERE number = (SELECT content FROM events WHERE id = ?1)",
            "DELETE FROM duplicates WHERE event = ?1",
        ] {
            self.connection.prepare_cached(sql)?.execute([id.as_bytes()])?;
        }
        let gone = self
            .connection
            .prepare_cached("DELETE FROM events WHERE id = ?1 RETURNING source, state, request")?
            .query_row([id.as_bytes()], |row| {
                Ok((row.get(0)?, codes::event_state(row, 1)?, row.get::<_, Option<Vec<u8>>>(2)?))
            })
            .optional()?;
        let Some((source, state, request)) = gone else { return Ok(()) };
        if state == EventState::Held {
            self.counted.of_events(&source).held_now -= 1;
        }
        match request {
            Some(request) => self.forget_request(&request),
            None => Ok(()),
        }
    }

    /// Takes a request away that no event refers to any more.
    pub(super) fn forget_request(&self, id: &[u8]) -> rusqlite::Result<()> {
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM requests WHERE id = ?1
             AND NOT EXISTS (SELECT 1 FROM events INDEXED BY events_of_request WHERE request = ?1)",
        )?;
        delete.execute([id]).map(drop)
    }

    fn forget_deliveries(&mut self, event: EventId) -> rusqlite::Result<()> {
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM deliveries WHERE event = ?1 RETURNING id, source, handler, state",
        )?;
        let gone = delete
            .query_map([event.as_bytes()], |row| {
                let (source, handler): (Arc<str>, Arc<str>) = (row.get(1)?, row.get(2)?);
                Ok((codes::delivery_id(row, 0)?, source, handler, codes::state(row, 3)?))
            })?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        for (id, source, handler, state) in gone {
            self.connection
                .prepare_cached("DELETE FROM attempts WHERE delivery = ?1")?
                .execute([id.as_bytes()])?;
            if state == State::Dead {
                self.counted.of_deliveries(&source, &handler).dead_now -= 1;
            }
        }
        Ok(())
    }

    /// Takes marks away whose window is over and whose event is gone. Says how many identities went.
    fn forget_marks(&self, now: Timestamp, lot: usize) -> rusqlite::Result<usize> {
        let mut forget = self.connection.prepare_cached(
            "DELETE FROM digests WHERE (source, digest) IN (
                 SELECT source, digest FROM digests INDEXED BY digests_expiring
                 WHERE expires_at IS NOT NULL AND expires_at < ?1 LIMIT ?2)",
        )?;
        forget.execute(params![now.as_millis(), lot])?;
        let mut forget = self.connection.prepare_cached(
            "DELETE FROM marks WHERE (source, identity) IN (
                 SELECT source, identity FROM marks INDEXED BY marks_expiring
                 WHERE expires_at IS NOT NULL AND expires_at < ?1 LIMIT ?2)",
        )?;
        let gone = forget.execute(params![now.as_millis(), lot])?;
        Ok(gone + self.forget_carried_marks(now, lot)?)
    }
}
