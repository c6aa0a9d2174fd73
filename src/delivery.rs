//! One event for one handler: a delivery, its states, its lease and its attempts.
//!
//! ```text
//!            admit, replay                claim                settle done
//!   (none) ───────────────▶ queued ────────────────▶ leased ───────────────▶ done
//!                            ▲  ▲                    │   │
//!                    redrive │  │ settle retry at,   │   │ settle dead, kill,
//!                            │  │ release            │   │ claim of a spent budget
//!                            │  └────────────────────┘   ▼
//!                            └───────────────────────── dead
//! ```
//!
//! A lease that runs out leaves its delivery `leased` until the next claim takes it again, with a
//! higher token: there is no state in between, and nobody has to notice.

use std::{sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    event::{Event, EventId},
    id::id,
    order::OrderKey,
};

id! {
    /// The id of a delivery: its `Idempotency-Key` and `webhook-id`, the same over all its attempts
    /// and redrives.
    DeliveryId
}

/// Where a delivery stands. The drawing above says who moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "DeliveryState")]
pub enum State {
    /// It waits to be claimed, from `due_at` on. A retry is queued too, with a later `due_at`, and so
    /// is what awaits its turn in [order](crate::order).
    Queued,
    /// A worker has it, until `due_at` (which is then the end of the lease).
    Leased,
    /// Its handler said yes. Never claimed again (P5).
    Done,
    /// A dead letter: its budget is spent, its handler said never, or a person killed it.
    Dead,
}

impl State {
    /// Its name, as in the API and in stores.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Leased => "leased",
            Self::Done => "done",
            Self::Dead => "dead",
        }
    }
}

/// A worker's right to settle one delivery. Its token is higher than any before it, so whoever
/// comes late with a lower one is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Rises by one with every claim of this delivery.
    pub token: u64,
}

/// A delivery that was claimed: everything one attempt needs.
#[derive(Clone, Debug)]
pub struct Leased {
    /// The right to settle it.
    pub lease: Lease,
    /// The handler it is for.
    pub handler: Arc<str>,
    /// Which attempt this is, counted from 1 over the delivery's whole life.
    pub attempt: u32,
    /// How many attempts were counted before its budget was last renewed by a redrive.
    pub attempts_before_redrive: u32,
    /// Of which event this one is a replay, if a person asked for one.
    pub replay_of: Option<DeliveryId>,
    /// How many attempts in a row, up to the one before this, ended because their worker died.
    pub deaths_in_a_row: u32,
    /// What it shares with others that may wait in line behind it, if anything.
    pub order_key: Option<OrderKey>,
    /// The event.
    pub event: Arc<Event>,
}

/// What a worker writes down about one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// Which attempt it was, from 1.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, in milliseconds. `None`: its worker died, so nobody knows.
    pub took_ms: Option<u64>,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// The status of the handler's answer, or the command's exit code.
    pub status: Option<i32>,
    /// What went wrong.
    pub error: Option<String>,
    /// The beginning of the handler's answer.
    pub excerpt: Option<String>,
}

impl Attempt {
    /// What is written down about an attempt whose worker died, or lost its lease, before it could say.
    pub fn died(number: u32, started_at: Timestamp) -> Self {
        Self {
            number,
            started_at,
            took_ms: None,
            outcome: AttemptOutcome::Died,
            status: None,
            error: Some("the worker died, or lost its lease, before the attempt ended".to_owned()),
            excerpt: None,
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// The handler said yes.
    Done,
    /// It failed, and another attempt follows if the budget has one.
    Failed,
    /// The handler said never.
    Rejected,
    /// Its worker died, or lost its lease, before it could say.
    Died,
}

impl AttemptOutcome {
    /// Its name, as in the API, metrics and stores.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Died => "died",
        }
    }
}

/// How a leased delivery goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done.
    Done,
    /// It is queued again, due at this time.
    RetryAt(Timestamp),
    /// It is a dead letter.
    Dead,
}

/// What a worker asks the store to write when an attempt has ended.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The right to say so.
    pub lease: Lease,
    /// How it goes on.
    pub verdict: Verdict,
    /// What happened. `attempt.number` is the leased one's.
    pub attempt: Attempt,
}

/// What a settlement finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meets {
    /// The attempt that it is about, not settled yet.
    Unsettled,
    /// The same, settled: it was sent before.
    Settled,
    /// The lease of somebody else, or nobody's.
    Another,
}

impl Settlement {
    /// What it finds in a delivery in this state, under this token, that has had so many attempts.
    ///
    /// A claim that finds the budget of a delivery spent takes it for dead and raises the token. If it was
    /// done all the same, and nobody has claimed or redriven it since, that stands: a redrive would do
    /// it twice.
    pub(crate) fn meets(&self, state: State, token: u64, attempts: u32) -> Meets {
        let was_buried = token == self.lease.token + 1
            && attempts == self.attempt.number
            && self.verdict == Verdict::Done;
        match state {
            State::Leased if token == self.lease.token => Meets::Unsettled,
            _ if token == self.lease.token => Meets::Settled,
            State::Dead if was_buried => Meets::Unsettled,
            State::Done if was_buried => Meets::Settled,
            _ => Meets::Another,
        }
    }
}

/// A delivery as the store has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// Our id of its event.
    pub event: EventId,
    /// The source of its event.
    pub source: Arc<str>,
    /// The handler it is for.
    pub handler: Arc<str>,
    /// Where it stands.
    pub state: State,
    /// How many attempts were counted.
    pub attempts: u32,
    /// When it is due, or when its lease ends; when it is at its end, when that was. While it awaits
    /// its turn in line it is [`Timestamp::NEVER`].
    pub due_at: Timestamp,
    /// The first delivery of which this is a replay.
    pub replay_of: Option<DeliveryId>,
    /// What its last attempt said went wrong.
    pub last_error: Option<String>,
    /// What it shares with those of its handler that it must not overtake, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_key: Option<OrderKey>,
    /// Whether it stands in line with them: it has not run to its end, or is dead and blocks.
    #[serde(default, skip_serializing_if = "is_false")]
    pub in_line: bool,
}

impl Delivery {
    /// Whether it is dead, and those behind it in line wait for a person.
    pub fn blocks(&self) -> bool {
        self.state == State::Dead && self.in_line
    }

    /// Whether it is queued, but not its turn.
    pub fn awaits_its_turn(&self) -> bool {
        self.state == State::Queued && self.due_at == Timestamp::NEVER
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// A claim: the wish of one worker for due deliveries of one handler.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The handler.
    pub handler: Arc<str>,
    /// Who asks. Unique per worker and process.
    pub worker: Uuid,
    /// Unique per claim; the same claim sent again gets the same deliveries.
    pub id: Uuid,
    /// How many deliveries, at most.
    pub deliveries_max: usize,
    /// How long the lease lasts.
    pub lease: Duration,
    /// How many attempts a delivery has: one that has had them all is settled dead instead of claimed.
    pub attempts_max: u32,
}
