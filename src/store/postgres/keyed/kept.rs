//! A key's row: read, and changed as each verb asks.

use std::time::Duration;

use bytes::Bytes;
use tokio_postgres::Row;
use uuid::Uuid;

use super::super::{
    codes::{self, get, number},
    error::Trouble,
};
use crate::{
    clock::Timestamp,
    key::{Fingerprint, KeyId, KeyScope, KeyState, SavedResponse},
    request::Headers,
    store::{
        Hold,
        keys::{Begin, Begun, OnUnknown, Resolution, Resolved},
    },
};

/// What is written about a key. Its state follows from this, its lease and the time.
///
/// These numbers are in the table, and `keyed_open` is made for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Begun = 0,
    MarkedUnknown = 1,
    Completed = 2,
}

/// All of a key's row, and its answer where it has one. Its times are the server's.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) id: KeyId,
    pub(super) scope: KeyScope,
    pub(super) fingerprint: Fingerprint,
    pub(super) owner: Option<Uuid>,
    pub(super) stage: Stage,
    pub(super) begun_at: Timestamp,
    pub(super) lease_until: Timestamp,
    pub(super) completed_at: Option<Timestamp>,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) replays: u64,
    pub(super) note: Option<String>,
    pub(super) response: Option<SavedResponse>,
}

impl Kept {
    /// The key in a row of `keyed`, without its answer.
    pub(super) fn read(row: &Row) -> Result<Self, Trouble> {
        let some_time = |column| get::<Option<i64>>(row, column);
        let stage = match get::<i16>(row, "stage")? {
            0 => Stage::Begun,
            1 => Stage::MarkedUnknown,
            2 => Stage::Completed,
            _ => return Err(Trouble::odd("there is a stage that nobody here writes")),
        };
        Ok(Self {
            id: key_id(row)?,
            scope: KeyScope {
                api: codes::text(row, "api")?,
                method: codes::text(row, "method")?,
                path: codes::text(row, "path")?,
                principal: codes::text(row, "principal")?,
                key: codes::text(row, "key")?,
            },
            fingerprint: Fingerprint::from_bytes(codes::bytes(row, "fingerprint")?),
            owner: get(row, "owner")?,
            stage,
            begun_at: codes::time(row, "begun_at")?,
            lease_until: codes::time(row, "lease_until")?,
            completed_at: some_time("completed_at")?.map(Timestamp::from_millis),
            expires_at: some_time("expires_at")?.map(Timestamp::from_millis),
            replays: number(row, "replays")?,
            note: codes::some_text(row, "note")?,
            response: None,
        })
    }

    /// A key that is begun.
    pub(super) fn begun(begin: &Begin, now: Timestamp) -> Self {
        Self {
            id: begin.scope.id(),
            scope: begin.scope.clone(),
            fingerprint: begin.fingerprint,
            owner: Some(begin.owner),
            stage: Stage::Begun,
            begun_at: now,
            lease_until: now.plus(begin.lease),
            completed_at: None,
            expires_at: None,
            replays: 0,
            note: None,
            response: None,
        }
    }

    pub(super) fn state(&self, now: Timestamp) -> KeyState {
        match self.stage {
            Stage::Completed => KeyState::Completed,
            Stage::Begun if now < self.lease_until => KeyState::InProgress,
            Stage::Begun | Stage::MarkedUnknown => KeyState::Unknown,
        }
    }

    /// Whether its retention is over, so that it is free.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }

    fn complete(&mut self, response: &SavedResponse, now: Timestamp, retention: Duration) {
        self.stage = Stage::Completed;
        self.completed_at = Some(now);
        self.expires_at = Some(now.plus(retention));
        self.response = Some(response.clone());
    }
}

/// The answer in a row of `saved_responses`, and whose it is.
pub(super) fn response(row: &Row) -> Result<(KeyId, SavedResponse), Trouble> {
    let status: i32 = get(row, "status")?;
    let response = SavedResponse {
        status: u16::try_from(status).map_err(|_| Trouble::odd("there is no such status"))?,
        headers: Headers::from_lines(get(row, "headers")?),
        body: Bytes::from(get::<Vec<u8>>(row, "body")?),
    };
    Ok((key_id(row)?, response))
}

