//! How our words are written into columns, and read back.

use rusqlite::{Row, types::Type};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    delivery::{AttemptOutcome, DeliveryId, State},
    event::{EventId, EventState},
    order::{OnDead, Order, OrderKey},
};

/// The kinds of what is carried from another store.
pub(super) const MARK: i64 = 0;
/// See [`MARK`].
pub(super) const DIGEST: i64 = 1;

/// The number of a delivery's state. The indexes of the queue are made for these.
pub(super) fn of_state(state: State) -> i64 {
    match state {
        State::Queued => 0,
        State::Leased => 1,
        State::Done => 2,
        State::Dead => 3,
    }
}

/// The number of an event's state.
pub(super) fn of_event_state(state: EventState) -> i64 {
    match state {
        EventState::Open => 0,
        EventState::Done => 1,
        EventState::Dead => 2,
        EventState::Unrouted => 3,
        EventState::Held => 4,
    }
}

/// The number of an attempt's outcome.
pub(super) fn of_outcome(outcome: AttemptOutcome) -> i64 {
    match outcome {
        AttemptOutcome::Done => 0,
        AttemptOutcome::Failed => 1,
        AttemptOutcome::Rejected => 2,
        AttemptOutcome::Died => 3,
    }
}

/// The delivery's state in a column.
pub(super) fn state(row: &Row<'_>, column: usize) -> rusqlite::Result<State> {
    let states = [State::Queued, State::Leased, State::Done, State::Dead];
    named(row, column, &states, of_state)
}

/// The event's state in a column.
pub(super) fn event_state(row: &Row<'_>, column: usize) -> rusqlite::Result<EventState> {
    let states = [
        EventState::Open,
        EventState::Done,
        EventState::Dead,
        EventState::Unrouted,
        EventState::Held,
    ];
    named(row, column, &states, of_event_state)
}

/// The attempt's outcome in a column.
pub(super) fn outcome(row: &Row<'_>, column: usize) -> rusqlite::Result<AttemptOutcome> {
    let outcomes = [
        AttemptOutcome::Done,
        AttemptOutcome::Failed,
        AttemptOutcome::Rejected,
        AttemptOutcome::Died,
    ];
    named(row, column, &outcomes, of_outcome)
}

/// The time in a column.
pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    Ok(Timestamp::from_millis(row.get(column)?))
}

/// The event's id in a column.
pub(super) fn event_id(row: &Row<'_>, column: usize) -> rusqlite::Result<EventId> {
    Ok(EventId::from_bytes(row.get(column)?))
}

/// The delivery's id in a column.
pub(super) fn delivery_id(row: &Row<'_>, column: usize) -> rusqlite::Result<DeliveryId> {
    Ok(DeliveryId::from_bytes(row.get(column)?))
}

/// The delivery's id in a column that may be empty.
pub(super) fn some_delivery_id(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<DeliveryId>> {
    Ok(row.get::<_, Option<[u8; 16]>>(column)?.map(DeliveryId::from_bytes))
}

/// The order in a column and the one behind it, which may be empty.
pub(super) fn order(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Order>> {
    let Some(key) = row.get::<_, Option<_>>(column)? else { return Ok(None) };
    let skips = row.get::<_, Option<bool>>(column + 1)?.unwrap_or(false);
    let on_dead = if skips { OnDead::Skip } else { OnDead::Block };
    Ok(Some(Order { key: OrderKey::from_bytes(key), on_dead }))
}

/// The UUID in a column that may be empty.
pub(super) fn some_uuid(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Uuid>> {
    Ok(row.get::<_, Option<[u8; 16]>>(column)?.map(Uuid::from_bytes))
}

fn named<T: Copy>(
    row: &Row<'_>,
    column: usize,
    all: &[T],
    number: fn(T) -> i64,
) -> rusqlite::Result<T> {
    let found: i64 = row.get(column)?;
    all.iter().copied().find(|word| number(*word) == found).ok_or_else(|| {
        let unknown = format!("nobody here writes a state {found}");
        rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, unknown.into())
    })
}
