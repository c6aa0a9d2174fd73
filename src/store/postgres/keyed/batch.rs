//! Many verbs about keys, one transaction: their rows are locked and read, changed here in the order of
//! the calls, and written back.
//!
//! A key that is free has no row to lock. Of two processes that begin it at once one finds the other's
//! row when it inserts its own: its batch is rolled back, and the call, run again alone, reads that row.

use std::collections::BTreeMap;

use tokio_postgres::types::ToSql;

use super::{
    super::{
        codes,
        connection::{Purpose, Turn},
        delivery::column,
        error::Trouble,
        serve::{Answer, Call},
    },
    kept::{self, Kept, Stage},
};
use crate::{
    clock::Timestamp,
    key::{KeyId, SavedResponse},
    store::{
        StoreError,
        keys::{Begun, KeyedAnswer, KeyedCall},
    },
};

/// The statements of this file.
pub(in crate::store::postgres) const STATEMENTS: &[&str] =
    &[LOCK, RESPONSES, INSERT, UPDATE, FORGET, FORGET_RESPONSES, SAVE_RESPONSES];

const LOCK: &str = "SELECT * FROM keyed WHERE id = ANY($1) ORDER BY id FOR UPDATE";

/// Not joined to the rows that are locked: a statement that waited for a lock sees of other tables what
/// was there before it waited, and so would miss the answer that was saved meanwhile.
pub(super) const RESPONSES: &str = "SELECT * FROM saved_responses WHERE id = ANY($1)";

const INSERT: &str = "INSERT INTO keyed
    SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
        $6::bigint[], $7::smallint[], $8::uuid[], $9::bytea[], $10::text[], $11::text[], $12::text[],
        $13::text[], $14::text[], $15::text[]) AS new(id) ORDER BY new.id";

const UPDATE: &str = "UPDATE keyed SET
        begun_at = new.begun_at, lease_until = new.lease_until, completed_at = new.completed_at,
        expires_at = new.expires_at, replays = new.replays, stage = new.stage, owner = new.owner,
        fingerprint = new.fingerprint, note = new.note
    FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
            $7::smallint[], $8::uuid[], $9::bytea[], $10::text[])
        AS new(id, begun_at, lease_until, completed_at, expires_at, replays, stage, owner,
            fingerprint, note)
    WHERE keyed.id = new.id";

const FORGET: &str = "DELETE FROM keyed WHERE id = ANY($1)";
const FORGET_RESPONSES: &str = "DELETE FROM saved_responses WHERE id = ANY($1)";

const SAVE_RESPONSES: &str = "INSERT INTO saved_responses
    SELECT * FROM unnest($1::bytea[], $2::integer[], $3::bytea[], $4::bytea[])";

impl KeyedCall {
    fn key(&self) -> KeyId {
        match self {
            Self::Begin(begin, _) => begin.scope.id(),
            Self::Extend { key, .. }
            | Self::Complete { key, .. }
            | Self::Abandon { key, .. }
            | Self::MarkUnknown { key, .. }
            | Self::Resolve { key, .. } => *key,
        }
    }

    /// By when it must be done, if it is not fenced by a token.
    fn not_after(&self) -> Option<Timestamp> {
        match self {
            Self::Begin(_, not_after) | Self::Resolve { not_after, .. } => Some(*not_after),
            Self::Extend { .. }
            | Self::Complete { .. }
            | Self::Abandon { .. }
            | Self::MarkUnknown { .. } => None,
        }
    }

    fn run(
        &self,
        key: &mut Option<Kept>,
        now: Timestamp,
        is_late: bool,
    ) -> Result<KeyedAnswer, StoreError> {
        Ok(match self {
            Self::Begin(begin, _) => {
                let begun = kept::begin(key, begin, now, is_late);
                KeyedAnswer::Begun(begun.ok_or(StoreError::Late)?)
            }
            Self::Resolve { .. } if is_late => return Err(StoreError::Late),
            Self::Resolve { resolution, .. } => {
                KeyedAnswer::Resolved(kept::resolve(key, resolution, now))
            }
            Self::Extend { owner, lease, .. } => {
                KeyedAnswer::Held(kept::extend(key, *owner, *lease, now))
            }
            Self::Complete { owner, response, retention, .. } => {
                KeyedAnswer::Held(kept::complete(key, *owner, (response, *retention), now))
            }
            Self::Abandon { owner, .. } => KeyedAnswer::Held(kept::abandon(key, *owner)),
            Self::MarkUnknown { owner, note, .. } => {
                KeyedAnswer::Held(kept::mark_unknown(key, *owner, note))
            }
        })
    }
}

