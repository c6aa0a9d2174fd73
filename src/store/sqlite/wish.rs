//! What a person may ask for.

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use super::{codes, delivery::Kept, writer::Work};
use crate::{
    clock::Timestamp,
    delivery::{DeliveryId, State},
    event::{EventId, EventState, NewDelivery},
    limits,
    store::{Granted, StoreError, Which, Wish},
};

impl Work<'_> {
    /// See [`Store::wish`](crate::store::Store::wish).
    pub(super) fn wish(
        &mut self,
        wish: &Wish,
        not_after: Timestamp,
    ) -> rusqlite::Result<Result<Granted, StoreError>> {
        let now = match self.in_time(not_after) {
            Ok(now) => now,
            Err(late) => return Ok(Err(late)),
        };
        let granted = match wish {
            Wish::Replay { event, deliveries } => self.replay(*event, deliveries, now)?,
            Wish::AdmitHeld { event, deliveries } => self.admit_held(*event, deliveries, now)?,
            Wish::Redrive { id, which } => self.redrive(*id, which, now)?,
            Wish::Move { which, to } => self.reroute(which, to, now)?,
            Wish::Kill { which } => self.kill(which, now)?,
            Wish::Erase { event } => self.erase(*event, now)?,
            Wish::Unblock { which } => self.unblock(which, now)?,
        };
        Ok(Ok(granted))
    }

    fn replay(
        &mut self,
        event: EventId,
        new: &[NewDelivery],
        now: Timestamp,
    ) -> rusqlite::Result<Granted> {
        let Some((source, state)) = self.source_and_state(event)? else {
            return Ok(Granted::NotFound);
        };
        if self.is_erased(event)? {
            return Ok(Granted::Erased);
        }
        if state == EventState::Held {
            return Ok(Granted::NotFound);
        }
        for delivery in new {
            if self.delivery(delivery.id)?.is_none() {
                let replay_of = self.first_for(event, &delivery.handler)?;
                let kept = Kept::new(delivery, event, &source, now);
                self.queue(Kept { replay_of, ..kept })?;
                self.change_event(event, 1, 0, now)?;
            }
        }
        Ok(Granted::Deliveries(new.iter().map(|new| new.id).collect()))
    }

    /// The first delivery of an event to a handler, which its replays there are replays of.
    fn first_for(
        &self,
        event: EventId,
        handler: &Arc<str>,
    ) -> rusqlite::Result<Option<DeliveryId>> {
        self.connection
            .prepare_cached(
                "SELECT id FROM deliveries INDEXED BY deliveries_of_event
                 WHERE event = ?1 AND handler = ?2 AND replay_of IS NULL ORDER BY id LIMIT 1",
            )?
            .query_row(params![event.as_bytes(), handler], |row| codes::delivery_id(row, 0))
            .optional()
    }

    fn admit_held(
        &mut self,
        event: EventId,
        new: &[NewDelivery],
        now: Timestamp,
    ) -> rusqlite::Result<Granted> {
        let ids: Vec<DeliveryId> = new.iter().map(|new| new.id).collect();
        let Some((source, state)) = self.source_and_state(event)? else {
            return Ok(Granted::NotFound);
        };
        if state != EventState::Held {
            let again = !ids.is_empty() && self.all_are_of(&ids, event)?;
            return Ok(if again { Granted::Deliveries(ids) } else { Granted::NotFound });
        }
        if self.is_erased(event)? {
            return Ok(Granted::Erased);
        }
        let counted = self.counted.of_events(&source);
        counted.held_now -= 1;
        counted.unrouted += i64::from(new.is_empty());
        if new.is_empty() {
            self.connection
                .prepare_cached("UPDATE events SET state = 3 WHERE id = ?1")?
                .execute([event.as_bytes()])?;
        } else {
            let open = i64::try_from(new.len()).unwrap_or(i64::MAX);
            self.change_event(event, open, 0, now)?;
        }
        self.route(event, &source, new, now)?;
        Ok(Granted::Deliveries(ids))
    }

    fn all_are_of(&self, ids: &[DeliveryId], event: EventId) -> rusqlite::Result<bool> {
        for id in ids {
            if self.delivery(*id)?.is_none_or(|kept| kept.event != event) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn redrive(&mut self, wish: Uuid, which: &Which, now: Timestamp) -> rusqlite::Result<Granted> {
        let meant = match which {
            Which::Ids(ids) => ids.clone(),
            Which::Handler(handler) => self.ids(
                "SELECT id FROM deliveries INDEXED BY deliveries_dead
                 WHERE state = 3 AND handler = ?1
                 UNION
                 SELECT id FROM deliveries INDEXED BY deliveries_redriven
                 WHERE redriven_by = ?2
                 ORDER BY id LIMIT ?3",
                params![handler, wish.as_bytes(), limits::WISH_ROWS_MAX],
            )?,
        };
        let mut redriven =
            self.those(meant, |kept| kept.state == State::Dead || kept.redriven_by == Some(wish))?;
        if self.keep_those_not_erased(&mut redriven, wish)? && redriven.is_empty() {
            return Ok(Granted::Erased);
        }
        let ids = redriven.iter().map(|kept| kept.id).collect();
        for mut kept in redriven {
            if kept.redriven_by != Some(wish) {
                kept.redriven_by = Some(wish);
                kept.attempts_before_redrive = kept.attempts;
                kept.deaths_in_a_row = 0;
                self.change(&mut kept, State::Queued, now)?;
                self.write(&kept)?;
            }
        }
        Ok(Granted::Deliveries(ids))
    }

    fn reroute(
        &mut self,
        which: &Which,
        to: &Arc<str>,
        now: Timestamp,
    ) -> rusqlite::Result<Granted> {
        let meant = match which {
            Which::Ids(ids) => ids.clone(),
            Which::Handler(handler) => self.ids(
                "SELECT id FROM deliveries INDEXED BY deliveries_queued
                 WHERE state = 0 AND handler = ?1
                 UNION ALL
                 SELECT id FROM deliveries INDEXED BY deliveries_dead
                 WHERE state = 3 AND handler = ?1
                 ORDER BY id LIMIT ?2",
                params![handler, limits::WISH_ROWS_MAX],
            )?,
        };
        let mut moved =
            self.those(meant, |kept| matches!(kept.state, State::Queued | State::Dead))?;
        let ids = moved.iter().map(|kept| kept.id).collect();
        // Those that stand in line go first, as they stand.
        moved.sort_by_key(|kept| kept.place.unwrap_or(u64::MAX));
        for mut kept in moved.into_iter().filter(|kept| kept.handler != *to) {
            *self.counted.of_deliveries(&kept.source, &kept.handler).gauge(kept.state) -= 1;
            *self.counted.of_deliveries(&kept.source, to).gauge(kept.state) += 1;
            let was_in_line = self.leave_line(&mut kept, now)?;
            kept.handler = Arc::clone(to);
            if was_in_line {
                self.join_line(&mut kept, now)?;
            }
            self.write(&kept)?;
        }
        Ok(Granted::Deliveries(ids))
    }

    fn kill(&mut self, which: &Which, now: Timestamp) -> rusqlite::Result<Granted> {
        let meant = match which {
            Which::Ids(ids) => ids.clone(),
            Which::Handler(handler) => self.ids(
                "SELECT id FROM deliveries INDEXED BY deliveries_queued
                 WHERE state = 0 AND handler = ?1
                 ORDER BY id LIMIT ?2",
                params![handler, limits::WISH_ROWS_MAX],
            )?,
        };
        let killed = self.those(meant, |kept| kept.state == State::Queued)?;
        let ids = killed.iter().map(|kept| kept.id).collect();
        for mut kept in killed {
            self.change(&mut kept, State::Dead, now)?;
            self.write(&kept)?;
        }
        Ok(Granted::Deliveries(ids))
    }

    fn unblock(&mut self, which: &Which, now: Timestamp) -> rusqlite::Result<Granted> {
        let meant = match which {
            Which::Ids(ids) => ids.clone(),
            Which::Handler(handler) => self.ids(
                "SELECT id FROM deliveries INDEXED BY deliveries_dead
                 WHERE state = 3 AND handler = ?1 AND place IS NOT NULL
                 ORDER BY id LIMIT ?2",
                params![handler, limits::WISH_ROWS_MAX],
            )?,
        };
        let applies = |kept: &Kept| kept.state == State::Dead && kept.order.is_some();
        let mut unblocked = self.those(meant, applies)?;
        for kept in &mut unblocked {
            self.leave_line(kept, now)?;
        }
        Ok(Granted::Deliveries(unblocked.iter().map(|kept| kept.id).collect()))
    }

    /// Of the deliveries meant those that the wish applies to, oldest first.
    fn those(
        &self,
        mut meant: Vec<DeliveryId>,
        applies: impl Fn(&Kept) -> bool,
    ) -> rusqlite::Result<Vec<Kept>> {
        meant.sort_unstable();
        meant.dedup();
        let mut those = Vec::new();
        for id in meant {
            those.extend(self.delivery(id)?.filter(&applies));
            if those.len() == limits::WISH_ROWS_MAX {
                break;
            }
        }
        Ok(those)
    }

    fn ids(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
    ) -> rusqlite::Result<Vec<DeliveryId>> {
        let mut select = self.connection.prepare_cached(sql)?;
        let ids = select.query_map(parameters, |row| codes::delivery_id(row, 0))?;
        ids.collect()
    }

    fn source_and_state(&self, event: EventId) -> rusqlite::Result<Option<(Arc<str>, EventState)>> {
        self.connection
            .prepare_cached("SELECT source, state FROM events WHERE id = ?1")?
            .query_row([event.as_bytes()], |row| Ok((row.get(0)?, codes::event_state(row, 1)?)))
            .optional()
    }
}
