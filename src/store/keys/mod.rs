//! What a store does for keyed requests: each key's work is begun once, and its answer is kept.
//!
//! What holds for all verbs of a store holds here too: each is atomic per key, the same call made twice
//! gives the same answer, and `not_after` is a time on the store's clock.
//!
//! A key has one owner at a time, known by a UUID of the caller's own making. Whoever is not the owner
//! (any more) is turned away with [`Hold::Lost`], whatever it wants. A lease that ran out makes its key
//! `unknown` by itself: the work may have been done or not, so nobody begins it again unless
//! [`OnUnknown::Retry`] says that doing it twice is harmless. On a store that takes one process at a
//! time, the leases of the process before have run out when it is opened.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod calls;
mod model;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) use self::calls::{KeyedAnswer, KeyedCall};
pub(super) use self::model::KeyModel;
use super::{Hold, StoreError};
use crate::{
    clock::Timestamp,
    key::{Fingerprint, KeyId, KeyRecord, KeyScope, KeyState, SavedResponse},
};

/// What may be asked of a store about keyed requests. See the module for what holds for all verbs.
#[async_trait]
pub trait Keys {
    /// Takes a free key for `begin.owner`, or says how it stands.
    ///
    /// Begun again by its own owner, whose lease lasts, it is [`Started`](Begun::Started) again and the
    /// lease counts from now. Another fingerprint is a [`Mismatch`](Begun::Mismatch) however the key
    /// stands. A completed key whose retention is over is free, to the millisecond. Giving the saved
    /// response counts as a replay.
    async fn begin(&self, begin: &Begin, not_after: Timestamp) -> Result<Begun, StoreError>;

    /// Moves the end of the owner's lease to `lease` from now. Lost once it ran out, or the outcome was
    /// marked unknown: somebody may have been told so.
    async fn extend_key(
        &self,
        key: KeyId,
        owner: Uuid,
        lease: Duration,
    ) -> Result<Hold, StoreError>;

    /// Saves the answer of the owner's work, for `retention` from now.
    ///
    /// Kept also when the lease ran out or the outcome was marked unknown, as long as nobody took the
    /// key over or resolved it: the owner knows best. Sent again it is kept again, and the first answer
    /// stands.
    async fn complete(
        &self,
        key: KeyId,
        owner: Uuid,
        response: &SavedResponse,
        retention: Duration,
    ) -> Result<Hold, StoreError>;

    /// Frees the owner's key, because its work was surely not done or may be done again. Kept also when
    /// the key is free already, and when its outcome was unknown.
    async fn abandon(&self, key: KeyId, owner: Uuid) -> Result<Hold, StoreError>;

    /// Ends the owner's lease with an unknown outcome: the request was sent and no answer came. The owner
    /// may still complete or abandon it.
    async fn mark_unknown(&self, key: KeyId, owner: Uuid, note: &str) -> Result<Hold, StoreError>;

    /// A person says how an unknown outcome ended. From then on it has no owner. One that comes late is
    /// `Late`, whether it was done before or not.
    async fn resolve(
        &self,
        key: KeyId,
        resolution: &Resolution,
        not_after: Timestamp,
    ) -> Result<Resolved, StoreError>;

    /// One page of keys, those begun last first.
    async fn keys(&self, filter: &KeyFilter) -> Result<Vec<KeyRecord>, StoreError>;

    /// One key, unless it is free.
    async fn key(&self, key: KeyId) -> Result<Option<KeyRecord>, StoreError>;

    /// How many keys of each API are in progress and unknown now. An API without any is left out.
    async fn key_counts(&self) -> Result<BTreeMap<String, KeyCounts>, StoreError>;
}

/// The wish to do a key's work.
#[derive(Clone, Debug)]
pub struct Begin {
    /// The key.
    pub scope: KeyScope,
    /// What else must be the same when the key is sent again.
    pub fingerprint: Fingerprint,
    /// Who asks: unique per request, the same when this very call is sent again.
    pub owner: Uuid,
    /// How long the lease lasts.
    pub lease: Duration,
    /// What to do when its outcome is unknown.
    pub on_unknown: OnUnknown,
}

/// What becomes of a key whose outcome is unknown when it is begun again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnknown {
    /// It stays so until it is resolved.
    #[default]
    Keep,
    /// It is begun anew: whoever does the work honours the key itself.
    Retry,
}

/// What a begin got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// The key: do the work, then complete or abandon.
    Started,
    /// Somebody else is at it.
    InFlight {
        /// When its lease ends, from now.
        retry_in: Duration,
    },
    /// The work is done.
    Completed {
        /// What it was answered.
        response: SavedResponse,
        /// When.
        completed_at: Timestamp,
        /// When the key is free again.
        expires_at: Timestamp,
    },
    /// The key was used with another request.
    Mismatch,
    /// The work may have been done or not.
    Unknown {
        /// What is known about it.
        note: Option<String>,
    },
}

/// How a person says that an unknown outcome ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The work was done: later requests get this answer.
    Complete {
        /// The answer.
        response: SavedResponse,
        /// For how long, from now.
        retention: Duration,
    },
    /// The work was not done: the key is free.
    Free,
}

/// What a resolution did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolved {
    /// The key stands as was asked for, by this call or before it.
    Done,
    /// Nothing: its owner is at work, and its lease lasts.
    InProgress,
    /// Nothing: it is completed, with another answer or where it was to be freed.
    Completed,
    /// Nothing: the key is free, so there is no request that an answer would belong to.
    NotFound,
}

/// Which keys to list.
#[derive(Clone, Debug, Default)]
pub struct KeyFilter {
    /// Only of this API.
    pub api: Option<String>,
    /// Only in this state.
    pub state: Option<KeyState>,
    /// Only after this one in the list: `begun_at` and `id` of the last row of the page before.
    pub before: Option<(Timestamp, KeyId)>,
    /// How many rows, at most.
    pub limit: usize,
}

impl KeyFilter {
    /// Whether `row` belongs on the page.
    pub fn takes(&self, row: &KeyRecord) -> bool {
        self.before.is_none_or(|before| (row.begun_at, row.id) < before)
            && self.api.as_ref().is_none_or(|api| row.scope.api == *api)
            && self.state.is_none_or(|state| row.state == state)
    }
}

/// Gauges of one API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCounts {
    /// Keys whose owner is at work.
    pub in_progress: u64,
    /// Keys whose outcome is unknown.
    pub unknown: u64,
}

impl KeyCounts {
    /// Adds keys in this state; for what is completed there is no gauge.
    pub fn add(&mut self, state: KeyState, keys: u64) {
        match state {
            KeyState::InProgress => self.in_progress += keys,
            KeyState::Unknown => self.unknown += keys,
            KeyState::Completed => {}
        }
    }
}
