//! Taking over what another store has given away: each record into its bucket, many in one script.

use bytes::Bytes;
use uuid::Uuid;

use super::{
    admit::{Meta, json},
    bucket::Served,
    connection::Session,
    control, keyed_copy, keys, line, read,
    scripts::{self, Call},
};
use crate::{
    delivery::State,
    event::{Event, EventState, Identity},
    request::Headers,
    store::{
        Counts, StoreError,
        encrypted::plain_bytes,
        mark::MarkKey,
        moving::{DeliveryCopy, EventCopy, MarkCopy, Record},
    },
};

/// How many bytes one script writes: few milliseconds, in which a server that is shared does nothing
/// else.
const SCRIPT_BYTES_MAX: usize = 1 << 20;

/// See [`Moving::import`](crate::store::moving::Moving::import).
pub(super) async fn all(
    buckets: &[Served],
    copy: Uuid,
    records: Vec<Record>,
) -> Result<(), StoreError> {
    for record in &records {
        if let Record::Event(copy) = record {
            line::check_copy(copy, buckets.len())?;
        }
    }
    let mut shares: Vec<Vec<&Record>> = buckets.iter().map(|_| Vec::new()).collect();
    for record in &records {
        match home(record, buckets.len()) {
            Some(home) => shares.get_mut(home).into_iter().for_each(|share| share.push(record)),
            None => shares.iter_mut().for_each(|share| share.push(record)),
        }
    }
    for (number, (served, share)) in buckets.iter().zip(shares).enumerate() {
        let mut rest = share.as_slice();
        while !rest.is_empty() {
            rest = import(served, number == 0, copy, rest).await?;
        }
    }
    if records.is_empty() {
        // Nothing to write, and still somebody who has to know whether he may.
        let standing =
            super::moving::standing(buckets.first().ok_or_else(super::admit::unexpected)?);
        return standing.await?.expect_filling(copy);
    }
    Ok(())
}

/// The bucket of a record; counters are for all of them.
fn home(record: &Record, buckets: usize) -> Option<usize> {
    let key = match record {
        Record::Counts { .. } => return None,
        Record::Control { .. } => return Some(control::HOME),
        Record::Event(copy) => {
            let key = copy.digest_key().or_else(|| copy.mark_key());
            key.map_or_else(|| copy.event.id.as_bytes().to_vec(), |key| key.as_bytes().to_vec())
        }
        Record::Key(copy) => copy.scope.id().as_bytes().to_vec(),
        Record::Mark(copy) | Record::Digest(copy) => {
            copy.digest.unwrap_or(copy.key).as_bytes().to_vec()
        }
    };
    Some(keys::bucket_of_key(&key, buckets))
}

/// Imports the first of these records, and gives the rest.
async fn import<'a, 'b>(
    served: &Served,
    is_first_bucket: bool,
    copy: Uuid,
    records: &'b [&'a Record],
) -> Result<&'b [&'a Record], StoreError> {
    let session = served.connection.session().await?;
    let mut call = Call::of(&scripts::IMPORT, &session);
    call.arg(copy.to_string());
    let (mut count, mut bytes) = (0, 0);
    for record in records {
        if count > 0 && bytes + record.bytes() > SCRIPT_BYTES_MAX {
            break;
        }
        match record {
            // The sums stand in the first bucket. The others learn the names, which they look up.
            Record::Counts { source, handler, counts } => {
                let counts = if is_first_bucket { *counts } else { Counts::default() };
                add_counts(&mut call, source, handler, counts);
            }
            Record::Control { handler, control } => {
                for setting in control.settings() {
                    call.arg("C").arg(control::field(handler, setting)).arg(setting.value());
                }
            }
            Record::Mark(copy) => add_mark(&mut call, &session, "m", copy),
            Record::Digest(copy) => add_mark(&mut call, &session, "g", copy),
            Record::Event(copy) => add_event(&mut call, &session, copy)?,
            Record::Key(copy) => keyed_copy::add(&mut call, &session, copy)?,
        }
        bytes += record.bytes();
        count += 1;
    }
    let _: String = session.call(&call).await?;
    Ok(records.get(count..).unwrap_or_default())
}

fn add_counts(call: &mut Call, source: &str, handler: &str, counts: Counts) {
    for (name, value) in read::counters_of(counts) {
        call.arg("c").arg(format!("{name}\0{source}\0{handler}")).arg(value);
    }
}

fn add_mark(call: &mut Call, session: &Session, kind: &str, copy: &MarkCopy) {
    let digest = copy.digest.as_ref().map_or([].as_slice(), |digest| digest.as_bytes());
    call.arg(kind)
        .arg(copy.key.as_bytes().as_slice())
        .arg([copy.event.as_bytes().as_slice(), digest].concat())
        .arg(session.to_server(copy.expires_at));
}

