//! The store: the only state there is. Every process can be killed at any instant.
//!
//! [`Store`] names what the rest of hookonce may ask for, in its own words. Each verb is atomic per
//! event, and nobody puts two of them together to get something atomic. There is no policy in here:
//! a store computes no retry time and decides no route.
//!
//! **The same call made twice gives the same answer.** Every new id comes from the caller, so whoever
//! did not hear the answer may ask again: an admit under the same event id is `Fresh` again, a claim
//! under the same claim id gives the same deliveries, a settlement under the same token is `Kept` again.
//!
//! **`not_after`** is a time on the store's clock. A call that was done already answers as it did,
//! however late; one that is not done yet by then does nothing and answers [`StoreError::Late`]. So a
//! store that hung does not wake up and do what nobody waits for. What a token fences carries none.
//!
//! The conformance suite in `tests/store.rs` is the contract, and [`memory`] the model it is compared with.

pub mod batch;
#[cfg(feature = "redis")]
pub mod cached;
pub mod encrypted;
mod filter;
pub mod generation;
pub mod keys;
mod line;
pub mod mark;
pub mod memory;
pub mod moving;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
pub mod refusals;
pub mod snapshot;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod stats;

use std::{fmt, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::stats::{CacheCounts, Counts, Stats};
use self::{keys::Keys, moving::Moving, snapshot::Snapshot};
use crate::{
    clock::{Clock, Timestamp},
    control::{Controls, Setting},
    delivery::{Attempt, Claim, Delivery, DeliveryId, Lease, Leased, Settlement},
    event::{Duplicate, Event, EventId, EventState, KeptRequest, NewDelivery, NewEvent},
    receipt::Admission,
};

pub use self::filter::{DeliveryFilter, EventFilter};
pub use self::refusals::{Readmission, RefusalFilter, RefusalRow, Refusals, Refused};

/// Opens the store that `url` names: `memory:`, `sqlite:FILE`, `redis://…`, `redis-cluster://…` or
/// `redis-sentinel://…`, or `postgres://…`.
///
/// A server that cannot be reached just now is no error: its calls say so until it can. What was last seen of
/// the store is kept in `data_dir`; without one it is known as long as this process lives.
///
/// # Errors
/// When there is no such store, or it cannot keep the promise asked for.
pub async fn connect(
    url: &str,
    durability: Durability,
    data_dir: Option<&Path>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Store>, StoreError> {
    let clock = Arc::clone(clock);
    match url.split_once(':').unwrap_or((url, "")) {
        ("memory", "") => Ok(Arc::new(memory::MemoryStore::new(clock))),
        #[cfg(feature = "sqlite")]
        ("sqlite", file) => Ok(Arc::new(match data_dir {
            Some(folder) => sqlite::SqliteStore::open_in(file.as_ref(), folder, clock)?,
            None => sqlite::SqliteStore::open(file.as_ref(), clock)?,
        })),
        #[cfg(feature = "redis")]
        (
            "redis" | "rediss" | "redis-cluster" | "rediss-cluster" | "redis-sentinel"
            | "rediss-sentinel",
            _,
        ) => Ok(Arc::new(redis::RedisStore::connect(url, durability, data_dir, clock).await?)),
        #[cfg(feature = "postgres")]
        ("postgres" | "postgresql", _) => {
            Ok(Arc::new(postgres::PostgresStore::connect(url, data_dir, clock).await?))
        }
        (scheme, _) => Err(StoreError::Failed(format!(
            "there is no store of the kind `{scheme}:` in this program: use `sqlite:FILE`, `redis://…`, `postgres://…` or `memory:`"
        ))),
    }
}

/// Puts the Redis at `cache` in front of the store at `url`: see [`cached`].
///
/// # Errors
/// When `cache` is not the URL of a Redis. One that cannot be reached is no error.
#[cfg(feature = "redis")]
pub fn with_cache(
    store: Arc<dyn Store>,
    url: &str,
    cache: &str,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(cached::CachedStore::new(store, url, cache, Arc::clone(clock))?))
}

/// Whether the store at `url` keeps deliveries in [order](crate::order): it cannot where what belongs
/// into one line is in several buckets.
pub fn keeps_order(url: &str) -> bool {
    #[cfg(feature = "redis")]
    if url.starts_with("redis") {
        return redis::keeps_order(url);
    }
    !url.starts_with("redis-cluster:")
}

/// What a yes survives, on a store that has a choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// A power cut.
    #[default]
    Always,
    /// A power cut, and the loss of the primary: a replica has it too.
    Replicated,
    /// The end of the process; a power cut may lose about a second.
    Relaxed,
}

