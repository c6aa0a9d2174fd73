//! Moving house: from one store to another, without a moment in which a retry could run twice.
//!
//! ```text
//!            hand over             seal               open
//!   serving ───────────▶ handing ───────▶ sealed ───────────▶ opened      the source
//!      ▲                  over              │
//!      └───────────────────┴────────────────┘  call off
//!
//!             fill                   finish
//!   serving ──────────▶ filling ──────────────▶ filled (serves)           the target
//! ```
//!
//! The source first admits, claims and begins nothing any more; what runs may end. When nothing runs
//! it is sealed, and refuses every write. Then its records are copied and compared. That the target
//! opens is written down at the source, and only then at the target: so there is never an instant in
//! which both would serve. Until then a copy that is called off gives the source back.
//!
//! Each step is one write, carries the id of its copy, and is done once however often it is asked for.
//! So a copy that was killed at any instant goes on when it is run again; [`copy`] is that run.

mod copy;
mod in_front;
mod model;
mod record;
mod standing;
mod tally;

use async_trait::async_trait;
use uuid::Uuid;

pub use self::{
    copy::{CopyError, House, Progress, Report, call_off, copy, name_of, tally},
    in_front::InFront,
    record::{DeliveryCopy, EventCopy, KeyCopy, KeyStage, MarkCopy, OrderCopy, Record},
    standing::{Move, Standing, Step},
    tally::{KindTally, Tally},
};
use super::StoreError;

/// What a store does to be moved out of, and into.
#[async_trait]
pub trait Moving {
    /// How it stands. From [`Standing::HandingOver`] on, the verbs of [`Store`](super::Store) that admit,
    /// claim, wish and prune answer [`StoreError::Moving`]; once it is sealed or while it is filled, so do
    /// those that extend, settle and release. Reading is allowed at any time.
    async fn standing(&self) -> Result<Standing, StoreError>;

    /// Takes a step, as [`Standing::after`] allows it, and says how the store stands then.
    ///
    /// A store is not sealed while a lease in it is live, and not filled unless it is empty.
    async fn step(&self, step: &Step) -> Result<Standing, StoreError>;

    /// How many leases of deliveries and of keys are live: their holders may still be at work.
    async fn live(&self) -> Result<u64, StoreError>;

    /// Whether there has never been an event in it.
    async fn is_empty(&self) -> Result<bool, StoreError>;

    /// About how many records [`Moving::export`] gives in all.
    async fn size(&self) -> Result<u64, StoreError>;

    /// Some of its records, and where the rest begins. Of a store that changes meanwhile it gives what
    /// it finds. It leaves out what is over and only waits to be pruned: marks, digests, completed keys.
    async fn export(&self, from: &Cursor) -> Result<(Vec<Record>, Option<Cursor>), StoreError>;

    /// Writes records of copy `copy`. Done again it changes nothing. Refused unless the store is being
    /// filled by that copy.
    async fn import(&self, copy: Uuid, records: Vec<Record>) -> Result<(), StoreError>;
}

/// Where an export goes on. What is in it is the store's own business.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Which kind of records it is at.
    pub(super) stage: usize,
    /// What it has given last of them; empty at their beginning.
    pub(super) after: Vec<u8>,
}

impl Cursor {
    /// The beginning of the kind of records behind this one.
    pub(super) fn next_stage(&self) -> Self {
        Self { stage: self.stage + 1, after: Vec::new() }
    }

    /// Behind `last`, within the same kind.
    pub(super) fn behind(&self, last: impl Into<Vec<u8>>) -> Self {
        Self { stage: self.stage, after: last.into() }
    }
}
