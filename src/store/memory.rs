//! The reference model: what each verb means, with nothing in the way of reading it.
//!
//! Random sequences of verbs are run against this and every other store, and must agree. It is also
//! what tests and `demo --store memory:` run on. Nothing survives the process.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use super::{
    Claimed, Counts, DeliveryFilter, ERASED, EventFilter, EventRecord, EventRow, Granted, Hold,
    Prune, Readmission, RefusalFilter, RefusalRow, Refusals, Refused, Release, Stats, Store,
    StoreError, Which, Wish, encrypted::plain_bytes, keys::KeyModel, mark::MarkKey,
    moving::Standing, refusals,
};
use crate::{
    clock::{Clock, Timestamp},
    control::{Controls, Setting},
    delivery::{
        Attempt, AttemptOutcome, Claim, Delivery, DeliveryId, Lease, Leased, Meets, Settlement,
        State, Verdict,
    },
    event::{
        Digest, Duplicate, Event, EventId, EventState, Identity, KeptRequest, NewDelivery,
        NewEvent, ReplayGuard,
    },
    limits,
    order::Order,
    receipt::Admission,
    refusal::RefusalId,
    request::Headers,
};

/// A store in this process's memory.
#[derive(Debug)]
pub struct MemoryStore {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) keys: KeyModel,
    tables: Mutex<Tables>,
}

impl MemoryStore {
    /// An empty store that tells the time by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, keys: KeyModel::default(), tables: Mutex::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Tables> {
        // A panic while it was held has left some verb half done, but each changes one event only.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses while the store moves house.
    pub(super) fn serves(&self) -> Result<(), StoreError> {
        self.lock().serves()
    }

    /// The same, but lets end what runs as long as it may.
    pub(super) fn lets_end(&self) -> Result<(), StoreError> {
        self.lock().lets_end()
    }

