//! What workers ask: claim, extend, settle, release.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use redis::{Value, from_redis_value};
use uuid::Uuid;

use super::{
    admit::{Meta, json, unexpected},
    connection::{Connection, Session, server_error},
    line,
    scripts::{self, Call},
};
use crate::{
    clock::Timestamp,
    delivery::{Attempt, AttemptOutcome, Claim, DeliveryId, Lease, Leased, Settlement, Verdict},
    event::{Event, EventId},
    limits,
    request::Headers,
    store::{Claimed, Hold, Release, StoreError, batch::Batches},
};

/// Settles what waits, batch by batch, until every caller is gone.
pub(super) async fn serve(
    connection: Arc<Connection>,
    mut batches: Batches<Settlement, Result<Hold, StoreError>>,
) {
    while let Some(batch) = batches.next().await {
        let (settlements, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.call, waiting.reply)).unzip();
        match settle(&connection, &settlements).await {
            Ok(answers) => {
                replies.into_iter().zip(answers).for_each(|(reply, answer)| reply.send(answer));
            }
            Err(error) => replies.into_iter().for_each(|reply| reply.send(Err(error.clone()))),
        }
    }
}

/// About how many bytes a settlement takes on its way.
pub(super) fn size(settlement: &Settlement) -> usize {
    let texts = [&settlement.attempt.error, &settlement.attempt.excerpt];
    256 + texts.into_iter().flatten().map(|text| 2 * text.len()).sum::<usize>()
}

async fn settle(
    connection: &Arc<Connection>,
    settlements: &[Settlement],
) -> Result<Vec<Result<Hold, StoreError>>, StoreError> {
    let session = connection.session().await?;
    let mut call = Call::of(&scripts::SETTLE, &session);
    call.arg(limits::ATTEMPTS_KEPT_MAX);
    for Settlement { lease, verdict, attempt } in settlements {
        let (word, due) = match verdict {
            Verdict::RetryAt(due) => ("q", session.to_server(*due)),
            Verdict::Done => ("d", 0),
            Verdict::Dead => ("x", 0),
        };
        call.arg(lease.delivery.as_bytes().as_slice())
            .arg(lease.token)
            .arg(word)
            .arg(due)
            .arg(u8::from(attempt.outcome == AttemptOutcome::Died))
            .arg(json(attempt)?)
            .arg(attempt.error.as_deref().unwrap_or_default());
    }
    let answers: Vec<Vec<u8>> = session.call(&call).await?;
    if answers.len() != settlements.len() {
        return Err(StoreError::Failed(
            "redis answered another number of settlements than asked".to_owned(),
        ));
    }
    Ok(answers.iter().map(|answer| hold(answer)).collect())
}

pub(super) fn hold(answer: &[u8]) -> Result<Hold, StoreError> {
    match answer.split_first() {
        Some((b'K', _)) => Ok(Hold::Kept),
        Some((b'L', _)) => Ok(Hold::Lost),
        Some((b'E', error)) => Err(server_error(&String::from_utf8_lossy(error))),
        _ => Err(unexpected()),
    }
}

/// See [`Store::claim`](crate::store::Store::claim).
pub(super) async fn claim(
    session: &Session,
    claim: &Claim,
    bytes_max: usize,
    not_after: Timestamp,
) -> Result<Claimed, StoreError> {
    let died = Attempt::died(0, Timestamp::default()).error.unwrap_or_default();
    let mut call = Call::of(&scripts::CLAIM, session);
    call.arg(session.to_server(not_after))
        .arg(&*claim.handler)
        .arg(claim.worker.as_bytes().as_slice())
        .arg(claim.id.as_bytes().as_slice())
        .arg(claim.deliveries_max)
        .arg(bytes_max)
        .arg(millis(claim.lease))
        .arg(claim.attempts_max)
        .arg(limits::ATTEMPTS_KEPT_MAX)
        .arg(died);
    let answer: Value = session.call(&call).await?;
    if let Value::BulkString(word) = &answer {
        return Err(refused(word));
    }
    let (next, dead, rows): (String, usize, Vec<Row>) =
        from_redis_value(answer).map_err(|_| unexpected())?;
    Ok(Claimed {
        // What is gone, or is not ours to read, cannot be run: it is not handed out.
        deliveries: rows.into_iter().filter_map(|row| leased(row, &claim.handler)).collect(),
        next_due_at: next.parse().ok().map(|next| session.to_ours(next)).filter(is_some_time),
        dead,
    })
}

/// What awaits its turn in line is due never.
fn is_some_time(due_at: &Timestamp) -> bool {
    *due_at < Timestamp::NEVER
}

/// What a bucket has for a claim.
pub(super) struct Seen {
    /// What is due, the longest first, with since when: in the server's time, which all nodes tell alike,
    /// and to the millisecond.
    pub(super) due: Vec<(i64, DeliveryId)>,
    /// When the next one is due, whether it is by now or not.
    pub(super) next: Option<Timestamp>,
    /// What is remembered of the worker's last claim.
    pub(super) last_claim: Option<Vec<u8>>,
}

