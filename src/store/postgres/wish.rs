//! What a person may ask for.

use std::{collections::BTreeMap, sync::Arc};

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{
    codes::{self, get},
    connection::{Purpose, Turn},
    delivery::{self, Changes, Kept},
    erase,
    error::Trouble,
};
use crate::{
    clock::Timestamp,
    delivery::{DeliveryId, State},
    event::{EventId, EventState, NewDelivery},
    limits,
    store::{Granted, StoreError, Which, Wish},
};

/// The statements of this file.
pub(super) const STATEMENTS: &[&str] = &[
    LOCK_EVENT,
    ROUTE_NOWHERE,
    THERE,
    FIRST,
    DEAD_OR_REDRIVEN,
    QUEUED_OR_DEAD,
    QUEUED,
    DEAD_IN_ORDER,
];

const LOCK_EVENT: &str =
    "SELECT source, state, erased_at IS NOT NULL AS is_erased FROM events WHERE id = $1 FOR UPDATE";
const ROUTE_NOWHERE: &str = "UPDATE events SET state = 3 WHERE id = $1";
const THERE: &str = "SELECT id, event FROM deliveries WHERE id = ANY($1)";

/// The first delivery of an event to each handler, which its replays there are replays of.
const FIRST: &str = "SELECT DISTINCT ON (handler) handler, id FROM deliveries
    WHERE event = $1 AND replay_of IS NULL ORDER BY handler, id";

const DEAD_OR_REDRIVEN: &str = "SELECT id FROM (
        SELECT id FROM deliveries WHERE state = 3 AND handler = $1
        UNION
        SELECT id FROM deliveries WHERE redriven_by = $2) AS meant
    ORDER BY id LIMIT $3";

const QUEUED_OR_DEAD: &str = "SELECT id FROM (
        SELECT id FROM deliveries WHERE state = 0 AND handler = $1
        UNION ALL
        SELECT id FROM deliveries WHERE state = 3 AND handler = $1) AS meant
    ORDER BY id LIMIT $2";

const QUEUED: &str =
    "SELECT id FROM deliveries WHERE state = 0 AND handler = $1 ORDER BY id LIMIT $2";

const DEAD_IN_ORDER: &str = "SELECT id FROM deliveries
    WHERE state = 3 AND handler = $1 AND place IS NOT NULL ORDER BY id LIMIT $2";

/// See [`Store::wish`](crate::store::Store::wish).
pub(super) async fn grant(
    turn: &Turn<'_>,
    wish: &Wish,
    not_after: Timestamp,
) -> Result<Result<Granted, StoreError>, Trouble> {
    let ((), now) = tokio::try_join!(biased; turn.begin(Purpose::Serve), turn.now())?;
    if now > turn.to_server(not_after) {
        turn.roll_back().await?;
        return Ok(Err(StoreError::Late));
    }
    let (granted, changes) = match wish {
        Wish::Replay { event, deliveries } => replay(turn, *event, deliveries, now).await?,
        Wish::AdmitHeld { event, deliveries } => admit_held(turn, *event, deliveries, now).await?,
        Wish::Redrive { id, which } => redrive(turn, *id, which, now).await?,
        Wish::Move { which, to } => reroute(turn, which, to, now).await?,
        Wish::Kill { which } => kill(turn, which, now).await?,
        Wish::Erase { event } => erase::erase(turn, *event, now).await?,
        Wish::Unblock { which } => unblock(turn, which, now).await?,
    };
    tokio::try_join!(biased; changes.write(turn), turn.in_time(not_after), turn.commit())?;
    Ok(Ok(granted))
}

