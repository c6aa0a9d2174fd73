//! Pruning, in small lots, each in one short transaction.
//!
//! Rows are deleted, not partitions dropped: an event ends when its last delivery does, which may be
//! months after the day it came, so partitions by day would wait for their slowest event. What deleting
//! costs is cleaned up by autovacuum, which `schema.sql` sets to run early and often.

use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    claim,
    codes::{self, get},
    connection::{Purpose, Turn},
    count::{self, Counted},
    delivery::{Kept, column},
    error::Trouble,
    keyed,
    line::{self, Lines},
    refusals,
};
use crate::{clock::Timestamp, delivery::State, event::EventState, limits, store::Prune};

/// The statements of this file.
pub(super) const STATEMENTS: &[&str] = &[
    ONE_AT_A_TIME,
    OVER,
    LOCK_DELIVERIES,
    STILL_OVER,
    FORGET_ATTEMPTS,
    FORGET_DELIVERIES,
    EXPIRE_MARKS,
    EXPIRE_DIGESTS,
    FORGET_CONTENTS,
    FORGET_DUPLICATES,
    FORGET_EVENTS,
    LOCK_REQUESTS,
    FORGET_REQUESTS,
    FORGET_MARKS,
    FORGET_DIGESTS,
    claim::FORGET_OLD,
    keyed::FORGET_OVER,
    refusals::FORGET_OLD,
    count::SUM_UP,
];

/// One process prunes; another that would at the same time comes back later.
const ONE_AT_A_TIME: &str = "SELECT pg_try_advisory_xact_lock(7526466502050573925)";

const OVER: &str = "SELECT id, ended_at FROM (
        (SELECT id, ended_at FROM events
         WHERE ended_at IS NOT NULL AND state = 1 AND ended_at < $1 ORDER BY ended_at LIMIT $4)
        UNION ALL
        (SELECT id, ended_at FROM events
         WHERE ended_at IS NOT NULL AND state = 2 AND ended_at < $2 ORDER BY ended_at LIMIT $4)
        UNION ALL
        (SELECT id, ended_at FROM events
         WHERE ended_at IS NOT NULL AND state = 3 AND ended_at < $2 ORDER BY ended_at LIMIT $4)
        UNION ALL
        (SELECT id, ended_at FROM events
         WHERE ended_at IS NOT NULL AND state = 4 AND ended_at < $3 ORDER BY ended_at LIMIT $4)
    ) AS over LIMIT $4";

/// Deliveries, and then their lines, are locked before their events, as everywhere.
const LOCK_DELIVERIES: &str =
    "SELECT id FROM deliveries WHERE event = ANY($1) ORDER BY id FOR UPDATE";

/// An event that was redriven, replayed or admitted in between has not ended any more.
const STILL_OVER: &str = "SELECT events.id
    FROM unnest($1::uuid[], $2::bigint[]) AS over(id, ended_at)
    JOIN events ON events.id = over.id AND events.ended_at = over.ended_at
    ORDER BY events.id FOR UPDATE OF events";

const FORGET_ATTEMPTS: &str = "DELETE FROM attempts USING deliveries
    WHERE deliveries.event = ANY($1) AND attempts.delivery = deliveries.id";
const FORGET_DELIVERIES: &str = "DELETE FROM deliveries WHERE event = ANY($1) RETURNING *";

/// The marks stay, and their time begins to run.
const EXPIRE_MARKS: &str = "UPDATE marks
    SET expires_at = events.mark_until, digest = events.digest_key FROM events
    WHERE events.id = ANY($1) AND marks.key = events.mark AND marks.event = events.id";
const EXPIRE_DIGESTS: &str = "UPDATE digests SET expires_at = events.mark_until FROM events
    WHERE events.id = ANY($1) AND digests.key = events.digest_key AND digests.event = events.id";

const FORGET_CONTENTS: &str = "DELETE FROM contents WHERE event = ANY($1)";
const FORGET_DUPLICATES: &str = "DELETE FROM duplicates WHERE event = ANY($1)";
const FORGET_EVENTS: &str =
    "DELETE FROM events WHERE id = ANY($1) RETURNING source, state, request";

/// A request goes with its last event; one that an admission has just referred to stays.
const LOCK_REQUESTS: &str = "SELECT id FROM requests WHERE id = ANY($1) ORDER BY id FOR UPDATE";
pub(super) const FORGET_REQUESTS: &str = "DELETE FROM requests WHERE id = ANY($1)
    AND NOT EXISTS (SELECT FROM events WHERE events.request = requests.id)";

const FORGET_MARKS: &str = "DELETE FROM marks WHERE key IN (
    SELECT key FROM marks WHERE expires_at IS NOT NULL AND expires_at < $1 LIMIT $2)";
const FORGET_DIGESTS: &str = "DELETE FROM digests WHERE key IN (
    SELECT key FROM digests WHERE expires_at IS NOT NULL AND expires_at < $1 LIMIT $2)";

