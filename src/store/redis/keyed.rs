//! Keyed requests: each verb one short script on one key. `keyed.lua` says what is kept.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use redis::{FromRedisValue, Script, Value, from_redis_value};
use uuid::Uuid;

use super::{
    RedisStore,
    admit::{json, unexpected},
    bucket::Served,
    connection::Session,
    keys,
    scripts::{self, Call},
    work::{hold, millis},
};
use crate::{
    clock::Timestamp,
    key::{Fingerprint, KeyId, KeyRecord, KeyScope, KeyState, SavedResponse},
    request::Headers,
    store::{
        Hold, StoreError,
        keys::{Begin, Begun, KeyCounts, KeyFilter, Keys, OnUnknown, Resolution, Resolved},
    },
};

/// How many keys one round trip reads.
const PAGE: usize = 200;

#[async_trait]
impl Keys for RedisStore {
    async fn begin(&self, begin: &Begin, not_after: Timestamp) -> Result<Begun, StoreError> {
        let served = self.home_of(begin.scope.id())?;
        let session = served.connection.session().await?;
        let mut call = script(&session, &scripts::BEGIN, begin.scope.id());
        call.arg(begin.owner.as_bytes().as_slice())
            .arg(begin.fingerprint.as_bytes().as_slice())
            .arg(session.to_server(not_after))
            .arg(millis(begin.lease))
            .arg(u8::from(begin.on_unknown == OnUnknown::Retry))
            .arg(&begin.scope.api)
            .arg(json(&begin.scope)?)
            // By our own clock: it orders pages, and is read back as it was written.
            .arg(served.connection.clock.now().as_millis());
        begun(&session, session.call(&call).await?)
    }

    async fn extend_key(
        &self,
        key: KeyId,
        owner: Uuid,
        lease: Duration,
    ) -> Result<Hold, StoreError> {
        let session = self.home_of(key)?.connection.session().await?;
        let mut call = script(&session, &scripts::EXTEND_KEY, key);
        call.arg(owner.as_bytes().as_slice()).arg(millis(lease));
        hold(&session.call::<Vec<u8>>(&call).await?)
    }

    async fn complete(
        &self,
        key: KeyId,
        owner: Uuid,
        response: &SavedResponse,
        retention: Duration,
    ) -> Result<Hold, StoreError> {
        let session = self.home_of(key)?.connection.session().await?;
        let mut call = script(&session, &scripts::COMPLETE, key);
        call.arg(owner.as_bytes().as_slice());
        add_response(&mut call, response, retention);
        hold(&session.call::<Vec<u8>>(&call).await?)
    }

    async fn abandon(&self, key: KeyId, owner: Uuid) -> Result<Hold, StoreError> {
        let session = self.home_of(key)?.connection.session().await?;
        let mut call = script(&session, &scripts::ABANDON, key);
        call.arg(owner.as_bytes().as_slice());
        hold(&session.call::<Vec<u8>>(&call).await?)
    }

    async fn mark_unknown(&self, key: KeyId, owner: Uuid, note: &str) -> Result<Hold, StoreError> {
        let session = self.home_of(key)?.connection.session().await?;
        let mut call = script(&session, &scripts::MARK_UNKNOWN, key);
        call.arg(owner.as_bytes().as_slice()).arg(note);
        hold(&session.call::<Vec<u8>>(&call).await?)
    }

    async fn resolve(
        &self,
        key: KeyId,
        resolution: &Resolution,
        not_after: Timestamp,
    ) -> Result<Resolved, StoreError> {
        let session = self.home_of(key)?.connection.session().await?;
        let mut call = script(&session, &scripts::RESOLVE, key);
        call.arg(session.to_server(not_after));
        if let Resolution::Complete { response, retention } = resolution {
            add_response(&mut call, response, *retention);
        }
        match session.call::<Vec<u8>>(&call).await?.as_slice() {
            b"D" => Ok(Resolved::Done),
            b"P" => Ok(Resolved::InProgress),
            b"C" => Ok(Resolved::Completed),
            b"N" => Ok(Resolved::NotFound),
            b"L" => Err(StoreError::Late),
            _ => Err(unexpected()),
        }
    }

    async fn keys(&self, filter: &KeyFilter) -> Result<Vec<KeyRecord>, StoreError> {
        let mut rows = Vec::new();
        for found in join_all(self.buckets.iter().map(|served| keys_in(served, filter))).await {
            rows.extend(found?);
        }
        rows.sort_unstable_by_key(|row| Reverse((row.begun_at, row.id)));
        rows.dedup_by_key(|row| row.id); // what is begun meanwhile moves the others down the list
        rows.truncate(filter.limit);
        Ok(rows)
    }

    async fn key(&self, key: KeyId) -> Result<Option<KeyRecord>, StoreError> {
        let session = self.home_of(key)?.connection.session().await?;
        Ok(records(&session, &[key.as_bytes().to_vec()]).await?.pop())
    }

