//! The first path: a request a provider sent, up to its answer.
//!
//! The size and the time of the body, its encoding and its method are refused one step earlier, in
//! `http/`, before there is a request to look at.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use crate::{
    app::App,
    clock::Timestamp,
    delivery::State,
    errands::Errand,
    event::{EventId, NewEvent},
    limits,
    provider::place::{Confirmation, Place},
    receipt::{Admission, Receipt, Reply},
    refusal::{Refusal, RefusalId, SignatureProblem},
    request::Unverified,
    secret::Secret,
    source::{OnDeadDuplicate, Proof, Source},
    store::{StoreError, Which, Wish},
    telemetry::{tail::Happening, trace::Received},
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
    /// Nobody's: 503. The key is fetched meanwhile, and what is sent again can be checked with it.
    #[error("the key it names is not known yet, and is fetched from {0}")]
    KeyNotKnown(Place),
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
    let (now, begun) = (app.clock.now(), app.clock.monotonic());
    let (events, confirmation, problem) = match examine(source, request, now)? {
        Examined::Handshake { reply, handed_over } => {
            if let Some(secret) = handed_over {
                show(app, source, secret, now).await;
            }
            return Ok(Receipt::Handshake(reply));
        }
        Examined::KeyNotKnown(place) => {
            want(app, source, &place, now);
            return Err(NotReceived::KeyNotKnown(place));
        }
        Examined::Events { events, confirmation } => (events, confirmation, None),
        Examined::Shadow(events, problem) => (events, None, Some(problem)), // the same, marked
    };
    let names = names(app, &events);
    // One step per event: remembered and queued, or neither. A duplicate gets the same yes, and nothing more.
    let admissions = admit(app, source, events, now, begun).await?;
    let redrives = source.on_dead_duplicate == OnDeadDuplicate::Redrive;
    if redrives || admissions.iter().any(|(_, admission)| *admission == Admission::Fresh) {
        app.wake(source);
    }
    if let Some(confirmation) = confirmation {
        confirm(app, source, confirmation);
    }
    if let Some(problem) = problem {
        tell_shadow(app, source, &problem);
    }
    tell_watchers(app, source, names, &admissions);
    Ok(Receipt::Events(admissions))
}

/// Takes a request that was refused before, as of the time it was received, by the same rules.
///
/// Its events have ids that follow from the refusal's, so that doing it twice admits nothing twice, also
/// where events have no identity.
///
/// # Errors
/// See [`NotReceived`]: what still does not hold is refused again.
pub async fn readmit(
    app: &App,
    source: &Source,
    request: Unverified,
    refusal: RefusalId,
) -> Result<Receipt, NotReceived> {
    let as_of = request.received_at;
    let (now, begun) = (app.clock.now(), app.clock.monotonic());
    let (mut events, confirmation) = match examine(source, request, as_of)? {
        Examined::Handshake { reply, .. } => return Ok(Receipt::Handshake(reply)),
        Examined::KeyNotKnown(place) => {
            want(app, source, &place, now);
            return Err(NotReceived::KeyNotKnown(place));
        }
        Examined::Events { events, confirmation } => (events, confirmation),
        // It was refused when it came, and shadow mode is about what comes now.
        Examined::Shadow(_, problem) => return Err(Refusal::from(problem).into()),
    };
    for (number, event) in events.iter_mut().enumerate() {
        event.id = EventId::derived(refusal.as_bytes(), number);
    }
    let admissions = admit(app, source, events, now, begun).await?;
    app.wake(source);
    if let Some(confirmation) = confirmation {
        confirm(app, source, confirmation);
    }
    Ok(Receipt::Events(admissions))
}

/// What a request turned out to be.
#[derive(Clone, Debug)]
pub enum Examined {
    /// A test of the URL.
    Handshake {
        /// The answer to it.
        reply: Reply,
        /// The secret that came with it: for a person to see, and nothing else.
        handed_over: Option<Secret>,
    },
    /// Nobody can say yet who sent it: the key it names may be found at this place.
    KeyNotKnown(Place),
    /// Somebody known sent it.
    Events {
        /// Each with its identity, its deliveries and all their ids.
        events: Vec<NewEvent>,
        /// What the provider wants to be called about, once they are admitted.
        confirmation: Option<Confirmation>,
    },
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
        return Ok(Examined::Handshake { reply, handed_over: source.handed_over(&request) });
    }
    source.check_method(&request)?; // what is left of the other methods was for handshakes only
    let in_shadow = source.is_in_shadow_mode().then(|| request.clone());
    let request = match (source.verify(request, now), in_shadow) {
        (Ok(Proof::Holds(request)), _) => request, // Unverified → Verified
        (Ok(Proof::KeyNotKnown(place)), _) => return Ok(Examined::KeyNotKnown(place)),
        // It is no handshake, whatever it says: answering one would sign for anybody.
        (Err(Refusal::Signature(problem)), Some(request)) => {
            return Ok(Examined::Shadow(source.events_in_shadow(&request)?, problem));
        }
        (Err(refusal), _) => return Err(refusal),
    };
    if let Some(reply) = source.signed_handshake(&request)? {
        return Ok(Examined::Handshake { reply, handed_over: None });
    }
    let events = source.events(&request)?;
    Ok(Examined::Events { events, confirmation: source.confirmation(&request) })
}

/// Leaves the key to be fetched.
fn want(app: &App, source: &Source, place: &Place, now: Timestamp) {
    if let Some(keyring) = &source.keyring {
        keyring.want(place, now);
        app.errands.call();
    }
}