    pub(super) fn not_late(&self, not_after: Timestamp) -> Result<Timestamp, StoreError> {
        let now = self.clock.now();
        if now > not_after { Err(StoreError::Late) } else { Ok(now) }
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn survives(&self) -> String {
        "nothing: a yes is gone with the process".to_owned()
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.lock().serves()
    }

    async fn admit(
        &self,
        events: Vec<NewEvent>,
        not_after: Timestamp,
    ) -> Vec<Result<(EventId, Admission), StoreError>> {
        let mut tables = self.lock();
        let admit_one = |event: NewEvent| {
            tables.serves()?;
            if let Some(before) = tables.admitted_before(&event) {
                return Ok((event.id, before));
            }
            self.not_late(not_after)?;
            tables.admit(event)
        };
        events.into_iter().map(admit_one).collect()
    }

    async fn claim(&self, claim: &Claim, not_after: Timestamp) -> Result<Claimed, StoreError> {
        let mut tables = self.lock();
        tables.serves()?;
        if tables.last_claims.get(&claim.worker).is_some_and(|last| last.id == claim.id) {
            return Ok(tables.claimed_before(claim));
        }
        let now = self.not_late(not_after)?;
        Ok(tables.claim(claim, now))
    }

    async fn extend(
        &self,
        leases: &[Lease],
        lease: std::time::Duration,
    ) -> Vec<Result<Hold, StoreError>> {
        let mut tables = self.lock();
        if let Err(refused) = tables.lets_end() {
            return leases.iter().map(|_| Err(refused.clone())).collect();
        }
        let until = self.clock.now().plus(lease);
        let extend_one = |lease: &Lease| match tables.held_by(lease) {
            Some(delivery) => {
                delivery.due_at = until;
                Ok(Hold::Kept)
            }
            None => Ok(Hold::Lost),
        };
        leases.iter().map(extend_one).collect()
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Vec<Result<Hold, StoreError>> {
        let mut tables = self.lock();
        let now = self.clock.now();
        let settle_one = |settlement| {
            tables.lets_end()?;
            Ok(tables.settle(settlement, now))
        };
        settlements.into_iter().map(settle_one).collect()
    }

    async fn release(&self, release: &Release) -> Result<(), StoreError> {
        let mut tables = self.lock();
        tables.lets_end()?;
        let now = self.clock.now();
        let leases = match release {
            Release::Leases(leases) => leases.clone(),
            Release::Claim { worker, id, .. } => match tables.last_claims.get(worker) {
                Some(last) if last.id == *id => last.leases.clone(),
                _ => Vec::new(),
            },
        };
        for lease in leases {
            tables.release(&lease, now);
        }
        Ok(())
    }

    async fn orphans(&self) -> Result<Vec<Leased>, StoreError> {
        Ok(Vec::new())
    }

    async fn wish(&self, wish: &Wish, not_after: Timestamp) -> Result<Granted, StoreError> {
        let mut tables = self.lock();
        tables.serves()?;
        let now = self.not_late(not_after)?;
        Ok(match wish {
            Wish::Replay { event, deliveries } => tables.replay(*event, deliveries, now),
            Wish::AdmitHeld { event, deliveries } => tables.admit_held(*event, deliveries, now),
            Wish::Redrive { id, which } => tables.redrive(*id, which, now),
            Wish::Move { which, to } => tables.reroute(which, to, now),
            Wish::Kill { which } => tables.kill(which, now),
            Wish::Erase { event } => tables.erase(*event, now),
            Wish::Unblock { which } => tables.unblock(which, now),
        })
    }

    async fn events(&self, filter: &EventFilter) -> Result<Vec<EventRow>, StoreError> {
        let tables = self.lock();
        let rows = tables.events.iter().rev().map(|(_, kept)| tables.row(kept));
        Ok(rows.filter(|row| filter.takes(row)).take(filter.limit).collect())
    }

    async fn event(&self, id: EventId) -> Result<Option<EventRecord>, StoreError> {
        let tables = self.lock();
        Ok(tables.events.get(&id).map(|kept| tables.record(kept)))
    }

    async fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<Delivery>, StoreError> {
        let tables = self.lock();
        let rows = tables.deliveries.values().map(KeptDelivery::shown);
        let takes = |row: &Delivery| filter.takes(row);
        Ok(match filter.after {
            Some(_) => rows.filter(takes).take(filter.limit).collect(),
            None => rows.rev().filter(takes).take(filter.limit).collect(),
        })
    }

    async fn attempts(&self, delivery: DeliveryId) -> Result<Vec<Attempt>, StoreError> {
        let tables = self.lock();
        let kept = tables.deliveries.get(&delivery);
        Ok(kept.map(|kept| kept.attempts_kept.iter().cloned().collect()).unwrap_or_default())
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        Ok(Stats::summed(self.lock().counts.iter().map(|(key, counts)| (key.clone(), *counts))))
    }

    async fn waiting_since(&self, handler: &str) -> Result<Option<Timestamp>, StoreError> {
        let tables = self.lock();
        let rows = tables.deliveries.values().map(KeptDelivery::shown);
        let queued = rows.filter(|row| row.state == State::Queued && *row.handler == *handler);
        Ok(queued.map(|row| row.due_at).min().filter(|due_at| *due_at < Timestamp::NEVER))
    }

    async fn prune(&self, prune: &Prune) -> Result<usize, StoreError> {
        let mut tables = self.lock();
        tables.serves()?;
        tables.refusals.prune(prune.held_before);
        Ok(tables.prune(prune) + self.keys.prune(prune.now, prune.lot))
    }

    async fn control(&self, handler: &str, setting: Setting) -> Result<(), StoreError> {
        self.lock().controls.entry(Arc::from(handler)).or_default().set(setting);
        Ok(())
    }

    async fn controls(&self) -> Result<Controls, StoreError> {
        Ok(self.lock().controls.clone())
    }
}

#[async_trait]
impl Refusals for MemoryStore {
    async fn keep_refusals(&self, refused: Vec<Refused>) -> Result<(), StoreError> {
        let mut tables = self.lock();
        tables.serves()?;
        tables.refusals.keep(refused);
        Ok(())
    }

    async fn refusals(&self, filter: &RefusalFilter) -> Result<Vec<RefusalRow>, StoreError> {
        Ok(self.lock().refusals.page(filter))
    }

    async fn refusal(&self, id: RefusalId) -> Result<Option<Refused>, StoreError> {
        Ok(self.lock().refusals.one(id))
    }

    async fn note_readmitted(
        &self,
        id: RefusalId,
        readmission: &Readmission,
    ) -> Result<(), StoreError> {
        self.lock().refusals.note(id, readmission);
        Ok(())
    }
}

#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) controls: Controls,
    pub(super) events: BTreeMap<EventId, KeptEvent>,
    pub(super) deliveries: BTreeMap<DeliveryId, KeptDelivery>,
    pub(super) marks: BTreeMap<(Arc<str>, Identity), Mark>,
    pub(super) digests: HashMap<(Arc<str>, Digest), Mark>,
    /// What came from another store, of events that were pruned there.
    pub(super) carried_marks: BTreeMap<MarkKey, Mark>,
    pub(super) carried_digests: BTreeMap<MarkKey, Mark>,
    pub(super) last_claims: HashMap<Uuid, LastClaim>,
    /// By source and handler; the handler is empty for what is about events only.
    pub(super) counts: BTreeMap<(String, String), Counts>,
    pub(super) standing: Standing,
    refusals: refusals::Table,
}

#[derive(Debug)]
pub(super) struct KeptEvent {
    pub(super) event: Event,
    /// Its bytes are shared, so it is there once, and goes with the last event that has it.
    pub(super) request: Option<KeptRequest>,
    pub(super) identity: Option<Identity>,
    pub(super) digest: Option<Digest>,
    pub(super) mark_until: Timestamp,
    pub(super) held: bool,
    pub(super) duplicates: VecDeque<Duplicate>,
    pub(super) duplicate_count: u64,
    pub(super) deliveries: Vec<DeliveryId>,
    pub(super) ended_at: Option<Timestamp>,
    pub(super) erased_at: Option<Timestamp>,
}

#[derive(Debug)]
pub(super) struct KeptDelivery {
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
    /// Its place in line, while it stands there.
    pub(super) place: Option<u64>,
    pub(super) attempts_kept: VecDeque<Attempt>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) event: EventId,
    pub(super) until: Timestamp,
    /// The digest of its event.
    pub(super) digest: Option<MarkKey>,
}

