//! Giving away everything, page by page: what is counted, then bucket by bucket events, marks and digests.

use std::collections::{BTreeSet, HashMap};

use redis::{FromRedisValue, Value, from_redis_value};
use uuid::Uuid;

use super::{
    admit::unexpected,
    bucket::Served,
    connection::Session,
    control, keyed_copy as keyed, line,
    read::{self, Id},
    work,
};
use crate::{
    clock::Timestamp,
    delivery::{Attempt, State},
    event::{Duplicate, EventState, Identity, KeptRequest, RequestId},
    limits,
    store::{
        StoreError,
        mark::{MARK_KEY_BYTES, MarkKey},
        moving::{Cursor, DeliveryCopy, EventCopy, MarkCopy, OrderCopy, Record},
    },
};

/// How many keys one round trip looks at for marks.
const SCAN_KEYS: usize = 2000;

/// A page of records, and where the next one begins.
type Page = (Vec<Record>, Option<Cursor>);

/// How many stages each bucket has: its events, its marks with its digests, its keys.
const STAGES: usize = 3;

/// See [`Moving::export`](crate::store::moving::Moving::export). First come the counters and what was said about handlers, then one
/// bucket after the other.
pub(super) async fn page(buckets: &[Served], from: &Cursor) -> Result<Page, StoreError> {
    let Some(stage) = from.stage.checked_sub(1) else {
        let mut records = counts(buckets).await?;
        if let Some(home) = buckets.get(control::HOME) {
            records.extend(Record::of_controls(control::all(home).await?));
        }
        return Ok((records, Some(from.next_stage())));
    };
    let Some(served) = buckets.get(stage / STAGES) else { return Ok((Vec::new(), None)) };
    let session = served.connection.session().await?;
    match stage % STAGES {
        0 => events(&session, from).await,
        1 => marks(&session, from).await,
        _ => keyed::page(&session, from).await,
    }
}

async fn counts(buckets: &[Served]) -> Result<Vec<Record>, StoreError> {
    let mut sums: HashMap<String, i64> = HashMap::new();
    for served in buckets {
        for (name, value) in served.reader().counters().await? {
            *sums.entry(name).or_default() += value;
        }
    }
    Ok(read::counts(&sums)
        .into_iter()
        .map(|((source, handler), counts)| Record::Counts { source, handler, counts })
        .collect())
}

async fn events(session: &Session, from: &Cursor) -> Result<Page, StoreError> {
    let first = match from.after.as_slice() {
        [] => b"-".to_vec(),
        last => [b"(".as_slice(), last].concat(),
    };
    let mut command = redis::cmd("ZRANGEBYLEX");
    command.arg(session.bucket().key("E", b"")).arg(first).arg("+");
    command.arg("LIMIT").arg(0).arg(limits::EXPORT_ROWS);
    let ids: Vec<Id> =
        session.query::<Vec<Vec<u8>>>(&command).await?.iter().filter_map(id).collect();
    let ids = as_many_as_fit(session, ids).await?;
    let next = match ids.last() {
        Some(last) => from.behind(last.as_slice()),
        None => from.next_stage(),
    };
    Ok((event_records(session, &ids).await?, Some(next)))
}

/// The first of these events, as many as make a page of bearable size.
async fn as_many_as_fit(session: &Session, mut ids: Vec<Id>) -> Result<Vec<Id>, StoreError> {
    if ids.is_empty() {
        return Ok(ids);
    }
    let mut commands = redis::pipe();
    for id in &ids {
        commands.cmd("HSTRLEN").arg(session.bucket().key("e", id)).arg("b");
    }
    let sizes: Vec<usize> = session.pipeline(&commands).await?;
    let (mut bytes, mut count) = (0, 0);
    while let Some(size) = sizes.get(count).filter(|_| bytes < limits::BATCH_BYTES_MAX) {
        bytes += size;
        count += 1;
    }
    ids.truncate(count);
    Ok(ids)
}