/// Adds an event, in the order `import.lua` reads.
fn add_event(call: &mut Call, session: &Session, copy: &EventCopy) -> Result<(), StoreError> {
    let bytes_of = |key: Option<MarkKey>| key.map(|key| key.as_bytes().to_vec());
    let (mark, digest) = (bytes_of(copy.mark_key()), bytes_of(copy.digest_key()));
    let first_of = digest.clone().filter(|_| copy.is_first_of_digest);
    let states: Vec<State> = copy.deliveries.iter().map(|delivery| delivery.state).collect();
    let list = match EventState::of(copy.held, &states) {
        EventState::Open | EventState::Done => "fd",
        EventState::Dead | EventState::Unrouted => "fx",
        EventState::Held => "fh",
    };
    let ended = copy.ended_at.map(|ended_at| session.to_server(ended_at).to_string());
    call.arg("e")
        .arg(copy.event.id.as_bytes().as_slice())
        .arg(&*copy.event.source)
        .arg(mark.clone().unwrap_or_default())
        .arg(first_of.unwrap_or_default())
        .arg(ended.unwrap_or_default())
        .arg(list)
        .arg(u8::from(copy.held));
    let fields = event_fields(session, copy, mark, digest)?;
    match &copy.request {
        Some(request) => call
            .arg(request.id.as_bytes().as_slice())
            .arg(copy.event.headers.to_lines())
            .arg(request.body.as_ref()),
        None => call.arg("").arg("").arg(""),
    };
    call.arg(fields.len()).arg(copy.duplicates.len()).arg(copy.deliveries.len());
    for (name, value) in fields {
        call.arg(name).arg(value);
    }
    for duplicate in copy.duplicates.iter().rev() {
        call.arg(json(duplicate)?);
    }
    copy.deliveries.iter().try_for_each(|delivery| add_delivery(call, session, copy, delivery))
}

type Field = (&'static str, Vec<u8>);

fn event_fields(
    session: &Session,
    copy: &EventCopy,
    mark: Option<Vec<u8>>,
    digest: Option<Vec<u8>>,
) -> Result<Vec<Field>, StoreError> {
    let event = &copy.event;
    let meta = Meta {
        event: Event {
            resent_under_new_id: false, // kept beside it
            headers: Headers::default(),
            body: Bytes::new(),
            ..event.clone()
        },
        identity: copy.identity.as_ref().map(|identity: &Identity| identity.as_str().to_owned()),
        digest: copy.digest,
        mark_until: (mark.is_some() || digest.is_some()).then_some(copy.mark_until),
        body_bytes: plain_bytes(&event.headers, &event.body),
    };
    let ids = copy.deliveries.iter().flat_map(|delivery| *delivery.id.as_bytes()).collect();
    let mut fields: Vec<Field> = vec![
        ("m", json(&meta)?),
        ("h", if copy.request.is_some() { Vec::new() } else { event.headers.to_lines() }),
        ("b", event.body.to_vec()),
        ("s", event.source.as_bytes().to_vec()),
        ("ds", ids),
        ("hs", Vec::new()),
        ("w", session.to_server(copy.mark_until).to_string().into()),
        ("n", copy.duplicate_count.to_string().into()),
    ];
    fields.extend(mark.map(|key| ("k", key)));
    fields.extend(digest.map(|key| ("g", key)));
    fields.extend(copy.request.as_ref().map(|request| ("rq", request.id.as_bytes().to_vec())));
    fields.extend(event.resent_under_new_id.then(|| ("r", b"1".to_vec())));
    fields.extend(copy.erased_at.map(|at| ("er", session.to_server(at).to_string().into())));
    fields.extend(copy.held.then(|| ("held", b"1".to_vec())));
    Ok(fields)
}

fn add_delivery(
    call: &mut Call,
    session: &Session,
    event: &EventCopy,
    copy: &DeliveryCopy,
) -> Result<(), StoreError> {
    let state = match copy.state {
        State::Queued => "q",
        State::Leased => "l",
        State::Done => "d",
        State::Dead => "x",
    };
    let due = session.to_server(copy.due_at).to_string();
    let number = |number: u64| number.to_string().into_bytes();
    let mut fields: Vec<Field> = vec![
        ("e", event.event.id.as_bytes().to_vec()),
        ("h", copy.handler.as_bytes().to_vec()),
        ("src", event.event.source.as_bytes().to_vec()),
        ("s", state.into()),
        ("t", due.clone().into()),
        ("k", number(copy.token)),
        ("n", number(copy.attempts.into())),
        ("b", number(copy.attempts_before_redrive.into())),
        ("w", number(copy.deaths_in_a_row.into())),
    ];
    fields.extend(copy.leased_at.map(|at| ("la", session.to_server(at).to_string().into())));
    fields.extend(copy.replay_of.map(|id| ("r", id.as_bytes().to_vec())));
    fields.extend(copy.redriven_by.map(|id| ("v", id.as_bytes().to_vec())));
    fields.extend(copy.last_error.as_ref().map(|error| ("x", error.as_bytes().to_vec())));
    fields.extend(copy.order.map(|order| ("o", line::text_of_copy(order, copy.state))));
    let place = copy.order.and_then(|order| order.place).map(|place| place.to_string());
    call.arg(copy.id.as_bytes().as_slice()).arg(&*copy.handler).arg(state).arg(due);
    call.arg(place.unwrap_or_default());
    call.arg(fields.len()).arg(copy.attempts_kept.len());
    for (name, value) in fields {
        call.arg(name).arg(value);
    }
    // Under their numbers, which no token to come is as low as.
    for attempt in &copy.attempts_kept {
        call.arg(attempt.number).arg(json(attempt)?);
    }
    Ok(())
}
