//! Reading: pages of ids, newest first, then what is kept under them. Each command is bounded, and
//! so is what one call walks through.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    admit::{Meta, unexpected},
    connection::{Connection, Session},
    keys::Bucket,
    line,
    work::{delivery_id, event, event_id},
};
use crate::{
    clock::Timestamp,
    delivery::{Attempt, Delivery, DeliveryId, State},
    event::{Duplicate, EventId, EventState, KeptRequest, RequestId},
    store::{Counts, DeliveryFilter, EventFilter, EventRecord, EventRow, Stats, StoreError},
};

/// How many rows one round trip reads.
const PAGE: usize = 500;

/// Where and how to read.
pub(super) struct Reader<'a> {
    pub(super) connection: &'a Arc<Connection>,
    pub(super) bucket: &'a Bucket,
}

impl Reader<'_> {
    /// See [`Store::events`](crate::store::Store::events).
    pub(super) async fn events(&self, filter: &EventFilter) -> Result<Vec<EventRow>, StoreError> {
        let key = match (&filter.source, filter.state) {
            (Some(source), Some(EventState::Held)) => self.bucket.key("h", source.as_bytes()),
            _ => self.bucket.key("E", b""),
        };
        let mut before = filter.before.map(|id| *id.as_bytes());
        let mut rows = Vec::new();
        loop {
            let session = self.connection.session().await?;
            let ids = page(&session, &key, before).await?;
            let found = self.event_rows(&session, &ids).await?;
            rows.extend(found.into_iter().filter(|row| filter.takes(row)));
            before = ids.last().copied();
            if rows.len() >= filter.limit || ids.len() < PAGE {
                break;
            }
        }
        rows.truncate(filter.limit);
        Ok(rows)
    }

    /// See [`Store::event`](crate::store::Store::event).
    pub(super) async fn event(&self, id: EventId) -> Result<Option<EventRecord>, StoreError> {
        type Fields = (
            Option<Vec<u8>>,
            Option<Vec<u8>>,
            Option<Vec<u8>>,
            Option<Vec<u8>>,
            Option<Vec<u8>>,
            Option<Vec<u8>>,
        );
        let session = self.connection.session().await?;
        let Some(row) = self.event_rows(&session, &[*id.as_bytes()]).await?.pop() else {
            return Ok(None);
        };
        let key = self.bucket.event(id);
        let mut commands = redis::pipe();
        commands.cmd("HMGET").arg(&key).arg(&["m", "h", "b", "r", "ds", "rq"]);
        commands.cmd("LRANGE").arg(self.bucket.key("u", id.as_bytes())).arg(0).arg(-1);
        let (fields, notes): (Fields, Vec<Vec<u8>>) = session.pipeline(&commands).await?;
        let (Some(meta), Some(own_headers), Some(body), resent, Some(ids), request) = fields else {
            return Ok(None); // pruned in between
        };
        let (headers, request) = match request {
            None => (own_headers, None),
            Some(id) => match self.request(&session, &id).await? {
                // Without its body once one of its events was erased.
                Some((headers, request)) => {
                    (headers, Some(request).filter(|request| !request.body.is_empty()))
                }
                None => return Ok(None), // as above
            },
        };
        let (event, meta) = event(id.as_bytes(), &meta, &headers, body, resent.as_deref())
            .ok_or_else(unexpected)?;
        let read = |note: &Vec<u8>| serde_json::from_slice::<Duplicate>(note).ok();
        Ok(Some(EventRecord {
            row,
            event,
            request,
            identity: meta.identity,
            mark_until: meta.mark_until,
            duplicates: notes.iter().filter_map(read).collect(),
            deliveries: self.delivery_rows(&session, &split(&ids)).await?,
        }))
    }

    /// A request that is kept for several events: its headers, and the rest of it.
    async fn request(
        &self,
        session: &Session,
        id: &[u8],
    ) -> Result<Option<(Vec<u8>, KeptRequest)>, StoreError> {
        let id = RequestId::from_bytes(id.try_into().map_err(|_| unexpected())?);
        let mut command = redis::cmd("HMGET");
        command.arg(self.bucket.key("R", id.as_bytes())).arg(&["h", "b"]);
        let (headers, body): (Option<Vec<u8>>, Option<Vec<u8>>) = session.query(&command).await?;
        let both = headers.zip(body);
        Ok(both.map(|(headers, body)| (headers, KeptRequest { id, body: body.into() })))
    }

    /// See [`Store::deliveries`](crate::store::Store::deliveries).
    pub(super) async fn deliveries(
        &self,
        filter: &DeliveryFilter,
    ) -> Result<Vec<Delivery>, StoreError> {
        let mut rows = Vec::new();
        for key in self.lists_of_deliveries(filter).await? {
            rows.extend(self.deliveries_in(&key, filter).await?);
        }
        rows.sort_unstable_by_key(|row| Reverse(row.id));
        rows.truncate(filter.limit);
        Ok(rows)
    }

    /// See [`Store::attempts`](crate::store::Store::attempts).
    pub(super) async fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>, StoreError> {
        let session = self.connection.session().await?;
        let mut command = redis::cmd("HGETALL");
        command.arg(self.bucket.key("a", id.as_bytes()));
        let by_token: HashMap<u64, Vec<u8>> = session.query(&command).await?;
        let mut by_token: Vec<_> = by_token.into_iter().collect();
        by_token.sort_unstable_by_key(|(token, _)| *token);
        let attempts = by_token.iter().map(|(_, text)| attempt(&session, text));
        attempts.map(|attempt| attempt.ok_or_else(unexpected)).collect()
    }

    async fn handlers(&self) -> Result<BTreeSet<String>, StoreError> {
        Ok(stats(&self.counters().await?).handlers.into_keys().collect())
    }

    /// What is counted in the bucket, under the names that `common.lua` gives it.
    pub(super) async fn counters(&self) -> Result<HashMap<String, i64>, StoreError> {
        let session = self.connection.session().await?;
        let mut command = redis::cmd("HGETALL");
        command.arg(self.bucket.key("c", b""));
        session.query(&command).await
    }

    /// See [`Store::waiting_since`](crate::store::Store::waiting_since). What is leased stands in the
    /// same queue, scored by the end of its lease: a time to come.
    pub(super) async fn waiting_since(
        &self,
        handler: &str,
    ) -> Result<Option<Timestamp>, StoreError> {
        let session = self.connection.session().await?;
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.bucket.key("q", handler.as_bytes())).arg(0).arg(0).arg("WITHSCORES");
        let first: Vec<(Vec<u8>, i64)> = session.query(&command).await?;
        let since = first.first().map(|(_, due)| session.to_ours(*due));
        Ok(since.filter(|since| *since < Timestamp::NEVER))
    }

    /// The lists that hold all that `filter` may take. Dead ones are found without a walk: they are
    /// few among many, and what a person asks for.
    async fn lists_of_deliveries(
        &self,
        filter: &DeliveryFilter,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let dead = |handler: &String| self.bucket.key("x", handler.as_bytes());
        Ok(match (filter.state, &filter.handler) {
            (Some(State::Dead), Some(handler)) => vec![dead(handler)],
            (Some(State::Dead), None) => self.handlers().await?.iter().map(dead).collect(),
            _ => vec![self.bucket.key("D", b"")],
        })
    }

    async fn deliveries_in(
        &self,
        key: &[u8],
        filter: &DeliveryFilter,
    ) -> Result<Vec<Delivery>, StoreError> {
        let mut before = filter.before.map(|id| *id.as_bytes());
        let mut rows = Vec::new();
        loop {
            let session = self.connection.session().await?;
            let ids = page(&session, key, before).await?;
            let found = self.delivery_rows(&session, &ids).await?;
            rows.extend(found.into_iter().filter(|row| filter.takes(row)));
            before = ids.last().copied();
            if rows.len() >= filter.limit || ids.len() < PAGE {
                break;
            }
        }
        Ok(rows)
    }

    async fn event_rows(&self, session: &Session, ids: &[Id]) -> Result<Vec<EventRow>, StoreError> {
        type Fields = (
            Option<Vec<u8>>,
            Option<u64>,
            Option<String>,
            Option<String>,
            Option<Vec<u8>>,
            Option<i64>,
        );
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut commands = redis::pipe();
        for id in ids {
            commands
                .cmd("HMGET")
                .arg(self.bucket.key("e", id))
                .arg(&["m", "n", "r", "held", "ds", "er"]);
        }
        let events: Vec<Fields> = session.pipeline(&commands).await?;
        let of_all: Vec<Id> =
            events.iter().filter_map(|fields| fields.4.as_deref()).flat_map(split).collect();
        let states = self.states(session, &of_all).await?;
        let mut rows = Vec::new();
        for (id, (meta, duplicates, resent, held, deliveries, erased_at)) in ids.iter().zip(events)
        {
            let (Some(meta), Some(deliveries)) = (meta, deliveries) else { continue };
            let Meta { event, body_bytes, .. } =
                serde_json::from_slice(&meta).map_err(|_| unexpected())?;
            let states: Vec<State> =
                split(&deliveries).iter().filter_map(|id| states.get(id).copied()).collect();
            rows.push(EventRow {
                id: event_id(id).ok_or_else(unexpected)?,
                source: event.source,
                event_id: event.event_id,
                event_type: event.event_type,
                received_at: event.received_at,
                state: EventState::of(held.as_deref() == Some("1"), &states),
                duplicates: duplicates.unwrap_or(0),
                shadow: event.shadow,
                resent_under_new_id: resent.as_deref() == Some("1"),
                body_bytes,
                erased_at: erased_at.map(|at| session.to_ours(at)),
            });
        }
        Ok(rows)
    }

    async fn states(
        &self,
        session: &Session,
        ids: &[Id],
    ) -> Result<HashMap<Id, State>, StoreError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let mut commands = redis::pipe();
        for id in ids {
            commands.cmd("HGET").arg(self.bucket.key("d", id)).arg("s");
        }
        let states: Vec<Option<String>> = session.pipeline(&commands).await?;
        let known = ids.iter().zip(states).filter_map(|(id, word)| Some((*id, state(&word?)?)));
        Ok(known.collect())
    }

    async fn delivery_rows(
        &self,
        session: &Session,
        ids: &[Id],
    ) -> Result<Vec<Delivery>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut commands = redis::pipe();
        for id in ids {
            let fields = ["e", "src", "h", "s", "n", "t", "r", "x", "o"];
            commands.cmd("HMGET").arg(self.bucket.key("d", id)).arg(&fields);
        }
        let rows: Vec<DeliveryFields> = session.pipeline(&commands).await?;
        Ok(ids.iter().zip(rows).filter_map(|(id, row)| delivery(session, id, row)).collect())
    }
}