/// As it is written in the configuration.
impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::Replicated => "replicated",
            Self::Relaxed => "relaxed",
        })
    }
}

/// Why the store did not do what was asked. Always our fault, never the sender's: the answer is 503.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// `not_after` had passed; nothing was done.
    #[error("the store was reached too late, and did nothing")]
    Late,
    /// The store cannot be reached, or did not answer. What was asked may have been done or not.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The store, or the queue in front of it, is full; nothing was done.
    #[error("the store is full: {0}")]
    Full(String),
    /// The store refused the call or holds what nobody here wrote; nothing was done.
    #[error("the store failed: {0}")]
    Failed(String),
    /// The store's schema is newer than this program.
    #[error(
        "the store was written by a newer hookonce (schema {found}, this one knows {known}): run that version, or a newer one"
    )]
    Newer {
        /// The schema of the store.
        found: i64,
        /// The newest schema this program knows.
        known: i64,
    },
    /// Another process holds the store, which takes one at a time.
    #[error("the store is in use by another process: {0}")]
    InUse(String),
    /// The store has lost what it held before, and a person must say that it is to be used all the same:
    /// what it has forgotten would be done a second time. Nothing was done.
    #[error(
        "the store is not what it was: {0}; bring back what it held, or go on without it with `hookonce store accept`"
    )]
    Forgotten(String),
    /// The store's settings do not keep what its durability promises.
    #[error("the store does not keep the promise asked for: {0}")]
    Weak(String),
    /// The store is moved into another one, or is being filled, or has nothing to do with that move;
    /// nothing was done.
    #[error("the store moves house: {0}")]
    Moving(String),
}

/// What the rest of hookonce may ask of a store. See the module for what holds for all verbs.
#[async_trait]
pub trait Store: Keys + Moving + Refusals + fmt::Debug + Send + Sync {
    /// In one line, what a yes survives on this store with these settings.
    fn survives(&self) -> String;

    /// Whether the store can be written to now.
    async fn ready(&self) -> Result<(), StoreError>;

