//! Claiming due deliveries.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    codes::{self, get},
    connection::{Purpose, Turn},
    delivery::{Changes, Kept},
    error::Trouble,
    read,
};
use crate::{
    clock::Timestamp,
    delivery::{Attempt, Claim, DeliveryId, Lease, Leased, State},
    event::{Event, EventId},
    limits,
    store::{Claimed, StoreError},
};

/// How many bytes a packed lease has: a delivery's id and a token.
const LEASE_BYTES: usize = 24;

/// The statements of this file.
pub(super) const STATEMENTS: &[&str] =
    &[LAST_CLAIM, DUE, NEXT_DUE_AT, REMEMBER, HELD, read::EVENTS_WITH_CONTENT];

/// What a worker's last claim got.
const LAST_CLAIM: &str =
    "SELECT id, leases FROM claims WHERE worker = $1 ORDER BY number DESC LIMIT 1";

/// The due deliveries of a handler, those due longest first: queued ones, and leased ones whose lease
/// has run out. What another claim is about to take is passed over.
const DUE: &str = "WITH queued AS MATERIALIZED (
        SELECT * FROM deliveries
        WHERE state = 0 AND handler = $1 AND due_at >= $2 AND due_at <= (SELECT now_ms())
        ORDER BY due_at, id LIMIT $3 FOR UPDATE SKIP LOCKED),
    lapsed AS MATERIALIZED (
        SELECT * FROM deliveries
        WHERE state = 1 AND handler = $1 AND due_at >= $2 AND due_at <= (SELECT now_ms())
        ORDER BY due_at, id LIMIT $3 FOR UPDATE SKIP LOCKED)
    SELECT due.*, events.body_bytes
    FROM (SELECT * FROM queued UNION ALL SELECT * FROM lapsed) AS due
    LEFT JOIN events ON events.id = due.event
    ORDER BY due_at, due.id LIMIT $3";

const NEXT_DUE_AT: &str = "SELECT least(
    (SELECT due_at FROM deliveries WHERE state = 0 AND handler = $1 AND due_at >= $2
        ORDER BY due_at, id LIMIT 1),
    (SELECT due_at FROM deliveries WHERE state = 1 AND handler = $1 AND due_at >= $2
        ORDER BY due_at, id LIMIT 1))";

const REMEMBER: &str = "INSERT INTO claims (worker, made_at, id, leases) VALUES ($1, $2, $3, $4)";

/// Takes away what no worker can ask for again: all but its last claim, and that one too once its leases
/// have run out.
pub(super) const FORGET_OLD: &str = "DELETE FROM claims
    WHERE made_at < $1 OR number <
        (SELECT max(number) FROM claims AS later WHERE later.worker = claims.worker)";

const HELD: &str = "SELECT * FROM deliveries WHERE id = ANY($1) ORDER BY due_at, id";

/// From which due time on each handler's queue is looked at.
///
/// While somebody keeps a transaction open anywhere in the database, what was claimed and settled stays
/// in the indexes of the queue, and a look from its beginning would pass over more of it with every
/// claim. So most looks begin a little before where the last one ended, and only now and then one begins
/// at the beginning, for what was queued with an old due time after all.
#[derive(Debug, Default)]
pub(super) struct Horizons(Mutex<HashMap<Arc<str>, Horizon>>);

#[derive(Clone, Copy, Debug)]
struct Horizon {
    from: Timestamp,
    looked_at: Timestamp,
}

impl Horizons {
    /// How far before the first due delivery a look begins: more than clocks differ, and than an admit
    /// takes.
    const SLACK: Duration = Duration::from_secs(10);

    /// How often a look begins at the beginning.
    const FULL_LOOK_INTERVAL: Duration = Duration::from_secs(30);

    /// Looks at everything with the next claim.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Where to begin, at our time `now`.
    fn of(&self, handler: &Arc<str>, now: Timestamp) -> Timestamp {
        let mut horizons = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let beginning = Timestamp::from_millis(i64::MIN);
        let unknown = Horizon { from: beginning, looked_at: now };
        let horizon = horizons.entry(Arc::clone(handler)).or_insert(unknown);
        if now.since(horizon.looked_at) < Self::FULL_LOOK_INTERVAL {
            return horizon.from;
        }
        // Should this look take too long, the next ones are short again.
        horizon.looked_at = now;
        beginning
    }