async fn event_records(session: &Session, ids: &[Id]) -> Result<Vec<Record>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let bucket = session.bucket();
    let mut commands = redis::pipe();
    for id in ids {
        commands.cmd("HGETALL").arg(bucket.key("e", id));
        commands.cmd("LRANGE").arg(bucket.key("u", id)).arg(0).arg(-1);
        for list in ["fd", "fx", "fh"] {
            commands.cmd("ZSCORE").arg(bucket.key(list, b"")).arg(id);
        }
    }
    let answers: Vec<Value> = session.pipeline(&commands).await?;
    let mut found = Vec::new();
    for (id, answers) in ids.iter().zip(answers.chunks_exact(5)) {
        let [fields, notes, ends @ ..] = answers else { return Err(unexpected()) };
        let fields: Fields = read_as(fields)?;
        if fields.0.is_empty() {
            continue; // gone in between
        }
        let notes: Vec<Vec<u8>> = read_as(notes)?;
        let ends: Vec<Option<i64>> = ends.iter().map(read_as).collect::<Result<_, _>>()?;
        let ended = ends.into_iter().flatten().next().map(|end| session.to_ours(end));
        let kept = KeptEvent { id: *id, fields, notes, ended };
        found.push(kept);
    }
    let deliveries = deliveries(session, &found).await?;
    let firsts = firsts_of_digests(session, &found).await?;
    let requests = requests(session, &found).await?;
    let mut records = Vec::new();
    for ((kept, deliveries), is_first) in found.iter().zip(deliveries).zip(firsts) {
        let request = kept.fields.bytes("rq").and_then(|id| requests.get(id));
        let copy = kept.copy(session, deliveries, is_first, request).ok_or_else(unexpected)?;
        records.push(Record::Event(Box::new(copy)));
    }
    Ok(records)
}

/// An event as it lies there.
struct KeptEvent {
    id: Id,
    fields: Fields,
    notes: Vec<Vec<u8>>,
    ended: Option<Timestamp>,
}

/// The fields of a hash.
pub(super) struct Fields(pub(super) HashMap<String, Vec<u8>>);

impl KeptEvent {
    fn copy(
        &self,
        session: &Session,
        deliveries: Vec<DeliveryCopy>,
        is_first_of_digest: bool,
        request: Option<&(Vec<u8>, KeptRequest)>,
    ) -> Option<EventCopy> {
        let fields = &self.fields;
        let headers = request.map_or(fields.bytes("h"), |(headers, _)| Some(headers))?;
        let body = fields.bytes("b")?.to_vec();
        let resent = fields.bytes("r");
        let (event, meta) = work::event(&self.id, fields.bytes("m")?, headers, body, resent)?;
        let held = fields.bytes("held") == Some(b"1");
        let states: Vec<State> = deliveries.iter().map(|delivery| delivery.state).collect();
        let is_open = EventState::of(held, &states) == EventState::Open;
        let window_ends = session.to_ours(fields.number("w")?);
        let read = |note: &Vec<u8>| serde_json::from_slice::<Duplicate>(note).ok();
        Some(EventCopy {
            request: request
                .map(|(_, request)| request.clone())
                .filter(|request| !request.body.is_empty()),
            identity: meta.identity.map(Identity::from_kept),
            digest: meta.digest,
            is_first_of_digest,
            mark_until: meta.mark_until.unwrap_or(window_ends),
            held,
            // A script that broke off may have left it in a list of the ended, or in none.
            ended_at: (!is_open).then(|| self.ended.unwrap_or(event.received_at)),
            duplicate_count: fields.number("n").unwrap_or(0).try_into().ok()?,
            duplicates: self.notes.iter().filter_map(read).collect(),
            deliveries,
            erased_at: fields.number("er").map(|at| session.to_ours(at)),
            event,
        })
    }

    /// Its deliveries, each with the handler it was first meant for, where that is known.
    fn deliveries(&self) -> impl Iterator<Item = (Id, Option<&[u8]>)> {
        let ids = self.fields.bytes("ds").unwrap_or_default().as_chunks::<16>().0;
        let handlers = self.fields.bytes("hs").unwrap_or_default().split(|byte| *byte == 0);
        let handlers = handlers.filter(|handler| !handler.is_empty()).map(Some);
        ids.iter().copied().zip(handlers.chain(std::iter::repeat(None)))
    }
}

