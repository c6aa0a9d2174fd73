//! The event that a wish is about.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    codes::{self, get},
    connection::Turn,
    error::Trouble,
};
use crate::event::{EventId, EventState};

/// The statements of this file.
pub(super) const STATEMENTS: &[&str] = &[LOCK];

const LOCK: &str = "SELECT source, state, request, erased_at IS NOT NULL AS is_erased
    FROM events WHERE id = $1 FOR UPDATE";

/// An event which nobody else changes before this transaction ends.
#[derive(Debug)]
pub(super) struct Locked {
    pub(super) source: Arc<str>,
    pub(super) state: EventState,
    /// The request it came in, if that is kept for itself.
    pub(super) request: Option<Uuid>,
    pub(super) is_erased: bool,
}

/// Locks an event, if it is there. Its deliveries and their lines are locked before it.
pub(super) async fn lock(turn: &Turn<'_>, event: EventId) -> Result<Option<Locked>, Trouble> {
    let rows = turn.query(LOCK, &[&codes::of_event(event)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Locked {
        source: get::<&str>(row, "source")?.into(),
        state: codes::event_state(row, "state")?,
        request: get(row, "request")?,
        is_erased: get(row, "is_erased")?,
    }))
}