/// See [`Store::prune`](crate::store::Store::prune).
pub(super) async fn prune(turn: &Turn<'_>, prune: &Prune) -> Result<usize, Trouble> {
    let ((), server_now, first, over) = tokio::try_join!(
        biased;
        turn.begin(Purpose::Serve),
        turn.now(),
        turn.query(ONE_AT_A_TIME, &[]),
        over(turn, prune),
    )?;
    let is_ours = first.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(false);
    if !is_ours {
        turn.roll_back().await?;
        return Ok(0);
    }
    let events = match over.is_empty() {
        true => Vec::new(),
        false => still_over(turn, &over).await?,
    };
    let counted = match events.is_empty() {
        true => Counted::default(),
        false => forget(turn, &events, server_now).await?,
    };
    let lot = codes::of_number(prune.lot);
    // The end of a mark is told by the clock of whoever admitted its event. Here the earlier clock counts: one
    // that is ahead must not take away what keeps events from being admitted twice.
    let marks_now = prune.now.min(server_now).as_millis();
    let expired = [&marks_now as &(dyn ToSql + Sync), &lot];
    let last_leases_ended = server_now.minus(limits::LEASE_MAX).as_millis();
    let old = [&last_leases_ended as &(dyn ToSql + Sync)];
    let keys_now = server_now.as_millis();
    let over = [&keys_now as &(dyn ToSql + Sync), &lot];
    // Refused requests keep the time of the process that refused them.
    let held_before = prune.held_before.as_millis();
    let refused = [&held_before as &(dyn ToSql + Sync)];
    let (marks, _, keys, _, _, (), _, ()) = tokio::try_join!(
        biased;
        turn.execute(FORGET_MARKS, &expired),
        turn.execute(FORGET_DIGESTS, &expired),
        turn.execute(keyed::FORGET_OVER, &over),
        turn.execute(claim::FORGET_OLD, &old),
        turn.execute(refusals::FORGET_OLD, &refused),
        counted.add(turn),
        turn.execute(count::SUM_UP, &[]),
        turn.commit(),
    )?;
    let others = usize::try_from(marks.saturating_add(keys)).unwrap_or(usize::MAX);
    Ok(events.len().saturating_add(others))
}

async fn over(turn: &Turn<'_>, prune: &Prune) -> Result<Vec<(Uuid, i64)>, Trouble> {
    let [done, dead, held] = [prune.done_before, prune.dead_before, prune.held_before]
        .map(|before| turn.to_server(before).as_millis());
    let rows = turn.query(OVER, &[&done, &dead, &held, &codes::of_number(prune.lot)]).await?;
    rows.iter().map(|row| Ok((get(row, "id")?, get(row, "ended_at")?))).collect()
}

async fn still_over(turn: &Turn<'_>, over: &[(Uuid, i64)]) -> Result<Vec<Uuid>, Trouble> {
    let ids = column(over, |(id, _)| *id);
    let ended_at = column(over, |(_, ended_at)| *ended_at);
    turn.query(LOCK_DELIVERIES, &[&ids]).await?;
    line::lock_of_events(turn, &ids).await?;
    let rows = turn.query(STILL_OVER, &[&ids, &ended_at]).await?;
    rows.iter().map(|row| get(row, "id")).collect()
}

/// Takes events away with all that is about them, but for their marks.
async fn forget(turn: &Turn<'_>, events: &[Uuid], now: Timestamp) -> Result<Counted, Trouble> {
    let those = [&events as &(dyn ToSql + Sync)];
    let (_, deliveries, _, _, _, _, events) = tokio::try_join!(
        biased;
        turn.execute(FORGET_ATTEMPTS, &those),
        turn.query(FORGET_DELIVERIES, &those),
        turn.execute(EXPIRE_MARKS, &those),
        turn.execute(EXPIRE_DIGESTS, &those),
        turn.execute(FORGET_CONTENTS, &those),
        turn.execute(FORGET_DUPLICATES, &those),
        turn.query(FORGET_EVENTS, &those),
    )?;
    // Dead ones that were in the way of others to the very end.
    let mut lines = Lines::default();
    let mut counted = Counted::default();
    let source = |row: &Row| Ok::<_, Trouble>(get::<&str>(row, "source")?.into());
    for row in &deliveries {
        if codes::state(row, "state")? == State::Dead {
            let handler = get::<&str>(row, "handler")?.into();
            counted.of_deliveries(&source(row)?, &handler).dead_now -= 1;
            lines.leave(&mut Kept::read(row)?, now);
        }
    }
    lines.write(turn).await?;
    for row in &events {
        if codes::event_state(row, "state")? == EventState::Held {
            counted.of_events(&source(row)?).held_now -= 1;
        }
    }
    let requests: Vec<Option<Uuid>> =
        events.iter().map(|row| get(row, "request")).collect::<Result<_, _>>()?;
    let requests: Vec<Uuid> = requests.into_iter().flatten().collect();
    if !requests.is_empty() {
        turn.query(LOCK_REQUESTS, &[&requests]).await?;
        turn.execute(FORGET_REQUESTS, &[&requests]).await?;
    }
    Ok(counted)
}