    /// Nothing of this handler is due before `next_due_at`; both times are the server's.
    fn learn(&self, handler: &Arc<str>, next_due_at: Option<Timestamp>, now: Timestamp) {
        let first = next_due_at.map_or(now, |next| next.min(now));
        let mut horizons = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(horizon) = horizons.get_mut(handler) {
            horizon.from = first.minus(Self::SLACK);
        }
    }
}

/// See [`Store::claim`](crate::store::Store::claim).
pub(super) async fn claim(
    turn: &Turn<'_>,
    horizons: &Horizons,
    claim: &Claim,
    not_after: Timestamp,
) -> Result<Result<Claimed, StoreError>, Trouble> {
    let from = horizons.of(&claim.handler, turn.our_now());
    let ((), now, last, due) = tokio::try_join!(
        biased;
        turn.begin(Purpose::Serve),
        turn.now(),
        last_claim(turn, claim.worker),
        due(turn, claim, from),
    )?;
    if let Some(leases) = last.of_claim(claim.id) {
        turn.roll_back().await?;
        return Ok(Ok(claimed_before(turn, claim, leases).await?));
    }
    if now > turn.to_server(not_after) {
        turn.roll_back().await?;
        return Ok(Err(StoreError::Late));
    }
    let mut work = Work { now, claimed: Claimed::default(), changes: Changes::default() };
    let leased = work.take(turn, claim, due);
    let next_due_at = if leased.is_empty() && work.claimed.dead == 0 && last.got_nothing() {
        // Nothing is written, and a claim that got nothing need not be remembered.
        let (next, ()) =
            tokio::try_join!(biased; next_due_at(turn, claim, from), turn.roll_back())?;
        next
    } else {
        let events = leased.iter().map(|kept| kept.event).collect::<Vec<_>>();
        let ((), (), events, next, (), ()) = tokio::try_join!(
            biased;
            work.changes.write(turn),
            remember(turn, claim, &leased, now),
            read::events_with_content(turn, &events),
            next_due_at(turn, claim, from),
            turn.in_time(not_after),
            turn.commit(),
        )?;
        work.claimed.deliveries = with_events(&leased, &events);
        next
    };
    horizons.learn(&claim.handler, next_due_at, now);
    work.claimed.next_due_at = next_due_at.map(|next| turn.to_ours(next));
    Ok(Ok(work.claimed))
}

/// A claim at work.
struct Work {
    now: Timestamp,
    claimed: Claimed,
    changes: Changes,
}

impl Work {
    /// Leases what is due, and settles dead what has no attempt left.
    fn take(&mut self, turn: &Turn<'_>, claim: &Claim, due: Vec<(Kept, usize)>) -> Vec<Kept> {
        let mut leased: Vec<Kept> = Vec::new();
        let mut bytes: usize = 0;
        for (mut kept, body_bytes) in due {
            bytes = bytes.saturating_add(body_bytes);
            if bytes > limits::BATCH_BYTES_MAX && !leased.is_empty() {
                break; // the rest is not touched, and due for the next claim
            }
            if kept.state == State::Leased {
                // It was held by somebody who died: that attempt is over.
                kept.deaths_in_a_row += 1;
                let attempt = Attempt::died(kept.attempts, turn.to_ours(kept.leased_at));
                self.changes.note(&mut kept, attempt);
                self.changes.change(&mut kept, State::Queued, Timestamp::default());
            }
            if kept.attempts.saturating_sub(kept.attempts_before_redrive) >= claim.attempts_max {
                kept.token += 1; // its outcome, if it still comes, was not what settled it
                self.changes.change(&mut kept, State::Dead, self.now);
                self.claimed.dead += 1;
            } else {
                self.changes.change(&mut kept, State::Leased, self.now.plus(claim.lease));
                kept.attempts += 1;
                kept.token += 1;
                kept.leased_at = self.now;
                leased.push(kept.clone());
            }
            self.changes.put(kept);
        }
        leased
    }
}

/// A worker's last claim.
#[derive(Debug, Default)]
pub(super) struct LastClaim {
    id: Option<Uuid>,
    leases: Vec<Lease>,
}

impl LastClaim {
    /// What the claim `id` got, if it is the worker's last one.
    pub(super) fn of_claim(&self, id: Uuid) -> Option<&[Lease]> {
        (self.id == Some(id)).then_some(&self.leases)
    }

    fn got_nothing(&self) -> bool {
        self.leases.is_empty()
    }
}

