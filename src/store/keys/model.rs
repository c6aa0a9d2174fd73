//! The reference model of the keyed verbs: what each means, with nothing in the way of reading it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use uuid::Uuid;

use super::{Begin, Begun, Hold, KeyCounts, KeyFilter, Keys, OnUnknown, Resolution, Resolved};
use crate::{
    clock::Timestamp,
    key::{Fingerprint, KeyId, KeyRecord, KeyScope, KeyState, SavedResponse},
    store::{StoreError, memory::MemoryStore},
};

/// The keys of a store in memory.
#[derive(Debug, Default)]
pub(in crate::store) struct KeyModel(Mutex<BTreeMap<KeyId, KeptKey>>);

#[derive(Debug)]
struct KeptKey {
    scope: KeyScope,
    fingerprint: Fingerprint,
    /// `None` once a person resolved it: nobody owns it from then on.
    owner: Option<Uuid>,
    begun_at: Timestamp,
    lease_until: Timestamp,
    stage: Stage,
    note: Option<String>,
    replays: u64,
}

/// What was written about a key. Its [`KeyState`] follows from this, its lease and the time.
#[derive(Debug)]
enum Stage {
    Begun,
    MarkedUnknown,
    Completed { response: SavedResponse, completed_at: Timestamp, expires_at: Timestamp },
}

#[async_trait]
impl Keys for MemoryStore {
    async fn begin(&self, begin: &Begin, not_after: Timestamp) -> Result<Begun, StoreError> {
        let now = self.clock.now();
        let mut keys = self.keys.not_expired(now);
        let id = begin.scope.id();
        if let Some(kept) = keys.get_mut(&id).filter(|kept| kept.was_begun_by(begin, now)) {
            kept.lease_until = now.plus(begin.lease);
            return Ok(Begun::Started);
        }
        self.not_late(not_after)?;
        match keys.get_mut(&id) {
            Some(kept) if !kept.may_be_taken_over(begin, now) => Ok(kept.told_to(begin, now)),
            _ => {
                keys.insert(id, KeptKey::new(begin, now));
                Ok(Begun::Started)
            }
        }
    }

    async fn extend_key(
        &self,
        key: KeyId,
        owner: Uuid,
        lease: Duration,
    ) -> Result<Hold, StoreError> {
        let now = self.clock.now();
        let mut keys = self.keys.not_expired(now);
        let kept = keys.get_mut(&key).filter(|kept| kept.owner == Some(owner));
        Ok(match kept {
            Some(kept) if kept.state(now) == KeyState::InProgress => {
                kept.lease_until = now.plus(lease);
                Hold::Kept
            }
            _ => Hold::Lost,
        })
    }

    async fn complete(
        &self,
        key: KeyId,
        owner: Uuid,
        response: &SavedResponse,
        retention: Duration,
    ) -> Result<Hold, StoreError> {
        let now = self.clock.now();
        let mut keys = self.keys.not_expired(now);
        let kept = keys.get_mut(&key).filter(|kept| kept.owner == Some(owner));
        let Some(kept) = kept else { return Ok(Hold::Lost) };
        if kept.state(now) != KeyState::Completed {
            kept.complete(response, now, retention);
        }
        Ok(Hold::Kept)
    }

    async fn abandon(&self, key: KeyId, owner: Uuid) -> Result<Hold, StoreError> {
        let now = self.clock.now();
        let mut keys = self.keys.not_expired(now);
        let Some(kept) = keys.get(&key) else { return Ok(Hold::Kept) };
        if kept.owner != Some(owner) || kept.state(now) == KeyState::Completed {
            return Ok(Hold::Lost);
        }
        keys.remove(&key);
        Ok(Hold::Kept)
    }

    async fn mark_unknown(&self, key: KeyId, owner: Uuid, note: &str) -> Result<Hold, StoreError> {
        let now = self.clock.now();
        let mut keys = self.keys.not_expired(now);
        let kept = keys.get_mut(&key).filter(|kept| kept.owner == Some(owner));
        Ok(match kept {
            Some(kept) if kept.state(now) != KeyState::Completed => {
                kept.stage = Stage::MarkedUnknown;
                kept.note = Some(note.to_owned());
                Hold::Kept
            }
            _ => Hold::Lost,
        })
    }

    async fn resolve(
        &self,
        key: KeyId,
        resolution: &Resolution,
        not_after: Timestamp,
    ) -> Result<Resolved, StoreError> {
        let now = self.not_late(not_after)?;
        let mut keys = self.keys.not_expired(now);
        let Some(kept) = keys.get_mut(&key) else {
            return Ok(match resolution {
                Resolution::Free => Resolved::Done,
                Resolution::Complete { .. } => Resolved::NotFound,
            });
        };
        Ok(match (kept.state(now), resolution) {
            (KeyState::InProgress, _) => Resolved::InProgress,
            (KeyState::Completed, Resolution::Complete { response, .. })
                if kept.response() == Some(response) =>
            {
                Resolved::Done
            }
            (KeyState::Completed, _) => Resolved::Completed,
            (KeyState::Unknown, Resolution::Complete { response, retention }) => {
                kept.complete(response, now, *retention);
                kept.owner = None;
                Resolved::Done
            }
            (KeyState::Unknown, Resolution::Free) => {
                keys.remove(&key);
                Resolved::Done
            }
        })
    }