#[derive(Debug)]
pub(super) struct LastClaim {
    pub(super) id: Uuid,
    pub(super) leases: Vec<Lease>,
}

impl Tables {
    fn serves(&self) -> Result<(), StoreError> {
        self.standing.refusal().map_or(Ok(()), Err)
    }

    fn lets_end(&self) -> Result<(), StoreError> {
        if self.standing.lets_end() { Ok(()) } else { self.serves() }
    }

    /// What this very event was answered when it was admitted, if it was.
    fn admitted_before(&self, new: &NewEvent) -> Option<Admission> {
        let kept = self.events.get(&new.id)?;
        Some(if kept.held { Admission::Held } else { Admission::Fresh })
    }

    fn admit(&mut self, new: NewEvent) -> Result<(EventId, Admission), StoreError> {
        if let Some(known) = self.known(&new) {
            self.note_duplicate(known, &new);
            return Ok((known, Admission::Duplicate));
        }
        let resent = self.is_resent(&new);
        let held = resent && new.replay_guard == ReplayGuard::Hold;
        if held && self.counts(&new.source, "").held_now >= limits::HELD_PER_SOURCE_MAX {
            return Err(StoreError::Full(format!("source {} holds enough already", new.source)));
        }
        let admission = if held { Admission::Held } else { Admission::Fresh };
        let id = new.id;
        self.remember(&new);
        self.count_event(&new, held);
        self.keep(new, resent, held);
        Ok((id, admission))
    }

    fn known(&self, new: &NewEvent) -> Option<EventId> {
        let identity = new.named.identity.clone()?;
        let carried = MarkKey::of_identity(&new.source, &identity);
        let mark = self.marks.get(&(Arc::clone(&new.source), identity));
        mark.or_else(|| self.carried_marks.get(&carried)).map(|mark| mark.event)
    }

    fn is_resent(&self, new: &NewEvent) -> bool {
        new.named.digest.is_some_and(|digest| {
            self.digests.contains_key(&(Arc::clone(&new.source), digest))
                || self.carried_digests.contains_key(&MarkKey::of_digest(&new.source, &digest))
        })
    }

    fn remember(&mut self, new: &NewEvent) {
        let digest = new.named.digest.map(|digest| MarkKey::of_digest(&new.source, &digest));
        let mark = Mark { event: new.id, until: new.received_at.plus(new.window), digest };
        if let Some(identity) = new.named.identity.clone() {
            self.marks.insert((Arc::clone(&new.source), identity), mark);
        }
        if let Some(digest) = new.named.digest {
            // The first one stays: it is what every later copy is a copy of.
            if !self.is_resent(new) {
                self.digests.insert((Arc::clone(&new.source), digest), mark);
            }
        }
    }