impl Call for KeyedCall {
    type Answer = KeyedAnswer;

    async fn run(turn: &Turn<'_>, calls: &[Self]) -> Result<Vec<Answer<Self>>, Trouble> {
        let ((), now, mut keys) =
            tokio::try_join!(biased; begin(turn, calls), turn.now(), lock(turn, calls))?;
        let mut answers = Vec::with_capacity(calls.len());
        // What is late by now does nothing, or was done before.
        let mut done_by = None;
        for call in calls {
            let key = keys.entry(call.key()).or_default();
            if key.now.as_ref().is_some_and(|kept| kept.is_over(now)) {
                key.now = None; // free, and only its row is still there
            }
            let not_after = call.not_after().map(|not_after| turn.to_server(not_after));
            let is_late = not_after.is_some_and(|not_after| now > not_after);
            let in_time = call.not_after().filter(|_| !is_late);
            done_by = done_by.into_iter().chain(in_time).min();
            answers.push(call.run(&mut key.now, now, is_late));
        }
        let in_time = async {
            match done_by {
                Some(not_after) => turn.in_time(not_after).await,
                None => Ok(()),
            }
        };
        tokio::try_join!(biased; write(turn, &keys), in_time, turn.commit())?;
        Ok(answers.into_iter().map(|answer| answer.map(|answer| ours(turn, answer))).collect())
    }
}

/// Begins a transaction for all of these calls. Where the store lets only some of them be done, they are
/// tried alone.
async fn begin(turn: &Turn<'_>, calls: &[KeyedCall]) -> Result<(), Trouble> {
    let all_end = calls.iter().all(KeyedCall::ends);
    let purpose = if all_end { Purpose::End } else { Purpose::Serve };
    turn.begin(purpose).await.map_err(|trouble| {
        let is_moving = matches!(trouble.error, StoreError::Moving(_));
        Trouble { is_of_one: trouble.is_of_one || is_moving, ..trouble }
    })
}

/// A key as it was found and as it is now. Free is `None`.
#[derive(Debug, Default)]
struct Key {
    found: Option<Kept>,
    now: Option<Kept>,
}

async fn lock(turn: &Turn<'_>, calls: &[KeyedCall]) -> Result<BTreeMap<KeyId, Key>, Trouble> {
    let ids: Vec<Vec<u8>> = calls.iter().map(|call| call.key().as_bytes().to_vec()).collect();
    let ids: [&(dyn ToSql + Sync); 1] = [&ids];
    let (rows, responses) =
        tokio::try_join!(biased; turn.query(LOCK, &ids), turn.query(RESPONSES, &ids))?;
    let mut responses: BTreeMap<KeyId, SavedResponse> =
        responses.iter().map(kept::response).collect::<Result<_, _>>()?;
    let key = |row| {
        let mut kept = Kept::read(row)?;
        kept.response = responses.remove(&kept.id);
        if kept.stage == Stage::Completed && kept.response.is_none() {
            return Err(Trouble::odd("a completed key has no answer"));
        }
        Ok((kept.id, Key { found: Some(kept.clone()), now: Some(kept) }))
    };
    rows.iter().map(key).collect()
}