impl Fields {
    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.bytes(name).and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    /// A number that is 0 where nothing was counted yet.
    pub(super) fn count<T: TryFrom<i64> + Default>(&self, name: &str) -> T {
        self.number(name).and_then(|number| number.try_into().ok()).unwrap_or_default()
    }
}

impl FromRedisValue for Fields {
    fn from_redis_value(value: Value) -> Result<Self, redis::ParsingError> {
        HashMap::from_redis_value(value).map(Self)
    }
}

/// The deliveries of each event, oldest first.
async fn deliveries(
    session: &Session,
    events: &[KeptEvent],
) -> Result<Vec<Vec<DeliveryCopy>>, StoreError> {
    let bucket = session.bucket();
    let mut commands = redis::pipe();
    let mut asked = 0;
    for (id, _) in events.iter().flat_map(KeptEvent::deliveries) {
        commands.cmd("HGETALL").arg(bucket.key("d", &id));
        commands.cmd("HGETALL").arg(bucket.key("a", &id));
        asked += 1;
    }
    let answers: Vec<Value> =
        if asked > 0 { session.pipeline(&commands).await? } else { Vec::new() };
    let mut answers = answers.chunks_exact(2);
    let mut all = Vec::new();
    for event in events {
        let mut own = Vec::new();
        for (id, handler) in event.deliveries() {
            let Some([fields, attempts]) = answers.next() else { return Err(unexpected()) };
            let (fields, attempts): (Fields, HashMap<u64, Vec<u8>>) =
                (read_as(fields)?, read_as(attempts)?);
            own.extend(match handler.filter(|_| fields.0.is_empty()) {
                // An admission that broke off: it comes to its end in the other store.
                Some(handler) => not_begun(id, handler),
                None => delivery(session, id, &fields, attempts),
            });
        }
        own.sort_unstable_by_key(|delivery| delivery.id);
        all.push(own);
    }
    line::add_places(session, &mut all).await?;
    Ok(all)
}

fn delivery(
    session: &Session,
    id: Id,
    fields: &Fields,
    attempts: HashMap<u64, Vec<u8>>,
) -> Option<DeliveryCopy> {
    let mut attempts: Vec<(u64, Vec<u8>)> = attempts.into_iter().collect();
    attempts.sort_unstable_by_key(|(token, _)| *token);
    let attempts: Option<Vec<Attempt>> =
        attempts.iter().map(|(_, text)| read::attempt(session, text)).collect();
    let state = read::state(fields.text("s")?)?;
    let leased_at = fields.number("la").filter(|_| state == State::Leased);
    Some(DeliveryCopy {
        id: work::delivery_id(&id)?,
        handler: fields.text("h")?.into(),
        state,
        due_at: session.to_ours(fields.number("t")?),
        token: fields.count("k"),
        attempts: fields.count("n"),
        attempts_before_redrive: fields.count("b"),
        deaths_in_a_row: fields.count("w"),
        leased_at: leased_at.map(|at| session.to_ours(at)),
        replay_of: fields.bytes("r").and_then(work::delivery_id),
        redriven_by: fields.bytes("v").and_then(|bytes| Uuid::from_slice(bytes).ok()),
        last_error: fields.text("x").filter(|error| !error.is_empty()).map(str::to_owned),
        order: fields.bytes("o").and_then(line::order).map(|order| OrderCopy::of(order, None)),
        attempts_kept: attempts?,
    })
}

/// A delivery that is due at once.
fn not_begun(id: Id, handler: &[u8]) -> Option<DeliveryCopy> {
    Some(DeliveryCopy {
        id: work::delivery_id(&id)?,
        handler: std::str::from_utf8(handler).ok()?.into(),
        state: State::Queued,
        due_at: Timestamp::default(),
        token: 0,
        attempts: 0,
        attempts_before_redrive: 0,
        deaths_in_a_row: 0,
        leased_at: None,
        replay_of: None,
        redriven_by: None,
        last_error: None,
        order: None, // nobody was told yes: the provider's retry makes no new one, and it waits for none
        attempts_kept: Vec::new(),
    })
}