    fn count_event(&mut self, new: &NewEvent, held: bool) {
        let counts = self.counts(&new.source, "");
        counts.events += 1;
        counts.held += u64::from(held);
        counts.shadow += u64::from(new.shadow);
        counts.held_now += u64::from(held);
        counts.unrouted += u64::from(!held && new.deliveries.is_empty());
    }

    fn keep(&mut self, new: NewEvent, resent: bool, held: bool) {
        let unrouted = new.deliveries.is_empty();
        let kept = KeptEvent {
            request: new.request,
            identity: new.named.identity,
            digest: new.named.digest,
            mark_until: new.received_at.plus(new.window),
            held,
            duplicates: VecDeque::new(),
            duplicate_count: 0,
            deliveries: Vec::new(),
            ended_at: (held || unrouted).then_some(new.received_at),
            erased_at: None,
            event: Event {
                id: new.id,
                source: new.source,
                event_id: new.named.event_id,
                event_type: new.named.event_type,
                received_at: new.received_at,
                shadow: new.shadow,
                resent_under_new_id: resent,
                retry_marker: new.retry_marker,
                query: new.query,
                headers: new.headers.as_ref().clone(),
                body: new.named.body,
            },
        };
        self.events.insert(new.id, kept);
        if !held {
            self.route(new.id, &new.deliveries, new.received_at);
        }
    }

    /// Makes first deliveries of an event, due at `due_at`.
    fn route(&mut self, event: EventId, deliveries: &[NewDelivery], due_at: Timestamp) {
        for delivery in deliveries {
            self.queue(event, delivery, None, due_at);
            let source = self.source_of(event);
            self.counts(&source, &delivery.handler).events += 1;
        }
    }

    fn queue(
        &mut self,
        event: EventId,
        new: &NewDelivery,
        replay_of: Option<DeliveryId>,
        due_at: Timestamp,
    ) {
        let Some(kept) = self.events.get_mut(&event) else { return };
        kept.deliveries.push(new.id);
        kept.ended_at = None;
        let source = Arc::clone(&kept.event.source);
        let delivery = KeptDelivery {
            id: new.id,
            event,
            source: Arc::clone(&source),
            handler: Arc::clone(&new.handler),
            state: State::Queued,
            due_at,
            token: 0,
            attempts: 0,
            attempts_before_redrive: 0,
            deaths_in_a_row: 0,
            leased_at: due_at,
            replay_of,
            redriven_by: None,
            last_error: None,
            order: new.order,
            place: None,
            attempts_kept: VecDeque::new(),
        };
        self.deliveries.insert(new.id, delivery);
        self.join_line(new.id, due_at);
        self.counts(&source, &new.handler).queued += 1;
    }

    fn note_duplicate(&mut self, known: EventId, new: &NewEvent) {
        self.counts(&new.source, "").duplicates += 1;
        // The event itself may be pruned; its mark, and the count above, go on.
        if let Some(kept) = self.events.get_mut(&known) {
            kept.duplicate_count += 1;
            kept.duplicates.push_front(Duplicate {
                received_at: new.received_at,
                retry_marker: new.retry_marker.clone(),
            });
            kept.duplicates.truncate(limits::DUPLICATES_KEPT_MAX);
        }
    }

    fn claim(&mut self, claim: &Claim, now: Timestamp) -> Claimed {
        let mut due: Vec<(Timestamp, DeliveryId)> = self
            .waiting(&claim.handler)
            .filter(|delivery| delivery.due_at <= now)
            .map(|delivery| (delivery.due_at, delivery.id))
            .collect();
        due.sort_unstable();
        due.truncate(claim.deliveries_max);

        let mut claimed = Claimed::default();
        for (_, id) in due {
            self.write_down_death(id);
            if self.budget_is_spent(id, claim.attempts_max) {
                self.bury(id, now);
                claimed.dead += 1;
            } else if let Some(leased) = self.lease(id, now, claim.lease) {
                claimed.deliveries.push(leased);
            }
        }
        let leases = claimed.deliveries.iter().map(|leased| leased.lease).collect();
        self.last_claims.insert(claim.worker, LastClaim { id: claim.id, leases });
        claimed.next_due_at = self.next_due_at(&claim.handler);
        claimed
    }

