//! How our words are written into columns, and read back.

use std::borrow::Cow;

use tokio_postgres::{Row, types::FromSql};
use uuid::Uuid;

use super::error::Trouble;
use crate::{
    clock::Timestamp,
    delivery::{AttemptOutcome, DeliveryId, State},
    event::{EventId, EventState},
    order::{OnDead, Order, OrderKey},
};

/// The number of a delivery's state. The indexes of the queue are made for these.
pub(super) fn of_state(state: State) -> i16 {
    match state {
        State::Queued => 0,
        State::Leased => 1,
        State::Done => 2,
        State::Dead => 3,
    }
}

/// The number of an event's state.
pub(super) fn of_event_state(state: EventState) -> i16 {
    match state {
        EventState::Open => 0,
        EventState::Done => 1,
        EventState::Dead => 2,
        EventState::Unrouted => 3,
        EventState::Held => 4,
    }
}

/// The number of an attempt's outcome.
pub(super) fn of_outcome(outcome: AttemptOutcome) -> i16 {
    match outcome {
        AttemptOutcome::Done => 0,
        AttemptOutcome::Failed => 1,
        AttemptOutcome::Rejected => 2,
        AttemptOutcome::Died => 3,
    }
}

/// An event's id as a column holds it.
pub(super) fn of_event(id: EventId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

/// A delivery's id as a column holds it.
pub(super) fn of_delivery(id: DeliveryId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

/// A count or size as a column holds it.
pub(super) fn of_number(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// Text of strangers as a column holds it: Postgres takes every character but NUL, so that one is
/// written as `\0`, and a backslash as two.
pub(super) fn of_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\0', "\\0")
}

/// The same for text that may not be there.
pub(super) fn of_some_text(text: Option<&str>) -> Option<String> {
    text.map(of_text)
}

/// What is in a column.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: &str) -> Result<T, Trouble> {
    Ok(row.try_get(column)?)
}

/// The number in a column.
pub(super) fn number<T: TryFrom<i64>>(row: &Row, column: &str) -> Result<T, Trouble> {
    T::try_from(get(row, column)?).map_err(|_| Trouble::odd("a number is out of its range"))
}

/// The number in a column that may be empty.
pub(super) fn some_number<T: TryFrom<i64>>(row: &Row, column: &str) -> Result<Option<T>, Trouble> {
    match get::<Option<i64>>(row, column)? {
        Some(_) => number(row, column).map(Some),
        None => Ok(None),
    }
}

/// The order in a row of deliveries, which may have none.
pub(super) fn order(row: &Row) -> Result<Option<Order>, Trouble> {
    let Some(key) = some_bytes(row, "order_key")? else { return Ok(None) };
    let skips: Option<bool> = get(row, "skips")?;
    let on_dead = if skips == Some(true) { OnDead::Skip } else { OnDead::Block };
    Ok(Some(Order { key: OrderKey::from_bytes(key), on_dead }))
}

/// The bytes in a column, of which there are always as many.
pub(super) fn bytes<const BYTES: usize>(row: &Row, column: &str) -> Result<[u8; BYTES], Trouble> {
    let bytes: &[u8] = get(row, column)?;
    bytes.try_into().map_err(|_| Trouble::odd("a hash is too short or too long"))
}

/// The same for a column that may be empty.
pub(super) fn some_bytes<const BYTES: usize>(
    row: &Row,
    column: &str,
) -> Result<Option<[u8; BYTES]>, Trouble> {
    match get::<Option<&[u8]>>(row, column)? {
        Some(_) => bytes(row, column).map(Some),
        None => Ok(None),
    }
}

/// The text of a stranger in a column.
pub(super) fn text(row: &Row, column: &str) -> Result<String, Trouble> {
    Ok(unescaped(get(row, column)?))
}

/// The text of a stranger in a column that may be empty.
pub(super) fn some_text(row: &Row, column: &str) -> Result<Option<String>, Trouble> {
    Ok(get::<Option<&str>>(row, column)?.map(unescaped))
}

/// The time in a column, by the clock of whoever wrote it.
pub(super) fn time(row: &Row, column: &str) -> Result<Timestamp, Trouble> {
    Ok(Timestamp::from_millis(get(row, column)?))
}

/// The event's id in a column.
pub(super) fn event_id(row: &Row, column: &str) -> Result<EventId, Trouble> {
    Ok(EventId::from_bytes(get::<Uuid>(row, column)?.into_bytes()))
}

/// The delivery's id in a column.
pub(super) fn delivery_id(row: &Row, column: &str) -> Result<DeliveryId, Trouble> {
    Ok(DeliveryId::from_bytes(get::<Uuid>(row, column)?.into_bytes()))
}

/// The delivery's id in a column that may be empty.
pub(super) fn some_delivery_id(row: &Row, column: &str) -> Result<Option<DeliveryId>, Trouble> {
    let id: Option<Uuid> = get(row, column)?;
    Ok(id.map(|id| DeliveryId::from_bytes(id.into_bytes())))
}

/// The delivery's state in a column.
pub(super) fn state(row: &Row, column: &str) -> Result<State, Trouble> {
    named(row, column, &[State::Queued, State::Leased, State::Done, State::Dead], of_state)
}

/// The event's state in a column.
pub(super) fn event_state(row: &Row, column: &str) -> Result<EventState, Trouble> {
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
pub(super) fn outcome(row: &Row, column: &str) -> Result<AttemptOutcome, Trouble> {
    let outcomes = [
        AttemptOutcome::Done,
        AttemptOutcome::Failed,
        AttemptOutcome::Rejected,
        AttemptOutcome::Died,
    ];
    named(row, column, &outcomes, of_outcome)
}

fn named<T: Copy>(row: &Row, column: &str, all: &[T], number: fn(T) -> i16) -> Result<T, Trouble> {
    let found: i16 = get(row, column)?;
    let known = all.iter().copied().find(|word| number(*word) == found);
    known.ok_or_else(|| Trouble::odd("there is a state that nobody here writes"))
}

fn unescaped(text: &str) -> String {
    let text: Cow<'_, str> = text.into();
    if !text.contains('\\') {
        return text.into_owned();
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.push(if characters.next() == Some('0') { '\0' } else { '\\' }),
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_as_it_was() {
        for text in ["", "plain", "\0", "a\\0b", "\\", "\\\\0\0\\", "ünï\0cödé"] {
            let written = of_text(text);
            assert!(!written.contains('\0'));
            assert_eq!(unescaped(&written), text);
        }
    }
}
