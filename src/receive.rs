//! The first path: a request a provider sent, up to its answer.
//!
//! The size and the time of the body, its encoding and its method are refused one step earlier, in
//! `http/`, before there is a request to look at.

use std::time::Duration;

use crate::{
    app::App,
    clock::Timestamp,
    event::{EventId, NewEvent},
    limits,
    receipt::{Admission, Receipt},
    refusal::Refusal,
    request::Unverified,
    source::Source,
    store::StoreError,
};

/// Why a request was not received: whose fault it is decides the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReceived {
    /// The sender's: 4xx. Sending it again will not help.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Ours: 503. The sender should try again, and what it sends then is neither lost nor run twice.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
}

/// Takes one request a provider sent and decides its answer.
///
/// Nothing is stored, parsed for meaning or sent on before the signature holds (P8), and nothing is
/// answered yes before the store has it (P1). It ends within the app's `answer_within`, whatever
/// the store does (P10).
///
/// # Errors
/// See [`NotReceived`].
pub async fn receive(
    app: &App,
    source: &Source,
    request: Unverified,
) -> Result<Receipt, NotReceived> {
    // Some handshakes are not signed: they prove the URL before a secret is known to us.
    if let Some(reply) = source.unsigned_handshake(&request)? {
        return Ok(Receipt::Handshake(reply));
    }
    let now = app.clock.now();
    let request = source.verify(request, now)?; // Unverified → Verified
    if let Some(reply) = source.signed_handshake(&request)? {
        return Ok(Receipt::Handshake(reply));
    }

    // One step per event: remembered and queued, or neither. A duplicate gets the same yes, and nothing more.
    let events = source.events(&request)?; // each with its identity, its deliveries and all their ids
    let admissions = admit(app, events, now).await?;
    if admissions.iter().any(|(_, admission)| *admission == Admission::Fresh) {
        app.wake(source);
    }
    Ok(Receipt::Events(admissions))
}

/// Admits all events of a request, or says that the sender should send all of them again: those that
/// were admitted will then be duplicates.
async fn admit(
    app: &App,
    events: Vec<NewEvent>,
    now: Timestamp,
) -> Result<Vec<(EventId, Admission)>, StoreError> {
    let patience = app.answer_within.saturating_sub(limits::ANSWER_MARGIN);
    let not_after = now.plus(patience);
    let admitted = tokio::time::timeout(patience, app.store.admit(events, not_after)).await;
    admitted.map_err(|_| no_answer(patience))?.into_iter().collect()
}

fn no_answer(patience: Duration) -> StoreError {
    StoreError::Unavailable(format!("no answer within {} ms", patience.as_millis()))
}