    /// A copy of all it holds at one instant. `None`: this kind of store is backed up with its own tools.
    async fn snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        Ok(None)
    }

    /// How its cache of marks fares, where it has one.
    fn cache(&self) -> Option<CacheCounts> {
        None
    }

    /// Remembers and queues: mark, event and deliveries of each, all of it or nothing.
    ///
    /// One answer per event, in order; the error of one is not the error of another. Two events of
    /// one identity in one call are decided in order. `(id, Fresh)` and `(id, Held)` tell the id that
    /// was given, `(id, Duplicate)` that of the event known before, whose duplicate is noted with its
    /// time and retry marker. An event whose `digest` is known under another identity of the same
    /// source is flagged `resent_under_new_id`, or held, as its `replay_guard` says; when the source
    /// holds [`HELD_PER_SOURCE_MAX`](crate::limits::HELD_PER_SOURCE_MAX) already it is `Full`.
    /// Events without an identity are always fresh. A [`KeptRequest`] is kept once for all fresh and
    /// held events that refer to it. A delivery with an [order](crate::order) goes last in its line, and
    /// is due once all that were admitted before it have left.
    async fn admit(
        &self,
        events: Vec<NewEvent>,
        not_after: Timestamp,
    ) -> Vec<Result<(EventId, Admission), StoreError>>;

    /// Takes due deliveries of a handler, those due longest first, and counts an attempt of each.
    ///
    /// A delivery whose lease has run out is due: the attempt that held it is written down as
    /// [`Died`](crate::delivery::AttemptOutcome::Died). One that has had all its attempts since its
    /// last redrive is settled dead instead.
    async fn claim(&self, claim: &Claim, not_after: Timestamp) -> Result<Claimed, StoreError>;

    /// Moves the end of live leases to `lease` from now. One answer per lease, in order: where a part of
    /// the store is out of reach, what lies in the others is extended all the same.
    async fn extend(&self, leases: &[Lease], lease: Duration) -> Vec<Result<Hold, StoreError>>;

    /// Writes down how attempts ended, and how their deliveries go on. One answer each, in order.
    ///
    /// A lease whose time has passed but that nobody has claimed since still settles: turning a
    /// finished attempt away would only run its handler again. Once it was claimed again, the
    /// higher token fences it off.
    async fn settle(&self, settlements: Vec<Settlement>) -> Vec<Result<Hold, StoreError>>;

    /// Gives deliveries back untried: they are due at once, and the attempt is not counted.
    async fn release(&self, release: &Release) -> Result<(), StoreError>;

    /// The leases that no living process can hold, because this store takes one process at a time
    /// and that one has just begun. Empty on a shared store, where leases run out by themselves.
    async fn orphans(&self) -> Result<Vec<Leased>, StoreError>;

    /// What the store is, as far as this process knows: another one once a person has accepted a loss.
    /// What was cached of the one before is void then.
    fn generation(&self) -> Option<String> {
        None
    }

    /// How often the store went back by less than its durability may lose, as this process saw it: what
    /// was answered in that time may be lost.
    fn steps_back(&self) -> u64 {
        0
    }

    /// A person accepts that the store has lost what it held: whatever is there now is used, also by the
    /// other processes. Says how many parts of the store that was about; none where nothing was lost.
    async fn accept(&self) -> Result<usize, StoreError> {
        Ok(0)
    }

    /// A person's wish: see [`Wish`]. Idempotent under the wish's own ids; one that comes late is
    /// `Late`, whether it was done before or not.
    async fn wish(&self, wish: &Wish, not_after: Timestamp) -> Result<Granted, StoreError>;

    /// One page of events, newest first.
    async fn events(&self, filter: &EventFilter) -> Result<Vec<EventRow>, StoreError>;

    /// One event with everything known about it.
    async fn event(&self, id: EventId) -> Result<Option<EventRecord>, StoreError>;

    /// One page of deliveries, newest first, or oldest first where the filter says `after`.
    async fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<Delivery>, StoreError>;

    /// The attempts of a delivery, oldest first.
    async fn attempts(&self, delivery: DeliveryId) -> Result<Vec<Attempt>, StoreError>;

    /// The counters and gauges.
    async fn stats(&self) -> Result<Stats, StoreError>;

    /// When the delivery of this handler fell due that waits longest. None, or a time to come: nothing
    /// that is due waits. A store that cannot tell says `None`.
    async fn waiting_since(&self, _handler: &str) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    /// Takes away a lot of events that ended before the times given, and of marks whose window is over.
    /// A mark outlives its event until its window is over; a kept request goes with its last event.
    /// Completed keys whose retention is over go too. Says how many events, marks and keys went.
    async fn prune(&self, prune: &Prune) -> Result<usize, StoreError>;

    /// Keeps what a person says about a handler, configured or not, until something else is said of the
    /// same thing.
    async fn control(&self, handler: &str, setting: Setting) -> Result<(), StoreError>;

    /// All that was said and holds.
    async fn controls(&self) -> Result<Controls, StoreError>;
}

/// What a claim got.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// The deliveries, each with its lease.
    pub deliveries: Vec<Leased>,
    /// When the next delivery of this handler is due, as far as the store knows now. What is leased
    /// counts as due when its lease ends, and what awaits its turn in line never.
    pub next_due_at: Option<Timestamp>,
    /// How many were settled dead because their attempts were spent.
    pub dead: usize,
}

/// Whether a lease was still live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It was, and what was asked is done.
    Kept,
    /// Somebody else has claimed the delivery since, or it is at its end. Nothing was done.
    Lost,
}

/// What to give back.
#[derive(Clone, Debug)]
pub enum Release {
    /// These leases, where they are live.
    Leases(Vec<Lease>),
    /// Whatever this claim got, if it got anything: its answer was lost.
    Claim {
        /// The handler of the claim.
        handler: Arc<str>,
        /// The worker of the claim.
        worker: Uuid,
        /// The id of the claim.
        id: Uuid,
    },
}