/// See [`Store::stats`](crate::store::Store::stats).
pub(super) fn stats(counters: &HashMap<String, i64>) -> Stats {
    Stats::summed(counts(counters))
}

/// The same, one by one: by source and handler.
pub(super) fn counts(counters: &HashMap<String, i64>) -> HashMap<(String, String), Counts> {
    let mut counted: HashMap<(String, String), Counts> = HashMap::new();
    for (field, value) in counters {
        let mut parts = field.split('\0');
        let (Some(what), Some(source), Some(handler)) = (parts.next(), parts.next(), parts.next())
        else {
            continue; // the number of scripts run, which nobody asks for
        };
        let counts = counted.entry((source.to_owned(), handler.to_owned())).or_default();
        if let Some(counter) = counter(counts, what) {
            // Below zero while a delivery of an event that is not wholly admitted yet is worked on.
            *counter = u64::try_from(*value).unwrap_or(0);
        }
    }
    counted
}

/// 16 bytes: an event's id or a delivery's.
pub(super) type Id = [u8; 16];

/// Event, source, handler, state, attempts, due, replay of, last error, order.
type DeliveryFields = (
    Option<Vec<u8>>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<u32>,
    Option<i64>,
    Option<Vec<u8>>,
    Option<String>,
    Option<Vec<u8>>,
);