/// See [`Keys::begin`](crate::store::keys::Keys::begin). `None`: it is too late to begin anything.
pub(super) fn begin(
    key: &mut Option<Kept>,
    begin: &Begin,
    now: Timestamp,
    is_late: bool,
) -> Option<Begun> {
    let is_same = |kept: &Kept| kept.fingerprint == begin.fingerprint;
    if let Some(kept) = key {
        let is_its_own = kept.owner == Some(begin.owner);
        if is_its_own && is_same(kept) && kept.state(now) == KeyState::InProgress {
            kept.lease_until = now.plus(begin.lease); // this very call, made again
            return Some(Begun::Started);
        }
    }
    if is_late {
        return None;
    }
    let Some(kept) = key else {
        *key = Some(Kept::begun(begin, now));
        return Some(Begun::Started);
    };
    if !is_same(kept) {
        return Some(Begun::Mismatch);
    }
    Some(match kept.state(now) {
        KeyState::InProgress => Begun::InFlight { retry_in: kept.lease_until.since(now) },
        KeyState::Unknown if begin.on_unknown == OnUnknown::Retry => {
            *kept = Kept::begun(begin, now);
            Begun::Started
        }
        KeyState::Unknown => Begun::Unknown { note: kept.note.clone() },
        KeyState::Completed => {
            kept.replays += 1;
            Begun::Completed {
                response: kept.response.clone().unwrap_or_default(),
                completed_at: kept.completed_at.unwrap_or_default(),
                expires_at: kept.expires_at.unwrap_or_default(),
            }
        }
    })
}

/// See [`Keys::extend_key`](crate::store::keys::Keys::extend_key).
pub(super) fn extend(key: &mut Option<Kept>, owner: Uuid, lease: Duration, now: Timestamp) -> Hold {
    match owned(key, owner) {
        Some(kept) if kept.state(now) == KeyState::InProgress => {
            kept.lease_until = now.plus(lease);
            Hold::Kept
        }
        _ => Hold::Lost,
    }
}

/// See [`Keys::complete`](crate::store::keys::Keys::complete).
pub(super) fn complete(
    key: &mut Option<Kept>,
    owner: Uuid,
    (response, retention): (&SavedResponse, Duration),
    now: Timestamp,
) -> Hold {
    let Some(kept) = owned(key, owner) else { return Hold::Lost };
    if kept.stage != Stage::Completed {
        kept.complete(response, now, retention);
    }
    Hold::Kept
}

/// See [`Keys::abandon`](crate::store::keys::Keys::abandon).
pub(super) fn abandon(key: &mut Option<Kept>, owner: Uuid) -> Hold {
    match key {
        None => Hold::Kept,
        Some(kept) if kept.owner != Some(owner) || kept.stage == Stage::Completed => Hold::Lost,
        Some(_) => {
            *key = None;
            Hold::Kept
        }
    }
}

/// See [`Keys::mark_unknown`](crate::store::keys::Keys::mark_unknown).
pub(super) fn mark_unknown(key: &mut Option<Kept>, owner: Uuid, note: &str) -> Hold {
    match owned(key, owner) {
        Some(kept) if kept.stage != Stage::Completed => {
            kept.stage = Stage::MarkedUnknown;
            kept.note = Some(note.to_owned());
            Hold::Kept
        }
        _ => Hold::Lost,
    }
}

/// See [`Keys::resolve`](crate::store::keys::Keys::resolve).
pub(super) fn resolve(key: &mut Option<Kept>, resolution: &Resolution, now: Timestamp) -> Resolved {
    let Some(kept) = key else {
        return match resolution {
            Resolution::Free => Resolved::Done,
            Resolution::Complete { .. } => Resolved::NotFound,
        };
    };
    match (kept.state(now), resolution) {
        (KeyState::InProgress, _) => Resolved::InProgress,
        (KeyState::Completed, Resolution::Complete { response, .. })
            if kept.response.as_ref() == Some(response) =>
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
            *key = None;
            Resolved::Done
        }
    }
}

fn owned(key: &mut Option<Kept>, owner: Uuid) -> Option<&mut Kept> {
    key.as_mut().filter(|kept| kept.owner == Some(owner))
}

fn key_id(row: &Row) -> Result<KeyId, Trouble> {
    Ok(KeyId::from_bytes(codes::bytes(row, "id")?))
}
