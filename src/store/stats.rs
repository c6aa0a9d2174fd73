//! What a store has counted, and how it stands now.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::delivery::State;

/// Counted since the store began, and as it is now: in all, per source, per handler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stats {
    /// Over everything.
    #[serde(flatten)]
    pub total: Counts,
    /// Per source: what came in.
    pub sources: BTreeMap<String, Counts>,
    /// Per handler: what went out.
    pub handlers: BTreeMap<String, Counts>,
}

/// Counters and gauges. Under a source they are about its events and their deliveries; under a handler,
/// `events` is how many were routed to it, and what is about events only reads 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// Events admitted: fresh and held.
    pub events: u64,
    /// Duplicates answered.
    pub duplicates: u64,
    /// Events that were held when they came.
    pub held: u64,
    /// Events that shadow mode let in.
    #[serde(default)]
    pub shadow: u64,
    /// Events that no handler wanted.
    pub unrouted: u64,
    /// Deliveries settled done.
    pub done: u64,
    /// Times a delivery became dead.
    pub dead: u64,
    /// Deliveries queued now.
    pub queued: u64,
    /// Deliveries leased now; also those whose lease has run out and that nobody has claimed again.
    pub leased: u64,
    /// Dead deliveries now.
    pub dead_now: u64,
    /// Held events now.
    pub held_now: u64,
}

/// How a cache of marks fares, since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Duplicates it knew.
    pub hits: u64,
    /// Events that the store was asked about, because it did not know them.
    pub misses: u64,
    /// Times it did not answer, and was passed over for a while.
    pub failures: u64,
    /// Duplicates that were answered and are not noted with their event: too many waited.
    pub notes_lost: u64,
}

impl Stats {
    /// The sums of what a store counts by source and handler; an empty handler means that it is about
    /// events only. What has come down to nothing is left out: not every store keeps a row for it.
    pub fn summed(counted: impl IntoIterator<Item = ((String, String), Counts)>) -> Self {
        let mut stats = Self::default();
        for ((source, handler), mut counts) in counted {
            if !handler.is_empty() {
                stats.handlers.entry(handler).or_default().add(&counts);
                counts.events = 0; // already counted where the event came in
            }
            stats.total.add(&counts);
            stats.sources.entry(source).or_default().add(&counts);
        }
        stats.sources.retain(|_, counts| *counts != Counts::default());
        stats.handlers.retain(|_, counts| *counts != Counts::default());
        stats
    }
}

impl Counts {
    /// The gauge or counter of deliveries that are in this state.
    pub fn gauge(&mut self, state: State) -> &mut u64 {
        match state {
            State::Queued => &mut self.queued,
            State::Leased => &mut self.leased,
            State::Done => &mut self.done,
            State::Dead => &mut self.dead_now,
        }
    }

    fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.duplicates += other.duplicates;
        self.held += other.held;
        self.shadow += other.shadow;
        self.unrouted += other.unrouted;
        self.done += other.done;
        self.dead += other.dead;
        self.queued += other.queued;
        self.leased += other.leased;
        self.dead_now += other.dead_now;
        self.held_now += other.held_now;
    }
}

impl CacheCounts {
    /// Each with its name.
    pub fn by_outcome(self) -> [(&'static str, u64); 4] {
        [
            ("hit", self.hits),
            ("miss", self.misses),
            ("failure", self.failures),
            ("note_lost", self.notes_lost),
        ]
    }
}
