//! The reference model of moving: what each verb means, with nothing in the way of reading it.

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use super::{Cursor, DeliveryCopy, EventCopy, MarkCopy, Moving, OrderCopy, Record, Standing, Step};
use crate::{
    clock::Timestamp,
    delivery::State,
    event::EventId,
    limits,
    store::{
        StoreError,
        mark::MarkKey,
        memory::{KeptDelivery, KeptEvent, Mark, MemoryStore, Tables},
    },
};

#[async_trait]
impl Moving for MemoryStore {
    async fn standing(&self) -> Result<Standing, StoreError> {
        Ok(self.lock().standing.clone())
    }

    async fn step(&self, step: &Step) -> Result<Standing, StoreError> {
        let (mut tables, now) = (self.lock(), self.clock.now());
        let after = tables.standing.after(step)?;
        if after == tables.standing {
            return Ok(after);
        }
        match step {
            Step::Seal(_) if tables.live(now) + self.keys.live(now) > 0 => {
                return Err(StoreError::Moving("something in it still runs".to_owned()));
            }
            Step::Fill(_) if !tables.is_empty() => {
                return Err(StoreError::Moving("there are events in it already".to_owned()));
            }
            // What was said about handlers counts for nothing there, and must not mix with what comes.
            Step::Fill(_) => tables.controls.clear(),
            _ => {}
        }
        tables.standing = after.clone();
        Ok(after)
    }

    async fn live(&self) -> Result<u64, StoreError> {
        let now = self.clock.now();
        Ok(self.lock().live(now) + self.keys.live(now))
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.lock().is_empty())
    }

    async fn size(&self) -> Result<u64, StoreError> {
        let tables = self.lock();
        let marks = tables.marks.len() + tables.carried_marks.len();
        Ok(u64::try_from(marks.max(tables.events.len())).unwrap_or(u64::MAX))
    }

    async fn export(&self, from: &Cursor) -> Result<(Vec<Record>, Option<Cursor>), StoreError> {
        let tables = self.lock();
        if from.stage == 0 {
            let now = self.clock.now();
            let mut records = tables.small_records(now);
            records.extend(self.keys.copies(now));
            return Ok((records, Some(from.next_stage())));
        }
        let after = <[u8; 16]>::try_from(from.after.as_slice())
            .map_or(EventId::from_bytes([0; 16]), EventId::from_bytes);
        let later = tables.events.range(after..).filter(|(id, _)| **id > after);
        let page: Vec<_> =
            later.take(limits::EXPORT_ROWS).map(|(_, kept)| tables.copy(kept)).collect();
        let last = page.last().map(|copy| from.behind(copy.event.id.as_bytes().as_slice()));
        Ok((page.into_iter().map(|copy| Record::Event(Box::new(copy))).collect(), last))
    }

    async fn import(&self, copy: Uuid, records: Vec<Record>) -> Result<(), StoreError> {
        let mut tables = self.lock();
        tables.standing.expect_filling(copy)?;
        for record in records {
            match record {
                Record::Key(copy) => self.keys.import(*copy),
                record => tables.import(record),
            }
        }
        Ok(())
    }
}

impl Tables {
    fn live(&self, now: Timestamp) -> u64 {
        let is_live = |kept: &&KeptDelivery| kept.state == State::Leased && kept.due_at > now;
        self.deliveries.values().filter(is_live).count() as u64
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.marks.is_empty() && self.carried_marks.is_empty()
    }

    /// What is counted, and the marks whose events are gone.
    fn small_records(&self, now: Timestamp) -> Vec<Record> {
        let mut records: Vec<Record> = self
            .counts
            .iter()
            .map(|((source, handler), counts)| Record::Counts {
                source: source.clone(),
                handler: handler.clone(),
                counts: *counts,
            })
            .chain(Record::of_controls(self.controls.clone()))
            .collect();
        let outlives = |mark: &Mark| !self.events.contains_key(&mark.event) && mark.until >= now;
        let copied = |key: MarkKey, mark: &Mark| MarkCopy {
            key,
            event: mark.event,
            expires_at: mark.until,
            digest: mark.digest,
        };
        let marks = self
            .marks
            .iter()
            .map(|((source, identity), mark)| (MarkKey::of_identity(source, identity), mark));
        let marks = marks.chain(self.carried_marks.iter().map(|(key, mark)| (*key, mark)));
        records.extend(
            marks
                .filter(|(_, mark)| outlives(mark))
                .map(|(key, mark)| Record::Mark(copied(key, mark))),
        );
        let digests = self
            .digests
            .iter()
            .map(|((source, digest), mark)| (MarkKey::of_digest(source, digest), mark));
        let digests = digests.chain(self.carried_digests.iter().map(|(key, mark)| (*key, mark)));
        let digests = digests.filter(|(_, mark)| outlives(mark));
        records.extend(
            digests
                .map(|(key, mark)| Record::Digest(MarkCopy { digest: None, ..copied(key, mark) })),
        );
        records
    }

