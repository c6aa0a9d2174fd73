//! The first path: a request a provider sent, up to its answer.
//!
//! The size and the time of the body, its encoding and its method are refused one step earlier, in
//! `http/`, before there is a request to look at.

use std::time::Duration;

use uuid::Uuid;

use crate::{
    app::App,
    clock::Timestamp,
    delivery::State,
    event::{EventId, NewEvent},
    limits,
    receipt::{Admission, Receipt, Reply},
    refusal::{Refusal, SignatureProblem},
    request::Unverified,
    source::{OnDeadDuplicate, Source},
    store::{StoreError, Which, Wish},
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
/// Nothing is stored before the signature holds (P8), unless the source is in shadow mode, and nothing
/// is answered yes before the store has it (P1). It ends within the app's `answer_within`, whatever
/// the store does (P10).
///
/// # Errors
/// See [`NotReceived`].
pub async fn receive(
    app: &App,
    source: &Source,
    request: Unverified,
) -> Result<Receipt, NotReceived> {
    let now = app.clock.now();
    let (events, problem) = match examine(source, request, now)? {
        Examined::Handshake(reply) => return Ok(Receipt::Handshake(reply)),
        Examined::Events(events) => (events, None), // each with its identity, its deliveries and all their ids
        Examined::Shadow(events, problem) => (events, Some(problem)), // the same, marked
    };
    // One step per event: remembered and queued, or neither. A duplicate gets the same yes, and nothing more.
    let admissions = admit(app, source, events, now).await?;
    let redrives = source.on_dead_duplicate == OnDeadDuplicate::Redrive;
    if redrives || admissions.iter().any(|(_, admission)| *admission == Admission::Fresh) {
        app.wake(source);
    }
    if let Some(problem) = problem {
        tell_shadow(app, source, &problem);
    }
    Ok(Receipt::Events(admissions))
}

/// What a request turned out to be.
#[derive(Clone, Debug)]
pub enum Examined {
    /// A test of the URL, and the answer to it.
    Handshake(Reply),
    /// Events to admit.
    Events(Vec<NewEvent>),
    /// Events to admit although the signature of their request does not hold, and why it does not:
    /// the source is in shadow mode.
    Shadow(Vec<NewEvent>, SignatureProblem),
}

/// Looks at a request without touching anything: who sent it, and what it says. Pure, so that a
/// captured request can be checked in the same way, as of any time.
///
/// # Errors
/// The refusal to answer with.
pub fn examine(source: &Source, request: Unverified, now: Timestamp) -> Result<Examined, Refusal> {
    // Some handshakes are not signed: they prove the URL before a secret is known to us.
    if let Some(reply) = source.unsigned_handshake(&request)? {
        return Ok(Examined::Handshake(reply));
    }
    source.check_method(&request)?; // what is left of the other methods was for handshakes only
    if source.is_in_shadow_mode()
        && let Err(problem) = source.scheme.verify(&request, now)
    {
        // It is no handshake, whatever it says: answering one would sign for anybody.
        return Ok(Examined::Shadow(source.events_in_shadow(&request)?, problem));
    }
    let request = source.verify(request, now)?; // Unverified → Verified
    if let Some(reply) = source.signed_handshake(&request)? {
        return Ok(Examined::Handshake(reply));
    }
    Ok(Examined::Events(source.events(&request)?))
}

/// Admits all events of a request in time, or says that the sender should send all of them again:
/// those that were admitted will then be duplicates.
async fn admit(
    app: &App,
    source: &Source,
    events: Vec<NewEvent>,
    now: Timestamp,
) -> Result<Vec<(EventId, Admission)>, StoreError> {
    let patience = app.answer_within.saturating_sub(limits::ANSWER_MARGIN);
    let not_after = now.plus(patience);
    let work = async {
        let admitted = app.store.admit(events, not_after).await;
        let admissions: Vec<_> = admitted.into_iter().collect::<Result<_, _>>()?;
        if source.on_dead_duplicate == OnDeadDuplicate::Redrive {
            redrive_the_dead(app, &admissions, not_after).await?;
        }
        Ok(admissions)
    };
    let in_time = tokio::time::timeout(patience, work).await;
    in_time.unwrap_or_else(|_| Err(no_answer(patience)))
}

/// Queues the dead deliveries of events that were sent again. That is no new trigger: it is the same
/// delivery under the same key, with a fresh budget.
async fn redrive_the_dead(
    app: &App,
    admissions: &[(EventId, Admission)],
    not_after: Timestamp,
) -> Result<(), StoreError> {
    for (id, admission) in admissions {
        if *admission != Admission::Duplicate {
            continue;
        }
        let deliveries = app.store.event(*id).await?.map(|record| record.deliveries);
        let dead =
            deliveries.into_iter().flatten().filter(|delivery| delivery.state == State::Dead);
        let ids: Vec<_> = dead.map(|delivery| delivery.id).collect();
        if !ids.is_empty() {
            let wish = Wish::Redrive { id: Uuid::now_v7(), which: Which::Ids(ids) };
            app.store.wish(&wish, not_after).await?;
        }
    }
    Ok(())
}

/// Counts and logs what shadow mode let in. A sender decides how often, but not how much we write.
fn tell_shadow(app: &App, source: &Source, problem: &SignatureProblem) {
    app.metrics.let_in_as_shadow(&source.name);
    let key = format!("{} shadow", source.name);
    if let Some(more) = app.refusal_lines.let_through(&key, app.clock.monotonic()) {
        tracing::warn!(
            source.name = %source.name, reason = %problem, lines.held_back = more,
            "SHADOW MODE: admitted a request whose signature does not hold"
        );
    }
}

fn no_answer(patience: Duration) -> StoreError {
    StoreError::Unavailable(format!("no answer within {} ms", patience.as_millis()))
}
