//! What is carried from one store to another.

use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    control::{Control, Controls},
    delivery::{Attempt, DeliveryId, State},
    event::{Digest, Duplicate, Event, EventId, Identity, KeptRequest},
    key::{Fingerprint, KeyScope, SavedResponse},
    order::{OnDead, Order, OrderKey},
    store::{Counts, mark::MarkKey},
};

/// The words for the kinds of records.
pub(super) const KINDS: [&str; 6] = ["controls", "counts", "digests", "events", "keys", "marks"];

/// One thing that a store remembers, whole: it is imported in one step.
#[derive(Clone, Debug, Serialize)]
pub enum Record {
    /// What was counted of a source and a handler; the handler is empty for what is about events only.
    Counts {
        /// The source.
        source: String,
        /// The handler.
        handler: String,
        /// The counters and gauges, over all processes.
        counts: Counts,
    },
    /// What a person has said about a handler.
    Control {
        /// The handler.
        handler: Arc<str>,
        /// What holds for it.
        control: Control,
    },
    /// An event, with its mark, its duplicates, its deliveries and their attempts.
    Event(Box<EventCopy>),
    /// The mark of an event that is pruned.
    Mark(MarkCopy),
    /// The digest of an event that is pruned.
    Digest(MarkCopy),
    /// A keyed request.
    Key(Box<KeyCopy>),
}

/// All that is known about an event.
#[derive(Clone, Debug, Serialize)]
pub struct EventCopy {
    /// The event itself.
    pub event: Event,
    /// The request it came in, where that held more.
    #[serde(skip)]
    pub request: Option<KeptRequest>,
    /// What made it this event, if anything does.
    pub identity: Option<Identity>,
    /// Its signed content, where its source goes by that.
    pub digest: Option<Digest>,
    /// Whether later copies of that content are copies of this event.
    pub is_first_of_digest: bool,
    /// Until when its mark lives, at least.
    pub mark_until: Timestamp,
    /// Whether it is held.
    pub held: bool,
    /// When it ended, if it is not open.
    pub ended_at: Option<Timestamp>,
    /// How many duplicates came.
    pub duplicate_count: u64,
    /// The newest of them, newest first.
    pub duplicates: Vec<Duplicate>,
    /// Its deliveries, oldest first.
    pub deliveries: Vec<DeliveryCopy>,
    /// When it was erased, if it was.
    pub erased_at: Option<Timestamp>,
}

/// All that is known about a delivery.
#[derive(Clone, Debug, Serialize)]
pub struct DeliveryCopy {
    /// Its id.
    pub id: DeliveryId,
    /// Its handler.
    pub handler: Arc<str>,
    /// Its state. One that is leased has a holder that died: it falls due as it would have done.
    pub state: State,
    /// When it is due, its lease ends, or it ended.
    pub due_at: Timestamp,
    /// The token of its last lease: the next one is higher.
    pub token: u64,
    /// How many attempts it had.
    pub attempts: u32,
    /// How many of them before its last redrive.
    pub attempts_before_redrive: u32,
    /// How many of the last attempts died with their worker.
    pub deaths_in_a_row: u32,
    /// When it was leased, if it is.
    pub leased_at: Option<Timestamp>,
    /// The delivery that it replays.
    pub replay_of: Option<DeliveryId>,
    /// The wish that queued it again last.
    pub redriven_by: Option<Uuid>,
    /// The error of its last attempt.
    pub last_error: Option<String>,
    /// Its order, if it has one.
    pub order: Option<OrderCopy>,
    /// Its newest attempts, oldest first.
    pub attempts_kept: Vec<Attempt>,
}

/// The order of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OrderCopy {
    /// What it shares with those that stand in line with it.
    pub key: OrderKey,
    /// What it does to those behind it when it is dead.
    pub on_dead: OnDead,
    /// Its place in line, if it stands there.
    pub place: Option<u64>,
}

impl OrderCopy {
    /// The copy of an order, and of a place.
    pub(in crate::store) fn of(order: Order, place: Option<u64>) -> Self {
        Self { key: order.key, on_dead: order.on_dead, place }
    }