    fn claimed_before(&self, claim: &Claim) -> Claimed {
        let leases = self.last_claims.get(&claim.worker).map(|last| last.leases.as_slice());
        let live = |lease: &&Lease| {
            self.deliveries.get(&lease.delivery).is_some_and(|kept| kept.is_held_by(lease))
        };
        let again = leases.unwrap_or_default().iter().filter(live);
        Claimed {
            deliveries: again.filter_map(|lease| self.leased(lease.delivery)).collect(),
            next_due_at: self.next_due_at(&claim.handler),
            dead: 0,
        }
    }

    fn next_due_at(&self, handler: &str) -> Option<Timestamp> {
        let next = self.waiting(handler).map(|delivery| delivery.due_at).min();
        next.filter(|due_at| *due_at < Timestamp::NEVER)
    }

    /// What is queued or leased for a handler.
    fn waiting<'a>(&'a self, handler: &'a str) -> impl Iterator<Item = &'a KeptDelivery> {
        self.deliveries.values().filter(move |delivery| {
            *delivery.handler == *handler && matches!(delivery.state, State::Queued | State::Leased)
        })
    }

    /// A due delivery that is leased was held by somebody who died: that attempt is over.
    fn write_down_death(&mut self, id: DeliveryId) {
        let Some(delivery) = self.deliveries.get_mut(&id) else { return };
        if delivery.state == State::Leased {
            delivery.deaths_in_a_row += 1;
            let attempt = Attempt::died(delivery.attempts, delivery.leased_at);
            delivery.note(attempt);
            self.change(id, State::Queued, Timestamp::default());
        }
    }

    fn budget_is_spent(&self, id: DeliveryId, attempts_max: u32) -> bool {
        self.deliveries.get(&id).is_some_and(|delivery| {
            delivery.attempts - delivery.attempts_before_redrive >= attempts_max
        })
    }

    /// Settles it dead. Its outcome, if it still comes, was not what settled it: the token says so.
    fn bury(&mut self, id: DeliveryId, now: Timestamp) {
        self.change(id, State::Dead, now);
        self.deliveries.entry(id).and_modify(|delivery| delivery.token += 1);
    }

    fn lease(
        &mut self,
        id: DeliveryId,
        now: Timestamp,
        lease: std::time::Duration,
    ) -> Option<Leased> {
        self.change(id, State::Leased, now.plus(lease));
        let delivery = self.deliveries.get_mut(&id)?;
        delivery.attempts += 1;
        delivery.token += 1;
        delivery.leased_at = now;
        self.leased(id)
    }

    fn leased(&self, id: DeliveryId) -> Option<Leased> {
        let delivery = self.deliveries.get(&id)?;
        Some(Leased {
            lease: Lease { delivery: id, token: delivery.token },
            handler: Arc::clone(&delivery.handler),
            attempt: delivery.attempts,
            attempts_before_redrive: delivery.attempts_before_redrive,
            replay_of: delivery.replay_of,
            deaths_in_a_row: delivery.deaths_in_a_row,
            order_key: delivery.order.map(|order| order.key),
            event: Arc::new(self.events.get(&delivery.event)?.event.clone()),
        })
    }

    fn held_by(&mut self, lease: &Lease) -> Option<&mut KeptDelivery> {
        self.deliveries.get_mut(&lease.delivery).filter(|delivery| delivery.is_held_by(lease))
    }

    fn settle(&mut self, settlement: Settlement, now: Timestamp) -> Hold {
        let lease = settlement.lease;
        let Some(delivery) = self.deliveries.get_mut(&lease.delivery) else { return Hold::Lost };
        match settlement.meets(delivery.state, delivery.token, delivery.attempts) {
            Meets::Another => return Hold::Lost,
            Meets::Settled => return Hold::Kept,
            Meets::Unsettled => {}
        }
        let died = settlement.attempt.outcome == AttemptOutcome::Died;
        delivery.deaths_in_a_row = if died { delivery.deaths_in_a_row + 1 } else { 0 };
        delivery.note(settlement.attempt);
        match settlement.verdict {
            Verdict::Done => self.change(lease.delivery, State::Done, now),
            Verdict::Dead => self.change(lease.delivery, State::Dead, now),
            Verdict::RetryAt(due_at) => self.change(lease.delivery, State::Queued, due_at),
        }
        Hold::Kept
    }

    fn release(&mut self, lease: &Lease, now: Timestamp) {
        let Some(delivery) = self.held_by(lease) else { return };
        delivery.attempts -= 1;
        delivery.token += 1; // whoever still holds the lease is fenced off
        self.change(lease.delivery, State::Queued, now);
    }