fn delivery(session: &Session, id: &Id, fields: DeliveryFields) -> Option<Delivery> {
    let (event, source, handler, word, attempts, due, replay_of, last_error, order) = fields;
    let state = state(&word?)?;
    Some(Delivery {
        id: delivery_id(id)?,
        event: event_id(&event?)?,
        source: source?.into(),
        handler: handler?.into(),
        state,
        attempts: attempts.unwrap_or(0),
        due_at: session.to_ours(due?),
        replay_of: replay_of.and_then(|id| delivery_id(&id)),
        last_error: last_error.filter(|error| !error.is_empty()),
        order_key: order.as_deref().and_then(line::order).map(|order| order.key),
        in_line: order.is_some_and(|order| line::is_in_line(&order, state)),
    })
}

/// The ids that follow in a list, newest first.
async fn page(session: &Session, key: &[u8], before: Option<Id>) -> Result<Vec<Id>, StoreError> {
    let newest = before.map_or_else(|| b"+".to_vec(), |id| [b"(".as_slice(), &id].concat());
    let mut command = redis::cmd("ZREVRANGEBYLEX");
    command.arg(key).arg(newest).arg("-").arg("LIMIT").arg(0).arg(PAGE);
    let ids: Vec<Vec<u8>> = session.query(&command).await?;
    Ok(ids.iter().filter_map(|id| Id::try_from(id.as_slice()).ok()).collect())
}

