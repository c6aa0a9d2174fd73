//! What is carried from one store to another.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    delivery::{Attempt, DeliveryId, State},
    event::{Digest, Duplicate, Event, EventId, Identity},
    request::Headers,
    store::{Counts, mark::MarkKey},
};

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
    /// An event, with its mark, its duplicates, its deliveries and their attempts.
    Event(Box<EventCopy>),
    /// The mark of an event that is pruned.
    Mark(MarkCopy),
    /// The digest of an event that is pruned.
    Digest(MarkCopy),
}

/// All that is known about an event.
#[derive(Clone, Debug, Serialize)]
pub struct EventCopy {
    /// The event itself.
    pub event: Event,
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
    /// Its newest attempts, oldest first.
    pub attempts_kept: Vec<Attempt>,
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

impl Record {
    /// The word for its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Counts { .. } => "counts",
            Self::Event(_) => "events",
            Self::Mark(_) => "marks",
            Self::Digest(_) => "digests",
        }
    }

    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
        const ROW_BYTES: usize = 512;
        match self {
            Self::Event(copy) => copy.bytes() + ROW_BYTES,
            Self::Counts { .. } | Self::Mark(_) | Self::Digest(_) => ROW_BYTES,
        }
    }
}

impl EventCopy {
    fn bytes(&self) -> usize {
        let headers: usize =
            self.event.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let attempts = |delivery: &DeliveryCopy| 256 + 256 * delivery.attempts_kept.len();
        let deliveries: usize = self.deliveries.iter().map(attempts).sum();
        self.event.body.len() + self.event.query.len() + headers + deliveries
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

    /// Its headers and its body, which [`Event`] does not serialize.
    pub(super) fn content(&self) -> (&Headers, &Bytes) {
        (&self.event.headers, &self.event.body)
    }
}