    /// Moves a delivery into a state, keeps the gauges right, and notices the end of its event.
    fn change(&mut self, id: DeliveryId, to: State, due_at: Timestamp) {
        let Some(delivery) = self.deliveries.get_mut(&id) else { return };
        let from = std::mem::replace(&mut delivery.state, to);
        delivery.due_at = due_at;
        let (source, handler) = (Arc::clone(&delivery.source), Arc::clone(&delivery.handler));
        let event = delivery.event;
        let counts = self.counts(&source, &handler);
        *counts.gauge(from) -= u64::from(from != State::Done);
        *counts.gauge(to) += 1;
        counts.dead += u64::from(to == State::Dead);
        self.notice_end(event, due_at);
        self.change_line(id, from, due_at);
    }

    fn notice_end(&mut self, event: EventId, now: Timestamp) {
        let Some(kept) = self.events.get(&event) else { return };
        let over = self.state(kept) != EventState::Open;
        if let Some(kept) = self.events.get_mut(&event) {
            kept.ended_at = over.then_some(now);
        }
    }

    fn replay(&mut self, event: EventId, new: &[NewDelivery], now: Timestamp) -> Granted {
        match self.events.get(&event) {
            Some(kept) if kept.erased_at.is_some() => return Granted::Erased,
            Some(kept) if !kept.held => {}
            _ => return Granted::NotFound,
        }
        for delivery in
            new.iter().filter(|new| !self.deliveries.contains_key(&new.id)).collect::<Vec<_>>()
        {
            let first = self.first_for(event, &delivery.handler);
            self.queue(event, delivery, first, now);
        }
        Granted::Deliveries(new.iter().map(|new| new.id).collect())
    }

    fn first_for(&self, event: EventId, handler: &str) -> Option<DeliveryId> {
        let of_event = self.events.get(&event)?.deliveries.iter();
        of_event
            .filter_map(|id| self.deliveries.get(id))
            .find(|delivery| *delivery.handler == *handler && delivery.replay_of.is_none())
            .map(|delivery| delivery.id)
    }

    fn admit_held(&mut self, event: EventId, new: &[NewDelivery], now: Timestamp) -> Granted {
        let ids: Vec<DeliveryId> = new.iter().map(|new| new.id).collect();
        let Some(kept) = self.events.get_mut(&event) else { return Granted::NotFound };
        if !kept.held {
            let again = !ids.is_empty() && ids.iter().all(|id| kept.deliveries.contains(id));
            return if again { Granted::Deliveries(ids) } else { Granted::NotFound };
        }
        if kept.erased_at.is_some() {
            return Granted::Erased;
        }
        kept.held = false;
        let source = Arc::clone(&kept.event.source);
        let counts = self.counts(&source, "");
        counts.held_now -= 1;
        counts.unrouted += u64::from(new.is_empty());
        self.route(event, new, now);
        Granted::Deliveries(ids)
    }

    fn redrive(&mut self, wish: Uuid, which: &Which, now: Timestamp) -> Granted {
        // What this wish has redriven before is meant again, also where it was moved since.
        let again = self.deliveries.values().filter(|known| known.redriven_by == Some(wish));
        let mut redriven: BTreeSet<DeliveryId> = again.map(|known| known.id).collect();
        let dead = self.which(which, |delivery| delivery.state == State::Dead);
        let (erased, dead): (Vec<_>, Vec<_>) = dead.into_iter().partition(|id| self.is_erased(id));
        redriven.extend(dead);
        if redriven.is_empty() && !erased.is_empty() {
            return Granted::Erased;
        }
        for id in &redriven {
            let Some(delivery) = self.deliveries.get_mut(id) else { continue };
            if delivery.redriven_by != Some(wish) {
                delivery.redriven_by = Some(wish);
                delivery.attempts_before_redrive = delivery.attempts;
                delivery.deaths_in_a_row = 0;
                self.change(*id, State::Queued, now);
            }
        }
        Granted::Deliveries(redriven.into_iter().collect())
    }