async fn replay(
    turn: &Turn<'_>,
    event: EventId,
    new: &[NewDelivery],
    now: Timestamp,
) -> Result<(Granted, Changes), Trouble> {
    let mut changes = Changes::default();
    let Some((source, state, is_erased)) = lock_event(turn, event).await? else {
        return Ok((Granted::NotFound, changes));
    };
    if is_erased {
        return Ok((Granted::Erased, changes));
    }
    if state == EventState::Held {
        return Ok((Granted::NotFound, changes));
    }
    let (mut known, mut first) =
        tokio::try_join!(biased; events_of(turn, new), first_for(turn, event))?;
    for delivery in new {
        if known.insert(delivery.id, event).is_some() {
            continue; // this very wish, sent again
        }
        let replay_of = first.get(&delivery.handler).copied();
        first.entry(Arc::clone(&delivery.handler)).or_insert(delivery.id);
        changes.queue(Kept { replay_of, ..Kept::new(delivery, event, &source, now) });
        changes.change_event(event, 1, 0, now);
    }
    Ok((Granted::Deliveries(ids_of(new)), changes))
}

async fn admit_held(
    turn: &Turn<'_>,
    event: EventId,
    new: &[NewDelivery],
    now: Timestamp,
) -> Result<(Granted, Changes), Trouble> {
    let mut changes = Changes::default();
    let Some((source, state, is_erased)) = lock_event(turn, event).await? else {
        return Ok((Granted::NotFound, changes));
    };
    if state != EventState::Held {
        let known = events_of(turn, new).await?;
        let again = !new.is_empty() && new.iter().all(|new| known.get(&new.id) == Some(&event));
        let granted = if again { Granted::Deliveries(ids_of(new)) } else { Granted::NotFound };
        return Ok((granted, changes));
    }
    if is_erased {
        return Ok((Granted::Erased, changes));
    }
    let counted = changes.counted.of_events(&source);
    counted.held_now -= 1;
    counted.unrouted += i64::from(new.is_empty());
    if new.is_empty() {
        turn.execute(ROUTE_NOWHERE, &[&codes::of_event(event)]).await?;
    }
    for delivery in new {
        changes.queue(Kept::new(delivery, event, &source, now));
        changes.counted.of_deliveries(&source, &delivery.handler).events += 1;
        changes.change_event(event, 1, 0, now);
    }
    Ok((Granted::Deliveries(ids_of(new)), changes))
}

async fn redrive(
    turn: &Turn<'_>,
    wish: Uuid,
    which: &Which,
    now: Timestamp,
) -> Result<(Granted, Changes), Trouble> {
    let most = codes::of_number(limits::WISH_ROWS_MAX);
    let meant = match which {
        Which::Ids(ids) => ids.clone(),
        Which::Handler(handler) => {
            ids(turn, DEAD_OR_REDRIVEN, &[&&**handler, &wish, &most]).await?
        }
    };
    let applies = |kept: &Kept| kept.state == State::Dead || kept.redriven_by == Some(wish);
    let mut redriven = those(turn, &meant, applies).await?;
    let mut changes = Changes::default();
    if erase::keep_those_not_erased(turn, &mut redriven, wish).await? && redriven.is_empty() {
        return Ok((Granted::Erased, changes));
    }
    let granted = Granted::Deliveries(redriven.iter().map(|kept| kept.id).collect());
    for mut kept in redriven {
        if kept.redriven_by != Some(wish) {
            kept.redriven_by = Some(wish);
            kept.attempts_before_redrive = kept.attempts;
            kept.deaths_in_a_row = 0;
            changes.change(&mut kept, State::Queued, now);
            changes.put(kept);
        }
    }
    Ok((granted, changes))
}

async fn reroute(
    turn: &Turn<'_>,
    which: &Which,
    to: &Arc<str>,
    now: Timestamp,
) -> Result<(Granted, Changes), Trouble> {
    let meant = meant(turn, which, QUEUED_OR_DEAD).await?;
    let applies = |kept: &Kept| matches!(kept.state, State::Queued | State::Dead);
    let mut moved = those(turn, &meant, applies).await?;
    let granted = Granted::Deliveries(moved.iter().map(|kept| kept.id).collect());
    let mut changes = Changes::default();
    // Those that stand in line go first, as they stand.
    moved.sort_by_key(|kept| kept.place.unwrap_or(u64::MAX));
    for mut kept in moved.into_iter().filter(|kept| kept.handler != *to) {
        changes.reroute(&mut kept, to, now);
        changes.put(kept);
    }
    Ok((granted, changes))
}

