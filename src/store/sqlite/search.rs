//! Searching events: which of them a page has, and the shortest way there.
//!
//! Every condition of a filter is asked of every row, whatever way led to it. So the way decides how long
//! a search takes, and nothing else.

use rusqlite::{CachedStatement, Connection, types::Value};

use super::{
    codes,
    read::{ROW_COLUMNS, event_row},
};
use crate::{
    event::EventState,
    store::{EventFilter, EventRow},
};

/// One page of events, newest first.
pub(super) fn events(
    connection: &Connection,
    filter: &EventFilter,
) -> rusqlite::Result<Vec<EventRow>> {
    let Way { index, leads } = way(connection, filter)?;
    let sql = format!(
        "SELECT {ROW_COLUMNS} FROM events {index} WHERE {leads} {} ORDER BY id DESC LIMIT :limit",
        conditions(filter)
    );
    let mut select = connection.prepare_cached(&sql)?;
    bind(&mut select, filter)?;
    select.raw_query().mapped(event_row).collect()
}

/// A way to the rows.
struct Way {
    /// What stands behind the name of the table.
    index: &'static str,
    /// The condition that leads there.
    leads: &'static str,
}

/// Along all events, from the newest: where many fit, a page is soon full.
const ALL: Way = Way { index: "", leads: "true" };

/// The few that a person looks for among the many: open, dead and held ones.
const FEW: Way =
    Way { index: "INDEXED BY events_few", leads: "state IN (0, 2, 4) AND state = :state" };

/// Those that are done or unrouted, in the order in which they came to be: they have to be sorted.
const ENDED: Way =
    Way { index: "INDEXED BY events_ended", leads: "state = :state AND ended_at IS NOT NULL" };

/// By the provider's id. At most providers an identity begins with it, and the marks have those in order:
/// the id alone, or the id, `|` and more; `}` is what comes after `|`. The last condition is that of the
/// index, which SQLite takes only for a query that repeats it.
const BY_EVENT_ID: Way = Way {
    index: "",
    leads: "id IN (
    SELECT event FROM marks
        WHERE source IN (SELECT source FROM counts) AND identity = :event_id
    UNION ALL SELECT event FROM marks
        WHERE source IN (SELECT source FROM counts)
            AND identity >= :event_id || '|' AND identity < :event_id || '}'
    UNION ALL SELECT id FROM events INDEXED BY events_aside
        WHERE event_id = :event_id AND event_id IS NOT NULL AND (
            identity IS NULL OR identity <> event_id
                AND substr(identity, 1, length(event_id) + 1) <> event_id || '|'))",
};

/// As many rows as are sorted in a moment.
const SORTED_MAX: usize = 5_000;

fn way(connection: &Connection, filter: &EventFilter) -> rusqlite::Result<Way> {
    Ok(match filter.state {
        _ if filter.event_id.is_some() => BY_EVENT_ID,
        Some(EventState::Open | EventState::Dead | EventState::Held) => FEW,
        Some(EventState::Done | EventState::Unrouted) if have_ended_few(connection, filter)? => {
            ENDED
        }
        _ => ALL,
    })
}

fn have_ended_few(connection: &Connection, filter: &EventFilter) -> rusqlite::Result<bool> {
    let Way { index, leads } = ENDED;
    let sql = format!("SELECT 1 FROM events {index} WHERE {leads} LIMIT 1 OFFSET {SORTED_MAX}");
    let mut select = connection.prepare_cached(&sql)?;
    bind(&mut select, filter)?;
    Ok(select.raw_query().next()?.is_none())
}

/// What every row must fulfil. The `+` keeps SQLite from taking an index for it: that is decided above.
fn conditions(filter: &EventFilter) -> String {
    [
        filter.before.map_or("", |_| "AND id < :before"),
        filter.source.as_ref().map_or("", |_| "AND +source = :source"),
        event_type(filter).map_or("", |(condition, _)| condition),
        filter.state.map_or("", |_| "AND +state = :state"),
        filter.event_id.as_ref().map_or("", |_| "AND +event_id = :event_id"),
    ]
    .join(" ")
}

/// What is asked of the type, and the text to compare it with.
fn event_type(filter: &EventFilter) -> Option<(&'static str, &str)> {
    let wanted = filter.event_type.as_deref().filter(|wanted| *wanted != "*")?;
    Some(match wanted.strip_suffix('*') {
        Some(head) => ("AND instr(event_type, :type) = 1", head),
        None => ("AND coalesce(event_type, '') = :type", wanted),
    })
}

/// Fills in what the statement asks for.
fn bind(statement: &mut CachedStatement<'_>, filter: &EventFilter) -> rusqlite::Result<()> {
    let text = |text: &str| Value::from(text.to_owned());
    let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
    let values = [
        (":before", filter.before.map(|id| Value::from(id.as_bytes().to_vec()))),
        (":source", filter.source.as_deref().map(text)),
        (":type", event_type(filter).map(|(_, wanted)| text(wanted))),
        (":state", filter.state.map(|state| Value::from(codes::of_event_state(state)))),
        (":event_id", filter.event_id.as_deref().map(text)),
        (":limit", Some(Value::from(limit))),
    ];
    for (name, value) in values {
        if let Some(at) = statement.parameter_index(name)? {
            statement.raw_bind_parameter(at, value)?;
        }
    }
    Ok(())
}