    async fn key_counts(&self) -> Result<BTreeMap<String, KeyCounts>, StoreError> {
        let mut sums: BTreeMap<String, KeyCounts> = BTreeMap::new();
        for counted in join_all(self.buckets.iter().map(counts_in)).await {
            for (api, counts) in counted? {
                let sum = sums.entry(api).or_default();
                sum.in_progress += counts.in_progress;
                sum.unknown += counts.unknown;
            }
        }
        Ok(sums)
    }
}

impl RedisStore {
    /// The bucket that a key is kept in.
    fn home_of(&self, key: KeyId) -> Result<&Served, StoreError> {
        let number = keys::bucket_of_key(key.as_bytes(), self.buckets.len());
        self.buckets.get(number).ok_or_else(unexpected)
    }
}

/// Takes a lot of completed keys that are over out of the lists of a bucket.
pub(super) async fn prune(
    session: &Session,
    now: Timestamp,
    lot: usize,
) -> Result<usize, StoreError> {
    let mut call = Call::of(&scripts::PRUNE_KEYS, session);
    call.arg(session.to_server(now)).arg(lot);
    session.call(&call).await
}

/// A call of a script about this key.
fn script(session: &Session, script: &'static Script, key: KeyId) -> Call {
    let mut call = Call::of(script, session);
    call.arg(key.as_bytes().as_slice());
    call
}

/// A page of the keys in one bucket.
async fn keys_in(served: &Served, filter: &KeyFilter) -> Result<Vec<KeyRecord>, StoreError> {
    match filter.state {
        Some(KeyState::InProgress | KeyState::Unknown) => open_keys_in(served, filter).await,
        Some(KeyState::Completed) | None => any_keys_in(served, filter).await,
    }
}

/// Of the keys that are not completed, which are few among many. They stand by the ends of their leases.
async fn open_keys_in(served: &Served, filter: &KeyFilter) -> Result<Vec<KeyRecord>, StoreError> {
    let session = served.connection.session().await?;
    let mut command = redis::cmd("SMEMBERS");
    command.arg(served.bucket.key("O", b""));
    let apis: Vec<String> = session.query(&command).await?;
    let mut rows = Vec::new();
    for api in apis.iter().filter(|api| filter.api.as_ref().is_none_or(|wanted| wanted == *api)) {
        let mut command = redis::cmd("ZRANGE");
        command.arg(served.bucket.key("o", api.as_bytes())).arg(0).arg(-1);
        let ids: Vec<Vec<u8>> = session.query(&command).await?;
        for page in ids.chunks(PAGE) {
            let found = records(&session, page).await?;
            rows.extend(found.into_iter().filter(|row| filter.takes(row)));
        }
    }
    Ok(rows)
}

/// Along all keys, those begun last first.
async fn any_keys_in(served: &Served, filter: &KeyFilter) -> Result<Vec<KeyRecord>, StoreError> {
    let all = served.bucket.key("K", b"");
    let mut first: usize = match filter.before {
        None => 0,
        Some((begun_at, _)) => {
            let mut command = redis::cmd("ZCOUNT");
            command.arg(&all).arg(format!("({}", begun_at.as_millis())).arg("+inf");
            served.connection.session().await?.query(&command).await?
        }
    };
    let mut rows = Vec::new();
    loop {
        let session = served.connection.session().await?;
        let mut command = redis::cmd("ZRANGE");
        command.arg(&all).arg(first).arg(first + PAGE - 1).arg("REV");
        let ids: Vec<Vec<u8>> = session.query(&command).await?;
        first += PAGE;
        let found = records(&session, &ids).await?;
        rows.extend(found.into_iter().filter(|row| filter.takes(row)));
        if rows.len() >= filter.limit || ids.len() < PAGE {
            break;
        }
    }
    Ok(rows)
}

/// The gauges of the APIs that one bucket has open keys of.
async fn counts_in(served: &Served) -> Result<Vec<(String, KeyCounts)>, StoreError> {
    let session = served.connection.session().await?;
    let mut commands = redis::pipe();
    commands.cmd("TIME").cmd("SMEMBERS").arg(served.bucket.key("O", b""));
    let (time, apis): ((i64, i64), Vec<String>) = session.pipeline(&commands).await?;
    if apis.is_empty() {
        return Ok(Vec::new());
    }
    let now = server_millis(time);
    let mut commands = redis::pipe();
    for api in &apis {
        let open = served.bucket.key("o", api.as_bytes());
        commands.cmd("ZCOUNT").arg(&open).arg(format!("({now}")).arg("+inf");
        commands.cmd("ZCOUNT").arg(&open).arg("-inf").arg(now);
    }
    let counted: Vec<u64> = session.pipeline(&commands).await?;
    let (pairs, _) = counted.as_chunks::<2>();
    let counts = pairs
        .iter()
        .map(|[in_progress, unknown]| KeyCounts { in_progress: *in_progress, unknown: *unknown });
    Ok(apis.into_iter().zip(counts).filter(|(_, counts)| *counts != KeyCounts::default()).collect())
}