    fn copy(&self, kept: &KeptEvent) -> EventCopy {
        let source = &kept.event.source;
        let mut ids = kept.deliveries.clone();
        ids.sort_unstable();
        let first = kept.digest.and_then(|digest| self.digests.get(&(Arc::clone(source), digest)));
        EventCopy {
            event: kept.event.clone(),
            request: kept.request.clone(),
            identity: kept.identity.clone(),
            digest: kept.digest,
            is_first_of_digest: first.is_some_and(|mark| mark.event == kept.event.id),
            mark_until: kept.mark_until,
            held: kept.held,
            ended_at: kept.ended_at,
            erased_at: kept.erased_at,
            duplicate_count: kept.duplicate_count,
            duplicates: kept.duplicates.iter().cloned().collect(),
            deliveries: ids
                .iter()
                .filter_map(|id| self.deliveries.get(id).map(KeptDelivery::copy))
                .collect(),
        }
    }

    fn import(&mut self, record: Record) {
        let mark = |copy: &MarkCopy| Mark {
            event: copy.event,
            until: copy.expires_at,
            digest: copy.digest,
        };
        match record {
            Record::Counts { source, handler, counts } => {
                self.counts.insert((source, handler), counts);
            }
            Record::Control { handler, control } => drop(self.controls.insert(handler, control)),
            Record::Mark(copy) => drop(self.carried_marks.insert(copy.key, mark(&copy))),
            Record::Digest(copy) => drop(self.carried_digests.insert(copy.key, mark(&copy))),
            Record::Event(copy) => self.import_event(*copy),
            Record::Key(_) => {} // kept apart
        }
    }

    fn import_event(&mut self, copy: EventCopy) {
        let (id, source) = (copy.event.id, Arc::clone(&copy.event.source));
        let mark = Mark { event: id, until: copy.mark_until, digest: copy.digest_key() };
        if let Some(identity) = copy.identity.clone() {
            self.marks.insert((Arc::clone(&source), identity), mark);
        }
        if let Some(digest) = copy.digest.filter(|_| copy.is_first_of_digest) {
            self.digests.insert((Arc::clone(&source), digest), mark);
        }
        let kept = KeptEvent {
            identity: copy.identity,
            digest: copy.digest,
            mark_until: copy.mark_until,
            held: copy.held,
            duplicates: copy.duplicates.into(),
            duplicate_count: copy.duplicate_count,
            deliveries: copy.deliveries.iter().map(|delivery| delivery.id).collect(),
            ended_at: copy.ended_at,
            erased_at: copy.erased_at,
            request: copy.request,
            event: copy.event,
        };
        self.events.insert(id, kept);
        for delivery in copy.deliveries {
            let kept = KeptDelivery::from_copy(delivery, id, &source);
            self.deliveries.insert(kept.id, kept);
        }
    }
}

impl KeptDelivery {
    fn copy(&self) -> DeliveryCopy {
        DeliveryCopy {
            id: self.id,
            handler: Arc::clone(&self.handler),
            state: self.state,
            due_at: self.due_at,
            token: self.token,
            attempts: self.attempts,
            attempts_before_redrive: self.attempts_before_redrive,
            deaths_in_a_row: self.deaths_in_a_row,
            leased_at: (self.state == State::Leased).then_some(self.leased_at),
            replay_of: self.replay_of,
            redriven_by: self.redriven_by,
            last_error: self.last_error.clone(),
            order: self.order.map(|order| OrderCopy::of(order, self.place)),
            attempts_kept: self.attempts_kept.iter().cloned().collect(),
        }
    }

    fn from_copy(copy: DeliveryCopy, event: EventId, source: &Arc<str>) -> Self {
        Self {
            id: copy.id,
            event,
            source: Arc::clone(source),
            handler: copy.handler,
            state: copy.state,
            due_at: copy.due_at,
            token: copy.token,
            attempts: copy.attempts,
            attempts_before_redrive: copy.attempts_before_redrive,
            deaths_in_a_row: copy.deaths_in_a_row,
            leased_at: copy.leased_at.unwrap_or(copy.due_at),
            replay_of: copy.replay_of,
            redriven_by: copy.redriven_by,
            last_error: copy.last_error,
            order: copy.order.map(OrderCopy::order),
            place: copy.order.and_then(|order| order.place),
            attempts_kept: copy.attempts_kept.into(),
        }
    }
}