async fn kill(
    turn: &Turn<'_>,
    which: &Which,
    now: Timestamp,
) -> Result<(Granted, Changes), Trouble> {
    let meant = meant(turn, which, QUEUED).await?;
    let killed = those(turn, &meant, |kept| kept.state == State::Queued).await?;
    let granted = Granted::Deliveries(killed.iter().map(|kept| kept.id).collect());
    let mut changes = Changes::default();
    for mut kept in killed {
        changes.change(&mut kept, State::Dead, now);
        changes.put(kept);
    }
    Ok((granted, changes))
}

async fn unblock(
    turn: &Turn<'_>,
    which: &Which,
    now: Timestamp,
) -> Result<(Granted, Changes), Trouble> {
    let meant = meant(turn, which, DEAD_IN_ORDER).await?;
    let applies = |kept: &Kept| kept.state == State::Dead && kept.order.is_some();
    let unblocked = those(turn, &meant, applies).await?;
    let granted = Granted::Deliveries(unblocked.iter().map(|kept| kept.id).collect());
    let mut changes = Changes::default();
    for mut kept in unblocked {
        changes.leave_line(&mut kept, now);
        changes.put(kept);
    }
    Ok((granted, changes))
}

/// Those that are named, or those of the handler that `sql` finds.
async fn meant(
    turn: &Turn<'_>,
    which: &Which,
    sql: &'static str,
) -> Result<Vec<DeliveryId>, Trouble> {
    let most = codes::of_number(limits::WISH_ROWS_MAX);
    match which {
        Which::Ids(ids) => Ok(ids.clone()),
        Which::Handler(handler) => ids(turn, sql, &[&&**handler, &most]).await,
    }
}

/// Of the deliveries meant those that the wish applies to, locked, oldest first.
async fn those(
    turn: &Turn<'_>,
    meant: &[DeliveryId],
    applies: impl Fn(&Kept) -> bool,
) -> Result<Vec<Kept>, Trouble> {
    let locked = delivery::lock(turn, meant).await?;
    Ok(locked.into_iter().filter(applies).take(limits::WISH_ROWS_MAX).collect())
}

async fn ids(
    turn: &Turn<'_>,
    sql: &'static str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Vec<DeliveryId>, Trouble> {
    let rows = turn.query(sql, values).await?;
    rows.iter().map(|row| codes::delivery_id(row, "id")).collect()
}

/// The source and state of an event, which nobody else changes before this transaction ends, and whether
/// it was erased.
async fn lock_event(
    turn: &Turn<'_>,
    event: EventId,
) -> Result<Option<(Arc<str>, EventState, bool)>, Trouble> {
    let rows = turn.query(LOCK_EVENT, &[&codes::of_event(event)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let source = get::<&str>(row, "source")?.into();
    Ok(Some((source, codes::event_state(row, "state")?, get(row, "is_erased")?)))
}

/// Of these deliveries those that are there already, with their events.
async fn events_of(
    turn: &Turn<'_>,
    new: &[NewDelivery],
) -> Result<BTreeMap<DeliveryId, EventId>, Trouble> {
    let ids: Vec<Uuid> = new.iter().map(|new| codes::of_delivery(new.id)).collect();
    let rows = turn.query(THERE, &[&ids]).await?;
    let known =
        rows.iter().map(|row| Ok((codes::delivery_id(row, "id")?, codes::event_id(row, "event")?)));
    known.collect()
}

async fn first_for(
    turn: &Turn<'_>,
    event: EventId,
) -> Result<BTreeMap<Arc<str>, DeliveryId>, Trouble> {
    let rows = turn.query(FIRST, &[&codes::of_event(event)]).await?;
    let first = rows
        .iter()
        .map(|row| Ok((get::<&str>(row, "handler")?.into(), codes::delivery_id(row, "id")?)));
    first.collect()
}

fn ids_of(new: &[NewDelivery]) -> Vec<DeliveryId> {
    new.iter().map(|new| new.id).collect()
}