/// The requests that these events came in, each with its headers, where they are kept apart.
async fn requests(
    session: &Session,
    events: &[KeptEvent],
) -> Result<HashMap<Vec<u8>, (Vec<u8>, KeptRequest)>, StoreError> {
    let ids: BTreeSet<&[u8]> = events.iter().filter_map(|event| event.fields.bytes("rq")).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let mut commands = redis::pipe();
    for id in &ids {
        commands.cmd("HMGET").arg(session.bucket().key("R", id)).arg(&["h", "b"]);
    }
    let found: Vec<(Vec<u8>, Vec<u8>)> = session.pipeline(&commands).await?;
    let mut requests = HashMap::new();
    for (id, (headers, body)) in ids.into_iter().zip(found) {
        let kept = RequestId::from_bytes(id.try_into().map_err(|_| unexpected())?);
        requests.insert(id.to_vec(), (headers, KeptRequest { id: kept, body: body.into() }));
    }
    Ok(requests)
}

/// Of each event whether it is the first with its content.
async fn firsts_of_digests(
    session: &Session,
    events: &[KeptEvent],
) -> Result<Vec<bool>, StoreError> {
    let mut commands = redis::pipe();
    let mut asked = 0;
    for digest in events.iter().filter_map(|event| event.fields.bytes("g")) {
        commands.cmd("GET").arg(session.bucket().key("g", digest));
        asked += 1;
    }
    let firsts: Vec<Option<Vec<u8>>> =
        if asked > 0 { session.pipeline(&commands).await? } else { Vec::new() };
    let mut firsts = firsts.into_iter();
    let is_first = |event: &KeptEvent| {
        event.fields.bytes("g").is_some() && firsts.next().flatten().as_deref() == Some(&event.id)
    };
    Ok(events.iter().map(is_first).collect())
}

/// The marks and digests whose events are gone: those that have an end.
async fn marks(session: &Session, from: &Cursor) -> Result<Page, StoreError> {
    let bucket = session.bucket();
    let at = if from.after.is_empty() { b"0".as_slice() } else { &from.after };
    let mut command = redis::cmd("SCAN");
    command.arg(at).arg("MATCH").arg(bucket.key("[mg]*", b"")).arg("COUNT").arg(SCAN_KEYS);
    let (next, keys): (Vec<u8>, Vec<Vec<u8>>) = session.query(&command).await?;
    let mut records = Vec::new();
    if !keys.is_empty() {
        let mut commands = redis::pipe();
        for key in &keys {
            commands.cmd("GET").arg(key);
            commands.cmd("PEXPIRETIME").arg(key);
        }
        let values: Vec<Value> = session.pipeline(&commands).await?;
        for (key, answers) in keys.iter().zip(values.chunks_exact(2)) {
            let [value, ends] = answers else { return Err(unexpected()) };
            let (value, ends): (Option<Vec<u8>>, i64) = (read_as(value)?, read_as(ends)?);
            let name = key.strip_prefix(bucket.head()).unwrap_or_default();
            if let (Some(value), 1..) = (value, ends) {
                records.push(mark(name, &value, session.to_ours(ends)).ok_or_else(unexpected)?);
            }
        }
    }
    let next = if next == b"0" { from.next_stage() } else { from.behind(next) };
    Ok((records, Some(next)))
}

fn mark(name: &[u8], value: &[u8], expires_at: Timestamp) -> Option<Record> {
    let (kind, key) = name.split_first()?;
    let (event, digest) = value.split_at_checked(16)?;
    let key_of =
        |bytes: &[u8]| <[u8; MARK_KEY_BYTES]>::try_from(bytes).ok().map(MarkKey::from_bytes);
    let copy = MarkCopy {
        key: key_of(key)?,
        event: work::event_id(event)?,
        expires_at,
        digest: if digest.is_empty() { None } else { Some(key_of(digest)?) },
    };
    Some(if *kind == b'm' { Record::Mark(copy) } else { Record::Digest(copy) })
}

pub(super) fn read_as<T: FromRedisValue>(value: &Value) -> Result<T, StoreError> {
    from_redis_value(value.clone()).map_err(|_| unexpected())
}

fn id(bytes: &Vec<u8>) -> Option<Id> {
    Id::try_from(bytes.as_slice()).ok()
}
