//! Admitting one event: its mark, itself and its deliveries.

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::{codes, delivery::Kept, writer::Work};
use crate::{
    clock::Timestamp,
    event::{Digest, EventId, EventState, Identity, NewDelivery, NewEvent, ReplayGuard},
    limits,
    receipt::Admission,
    store::{StoreError, encrypted::plain_bytes, mark::MarkKey},
};

impl Work<'_> {
    /// See [`Store::admit`](crate::store::Store::admit).
    pub(super) fn admit(
        &mut self,
        new: &NewEvent,
        not_after: Timestamp,
    ) -> rusqlite::Result<Result<(EventId, Admission), StoreError>> {
        if let Some(before) = self.admitted_before(new.id)? {
            return Ok(Ok((new.id, before)));
        }
        if let Err(late) = self.in_time(not_after) {
            return Ok(Err(late));
        }
        if let Some(known) = self.known(new)? {
            self.note_duplicate(known, new)?;
            return Ok(Ok((known, Admission::Duplicate)));
        }
        let resent = self.is_resent(new)?;
        let held = resent && new.replay_guard == ReplayGuard::Hold;
        if held && self.holds_enough(&new.source)? {
            let why = format!("source {} holds enough already", new.source);
            return Ok(Err(StoreError::Full(why)));
        }
        self.remember(new, resent)?;
        self.store(new, resent, held)?;
        if !held {
            self.route(new.id, &new.source, &new.deliveries, new.received_at)?;
        }
        Ok(Ok((new.id, if held { Admission::Held } else { Admission::Fresh })))
    }

    /// What this very event was answered when it was admitted, if it was.
    fn admitted_before(&self, id: EventId) -> rusqlite::Result<Option<Admission>> {
        let mut select =
            self.connection.prepare_cached("SELECT state FROM events WHERE id = ?1")?;
        let state =
            select.query_row([id.as_bytes()], |row| codes::event_state(row, 0)).optional()?;
        let admission = |state| match state {
            EventState::Held => Admission::Held,
            _ => Admission::Fresh,
        };
        Ok(state.map(admission))
    }

    fn known(&self, new: &NewEvent) -> rusqlite::Result<Option<EventId>> {
        let Some(identity) = &new.named.identity else { return Ok(None) };
        let sql = "SELECT event FROM marks WHERE source = ?1 AND identity = ?2";
        let known = self
            .connection
            .prepare_cached(sql)?
            .query_row(params![new.source, identity.as_str()], |row| codes::event_id(row, 0))
            .optional()?;
        match known {
            Some(known) => Ok(Some(known)),
            None => self.carried(codes::MARK, || MarkKey::of_identity(&new.source, identity)),
        }
    }

    fn is_resent(&self, new: &NewEvent) -> rusqlite::Result<bool> {
        let Some(digest) = &new.named.digest else { return Ok(false) };
        let sql = "SELECT 1 FROM digests WHERE source = ?1 AND digest = ?2";
        let known =
            self.connection.prepare_cached(sql)?.exists(params![new.source, digest.as_bytes()])?;
        let key = || MarkKey::of_digest(&new.source, digest);
        Ok(known || self.carried(codes::DIGEST, key)?.is_some())
    }

    fn holds_enough(&mut self, source: &Arc<str>) -> rusqlite::Result<bool> {
        Ok(self.counted.held_now(self.connection, source)? >= limits::HELD_PER_SOURCE_MAX)
    }

    fn note_duplicate(&mut self, known: EventId, new: &NewEvent) -> rusqlite::Result<()> {
        self.counted.of_events(&new.source).duplicates += 1;
        // The event itself may be pruned; its mark, and the count above, go on.
        let sql = "SELECT (SELECT max(number) FROM duplicates WHERE event = ?1)
             FROM events WHERE id = ?1";
        let before = self
            .connection
            .prepare_cached(sql)?
            .query_row([known.as_bytes()], |row| row.get::<_, Option<usize>>(0))
            .optional()?;
        let Some(before) = before else { return Ok(()) };
        let number = before.unwrap_or(0) + 1;
        self.connection.prepare_cached("INSERT INTO duplicates VALUES (?1, ?2, ?3, ?4)")?.execute(
            params![known.as_bytes(), number, new.received_at.as_millis(), new.retry_marker],
        )?;
        if number > limits::DUPLICATES_KEPT_MAX {
            let oldest = number - limits::DUPLICATES_KEPT_MAX;
            self.connection
                .prepare_cached("DELETE FROM duplicates WHERE event = ?1 AND number <= ?2")?
                .execute(params![known.as_bytes(), oldest])?;
        }
        Ok(())
    }

    fn remember(&self, new: &NewEvent, resent: bool) -> rusqlite::Result<()> {
        if let Some(identity) = &new.named.identity {
            self.connection
                .prepare_cached("INSERT INTO marks VALUES (?1, ?2, ?3, NULL, NULL)")?
                .execute(params![new.source, identity.as_str(), new.id.as_bytes()])?;
        }
        // The first one stays: it is what every later copy is a copy of.
        if let Some(digest) = new.named.digest.as_ref().filter(|_| !resent) {
            self.connection
                .prepare_cached("INSERT INTO digests VALUES (?1, ?2, ?3, NULL)")?
                .execute(params![new.source, digest.as_bytes(), new.id.as_bytes()])?;
        }
        Ok(())
    }

    fn store(&mut self, new: &NewEvent, resent: bool, held: bool) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("INSERT INTO contents VALUES (NULL, ?1, ?2, ?3)")?
            .execute(params![new.query, self.own_headers(new)?, &new.named.body[..]])?;
        let content = self.connection.last_insert_rowid();
        let open = if held { 0 } else { new.deliveries.len() };
        let state = match (held, open) {
            (true, _) => EventState::Held,
            (false, 0) => EventState::Unrouted,
            (false, _) => EventState::Open,
        };
        let ended_at = (state != EventState::Open).then_some(new.received_at.as_millis());
        self.connection
            .prepare_cached(
                "INSERT INTO events (
                     id, source, event_id, event_type, received_at, state, ended_at,
                     deliveries_open, deliveries_dead, resent, retry_marker, identity, digest,
                     mark_until, body_bytes, content, shadow, request)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,
                     ?17)",
            )?
            .execute(params![
                new.id.as_bytes(),
                new.source,
                new.named.event_id,
                new.named.event_type,
                new.received_at.as_millis(),
                codes::of_event_state(state),
                ended_at,
                open,
                resent,
                new.retry_marker,
                new.named.identity.as_ref().map(Identity::as_str),
                new.named.digest.as_ref().map(Digest::as_bytes),
                new.received_at.plus(new.window).as_millis(),
                plain_bytes(&new.headers, &new.named.body),
                content,
                new.shadow,
                new.request.as_ref().map(|request| request.id.as_bytes()),
            ])?;
        let counted = self.counted.of_events(&new.source);
        counted.events += 1;
        counted.held += i64::from(held);
        counted.shadow += i64::from(new.shadow);
        counted.held_now += i64::from(held);
        counted.unrouted += i64::from(state == EventState::Unrouted);
        Ok(())
    }

    /// The headers to keep with the event itself. Those of a request that is kept go with that: the
    /// first of its events writes it.
    fn own_headers(&self, new: &NewEvent) -> rusqlite::Result<Vec<u8>> {
        let Some(request) = &new.request else { return Ok(new.headers.to_lines()) };
        let id = request.id.as_bytes();
        if !self.connection.prepare_cached("SELECT 1 FROM requests WHERE id = ?1")?.exists([id])? {
            self.connection
                .prepare_cached("INSERT INTO requests VALUES (?1, ?2, ?3)")?
                .execute(params![id, new.headers.to_lines(), &request.body[..]])?;
        }
        Ok(Vec::new())
    }

    /// Makes first deliveries of an event, due at `due_at`.
    pub(super) fn route(
        &mut self,
        event: EventId,
        source: &Arc<str>,
        deliveries: &[NewDelivery],
        due_at: Timestamp,
    ) -> rusqlite::Result<()> {
        for new in deliveries {
            self.queue(&Kept::new(new, event, source, due_at))?;
            self.counted.of_deliveries(source, &new.handler).events += 1;
        }
        Ok(())
    }
}
