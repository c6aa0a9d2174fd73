//! Taking over what another store has given away.

use rusqlite::params;
use uuid::Uuid;

use super::{codes, delivery::Kept, writer::Work};
use crate::{
    clock::Timestamp,
    delivery::State,
    event::{Digest, EventState, Identity},
    store::{
        Counts, StoreError,
        encrypted::plain_bytes,
        mark::MarkKey,
        moving::{DeliveryCopy, EventCopy, MarkCopy, OrderCopy, Record},
    },
};

impl Work<'_> {
    /// See [`Moving::import`](crate::store::moving::Moving::import).
    pub(super) fn import(
        &mut self,
        copy: Uuid,
        records: &[Record],
    ) -> rusqlite::Result<Result<(), StoreError>> {
        if let Err(refused) = self.standing.expect_filling(copy) {
            return Ok(Err(refused));
        }
        for record in records {
            match record {
                Record::Counts { source, handler, counts } => {
                    self.import_counts(source, handler, counts)?;
                }
                Record::Control { handler, control } => control
                    .settings()
                    .into_iter()
                    .try_for_each(|setting| self.control(handler, setting))?,
                Record::Event(copy) => self.import_event(copy)?,
                Record::Mark(copy) => self.import_mark(codes::MARK, copy)?,
                Record::Digest(copy) => self.import_mark(codes::DIGEST, copy)?,
                Record::Key(copy) => self.import_key(copy)?,
            }
        }
        Ok(Ok(()))
    }

    fn import_counts(&self, source: &str, handler: &str, counts: &Counts) -> rusqlite::Result<()> {
        let mut insert = self.connection.prepare_cached(
            "INSERT OR REPLACE INTO counts (source, handler, events, duplicates, held, unrouted, done,
                 dead, queued, leased, dead_now, held_now, shadow)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?;
        insert.execute(params![
            source,
            handler,
            counts.events,
            counts.duplicates,
            counts.held,
            counts.unrouted,
            counts.done,
            counts.dead,
            counts.queued,
            counts.leased,
            counts.dead_now,
            counts.held_now,
            counts.shadow,
        ])?;
        Ok(())
    }

    fn import_mark(&self, kind: i64, copy: &MarkCopy) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO carried_marks VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![
                kind,
                copy.key.as_bytes(),
                copy.event.as_bytes(),
                copy.expires_at.as_millis(),
                copy.digest.as_ref().map(MarkKey::as_bytes),
            ])?;
        Ok(())
    }

    /// An event that is there came whole, in one transaction: there is nothing to add to it.
    fn import_event(&self, copy: &EventCopy) -> rusqlite::Result<()> {
        let mut known = self.connection.prepare_cached("SELECT 1 FROM events WHERE id = ?1")?;
        if known.exists([copy.event.id.as_bytes()])? {
            return Ok(());
        }
        self.import_row(copy)?;
        let (id, source) = (copy.event.id, &copy.event.source);
        if let Some(identity) = &copy.identity {
            self.connection
                .prepare_cached("INSERT INTO marks VALUES (?1, ?2, ?3, NULL, NULL)")?
                .execute(params![source, identity.as_str(), id.as_bytes()])?;
        }
        if let Some(digest) = copy.digest.as_ref().filter(|_| copy.is_first_of_digest) {
            self.connection
                .prepare_cached("INSERT INTO digests VALUES (?1, ?2, ?3, NULL)")?
                .execute(params![source, digest.as_bytes(), id.as_bytes()])?;
        }
        // Numbered from the oldest that is kept, so that the last number is how many there were.
        for (duplicate, number) in copy.duplicates.iter().zip((0..=copy.duplicate_count).rev()) {
            self.connection
                .prepare_cached("INSERT INTO duplicates VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![
                    id.as_bytes(),
                    number,
                    duplicate.received_at.as_millis(),
                    duplicate.retry_marker,
                ])?;
        }
        copy.deliveries.iter().try_for_each(|delivery| self.import_delivery(delivery, copy))
    }

    fn import_row(&self, copy: &EventCopy) -> rusqlite::Result<()> {
        let event = &copy.event;
        self.connection
            .prepare_cached("INSERT INTO contents VALUES (NULL, ?1, ?2, ?3)")?
            .execute(params![event.query, self.import_headers(copy)?, &event.body[..]])?;
        let content = self.connection.last_insert_rowid();
        let states: Vec<State> = copy.deliveries.iter().map(|delivery| delivery.state).collect();
        let count = |wanted: &[State]| states.iter().filter(|state| wanted.contains(state)).count();
        self.connection
            .prepare_cached(
                "INSERT INTO events (
                     id, source, event_id, event_type, received_at, state, ended_at, deliveries_open,
                     deliveries_dead, resent, retry_marker, identity, digest, mark_until, body_bytes,
                     content, shadow, request, erased_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17,
                     ?18, ?19)",
            )?
            .execute(params![
                event.id.as_bytes(),
                event.source,
                event.event_id,
                event.event_type,
                event.received_at.as_millis(),
                codes::of_event_state(EventState::of(copy.held, &states)),
                copy.ended_at.map(Timestamp::as_millis),
                count(&[State::Queued, State::Leased]),
                count(&[State::Dead]),
                event.resent_under_new_id,
                event.retry_marker,
                copy.identity.as_ref().map(Identity::as_str),
                copy.digest.as_ref().map(Digest::as_bytes),
                copy.mark_until.as_millis(),
                plain_bytes(&event.headers, &event.body),
                content,
                event.shadow,
                copy.request.as_ref().map(|request| request.id.as_bytes()),
                copy.erased_at.map(Timestamp::as_millis),
            ])?;
        Ok(())
    }

    /// The headers to keep with the event itself; those of a request that is kept go with that.
    fn import_headers(&self, copy: &EventCopy) -> rusqlite::Result<Vec<u8>> {
        let headers = copy.event.headers.to_lines();
        let Some(request) = &copy.request else { return Ok(headers) };
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO requests VALUES (?1, ?2, ?3)")?
            .execute(params![request.id.as_bytes(), headers, &request.body[..]])?;
        Ok(Vec::new())
    }

    fn import_delivery(&self, delivery: &DeliveryCopy, copy: &EventCopy) -> rusqlite::Result<()> {
        let mut kept = Kept {
            id: delivery.id,
            event: copy.event.id,
            source: copy.event.source.clone(),
            handler: delivery.handler.clone(),
            state: delivery.state,
            due_at: delivery.due_at,
            token: delivery.token,
            attempts: delivery.attempts,
            attempts_before_redrive: delivery.attempts_before_redrive,
            deaths_in_a_row: delivery.deaths_in_a_row,
            leased_at: delivery.leased_at.unwrap_or(delivery.due_at),
            replay_of: delivery.replay_of,
            redriven_by: delivery.redriven_by,
            last_error: None,
            order: delivery.order.map(OrderCopy::order),
            place: delivery.order.and_then(|order| order.place),
        };
        self.insert_row(&kept)?;
        for attempt in &delivery.attempts_kept {
            self.note(&mut kept, attempt)?;
        }
        kept.last_error.clone_from(&delivery.last_error);
        self.write(&kept)
    }
}
