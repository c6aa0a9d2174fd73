//! Erasing what the sender of one event has written.
//!
//! Old versions of the rows lie in their tables until a vacuum, and in the write-ahead log for as long as
//! that is kept: OPERATIONS.md says so.

use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    codes,
    connection::Turn,
    delivery::{self, Changes, Kept, column},
    error::Trouble,
    event, line, prune,
};
use crate::{
    clock::Timestamp,
    delivery::{AttemptOutcome, State},
    event::EventId,
    store::{ERASED, Granted},
};

/// The statements of this file.
pub(super) const STATEMENTS: &[&str] = &[
    DELIVERIES_OF,
    ERASE_EVENT,
    ERASE_CONTENT,
    ERASE_DUPLICATES,
    ERASE_ATTEMPTS,
    ERASE_REQUEST,
    ERASED_AMONG,
];

const DELIVERIES_OF: &str = "SELECT id FROM deliveries WHERE event = $1 ORDER BY id";

const ERASE_EVENT: &str = "UPDATE events SET retry_marker = NULL, request = NULL, body_bytes = 0,
        erased_at = coalesce(erased_at, $2)
    WHERE id = $1";
const ERASE_CONTENT: &str =
    "UPDATE contents SET query = '', headers = '', body = '' WHERE event = $1";
const ERASE_DUPLICATES: &str = "UPDATE duplicates SET retry_marker = NULL WHERE event = $1";

/// What is written down of one that died is in our own words.
const ERASE_ATTEMPTS: &str = "UPDATE attempts SET error = NULL, excerpt = NULL FROM deliveries
    WHERE deliveries.event = $1 AND attempts.delivery = deliveries.id AND attempts.outcome <> $2";

/// Its headers stay as long as another event has them for its own.
const ERASE_REQUEST: &str = "UPDATE requests SET body = '' WHERE id = $1";

const ERASED_AMONG: &str = "SELECT id FROM events WHERE id = ANY($1) AND erased_at IS NOT NULL";

/// See [`Wish::Erase`](crate::store::Wish::Erase). Deliveries and their lines are locked
/// before their event, as everywhere.
pub(super) async fn erase(
    turn: &Turn<'_>,
    event: EventId,
    now: Timestamp,
) -> Result<(Granted, Changes), Trouble> {
    let id = codes::of_event(event);
    let before = turn.query(DELIVERIES_OF, &[&id]).await?;
    let ids =
        before.iter().map(|row| codes::delivery_id(row, "id")).collect::<Result<Vec<_>, _>>()?;
    let deliveries = delivery::lock(turn, &ids).await?;
    line::lock_of_events(turn, &[id]).await?;
    let Some(locked) = event::lock(turn, event).await? else {
        return Ok((Granted::NotFound, Changes::default()));
    };
    // Replayed in between, it has a delivery more, whose row is not ours.
    let is_replayed = turn.query(DELIVERIES_OF, &[&id]).await?.len() != deliveries.len();
    let is_held = |kept: &Kept| kept.state == State::Leased && kept.due_at > now;
    if is_replayed || deliveries.iter().any(is_held) {
        return Ok((Granted::Running, Changes::default()));
    }
    erase_content(turn, id, locked.request, now).await?;
    let mut changes = Changes::default();
    let mut killed = Vec::new();
    for mut kept in deliveries {
        kept.last_error.take_if(|error| error != ERASED);
        // Whoever held it until its lease ran out may not settle it any more. By two, since by one it would
        // be one that was buried, and what was done of that still counts.
        kept.token += 2;
        if matches!(kept.state, State::Queued | State::Leased) {
            kept.last_error = Some(ERASED.to_owned());
            changes.change(&mut kept, State::Dead, now);
        }
        killed.extend(kept.last_error.is_some().then_some(kept.id));
        changes.put(kept);
    }
    Ok((Granted::Deliveries(killed), changes))
}

/// Takes those out whose event was erased, unless this wish has redriven them before that. Says whether
/// there were any.
pub(super) async fn keep_those_not_erased(
    turn: &Turn<'_>,
    those: &mut Vec<Kept>,
    wish: Uuid,
) -> Result<bool, Trouble> {
    let before = those.len();
    let events = column(those, |kept| codes::of_event(kept.event));
    let rows = turn.query(ERASED_AMONG, &[&events]).await?;
    let id = |row: &Row| codes::event_id(row, "id");
    let erased = rows.iter().map(id).collect::<Result<Vec<_>, _>>()?;
    those.retain(|kept| kept.redriven_by == Some(wish) || !erased.contains(&kept.event));
    Ok(those.len() < before)
}

async fn erase_content(
    turn: &Turn<'_>,
    event: Uuid,
    request: Option<Uuid>,
    now: Timestamp,
) -> Result<(), Trouble> {
    let now = now.as_millis();
    let died = codes::of_outcome(AttemptOutcome::Died);
    turn.execute(ERASE_EVENT, &[&event, &now]).await?;
    turn.execute(ERASE_CONTENT, &[&event]).await?;
    turn.execute(ERASE_DUPLICATES, &[&event]).await?;
    turn.execute(ERASE_ATTEMPTS, &[&event, &died]).await?;
    let Some(request) = request else { return Ok(()) };
    turn.execute(ERASE_REQUEST, &[&request]).await?;
    let those = [request];
    let those = [&those.as_slice() as &(dyn ToSql + Sync)];
    turn.execute(prune::FORGET_REQUESTS, &those).await.map(drop)
}
