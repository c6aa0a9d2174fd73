//! Erasing what the sender of an event has written, for good.

use std::fmt::Display;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Admin, AdminError, wishes::Changed};
use crate::{event::EventId, limits, store::Wish};

/// Why an event is erased.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EraseRequest {
    /// The reason, for the log.
    pub reason: String,
}

impl Admin {
    /// Erases the body, the headers and all else that the sender of an event has written. The event stays
    /// in the list, and a copy of it stays a duplicate. Tells the deliveries that were killed for it.
    ///
    /// # Errors
    /// When no reason is given, there is no such event, or an attempt at it is running.
    pub async fn erase(&self, id: EventId, ask: EraseRequest) -> Result<Changed, AdminError> {
        let reason = reason(Some(ask.reason))?;
        if reason.trim().is_empty() {
            return Err(AdminError::Invalid("say why it is erased: `reason` is empty".to_owned()));
        }
        let about = format!("event {id}");
        let changed = self.grant(Wish::Erase { event: id }, about).await?;
        let killed = changed.deliveries.len();
        tracing::warn!(event.id = %id, killed, reason, "a person erased an event");
        Ok(changed)
    }
}

/// The reason that a person gives, if it is fit to be logged.
pub(super) fn reason(given: Option<String>) -> Result<String, AdminError> {
    let reason = given.unwrap_or_default();
    if reason.len() > limits::REASON_BYTES_MAX {
        let max = limits::REASON_BYTES_MAX;
        return Err(AdminError::Invalid(format!("the reason is longer than {max} bytes")));
    }
    Ok(reason.chars().filter(|letter| !letter.is_control()).collect())
}

/// What to say while an attempt has what is to be erased in its hands.
pub(super) fn running(about: impl Display) -> AdminError {
    AdminError::Conflict(format!(
        "an attempt at a delivery of {about} is running, and nothing was erased: ask again when it has ended"
    ))
}

/// What to say when there is nothing left to deliver.
pub(super) fn erased(about: impl Display) -> AdminError {
    AdminError::Conflict(format!("{about}: erased, so there is nothing left to deliver"))
}