/// Leaves the confirmation to be sent.
fn confirm(app: &App, source: &Source, confirmation: Confirmation) {
    match confirmation {
        Confirmation::At(place) => {
            let errand = Errand { source: Arc::clone(&source.name), place };
            if !app.errands.confirm(errand) {
                tell_not_confirmed(app, source, "too many are waiting");
            }
        }
        Confirmation::Withheld(reason) => tell_not_confirmed(app, source, reason),
    }
}

/// Whoever can sign for the provider's service, and that may be any customer of it, can ask for many.
fn tell_not_confirmed(app: &App, source: &Source, reason: &str) {
    if let Some(more) = app.may_say(&format!("{} subscription", source.name)) {
        tracing::warn!(source.name = %source.name, reason, lines.held_back = more, "a subscription is not confirmed");
    }
}

/// Puts a secret that was handed over where a person finds it. The provider gets its answer all the same:
/// its own pages show the secret too, or it can be asked for another.
async fn show(app: &App, source: &Source, secret: Secret, now: Timestamp) {
    let patience = app.answer_within.saturating_sub(limits::ANSWER_MARGIN);
    let kept = app.handed_over.keep(&source.name, secret, now);
    let kept = tokio::time::timeout(patience, kept).await;
    let key = format!("{} handed over", source.name);
    if app.may_say(&key).is_none() {
        return;
    }
    match kept.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
        Ok(file) => tracing::warn!(
            source.name = %source.name, file = %file.display(),
            "a secret was handed over in a test of the URL: anybody can send one, so compare it with what the provider shows before you write it into `secrets`"
        ),
        Err(error) => tracing::error!(
            source.name = %source.name, %error,
            "a secret was handed over in a test of the URL, and is not kept"
        ),
    }
}

/// Admits all events of a request in time, or says that the sender should send all of them again:
/// those that were admitted will then be duplicates. The request was received at `now`, and `begun` is the
/// same on the monotonic clock.
async fn admit(
    app: &App,
    source: &Source,
    events: Vec<NewEvent>,
    now: Timestamp,
    begun: Duration,
) -> Result<Vec<(EventId, Admission)>, StoreError> {
    let trace = Trace::begin(app, &events, now, begun);
    let patience = app.answer_within.saturating_sub(limits::ANSWER_MARGIN);
    let not_after = now.plus(patience);
    let work = async {
        let admitted = app.store.admit(events, not_after);
        let admitted = app.metrics.store_call("admit", admitted).await;
        let admissions: Vec<_> = admitted.into_iter().collect::<Result<_, _>>()?;
        if source.on_dead_duplicate == OnDeadDuplicate::Redrive {
            redrive_the_dead(app, &admissions, not_after).await?;
        }
        Ok(admissions)
    };
    let in_time = tokio::time::timeout(patience, work).await;
    let admitted = in_time.unwrap_or_else(|_| Err(no_answer(patience)));
    trace.end(app, source, &admitted);
    admitted
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

/// What is kept of a request until the store has answered, to say how that went.
struct Trace {
    events: Vec<EventId>,
    at: Timestamp,
    begun: Duration,
    verified_after: Duration,
}

impl Trace {
    /// The request is verified, and its events have their ids.
    fn begin(app: &App, events: &[NewEvent], at: Timestamp, begun: Duration) -> Self {
        let events = events.iter().map(|event| event.id).collect();
        let verified_after = app.clock.monotonic().saturating_sub(begun);
        Self { events, at, begun, verified_after }
    }

    /// The store has answered. Where it could not, the line that says so names the first of the events:
    /// it may be there all the same.
    fn end(
        &self,
        app: &App,
        source: &Source,
        admitted: &Result<Vec<(EventId, Admission)>, StoreError>,
    ) {
        if let (Err(_), Some(first)) = (admitted, self.events.first()) {
            tracing::Span::current().record("event.id", tracing::field::display(first));
        }
        app.traces.received(&Received {
            source: &source.name,
            at: self.at,
            verified_after: self.verified_after,
            admitted_after: app.clock.monotonic().saturating_sub(self.begun),
            events: &self.events,
            admitted: admitted.as_deref(),
        });
    }
}

/// The provider's id and type of each event, if anybody watches: the events themselves are given away.
fn names(app: &App, events: &[NewEvent]) -> Vec<(Option<String>, Option<String>)> {
    let name = |event: &NewEvent| (event.named.event_id.clone(), event.named.event_type.clone());
    if app.tail.is_watched() { events.iter().map(name).collect() } else { Vec::new() }
}

fn tell_watchers(
    app: &App,
    source: &Source,
    names: Vec<(Option<String>, Option<String>)>,
    admissions: &[(EventId, Admission)],
) {
    for ((event_id, event_type), (id, admission)) in names.into_iter().zip(admissions) {
        app.tail.tell(|| Happening::Received {
            at: app.clock.now(),
            source: Arc::clone(&source.name),
            status: admission.status().to_owned(),
            id: *id,
            event_id,
            event_type,
        });
    }
}

/// Counts and logs what shadow mode let in. A sender decides how often, but not how much we write.
fn tell_shadow(app: &App, source: &Source, problem: &SignatureProblem) {
    app.metrics.let_in_as_shadow(&source.name);
    let key = format!("{} shadow", source.name);
    if let Some(more) = app.may_say(&key) {
        tracing::warn!(
            source.name = %source.name, reason = %problem, lines.held_back = more,
            "SHADOW MODE: admitted a request whose signature does not hold"
        );
    }
}

fn no_answer(patience: Duration) -> StoreError {
    StoreError::Unavailable(format!("no answer within {} ms", patience.as_millis()))
}