/// What is kept under these ids, in order, without those that are free.
async fn records(session: &Session, ids: &[Vec<u8>]) -> Result<Vec<KeyRecord>, StoreError> {
    let bucket = session.bucket();
    let mut commands = redis::pipe();
    commands.cmd("TIME");
    for id in ids {
        commands.cmd("GET").arg(bucket.key("k", id));
        commands.cmd("HMGET").arg(bucket.key("i", id));
        commands.arg(&["sc", "b", "l", "t", "n", "no"]);
    }
    let answers: Vec<Value> = session.pipeline(&commands).await?;
    let mut answers = answers.into_iter();
    let now = server_millis(read(answers.next())?);
    let mut found = Vec::new();
    for id in ids {
        let value: Option<Vec<u8>> = read(answers.next())?;
        let fields: Fields = read(answers.next())?;
        // Either is missing when the key was freed, or is over, in between.
        let (Some(value), Some(_)) = (value, &fields.0) else { continue };
        found.extend(record(session, now, id, &value, fields).ok_or_else(unexpected)?);
    }
    Ok(found)
}

/// Scope, begun at, lease until, completed at, replays, note.
type Fields = (Option<Vec<u8>>, Option<i64>, Option<i64>, Option<i64>, Option<u64>, Option<String>);

/// A key from its value, which `keyed.lua` describes, and what is beside it. The outer `None` says
/// that nobody here wrote this, the inner one that the key is over.
#[expect(clippy::option_option, reason = "the two are told apart by the caller at once")]
fn record(
    session: &Session,
    now: i64,
    id: &[u8],
    value: &[u8],
    (scope, begun_at, lease_until, completed_at, replays, note): Fields,
) -> Option<Option<KeyRecord>> {
    let (stage, rest) = value.split_first()?;
    let (_owner, rest) = rest.split_at_checked(16)?;
    let (fingerprint, ends) = rest.split_first_chunk::<32>()?;
    let ends: i64 = std::str::from_utf8(ends).ok()?.parse().ok()?;
    let state = match stage {
        b'c' if ends <= now => return Some(None),
        b'c' => KeyState::Completed,
        b'b' if now < ends => KeyState::InProgress,
        b'b' | b'u' => KeyState::Unknown,
        _ => return None,
    };
    Some(Some(KeyRecord {
        id: KeyId::from_bytes(id.try_into().ok()?),
        scope: serde_json::from_slice::<KeyScope>(&scope?).ok()?,
        state,
        fingerprint: Fingerprint::from_bytes(*fingerprint),
        begun_at: Timestamp::from_millis(begun_at?),
        lease_until: session.to_ours(lease_until?),
        completed_at: completed_at.map(|at| session.to_ours(at)),
        expires_at: (state == KeyState::Completed).then(|| session.to_ours(ends)),
        replays: replays?,
        note,
    }))
}

/// What `begin.lua` answers.
fn begun(session: &Session, answer: Vec<Value>) -> Result<Begun, StoreError> {
    let mut answer = answer.into_iter();
    let word: String = read(answer.next())?;
    Ok(match word.as_str() {
        "S" => Begun::Started,
        "F" => Begun::InFlight { retry_in: Duration::from_millis(read(answer.next())?) },
        "M" => Begun::Mismatch,
        "U" => {
            let note: String = read(answer.next())?;
            Begun::Unknown { note: Some(note).filter(|note| !note.is_empty()) }
        }
        "C" => {
            let completed_at = session.to_ours(read(answer.next())?);
            let expires_at = session.to_ours(read(answer.next())?);
            let status = read(answer.next())?;
            let headers = Headers::from_lines(&read::<Vec<u8>>(answer.next())?);
            let body = Bytes::from(read::<Vec<u8>>(answer.next())?);
            let response = SavedResponse { status, headers, body };
            Begun::Completed { response, completed_at, expires_at }
        }
        "L" => return Err(StoreError::Late),
        _ => return Err(unexpected()),
    })
}

/// In the order in which the scripts read it.
fn add_response(call: &mut Call, response: &SavedResponse, retention: Duration) {
    call.arg(response.status)
        .arg(response.headers.to_lines())
        .arg(response.body.as_ref())
        .arg(millis(retention));
}

/// What TIME says, in milliseconds.
fn server_millis((seconds, micros): (i64, i64)) -> i64 {
    seconds * 1000 + micros / 1000
}

fn read<T: FromRedisValue>(answer: Option<Value>) -> Result<T, StoreError> {
    from_redis_value(answer.ok_or_else(unexpected)?).map_err(|_| unexpected())
}