    fn reroute(&mut self, which: &Which, to: &Arc<str>, now: Timestamp) -> Granted {
        let moved =
            self.which(which, |delivery| matches!(delivery.state, State::Queued | State::Dead));
        for id in self.as_they_stand(&moved) {
            if self.deliveries.get(&id).is_none_or(|delivery| delivery.handler == *to) {
                continue;
            }
            let was_in_line = self.leave_line(id, now);
            let Some(delivery) = self.deliveries.get_mut(&id) else { continue };
            let from = std::mem::replace(&mut delivery.handler, Arc::clone(to));
            let (source, state) = (Arc::clone(&delivery.source), delivery.state);
            *self.counts(&source, &from).gauge(state) -= 1;
            *self.counts(&source, to).gauge(state) += 1;
            if was_in_line {
                self.join_line(id, now);
            }
        }
        Granted::Deliveries(moved)
    }

    fn kill(&mut self, which: &Which, now: Timestamp) -> Granted {
        let killed = self.which(which, |delivery| delivery.state == State::Queued);
        for id in &killed {
            self.change(*id, State::Dead, now);
        }
        Granted::Deliveries(killed)
    }

    fn is_erased(&self, delivery: &DeliveryId) -> bool {
        let event = self.deliveries.get(delivery).and_then(|kept| self.events.get(&kept.event));
        event.is_some_and(|kept| kept.erased_at.is_some())
    }

    fn erase(&mut self, event: EventId, now: Timestamp) -> Granted {
        let Some(kept) = self.events.get(&event) else { return Granted::NotFound };
        let ids = kept.deliveries.clone();
        let of_event = || ids.iter().filter_map(|id| self.deliveries.get(id));
        if of_event().any(|kept| kept.state == State::Leased && kept.due_at > now) {
            return Granted::Running;
        }
        let request = kept.request.as_ref().map(|request| request.id);
        for id in &ids {
            self.erase_delivery(*id, now);
        }
        for kept in self.events.values_mut() {
            // Its bytes are in there too.
            kept.request.take_if(|kept| Some(kept.id) == request);
        }
        if let Some(kept) = self.events.get_mut(&event) {
            kept.erased_at.get_or_insert(now);
            kept.event.body = Bytes::new();
            kept.event.headers = Headers::default();
            kept.event.query.clear();
            kept.event.retry_marker = None;
            kept.duplicates.iter_mut().for_each(|duplicate| duplicate.retry_marker = None);
        }
        let is_killed = |id: &DeliveryId| {
            let error = self.deliveries.get(id).and_then(|kept| kept.last_error.as_deref());
            error == Some(ERASED)
        };
        let mut killed: Vec<_> = ids.into_iter().filter(is_killed).collect();
        killed.sort_unstable();
        Granted::Deliveries(killed)
    }

    fn erase_delivery(&mut self, id: DeliveryId, now: Timestamp) {
        let Some(delivery) = self.deliveries.get_mut(&id) else { return };
        // What is written down of one that died is in our own words.
        let ended = |attempt: &&mut Attempt| attempt.outcome != AttemptOutcome::Died;
        for attempt in delivery.attempts_kept.iter_mut().filter(ended) {
            (attempt.error, attempt.excerpt) = (None, None);
        }
        delivery.last_error.take_if(|error| error != ERASED);
        // Whoever held it until its lease ran out may not settle it any more. By two, since by one it would
        // be one that was buried, and what was done of that still counts.
        delivery.token += 2;
        if matches!(delivery.state, State::Queued | State::Leased) {
            delivery.last_error = Some(ERASED.to_owned());
            self.change(id, State::Dead, now);
        }
    }

    /// The deliveries meant that the wish applies to, oldest first.
    pub(super) fn which(
        &self,
        which: &Which,
        applies: impl Fn(&KeptDelivery) -> bool,
    ) -> Vec<DeliveryId> {
        let meant = |delivery: &&KeptDelivery| match which {
            Which::Ids(ids) => ids.contains(&delivery.id),
            Which::Handler(handler) => delivery.handler == *handler,
        };
        let all = self.deliveries.values().filter(meant).filter(|delivery| applies(delivery));
        all.map(|delivery| delivery.id).take(limits::WISH_ROWS_MAX).collect()
    }