/// What a person may ask for.
#[derive(Clone, Debug)]
pub enum Wish {
    /// New deliveries of an event, marked as a replay of the one of the same handler, or of none.
    /// They are made also when the event was unrouted. A held event is not replayed, nor an erased one.
    Replay {
        /// The event.
        event: EventId,
        /// The deliveries to make.
        deliveries: Vec<NewDelivery>,
    },
    /// Dead deliveries are queued again, due now, with a fresh budget; attempt numbers go on. One that
    /// still has its place in line keeps it, another goes last. Those of erased events stay dead.
    Redrive {
        /// The wish's own id: sent again, it does not renew a budget twice.
        id: Uuid,
        /// Which.
        which: Which,
    },
    /// A held event is routed, unless it was erased.
    AdmitHeld {
        /// The event.
        event: EventId,
        /// The deliveries to make.
        deliveries: Vec<NewDelivery>,
    },
    /// Queued and dead deliveries go to another handler; their state stays. Those that stand in line go
    /// last in a line of that handler, among themselves as they stood.
    Move {
        /// Which; `which.handler` or ids.
        which: Which,
        /// The handler that has them from now on.
        to: Arc<str>,
    },
    /// Queued deliveries are dead at once. What is leased is not touched: its attempt is running.
    Kill {
        /// Which.
        which: Which,
    },
    /// Everything that the sender has written goes: body, headers, query, retry markers, what attempts
    /// kept of answers and errors, and the body of the request it came in, whatever else was in that.
    ///
    /// The event itself stays, with its ids, its type, its times and its mark: a copy is a duplicate
    /// still. What is queued of it is dead, with [`ERASED`] as its last error. While an attempt holds a
    /// lease nothing is done: that attempt has the body in its hands.
    Erase {
        /// The event.
        event: EventId,
    },
    /// Dead deliveries that have an [order](crate::order) leave their line, and those behind them go on.
    Unblock {
        /// Which.
        which: Which,
    },
}

/// What the last error of a delivery says that was killed because its event was erased.
pub const ERASED: &str = "erased";

/// Which deliveries a wish is about: these ids, or all of one handler. Never more than
/// [`WISH_ROWS_MAX`](crate::limits::WISH_ROWS_MAX) in one call; call again for the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// These.
    Ids(Vec<DeliveryId>),
    /// All of this handler that the wish applies to.
    Handler(Arc<str>),
}

/// What a wish did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Granted {
    /// It changed or made these deliveries.
    Deliveries(Vec<DeliveryId>),
    /// There is no such event, or not in a state the wish applies to.
    NotFound,
    /// An attempt at a delivery of the event is running. Nothing was done.
    Running,
    /// The event was erased, so there is nothing left to deliver. Nothing was done.
    Erased,
}

/// A line in the list of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventRow {
    /// Our id.
    pub id: EventId,
    /// The source that received it.
    pub source: Arc<str>,
    /// The provider's own id.
    pub event_id: Option<String>,
    /// The provider's name for what happened.
    pub event_type: Option<String>,
    /// When it was received.
    pub received_at: Timestamp,
    /// How it stands.
    pub state: EventState,
    /// How many duplicates came.
    pub duplicates: u64,
    /// Whether its request did not verify, and shadow mode let it in.
    #[serde(default)]
    pub shadow: bool,
    /// Whether the same signed content had come before under another id.
    pub resent_under_new_id: bool,
    /// How long its body is.
    pub body_bytes: usize,
    /// When a person erased what the sender has written, if one did.
    #[serde(default)]
    pub erased_at: Option<Timestamp>,
}

/// Everything known about one event.
#[derive(Clone, Debug)]
pub struct EventRecord {
    /// Its line in the list.
    pub row: EventRow,
    /// The event itself.
    pub event: Event,
    /// The request it came in, where that held more than the event's own bytes.
    pub request: Option<KeptRequest>,
    /// What made it this event, if anything does.
    pub identity: Option<String>,
    /// Until when its mark lives, at least.
    pub mark_until: Option<Timestamp>,
    /// Its duplicates, newest first, the newest [`DUPLICATES_KEPT_MAX`](crate::limits::DUPLICATES_KEPT_MAX).
    pub duplicates: Vec<Duplicate>,
    /// Its deliveries, oldest first.
    pub deliveries: Vec<Delivery>,
}

/// What prune takes away.
#[derive(Clone, Copy, Debug)]
pub struct Prune {
    /// Done events whose last delivery ended before this go.
    pub done_before: Timestamp,
    /// Dead and unrouted events that ended before this go.
    pub dead_before: Timestamp,
    /// Held events and refused requests received before this go.
    pub held_before: Timestamp,
    /// Marks whose window ended before this go, where their event is gone, and completed keys whose
    /// retention is over then.
    pub now: Timestamp,
    /// How many events, how many marks and how many keys, at most.
    pub lot: usize,
}

impl EventRecord {
    /// The body of the request it came in, byte for byte as it was received.
    pub fn request_body(&self) -> &Bytes {
        self.request.as_ref().map_or(&self.event.body, |request| &request.body)
    }
}