/// A member of a sorted set, and its score.
type Scored = (Vec<u8>, i64);

/// Looks what a claim could take, and takes nothing.
pub(super) async fn look(session: &Session, claim: &Claim) -> Result<Seen, StoreError> {
    let bucket = session.bucket();
    let last = claim.deliveries_max.max(1) - 1;
    let mut commands = redis::pipe();
    commands.cmd("TIME");
    commands.cmd("ZRANGE").arg(bucket.key("q", claim.handler.as_bytes())).arg(0).arg(last);
    commands.arg("WITHSCORES");
    commands.cmd("GET").arg(bucket.key("l", claim.worker.as_bytes()));
    let ((seconds, micros), waiting, last_claim): ((i64, i64), Vec<Scored>, Option<Vec<u8>>) =
        session.pipeline(&commands).await?;
    let now = seconds * 1000 + micros / 1000;
    let next = waiting.first().map(|(_, due)| session.to_ours(*due)).filter(is_some_time);
    let due = waiting.into_iter().filter(|(_, due)| *due <= now);
    let due = due.filter_map(|(id, due)| Some((due, delivery_id(&id)?)));
    let due = due.take(claim.deliveries_max).collect();
    Ok(Seen { due, next, last_claim })
}

/// Makes a bucket forget what the worker's last claim got in it.
pub(super) async fn forget_last_claim(session: &Session, worker: Uuid) -> Result<(), StoreError> {
    let mut command = redis::cmd("DEL");
    command.arg(session.bucket().key("l", worker.as_bytes()));
    session.query(&command).await
}

/// A word in place of an answer.
pub(super) fn refused(word: &[u8]) -> StoreError {
    match word.split_first() {
        Some((b'L', _)) => StoreError::Late,
        Some((b'E', error)) => server_error(&String::from_utf8_lossy(error)),
        _ => unexpected(),
    }
}

/// Delivery, token, attempt, attempts before redrive, replay of, deaths in a row, order; then the event:
/// id, meta, headers, body, resent.
type Row = (
    Vec<u8>,
    u64,
    u32,
    u32,
    Vec<u8>,
    u32,
    Vec<u8>,
    Vec<u8>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
);

fn leased(row: Row, handler: &Arc<str>) -> Option<Leased> {
    let (
        delivery,
        token,
        attempt,
        attempts_before_redrive,
        replay_of,
        deaths,
        order,
        id,
        meta,
        headers,
        body,
        resent,
    ) = row;
    Some(Leased {
        lease: Lease { delivery: delivery_id(&delivery)?, token },
        handler: Arc::clone(handler),
        attempt,
        attempts_before_redrive,
        replay_of: delivery_id(&replay_of),
        deaths_in_a_row: deaths,
        order_key: line::order(&order).map(|order| order.key),
        event: Arc::new(event(&id, &meta?, &headers?, body?, resent.as_deref())?.0),
    })
}

/// The event under this id, and what is kept beside it.
pub(super) fn event(
    id: &[u8],
    meta: &[u8],
    headers: &[u8],
    body: Vec<u8>,
    resent: Option<&[u8]>,
) -> Option<(Event, Meta)> {
    let meta: Meta = serde_json::from_slice(meta).ok()?;
    let event = Event {
        // Whoever completed a script that broke off wrote under the id of the first.
        id: event_id(id)?,
        resent_under_new_id: resent == Some(b"1"),
        headers: Headers::from_lines(headers),
        body: Bytes::from(body),
        ..meta.event.clone()
    };
    Some((event, meta))
}

pub(super) fn event_id(bytes: &[u8]) -> Option<EventId> {
    bytes.try_into().ok().map(EventId::from_bytes)
}

pub(super) fn delivery_id(bytes: &[u8]) -> Option<DeliveryId> {
    bytes.try_into().ok().map(DeliveryId::from_bytes)
}

/// See [`Store::extend`](crate::store::Store::extend).
pub(super) async fn extend(
    session: &Session,
    leases: &[Lease],
    lease: Duration,
) -> Result<Vec<Hold>, StoreError> {
    let mut call = Call::of(&scripts::EXTEND, session);
    call.arg(millis(lease));
    add_leases(&mut call, leases);
    let answers: Vec<Vec<u8>> = session.call(&call).await?;
    answers.iter().map(|answer| hold(answer)).collect()
}

/// See [`Store::release`](crate::store::Store::release).
pub(super) async fn release(session: &Session, release: &Release) -> Result<(), StoreError> {
    let mut call = Call::of(&scripts::RELEASE, session);
    match release {
        Release::Leases(leases) => {
            call.arg("").arg("");
            add_leases(&mut call, leases);
        }
        Release::Claim { worker, id, .. } => {
            call.arg(worker.as_bytes().as_slice()).arg(id.as_bytes().as_slice());
        }
    }
    session.call(&call).await
}

fn add_leases(call: &mut Call, leases: &[Lease]) {
    for lease in leases {
        call.arg(lease.delivery.as_bytes().as_slice()).arg(lease.token);
    }
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).min(1 << 45)
}