    fn prune(&mut self, prune: &Prune) -> usize {
        let over = self.events.values().filter(|kept| self.is_over(kept, prune));
        let events: Vec<EventId> = over.map(|kept| kept.event.id).take(prune.lot).collect();
        for id in &events {
            self.forget(*id, prune.now);
        }
        let mut pruned = events.len();
        let (known, now) = (&self.events, prune.now);
        let outlived = |mark: &Mark| mark.until < now && !known.contains_key(&mark.event);
        let mut marks_left = prune.lot;
        let mut stays = |mark: &Mark| {
            let gone = marks_left > 0 && outlived(mark);
            marks_left -= usize::from(gone);
            pruned += usize::from(gone);
            !gone
        };
        self.marks.retain(|_, mark| stays(mark));
        self.carried_marks.retain(|_, mark| stays(mark));
        self.digests.retain(|_, mark| !outlived(mark));
        self.carried_digests.retain(|_, mark| !outlived(mark));
        pruned
    }

    fn is_over(&self, kept: &KeptEvent, prune: &Prune) -> bool {
        let before = match self.state(kept) {
            EventState::Open => return false,
            EventState::Done => prune.done_before,
            EventState::Dead | EventState::Unrouted => prune.dead_before,
            EventState::Held => prune.held_before,
        };
        kept.ended_at.is_some_and(|ended_at| ended_at < before)
    }

    fn forget(&mut self, id: EventId, now: Timestamp) {
        let Some(kept) = self.events.remove(&id) else { return };
        for id in &kept.deliveries {
            self.leave_line(*id, now);
        }
        for delivery in
            kept.deliveries.iter().filter_map(|id| self.deliveries.remove(id)).collect::<Vec<_>>()
        {
            if delivery.state == State::Dead {
                self.counts(&delivery.source, &delivery.handler).dead_now -= 1;
            }
        }
        if kept.held {
            self.counts(&kept.event.source, "").held_now -= 1;
        }
    }

    fn state(&self, kept: &KeptEvent) -> EventState {
        let states: Vec<State> = kept
            .deliveries
            .iter()
            .filter_map(|id| self.deliveries.get(id).map(|delivery| delivery.state))
            .collect();
        EventState::of(kept.held, &states)
    }

    fn row(&self, kept: &KeptEvent) -> EventRow {
        EventRow {
            id: kept.event.id,
            source: Arc::clone(&kept.event.source),
            event_id: kept.event.event_id.clone(),
            event_type: kept.event.event_type.clone(),
            received_at: kept.event.received_at,
            state: self.state(kept),
            duplicates: kept.duplicate_count,
            shadow: kept.event.shadow,
            resent_under_new_id: kept.event.resent_under_new_id,
            body_bytes: plain_bytes(&kept.event.headers, &kept.event.body),
            erased_at: kept.erased_at,
        }
    }

    fn record(&self, kept: &KeptEvent) -> EventRecord {
        let identity = kept.identity.as_ref();
        let marked = identity.is_some() || kept.digest.is_some();
        EventRecord {
            row: self.row(kept),
            event: kept.event.clone(),
            request: kept.request.clone(),
            identity: identity.map(|identity| identity.as_str().to_owned()),
            mark_until: marked.then_some(kept.mark_until),
            duplicates: kept.duplicates.iter().cloned().collect(),
            deliveries: kept
                .deliveries
                .iter()
                .filter_map(|id| self.deliveries.get(id).map(KeptDelivery::shown))
                .collect(),
        }
    }

    fn source_of(&self, event: EventId) -> Arc<str> {
        self.events.get(&event).map_or_else(|| Arc::from(""), |kept| Arc::clone(&kept.event.source))
    }

    fn counts(&mut self, source: &str, handler: &str) -> &mut Counts {
        self.counts.entry((source.to_owned(), handler.to_owned())).or_default()
    }
}

impl KeptDelivery {
    fn is_held_by(&self, lease: &Lease) -> bool {
        self.state == State::Leased && self.token == lease.token
    }

    fn note(&mut self, attempt: Attempt) {
        self.last_error.clone_from(&attempt.error);
        self.attempts_kept.retain(|kept| kept.number != attempt.number);
        self.attempts_kept.push_back(attempt);
        if self.attempts_kept.len() > limits::ATTEMPTS_KEPT_MAX {
            self.attempts_kept.pop_front();
        }
    }

    fn shown(&self) -> Delivery {
        Delivery {
            id: self.id,
            event: self.event,
            source: Arc::clone(&self.source),
            handler: Arc::clone(&self.handler),
            state: self.state,
            attempts: self.attempts,
            due_at: self.due_at,
            replay_of: self.replay_of,
            last_error: self.last_error.clone(),
            order_key: self.order.map(|order| order.key),
            in_line: self.place.is_some(),
        }
    }
}