    async fn keys(&self, filter: &KeyFilter) -> Result<Vec<KeyRecord>, StoreError> {
        let now = self.clock.now();
        let keys = self.keys.not_expired(now);
        let mut rows: Vec<KeyRecord> =
            keys.iter().map(|(id, kept)| kept.record(*id, now)).collect();
        rows.retain(|row| filter.takes(row));
        rows.sort_unstable_by_key(|row| std::cmp::Reverse((row.begun_at, row.id)));
        rows.truncate(filter.limit);
        Ok(rows)
    }

    async fn key(&self, key: KeyId) -> Result<Option<KeyRecord>, StoreError> {
        let now = self.clock.now();
        Ok(self.keys.not_expired(now).get(&key).map(|kept| kept.record(key, now)))
    }

    async fn key_counts(&self) -> Result<BTreeMap<String, KeyCounts>, StoreError> {
        let now = self.clock.now();
        let mut counts = BTreeMap::<String, KeyCounts>::new();
        for kept in self.keys.not_expired(now).values() {
            let of_api = counts.entry(kept.scope.api.clone()).or_default();
            if let Some(gauge) = of_api.gauge(kept.state(now)) {
                *gauge += 1;
            }
        }
        Ok(counts)
    }
}

impl KeyModel {
    /// The keys that are not free now. Those whose retention is over are taken away by whoever looks.
    fn not_expired(&self, now: Timestamp) -> MutexGuard<'_, BTreeMap<KeyId, KeptKey>> {
        // A panic while it was held has changed one key at most, and each change is one assignment.
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|_, kept| kept.expires_at().is_none_or(|expires_at| now < expires_at));
        keys
    }
}

impl KeptKey {
    fn new(begin: &Begin, now: Timestamp) -> Self {
        Self {
            scope: begin.scope.clone(),
            fingerprint: begin.fingerprint,
            owner: Some(begin.owner),
            begun_at: now,
            lease_until: now.plus(begin.lease),
            stage: Stage::Begun,
            note: None,
            replays: 0,
        }
    }

    fn state(&self, now: Timestamp) -> KeyState {
        match self.stage {
            Stage::Completed { .. } => KeyState::Completed,
            Stage::Begun if now < self.lease_until => KeyState::InProgress,
            Stage::Begun | Stage::MarkedUnknown => KeyState::Unknown,
        }
    }

    /// Whether this very call was made before, and its answer lost.
    fn was_begun_by(&self, begin: &Begin, now: Timestamp) -> bool {
        self.owner == Some(begin.owner)
            && self.fingerprint == begin.fingerprint
            && self.state(now) == KeyState::InProgress
    }

    fn may_be_taken_over(&self, begin: &Begin, now: Timestamp) -> bool {
        self.state(now) == KeyState::Unknown
            && self.fingerprint == begin.fingerprint
            && begin.on_unknown == OnUnknown::Retry
    }

    /// What a begin is told that does not get the key.
    fn told_to(&mut self, begin: &Begin, now: Timestamp) -> Begun {
        if self.fingerprint != begin.fingerprint {
            return Begun::Mismatch;
        }
        match &self.stage {
            Stage::Completed { response, completed_at, expires_at } => {
                self.replays += 1;
                Begun::Completed {
                    response: response.clone(),
                    completed_at: *completed_at,
                    expires_at: *expires_at,
                }
            }
            Stage::Begun if now < self.lease_until => {
                Begun::InFlight { retry_in: self.lease_until.since(now) }
            }
            Stage::Begun | Stage::MarkedUnknown => Begun::Unknown { note: self.note.clone() },
        }
    }

    fn complete(&mut self, response: &SavedResponse, now: Timestamp, retention: Duration) {
        self.stage = Stage::Completed {
            response: response.clone(),
            completed_at: now,
            expires_at: now.plus(retention),
        };
    }

    fn response(&self) -> Option<&SavedResponse> {
        match &self.stage {
            Stage::Completed { response, .. } => Some(response),
            Stage::Begun | Stage::MarkedUnknown => None,
        }
    }

    fn completed_at(&self) -> Option<Timestamp> {
        match &self.stage {
            Stage::Completed { completed_at, .. } => Some(*completed_at),
            Stage::Begun | Stage::MarkedUnknown => None,
        }
    }

    fn expires_at(&self) -> Option<Timestamp> {
        match &self.stage {
            Stage::Completed { expires_at, .. } => Some(*expires_at),
            Stage::Begun | Stage::MarkedUnknown => None,
        }
    }

    fn record(&self, id: KeyId, now: Timestamp) -> KeyRecord {
        KeyRecord {
            id,
            scope: self.scope.clone(),
            state: self.state(now),
            fingerprint: self.fingerprint,
            begun_at: self.begun_at,
            lease_until: self.lease_until,
            completed_at: self.completed_at(),
            expires_at: self.expires_at(),
            replays: self.replays,
            note: self.note.clone(),
        }
    }
}
