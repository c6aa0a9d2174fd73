//! Admitting: many events, one call of the script.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    connection::{Connection, Session, server_error},
    keys,
    scripts::{self, Call},
};
use crate::{
    clock::Timestamp,
    event::{Digest, Duplicate, Event, EventId, NewEvent, ReplayGuard},
    limits,
    receipt::Admission,
    request::Headers,
    store::{StoreError, batch::Batches, encrypted::plain_bytes},
};

/// An event, and when it is too late for it.
pub(super) type Asked = (NewEvent, Timestamp);

/// What became of one event.
pub(super) type Answer = Result<(EventId, Admission), StoreError>;

/// What is kept of an event beside its headers and its body, and never changes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) event: Event,
    pub(super) identity: Option<String>,
    /// Kept for whoever carries the event to another store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<Digest>,
    pub(super) mark_until: Option<Timestamp>,
    pub(super) body_bytes: usize,
}

/// Admits what waits, batch by batch, until every caller is gone.
pub(super) async fn serve(connection: Arc<Connection>, mut batches: Batches<Asked, Answer>) {
    while let Some(batch) = batches.next().await {
        let (asked, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.call, waiting.reply)).unzip();
        match admit(&connection, &asked).await {
            Ok(answers) => {
                replies.into_iter().zip(answers).for_each(|(reply, answer)| reply.send(answer));
            }
            Err(error) => replies.into_iter().for_each(|reply| reply.send(Err(error.clone()))),
        }
    }
}

async fn admit(connection: &Arc<Connection>, asked: &[Asked]) -> Result<Vec<Answer>, StoreError> {
    let session = connection.session().await?;
    let mut call = Call::of(&scripts::ADMIT, &session);
    call.arg(limits::HELD_PER_SOURCE_MAX).arg(limits::DUPLICATES_KEPT_MAX);
    add_requests(&mut call, asked);
    for (event, not_after) in asked {
        add(&mut call, event, *not_after, &session)?;
    }
    let answers: Vec<Vec<u8>> = session.call(&call).await?;
    if answers.len() != asked.len() {
        return Err(StoreError::Failed(
            "redis answered another number of events than asked".to_owned(),
        ));
    }
    let named = answers.iter().zip(asked).map(|(answer, (event, _))| read(answer, &event.source));
    Ok(named.collect())
}

/// Adds the requests that these events came in and that are kept, each once.
fn add_requests(call: &mut Call, asked: &[Asked]) {
    let mut requests = BTreeMap::new();
    for (event, _) in asked {
        requests.extend(event.request.as_ref().map(|request| (request.id, (event, &request.body))));
    }
    call.arg(requests.len());
    for (id, (event, body)) in requests {
        call.arg(id.as_bytes().as_slice()).arg(event.headers.to_lines()).arg(body.as_ref());
    }
}

/// Adds one event, in the order `admit.lua` reads.
fn add(
    call: &mut Call,
    event: &NewEvent,
    not_after: Timestamp,
    session: &Session,
) -> Result<(), StoreError> {
    let mark_until = event.received_at.plus(event.window);
    let mark = event.named.identity.as_ref().map(|identity| keys::mark(&event.source, identity));
    let digest = event.named.digest.as_ref().map(|digest| keys::digest(&event.source, digest));
    let request = event.request.as_ref().map(|request| &request.id);
    let marked = mark.is_some() || digest.is_some();
    let note =
        Duplicate { received_at: event.received_at, retry_marker: event.retry_marker.clone() };
    let meta = Meta {
        event: without_content(event),
        identity: event.named.identity.as_ref().map(|identity| identity.as_str().to_owned()),
        digest: event.named.digest,
        mark_until: marked.then_some(mark_until),
        body_bytes: plain_bytes(&event.headers, &event.named.body),
    };
    call.arg(event.id.as_bytes().as_slice())
        .arg(&*event.source)
        .arg(session.to_server(not_after))
        .arg(session.to_server(event.received_at))
        .arg(session.to_server(mark_until))
        .arg(mark.unwrap_or_default())
        .arg(digest.unwrap_or_default())
        .arg(u8::from(event.replay_guard == ReplayGuard::Hold))
        .arg(u8::from(event.shadow))
        .arg(json(&note)?)
        .arg(json(&meta)?)
        .arg(request.map(|id| id.as_bytes().as_slice()).unwrap_or_default())
        .arg(if request.is_some() { Vec::new() } else { event.headers.to_lines() })
        .arg(event.named.body.as_ref())
        .arg(event.deliveries.len());
    for delivery in &event.deliveries {
        call.arg(delivery.id.as_bytes().as_slice()).arg(&*delivery.handler);
    }
    Ok(())
}

fn without_content(event: &NewEvent) -> Event {
    Event {
        id: event.id,
        source: Arc::clone(&event.source),
        event_id: event.named.event_id.clone(),
        event_type: event.named.event_type.clone(),
        received_at: event.received_at,
        shadow: event.shadow,
        resent_under_new_id: false, // the script finds out, and writes it beside
        retry_marker: event.retry_marker.clone(),
        query: event.query.clone(),
        headers: Headers::default(),
        body: Bytes::new(),
    }
}

/// Our own plain data as JSON, which Redis never looks into.
pub(super) fn json(data: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(data)
        .map_err(|error| StoreError::Failed(format!("cannot write it down: {error}")))
}

/// One answer of `admit.lua`.
fn read(answer: &[u8], source: &str) -> Answer {
    let (word, rest) = answer.split_first().ok_or_else(unexpected)?;
    let admitted = |admission| {
        let id = <[u8; 16]>::try_from(rest).map_err(|_| unexpected())?;
        Ok((EventId::from_bytes(id), admission))
    };
    match word {
        b'F' => admitted(Admission::Fresh),
        b'D' => admitted(Admission::Duplicate),
        b'H' => admitted(Admission::Held),
        b'L' => Err(StoreError::Late),
        b'X' => Err(StoreError::Full(format!("source {source} holds enough already"))),
        b'E' => Err(server_error(&String::from_utf8_lossy(rest))),
        _ => Err(unexpected()),
    }
}

pub(super) fn unexpected() -> StoreError {
    StoreError::Failed("redis holds what no hookonce wrote".to_owned())
}