/// The ids in a row of them.
fn split(ids: &[u8]) -> Vec<Id> {
    ids.as_chunks::<16>().0.to_vec()
}

/// The state that this word stands for.
pub(super) fn state(word: &str) -> Option<State> {
    match word {
        "q" => Some(State::Queued),
        "l" => Some(State::Leased),
        "d" => Some(State::Done),
        "x" => Some(State::Dead),
        _ => None,
    }
}

/// An attempt as its worker wrote it down, or as the claim after it did, in fewer words.
pub(super) fn attempt(session: &Session, text: &[u8]) -> Option<Attempt> {
    let Some(died) = text.strip_prefix(b"died:") else {
        return serde_json::from_slice(text).ok();
    };
    let (number, started_at) = std::str::from_utf8(died).ok()?.split_once(':')?;
    let started_at: Timestamp = session.to_ours(started_at.parse().ok()?);
    Some(Attempt::died(number.parse().ok()?, started_at))
}

/// The counters and gauges by the names they are kept under.
pub(super) fn counters_of(mut counts: Counts) -> impl Iterator<Item = (&'static str, u64)> {
    const NAMES: [&str; 11] = [
        "events",
        "duplicates",
        "held",
        "unrouted",
        "done",
        "dead",
        "queued",
        "leased",
        "dead_now",
        "held_now",
        "shadow",
    ];
    NAMES.into_iter().filter_map(move |name| Some((name, *counter(&mut counts, name)?)))
}

fn counter<'a>(counts: &'a mut Counts, what: &str) -> Option<&'a mut u64> {
    Some(match what {
        "events" => &mut counts.events,
        "duplicates" => &mut counts.duplicates,
        "held" => &mut counts.held,
        "shadow" => &mut counts.shadow,
        "unrouted" => &mut counts.unrouted,
        "done" => &mut counts.done,
        "dead" => &mut counts.dead,
        "queued" => &mut counts.queued,
        "leased" => &mut counts.leased,
        "dead_now" => &mut counts.dead_now,
        "held_now" => &mut counts.held_now,
        _ => return None,
    })
}