    /// The order itself.
    pub(in crate::store) fn order(self) -> Order {
        Order { key: self.key, on_dead: self.on_dead }
    }
}

/// The mark or the digest of an event that is pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MarkCopy {
    /// What it is the mark of.
    pub key: MarkKey,
    /// The event it stands for.
    pub event: EventId,
    /// When it is over.
    pub expires_at: Timestamp,
    /// The digest that the event had: what places the mark where marks are spread.
    pub digest: Option<MarkKey>,
}

/// All that is known about a keyed request.
#[derive(Clone, Debug, Serialize)]
pub struct KeyCopy {
    /// What it counts within.
    pub scope: KeyScope,
    /// What must be the same when the key is sent again.
    pub fingerprint: Fingerprint,
    /// Who did its work, unless a person has resolved it.
    pub owner: Option<Uuid>,
    /// When it was begun.
    pub begun_at: Timestamp,
    /// When its lease ended.
    pub lease_until: Timestamp,
    /// How far it came.
    pub stage: KeyStage,
    /// What is known about an unknown outcome.
    pub note: Option<String>,
    /// How often its saved answer was given.
    pub replays: u64,
}

/// How far a keyed request came.
#[derive(Clone, Debug, Serialize)]
pub enum KeyStage {
    /// It was begun: its outcome is unknown, now that its lease is over.
    Begun,
    /// Its owner has said that the outcome is unknown.
    MarkedUnknown,
    /// It is answered.
    Completed {
        /// With this.
        #[serde(skip)]
        response: SavedResponse,
        /// When.
        completed_at: Timestamp,
        /// When the key is free again.
        expires_at: Timestamp,
    },
}

impl Record {
    /// What people have said about handlers.
    pub(in crate::store) fn of_controls(controls: Controls) -> impl Iterator<Item = Self> {
        controls.into_iter().map(|(handler, control)| Self::Control { handler, control })
    }

    /// The word for its kind, one of `KINDS`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Counts { .. } => "counts",
            Self::Control { .. } => "controls",
            Self::Event(_) => "events",
            Self::Mark(_) => "marks",
            Self::Digest(_) => "digests",
            Self::Key(_) => "keys",
        }
    }

    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
        const ROW_BYTES: usize = 512;
        match self {
            Self::Event(copy) => copy.bytes() + ROW_BYTES,
            Self::Key(copy) => copy.response().map_or(0, SavedResponse::bytes) + 2 * ROW_BYTES,
            Self::Counts { .. } | Self::Control { .. } | Self::Mark(_) | Self::Digest(_) => {
                ROW_BYTES
            }
        }
    }
}

impl EventCopy {
    fn bytes(&self) -> usize {
        let headers: usize =
            self.event.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let attempts = |delivery: &DeliveryCopy| 256 + 256 * delivery.attempts_kept.len();
        let deliveries: usize = self.deliveries.iter().map(attempts).sum();
        let request = self.request.as_ref().map_or(0, |request| request.body.len());
        request + self.event.body.len() + self.event.query.len() + headers + deliveries
    }

    /// The key of its mark, if it has one.
    pub fn mark_key(&self) -> Option<MarkKey> {
        let identity = self.identity.as_ref()?;
        Some(MarkKey::of_identity(&self.event.source, identity))
    }

    /// The key of its digest, if it has one.
    pub fn digest_key(&self) -> Option<MarkKey> {
        let digest = self.digest.as_ref()?;
        Some(MarkKey::of_digest(&self.event.source, digest))
    }
}

impl KeyCopy {
    /// Its saved answer.
    pub fn response(&self) -> Option<&SavedResponse> {
        match &self.stage {
            KeyStage::Completed { response, .. } => Some(response),
            KeyStage::Begun | KeyStage::MarkedUnknown => None,
        }
    }

    /// When it is free again, if it is answered.
    pub fn expires_at(&self) -> Option<Timestamp> {
        match &self.stage {
            KeyStage::Completed { expires_at, .. } => Some(*expires_at),
            KeyStage::Begun | KeyStage::MarkedUnknown => None,
        }
    }
}