/// Sends what changed. The statements go out with the first poll, in this order.
async fn write(turn: &Turn<'_>, keys: &BTreeMap<KeyId, Key>) -> Result<(), Trouble> {
    let id = |kept: &Kept| kept.id.as_bytes().to_vec();
    let (mut new, mut changed, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    let (mut saved, mut unsaved) = (Vec::new(), Vec::new());
    for key in keys.values() {
        match (&key.found, &key.now) {
            (None, Some(kept)) => new.push(kept),
            (Some(_), Some(kept)) => changed.push(kept),
            (Some(found), None) => gone.push(id(found)),
            (None, None) => {}
        }
        let found = key.found.as_ref().and_then(|kept| kept.response.as_ref());
        let kept = key.now.as_ref();
        let response = kept.and_then(|kept| kept.response.as_ref());
        if found != response {
            unsaved.extend(key.found.as_ref().filter(|_| found.is_some()).map(id));
            saved.extend(kept.zip(response));
        }
    }
    tokio::try_join!(
        biased;
        insert(turn, &new),
        update(turn, &changed),
        forget(turn, FORGET, &gone),
        forget(turn, FORGET_RESPONSES, &unsaved),
        save(turn, &saved),
    )
    .map(drop)
}

/// Inserts new keys, without their answers.
pub(super) async fn insert(turn: &Turn<'_>, new: &[&Kept]) -> Result<(), Trouble> {
    if new.is_empty() {
        return Ok(());
    }
    let values: [&(dyn ToSql + Sync); 15] = [
        &column(new, |kept| kept.id.as_bytes().to_vec()),
        &column(new, |kept| kept.begun_at.as_millis()),
        &column(new, |kept| kept.lease_until.as_millis()),
        &column(new, |kept| kept.completed_at.map(Timestamp::as_millis)),
        &column(new, |kept| kept.expires_at.map(Timestamp::as_millis)),
        &column(new, |kept| codes::of_number(kept.replays)),
        &column(new, |kept| kept.stage as i16),
        &column(new, |kept| kept.owner),
        &column(new, |kept| kept.fingerprint.as_bytes().to_vec()),
        &column(new, |kept| codes::of_text(&kept.scope.api)),
        &column(new, |kept| codes::of_text(&kept.scope.method)),
        &column(new, |kept| codes::of_text(&kept.scope.path)),
        &column(new, |kept| codes::of_text(&kept.scope.principal)),
        &column(new, |kept| codes::of_text(&kept.scope.key)),
        &column(new, |kept| codes::of_some_text(kept.note.as_deref())),
    ];
    turn.execute(INSERT, &values).await.map(drop)
}

async fn update(turn: &Turn<'_>, changed: &[&Kept]) -> Result<(), Trouble> {
    if changed.is_empty() {
        return Ok(());
    }
    let values: [&(dyn ToSql + Sync); 10] = [
        &column(changed, |kept| kept.id.as_bytes().to_vec()),
        &column(changed, |kept| kept.begun_at.as_millis()),
        &column(changed, |kept| kept.lease_until.as_millis()),
        &column(changed, |kept| kept.completed_at.map(Timestamp::as_millis)),
        &column(changed, |kept| kept.expires_at.map(Timestamp::as_millis)),
        &column(changed, |kept| codes::of_number(kept.replays)),
        &column(changed, |kept| kept.stage as i16),
        &column(changed, |kept| kept.owner),
        &column(changed, |kept| kept.fingerprint.as_bytes().to_vec()),
        &column(changed, |kept| codes::of_some_text(kept.note.as_deref())),
    ];
    turn.execute(UPDATE, &values).await.map(drop)
}

async fn forget(turn: &Turn<'_>, sql: &'static str, ids: &[Vec<u8>]) -> Result<(), Trouble> {
    if ids.is_empty() {
        return Ok(());
    }
    turn.execute(sql, &[&ids]).await.map(drop)
}

/// Inserts the answers of keys.
pub(super) async fn save(
    turn: &Turn<'_>,
    saved: &[(&Kept, &SavedResponse)],
) -> Result<(), Trouble> {
    if saved.is_empty() {
        return Ok(());
    }
    let values: [&(dyn ToSql + Sync); 4] = [
        &column(saved, |(kept, _)| kept.id.as_bytes().to_vec()),
        &column(saved, |(_, response)| i32::from(response.status)),
        &column(saved, |(_, response)| response.headers.to_lines()),
        &column(saved, |(_, response)| response.body.to_vec()),
    ];
    turn.execute(SAVE_RESPONSES, &values).await.map(drop)
}

/// The answer with our own times in it.
fn ours(turn: &Turn<'_>, answer: KeyedAnswer) -> KeyedAnswer {
    match answer {
        KeyedAnswer::Begun(Begun::Completed { response, completed_at, expires_at }) => {
            let completed_at = turn.to_ours(completed_at);
            let expires_at = turn.to_ours(expires_at);
            KeyedAnswer::Begun(Begun::Completed { response, completed_at, expires_at })
        }
        other => other,
    }
}
