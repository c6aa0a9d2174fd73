//! What a request leaves to be done after its answer: calls of its provider's own places. Made by
//! [`crate::outbound`].

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use tokio::sync::Notify;

use crate::{limits, provider::place::Place};

/// The calls that wait to be made. None outlives the process: a provider asks again.
#[derive(Debug, Default)]
pub struct Errands {
    confirmations: Mutex<VecDeque<Errand>>,
    called: Notify,
    stand_in: OnceLock<String>,
}

/// A confirmation that a source's provider waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    /// The source.
    pub source: Arc<str>,
    /// What to call.
    pub place: Place,
}

impl Errands {
    /// Notes a confirmation to send. `false`: too many wait already.
    pub fn confirm(&self, errand: Errand) -> bool {
        let mut waiting = self.confirmations.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = waiting.len() < limits::CONFIRMATIONS_MAX;
        if has_room && !waiting.contains(&errand) {
            waiting.push_back(errand);
        }
        drop(waiting);
        self.call();
        has_room
    }

    /// Takes the next confirmation.
    pub fn next(&self) -> Option<Errand> {
        self.confirmations.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Says that there is something to do, here or on a source's keyring.
    pub fn call(&self) {
        self.called.notify_one();
    }

    /// Waits until there is something to do. One call is kept if nobody waits just now.
    pub async fn called(&self) {
        self.called.notified().await;
    }

    /// Has every call go to a server at `base` that stands in for all providers: `https://HOST/PATH`
    /// becomes `BASE/HOST/PATH`. For tests; it counts once, and no configuration leads here.
    pub fn stand_in(&self, base: impl Into<String>) {
        self.stand_in.set(base.into()).ok();
    }

    /// The address to call for `place`.
    pub fn address(&self, place: &Place) -> String {
        self.stand_in.get().map_or_else(|| place.url(), |base| place.url_below(base))
    }
}
