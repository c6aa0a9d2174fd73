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
    store::{
        StoreError,
        memory::MemoryStore,
        moving::{KeyCopy, KeyStage, Record},
    },
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
        self.serves()?;
        let now = self.clock.now();
        let mut keys = self.keys.lock();
        let id = begin.scope.id();
        if let Some(kept) = find(&mut keys, id, now).filter(|kept| kept.was_begun_by(begin, now)) {
            kept.lease_until = now.plus(begin.lease);
            return Ok(Begun::Started);
        }
        self.not_late(not_after)?;
        match find(&mut keys, id, now) {
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
        self.lets_end()?;
        let now = self.clock.now();
        let mut keys = self.keys.lock();
        let kept = find(&mut keys, key, now).filter(|kept| kept.owner == Some(owner));
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
        self.lets_end()?;
        let now = self.clock.now();
        let mut keys = self.keys.lock();
        let kept = find(&mut keys, key, now).filter(|kept| kept.owner == Some(owner));
        let Some(kept) = kept else { return Ok(Hold::Lost) };
        if kept.state(now) != KeyState::Completed {
            kept.complete(response, now, retention);
        }
        Ok(Hold::Kept)
    }

    async fn abandon(&self, key: KeyId, owner: Uuid) -> Result<Hold, StoreError> {
        self.lets_end()?;
        let now = self.clock.now();
        let mut keys = self.keys.lock();
        let Some(kept) = find(&mut keys, key, now) else { return Ok(Hold::Kept) };
        if kept.owner != Some(owner) || kept.state(now) == KeyState::Completed {
            return Ok(Hold::Lost);
        }
        keys.remove(&key);
        Ok(Hold::Kept)
    }

    async fn mark_unknown(&self, key: KeyId, owner: Uuid, note: &str) -> Result<Hold, StoreError> {
        self.lets_end()?;
        let now = self.clock.now();
        let mut keys = self.keys.lock();
        let kept = find(&mut keys, key, now).filter(|kept| kept.owner == Some(owner));
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
        self.serves()?;
        let now = self.not_late(not_after)?;
        let mut keys = self.keys.lock();
        let Some(kept) = find(&mut keys, key, now) else {
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
        let keys = self.keys.lock();
        let not_free = keys.iter().filter(|(_, kept)| !kept.is_over(now));
        let mut rows: Vec<KeyRecord> = not_free.map(|(id, kept)| kept.record(*id, now)).collect();
        rows.retain(|row| filter.takes(row));
        rows.sort_unstable_by_key(|row| std::cmp::Reverse((row.begun_at, row.id)));
        rows.truncate(filter.limit);
        Ok(rows)
    }

    async fn key(&self, key: KeyId) -> Result<Option<KeyRecord>, StoreError> {
        let now = self.clock.now();
        Ok(find(&mut self.keys.lock(), key, now).map(|kept| kept.record(key, now)))
    }

    async fn key_counts(&self) -> Result<BTreeMap<String, KeyCounts>, StoreError> {
        let now = self.clock.now();
        let mut counts = BTreeMap::<String, KeyCounts>::new();
        for kept in self.keys.lock().values() {
            let state = kept.state(now);
            if state != KeyState::Completed {
                counts.entry(kept.scope.api.clone()).or_default().add(state, 1);
            }
        }
        Ok(counts)
    }
}

impl KeyModel {
    /// Takes away a lot of completed keys whose retention is over. Says how many went.
    pub(in crate::store) fn prune(&self, now: Timestamp, lot: usize) -> usize {
        let mut keys = self.lock();
        let over: Vec<KeyId> = keys
            .iter()
            .filter(|(_, kept)| kept.is_over(now))
            .map(|(id, _)| *id)
            .take(lot)
            .collect();
        over.iter().filter_map(|id| keys.remove(id)).count()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<KeyId, KeptKey>> {
        // A panic while it was held has changed one key at most, and each change is one assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyModel {
    /// How many are in progress.
    pub(in crate::store) fn live(&self, now: Timestamp) -> u64 {
        let keys = self.lock();
        keys.values().filter(|kept| kept.state(now) == KeyState::InProgress).count() as u64
    }

    /// All that are not over, for another store.
    pub(in crate::store) fn copies(&self, now: Timestamp) -> Vec<Record> {
        let keys = self.lock();
        let kept = keys.values().filter(|kept| !kept.is_over(now));
        kept.map(|kept| Record::Key(Box::new(kept.copy()))).collect()
    }

    /// Takes over what another store has given away.
    pub(in crate::store) fn import(&self, copy: KeyCopy) {
        self.lock().insert(copy.scope.id(), KeptKey::from_copy(copy));
    }
}

/// The key, unless it is free. One whose retention is over is free, pruned or not.
fn find(keys: &mut BTreeMap<KeyId, KeptKey>, id: KeyId, now: Timestamp) -> Option<&mut KeptKey> {
    keys.get_mut(&id).filter(|kept| !kept.is_over(now))
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

    fn copy(&self) -> KeyCopy {
        let stage = match &self.stage {
            Stage::Begun => KeyStage::Begun,
            Stage::MarkedUnknown => KeyStage::MarkedUnknown,
            Stage::Completed { response, completed_at, expires_at } => KeyStage::Completed {
                response: response.clone(),
                completed_at: *completed_at,
                expires_at: *expires_at,
            },
        };
        KeyCopy {
            scope: self.scope.clone(),
            fingerprint: self.fingerprint,
            owner: self.owner,
            begun_at: self.begun_at,
            lease_until: self.lease_until,
            stage,
            note: self.note.clone(),
            replays: self.replays,
        }
    }

    fn from_copy(copy: KeyCopy) -> Self {
        Self {
            scope: copy.scope,
            fingerprint: copy.fingerprint,
            owner: copy.owner,
            begun_at: copy.begun_at,
            lease_until: copy.lease_until,
            stage: match copy.stage {
                KeyStage::Begun => Stage::Begun,
                KeyStage::MarkedUnknown => Stage::MarkedUnknown,
                KeyStage::Completed { response, completed_at, expires_at } => {
                    Stage::Completed { response, completed_at, expires_at }
                }
            },
            note: copy.note,
            replays: copy.replays,
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

    /// Whether its retention is over.
    fn is_over(&self, now: Timestamp) -> bool {
        self.expires_at().is_some_and(|expires_at| expires_at <= now)
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