/// The last claim of a worker.
pub(super) async fn last_claim(turn: &Turn<'_>, worker: Uuid) -> Result<LastClaim, Trouble> {
    let rows = turn.query(LAST_CLAIM, &[&worker]).await?;
    let Some(row) = rows.first() else { return Ok(LastClaim::default()) };
    let packed: &[u8] = get(row, "leases")?;
    let leases = packed.chunks_exact(LEASE_BYTES).filter_map(unpacked).collect();
    Ok(LastClaim { id: Some(get(row, "id")?), leases })
}

async fn due(
    turn: &Turn<'_>,
    claim: &Claim,
    from: Timestamp,
) -> Result<Vec<(Kept, usize)>, Trouble> {
    let most = codes::of_number(claim.deliveries_max);
    let rows = turn.query(DUE, &[&&*claim.handler, &from.as_millis(), &most]).await?;
    let read = |row: &Row| {
        let body_bytes: Option<i64> = get(row, "body_bytes")?;
        let body_bytes = usize::try_from(body_bytes.unwrap_or(0)).unwrap_or(usize::MAX);
        Ok((Kept::read(row)?, body_bytes))
    };
    rows.iter().map(read).collect()
}

async fn next_due_at(
    turn: &Turn<'_>,
    claim: &Claim,
    from: Timestamp,
) -> Result<Option<Timestamp>, Trouble> {
    let rows = turn.query(NEXT_DUE_AT, &[&&*claim.handler, &from.as_millis()]).await?;
    let next: Option<i64> = rows.first().map(|row| row.try_get(0)).transpose()?.flatten();
    Ok(next.map(Timestamp::from_millis).filter(|next| *next < Timestamp::NEVER))
}

async fn remember(
    turn: &Turn<'_>,
    claim: &Claim,
    leased: &[Kept],
    now: Timestamp,
) -> Result<(), Trouble> {
    let mut leases = Vec::with_capacity(leased.len() * LEASE_BYTES);
    for kept in leased {
        leases.extend_from_slice(kept.id.as_bytes());
        leases.extend_from_slice(&kept.token.to_be_bytes());
    }
    let made_at = now.as_millis();
    turn.execute(REMEMBER, &[&claim.worker, &made_at, &claim.id, &leases]).await.map(drop)
}

/// What a claim got that was made before, and still holds.
async fn claimed_before(
    turn: &Turn<'_>,
    claim: &Claim,
    leases: &[Lease],
) -> Result<Claimed, Trouble> {
    let ids: Vec<Uuid> = leases.iter().map(|lease| codes::of_delivery(lease.delivery)).collect();
    let rows = turn.query(HELD, &[&ids]).await?;
    let found = rows.iter().map(Kept::read).collect::<Result<Vec<_>, _>>()?;
    let held = |lease: &Lease| {
        found.iter().find(|kept| kept.id == lease.delivery && kept.is_held_by(lease)).cloned()
    };
    let held: Vec<Kept> = leases.iter().filter_map(held).collect(); // in the order of the claim
    let events = held.iter().map(|kept| kept.event).collect::<Vec<_>>();
    let events = read::events_with_content(turn, &events).await?;
    let next = next_due_at(turn, claim, Timestamp::from_millis(i64::MIN)).await?;
    Ok(Claimed {
        deliveries: with_events(&held, &events),
        next_due_at: next.map(|next| turn.to_ours(next)),
        dead: 0,
    })
}

/// What a worker gets. A delivery whose event is not there is left out, which prune does not let happen.
fn with_events(leased: &[Kept], events: &BTreeMap<EventId, Arc<Event>>) -> Vec<Leased> {
    let whole = |kept: &Kept| {
        Some(Leased {
            lease: kept.lease(),
            handler: Arc::clone(&kept.handler),
            attempt: kept.attempts,
            attempts_before_redrive: kept.attempts_before_redrive,
            replay_of: kept.replay_of,
            deaths_in_a_row: kept.deaths_in_a_row,
            order_key: kept.order.map(|order| order.key),
            event: Arc::clone(events.get(&kept.event)?),
        })
    };
    leased.iter().filter_map(whole).collect()
}

fn unpacked(lease: &[u8]) -> Option<Lease> {
    let (delivery, token) = lease.split_first_chunk()?;
    let token = u64::from_be_bytes(token.try_into().ok()?);
    Some(Lease { delivery: DeliveryId::from_bytes(*delivery), token })
}
