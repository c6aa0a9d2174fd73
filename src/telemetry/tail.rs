//! What happens, as it happens, for those who watch. Nobody waits for them: who cannot keep up is told
//! how much he has missed.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use crate::{
    clock::Timestamp,
    delivery::{AttemptOutcome, DeliveryId},
    event::EventId,
    limits,
};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Happening {
    /// An event was received.
    Received {
        /// When.
        at: Timestamp,
        /// By which source.
        source: Arc<str>,
        /// What its sender was answered: accepted, duplicate or held.
        status: String,
        /// Our id of it.
        id: EventId,
        /// The provider's own id.
        event_id: Option<String>,
        /// The provider's name for what happened.
        event_type: Option<String>,
    },
    /// A request was refused.
    Refused {
        /// When.
        at: Timestamp,
        /// By which source.
        source: Arc<str>,
        /// The stable code of the refusal.
        code: String,
    },
    /// An attempt ended.
    Attempted {
        /// When.
        at: Timestamp,
        /// The source of the event.
        source: Arc<str>,
        /// The handler that was tried.
        handler: Arc<str>,
        /// The event.
        event: EventId,
        /// The delivery.
        delivery: DeliveryId,
        /// Which attempt it was, from 1.
        number: u32,
        /// How it ended.
        outcome: AttemptOutcome,
        /// How long it took.
        took_ms: Option<u64>,
        /// What went wrong.
        error: Option<String>,
    },
}

/// Where what happens is told.
#[derive(Debug)]
pub struct Tail {
    sender: broadcast::Sender<Arc<Happening>>,
    places: Arc<Semaphore>,
}

/// Somebody who watches.
#[derive(Debug)]
pub struct Watch {
    receiver: broadcast::Receiver<Arc<Happening>>,
    _place: OwnedSemaphorePermit,
}

/// What a watcher sees next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// This happened.
    Happening(Arc<Happening>),
    /// So much happened too fast to be seen.
    Missed(u64),
}

impl Default for Tail {
    fn default() -> Self {
        let (sender, _) = broadcast::channel(limits::TAIL_WAITING_MAX);
        Self { sender, places: Arc::new(Semaphore::new(limits::TAIL_WATCHERS_MAX)) }
    }
}

impl Tail {
    /// Whether anybody watches: if not, nothing needs to be put together.
    pub fn is_watched(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Tells what happened to those who watch. It never waits.
    pub fn tell(&self, happening: impl FnOnce() -> Happening) {
        if self.is_watched() {
            drop(self.sender.send(Arc::new(happening()))); // the last may have left just now
        }
    }

    /// Begins to watch. `None`: too many do.
    pub fn watch(&self) -> Option<Watch> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Watch { receiver: self.sender.subscribe(), _place: place })
    }
}

impl Watch {
    /// Waits for the next thing to see. `None`: nothing will happen any more.
    pub async fn next(&mut self) -> Option<Seen> {
        match self.receiver.recv().await {
            Ok(happening) => Some(Seen::Happening(happening)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Seen::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Happening {
    /// Its source.
    pub fn source(&self) -> &str {
        match self {
            Self::Received { source, .. }
            | Self::Refused { source, .. }
            | Self::Attempted { source, .. } => source,
        }
    }

    /// Its handler, if it is about one.
    pub fn handler(&self) -> Option<&str> {
        match self {
            Self::Attempted { handler, .. } => Some(handler),
            Self::Received { .. } | Self::Refused { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str) -> Happening {
        Happening::Refused {
            at: Timestamp::default(),
            source: Arc::from("stripe"),
            code: code.to_owned(),
        }
    }

    #[tokio::test]
    async fn who_watches_sees_and_who_does_not_costs_nothing() {
        let tail = Tail::default();
        tail.tell(|| panic!("nobody watches"));
        let mut watch = tail.watch().unwrap();
        tail.tell(|| refused("signature"));
        assert_eq!(watch.next().await, Some(Seen::Happening(Arc::new(refused("signature")))));
        drop(watch);
        tail.tell(|| panic!("nobody watches any more"));
    }

    #[tokio::test]
    async fn who_is_too_slow_is_told_what_was_missed() {
        let tail = Tail::default();
        let mut watch = tail.watch().unwrap();
        for _ in 0..limits::TAIL_WAITING_MAX + 3 {
            tail.tell(|| refused("signature"));
        }
        assert_eq!(watch.next().await, Some(Seen::Missed(3)));
    }

    #[test]
    fn only_so_many_watch() {
        let tail = Tail::default();
        let watchers: Vec<_> = (0..limits::TAIL_WATCHERS_MAX).map(|_| tail.watch()).collect();
        assert!(watchers.iter().all(Option::is_some));
        assert!(tail.watch().is_none());
        drop(watchers);
        assert!(tail.watch().is_some());
    }
}
