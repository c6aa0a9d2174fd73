//! What is written about a key, each verb within the writer's transaction.

use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::{stage, state};
use crate::{
    clock::Timestamp,
    key::{Fingerprint, KeyId, KeyState, SavedResponse},
    request::Headers,
    store::{
        Hold, StoreError,
        keys::{Begin, Begun, KeyedAnswer, KeyedCall, OnUnknown, Resolution, Resolved},
        sqlite::{codes, writer::Work},
    },
};

/// What is known of an outcome when the process that had the lease is dead.
const PROCESS_ENDED: &str = "the process that was at it ended before it could say";

/// A key that is not free, as its verbs need it.
struct Kept {
    number: i64,
    fingerprint: Fingerprint,
    owner: Option<Uuid>,
    state: KeyState,
    lease_until: Timestamp,
    note: Option<String>,
}

/// Ends the leases of the process before: nobody in it lives to use them.
pub(in crate::store::sqlite) fn void_leases(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "UPDATE keyed SET stage = ?1, note = ?2 WHERE stage < 2 AND stage = ?3";
    let void = params![stage::MARKED_UNKNOWN, PROCESS_ENDED, stage::BEGUN];
    connection.execute(sql, void).map(drop)
}

impl Work<'_> {
    /// See [`Keys`](crate::store::keys::Keys), verb by verb.
    pub(in crate::store::sqlite) fn keyed(
        &mut self,
        call: &KeyedCall,
    ) -> rusqlite::Result<Result<KeyedAnswer, StoreError>> {
        Ok(match call {
            KeyedCall::Begin(begin, not_after) => {
                self.begin(begin, *not_after)?.map(KeyedAnswer::Begun)
            }
            KeyedCall::Extend { key, owner, lease } => {
                Ok(KeyedAnswer::Held(self.extend_key(*key, *owner, *lease)?))
            }
            KeyedCall::Complete { key, owner, response, retention } => {
                Ok(KeyedAnswer::Held(self.complete(*key, *owner, response, *retention)?))
            }
            KeyedCall::Abandon { key, owner } => Ok(KeyedAnswer::Held(self.abandon(*key, *owner)?)),
            KeyedCall::MarkUnknown { key, owner, note } => {
                Ok(KeyedAnswer::Held(self.mark_unknown(*key, *owner, note)?))
            }
            KeyedCall::Resolve { key, resolution, not_after } => {
                self.resolve(*key, resolution, *not_after)?.map(KeyedAnswer::Resolved)
            }
        })
    }

    /// Takes away a lot of completed keys whose retention is over. Says how many went.
    pub(in crate::store::sqlite) fn prune_keys(
        &self,
        now: Timestamp,
        lot: usize,
    ) -> rusqlite::Result<usize> {
        let over = self
            .connection
            .prepare_cached(
                "SELECT number FROM keyed INDEXED BY keyed_expiring
                 WHERE expires_at IS NOT NULL AND expires_at <= ?1 ORDER BY expires_at LIMIT ?2",
            )?
            .query_map(params![now.as_millis(), lot], |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<i64>>>()?;
        for number in &over {
            self.forget_key(*number)?;
        }
        Ok(over.len())
    }

    fn begin(
        &self,
        begin: &Begin,
        not_after: Timestamp,
    ) -> rusqlite::Result<Result<Begun, StoreError>> {
        let now = self.clock.now();
        let kept = self.kept(begin.scope.id(), now)?;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.was_begun_by(begin)) {
            self.move_lease(kept.number, now.plus(begin.lease))?;
            return Ok(Ok(Begun::Started));
        }
        if let Err(late) = self.in_time(not_after) {
            return Ok(Err(late));
        }
        let Some(kept) = kept else {
            self.insert(begin, now)?;
            return Ok(Ok(Begun::Started));
        };
        if kept.fingerprint != begin.fingerprint {
            return Ok(Ok(Begun::Mismatch));
        }
        Ok(Ok(match kept.state {
            KeyState::InProgress => Begun::InFlight { retry_in: kept.lease_until.since(now) },
            KeyState::Completed => self.saved(kept.number)?,
            KeyState::Unknown if begin.on_unknown == OnUnknown::Retry => {
                self.take_over(kept.number, begin, now)?;
                Begun::Started
            }
            KeyState::Unknown => Begun::Unknown { note: kept.note },
        }))
    }

    fn extend_key(&self, key: KeyId, owner: Uuid, lease: Duration) -> rusqlite::Result<Hold> {
        let now = self.clock.now();
        match self.owned(key, owner, now)? {
            Some(kept) if kept.state == KeyState::InProgress => {
                self.move_lease(kept.number, now.plus(lease))?;
                Ok(Hold::Kept)
            }
            _ => Ok(Hold::Lost),
        }
    }

    fn complete(
        &self,
        key: KeyId,
        owner: Uuid,
        response: &SavedResponse,
        retention: Duration,
    ) -> rusqlite::Result<Hold> {
        let now = self.clock.now();
        let Some(kept) = self.owned(key, owner, now)? else { return Ok(Hold::Lost) };
        if kept.state != KeyState::Completed {
            self.save(kept.number, Some(owner), response, (now, now.plus(retention)))?;
        }
        Ok(Hold::Kept)
    }

    fn abandon(&self, key: KeyId, owner: Uuid) -> rusqlite::Result<Hold> {
        let Some(kept) = self.kept(key, self.clock.now())? else { return Ok(Hold::Kept) };
        if kept.owner != Some(owner) || kept.state == KeyState::Completed {
            return Ok(Hold::Lost);
        }
        self.forget_key(kept.number)?;
        Ok(Hold::Kept)
    }

    fn mark_unknown(&self, key: KeyId, owner: Uuid, note: &str) -> rusqlite::Result<Hold> {
        match self.owned(key, owner, self.clock.now())? {
            Some(kept) if kept.state != KeyState::Completed => {
                self.connection
                    .prepare_cached("UPDATE keyed SET stage = ?2, note = ?3 WHERE number = ?1")?
                    .execute(params![kept.number, stage::MARKED_UNKNOWN, note])?;
                Ok(Hold::Kept)
            }
            _ => Ok(Hold::Lost),
        }
    }

    fn resolve(
        &self,
        key: KeyId,
        resolution: &Resolution,
        not_after: Timestamp,
    ) -> rusqlite::Result<Result<Resolved, StoreError>> {
        let now = match self.in_time(not_after) {
            Ok(now) => now,
            Err(late) => return Ok(Err(late)),
        };
        let Some(kept) = self.kept(key, now)? else {
            return Ok(Ok(match resolution {
                Resolution::Free => Resolved::Done,
                Resolution::Complete { .. } => Resolved::NotFound,
            }));
        };
        Ok(Ok(match (kept.state, resolution) {
            (KeyState::InProgress, _) => Resolved::InProgress,
            (KeyState::Completed, Resolution::Complete { response, .. })
                if self::response(self.connection, kept.number)? == *response =>
            {
                Resolved::Done
            }
            (KeyState::Completed, _) => Resolved::Completed,
            (KeyState::Unknown, Resolution::Complete { response, retention }) => {
                self.save(kept.number, None, response, (now, now.plus(*retention)))?;
                Resolved::Done
            }
            (KeyState::Unknown, Resolution::Free) => {
                self.forget_key(kept.number)?;
                Resolved::Done
            }
        }))
    }

    /// The key, unless it is free. One whose retention is over is free, and is taken away.
    fn kept(&self, id: KeyId, now: Timestamp) -> rusqlite::Result<Option<Kept>> {
        let sql = "SELECT number, fingerprint, owner, stage, lease_until, note, expires_at
             FROM keyed WHERE id = ?1";
        let found = self
            .connection
            .prepare_cached(sql)?
            .query_row([id.as_bytes()], |row| {
                let lease_until = codes::time(row, 4)?;
                let kept = Kept {
                    number: row.get(0)?,
                    fingerprint: Fingerprint::from_bytes(row.get(1)?),
                    owner: codes::some_uuid(row, 2)?,
                    state: state(row.get(3)?, lease_until, now),
                    lease_until,
                    note: row.get(5)?,
                };
                Ok((kept, row.get::<_, Option<i64>>(6)?))
            })
            .optional()?;
        match found {
            Some((kept, Some(expires_at))) if expires_at <= now.as_millis() => {
                self.forget_key(kept.number)?;
                Ok(None)
            }
            found => Ok(found.map(|(kept, _)| kept)),
        }
    }

    fn owned(&self, id: KeyId, owner: Uuid, now: Timestamp) -> rusqlite::Result<Option<Kept>> {
        Ok(self.kept(id, now)?.filter(|kept| kept.owner == Some(owner)))
    }

    fn insert(&self, begin: &Begin, now: Timestamp) -> rusqlite::Result<()> {
        let scope = &begin.scope;
        self.connection
            .prepare_cached(
                "INSERT INTO keyed VALUES
                 (NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, NULL, NULL, 0, NULL)",
            )?
            .execute(params![
                scope.id().as_bytes(),
                scope.api,
                scope.method,
                scope.path,
                scope.principal,
                scope.key,
                begin.fingerprint.as_bytes(),
                begin.owner.as_bytes(),
                stage::BEGUN,
                now.as_millis(),
                now.plus(begin.lease).as_millis(),
            ])?;
        Ok(())
    }

    fn take_over(&self, number: i64, begin: &Begin, now: Timestamp) -> rusqlite::Result<()> {
        let sql = "UPDATE keyed SET owner = ?2, stage = ?3, begun_at = ?4, lease_until = ?5,
             note = NULL WHERE number = ?1";
        self.connection.prepare_cached(sql)?.execute(params![
            number,
            begin.owner.as_bytes(),
            stage::BEGUN,
            now.as_millis(),
            now.plus(begin.lease).as_millis(),
        ])?;
        Ok(())
    }

    fn move_lease(&self, number: i64, lease_until: Timestamp) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("UPDATE keyed SET lease_until = ?2 WHERE number = ?1")?
            .execute(params![number, lease_until.as_millis()])?;
        Ok(())
    }

    fn save(
        &self,
        number: i64,
        owner: Option<Uuid>,
        response: &SavedResponse,
        (completed_at, expires_at): (Timestamp, Timestamp),
    ) -> rusqlite::Result<()> {
        self.save_response(number, response)?;
        let sql = "UPDATE keyed SET owner = ?2, stage = ?3, completed_at = ?4, expires_at = ?5
             WHERE number = ?1";
        self.connection.prepare_cached(sql)?.execute(params![
            number,
            owner.as_ref().map(Uuid::as_bytes),
            stage::COMPLETED,
            completed_at.as_millis(),
            expires_at.as_millis(),
        ])?;
        Ok(())
    }

    /// Writes the bytes of an answer down.
    pub(super) fn save_response(
        &self,
        number: i64,
        response: &SavedResponse,
    ) -> rusqlite::Result<()> {
        let (headers, body) = (response.headers.to_lines(), response.body.as_ref());
        self.connection
            .prepare_cached("INSERT INTO saved_responses VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![number, response.status, headers, body])?;
        Ok(())
    }

    /// What a completed key answers, counted as a replay.
    fn saved(&self, number: i64) -> rusqlite::Result<Begun> {
        let sql = "UPDATE keyed SET replays = replays + 1 WHERE number = ?1
             RETURNING completed_at, expires_at";
        let (completed_at, expires_at) = self
            .connection
            .prepare_cached(sql)?
            .query_row([number], |row| Ok((codes::time(row, 0)?, codes::time(row, 1)?)))?;
        Ok(Begun::Completed {
            response: response(self.connection, number)?,
            completed_at,
            expires_at,
        })
    }

    fn forget_key(&self, number: i64) -> rusqlite::Result<()> {
        for sql in
            ["DELETE FROM saved_responses WHERE number = ?1", "DELETE FROM keyed WHERE number = ?1"]
        {
            self.connection.prepare_cached(sql)?.execute([number])?;
        }
        Ok(())
    }
}

impl Kept {
    /// Whether this very call was made before, and its answer lost.
    fn was_begun_by(&self, begin: &Begin) -> bool {
        self.owner == Some(begin.owner)
            && self.fingerprint == begin.fingerprint
            && self.state == KeyState::InProgress
    }
}

/// The answer of a completed key.
pub(super) fn response(connection: &Connection, number: i64) -> rusqlite::Result<SavedResponse> {
    let sql = "SELECT status, headers, body FROM saved_responses WHERE number = ?1";
    connection.prepare_cached(sql)?.query_row([number], |row| {
        Ok(SavedResponse {
            status: row.get(0)?,
            headers: Headers::from_lines(row.get_ref(1)?.as_blob()?),
            body: Bytes::from(row.get::<_, Vec<u8>>(2)?),
        })
    })
}
