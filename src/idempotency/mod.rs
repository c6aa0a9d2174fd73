//! The third path: a request with an `Idempotency-Key`, up to its answer. It is carried out once, and a
//! retry gets the first answer again.
//!
//! Reading the body, and sending on what has no key, is done one step earlier, in `http/`.

mod fingerprint;
pub mod forward;
mod header;
mod hop;
pub mod once;
pub mod policy;
mod problem;
mod scope;
mod settle;

use std::{convert::Infallible, fmt, io, sync::Arc};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

pub use self::{
    header::{Key, NoKey},
    hop::Client,
    problem::Problem,
    settle::unsaved,
};
use crate::{
    api::Api,
    app::App,
    clock::Timestamp,
    key::SavedResponse,
    limits,
    request::Headers,
    store::{
        Hold, StoreError,
        keys::{Begin, Begun},
    },
};

/// Answers a request with a key that we have taken on. `call` carries it out, and is called once or not at all.
///
/// Run it in a task of [`App::tasks`], so that a client that hangs up stops neither the call nor the
/// saving of its answer.
pub async fn answer<C, Calling>(app: &Arc<App>, api: &Api, taken: Taken, call: C) -> Answer
where
    C: FnOnce(KeyedRequest) -> Calling,
    Calling: Future<Output = Called>,
{
    let Taken { key, request, place } = taken;
    let begin = Begin {
        scope: scope::scope(api, &key, &request, app.clock.now()),
        fingerprint: fingerprint::fingerprint(api, &request),
        owner: Uuid::now_v7(),
        lease: limits::KEY_LEASE.min(api.lease_max),
        on_unknown: api.on_unknown,
    };
    let begun = begin_or_wait(app, api, &begin).await;
    app.metrics.key_begun(&api.name, outcome(api, &begun));
    match begun {
        Ok(Begun::Started) => {}
        Ok(Begun::Completed { response, expires_at, .. }) => {
            return replayed(api, response, expires_at);
        }
        Ok(Begun::InFlight { retry_in }) => return Problem::InProgress { retry_in }.answer(),
        Ok(Begun::Mismatch) => return Problem::Reused.answer(),
        Ok(Begun::Unknown { .. }) => return Problem::OutcomeUnknown.answer(),
        Err(error) => {
            if matches!(error, StoreError::Unavailable(_)) {
                settle::let_go_later(app, api, begin); // it may have been done without our hearing of it
            }
            tell_store_failed(app, api, &error);
            if api.fail_open {
                return unsaved(call(request).await);
            }
            return Problem::Unavailable.answer();
        }
    }
    // From here on nobody else carries it out, whatever happens to us.
    let called = while_leased(app, api, &begin, call(request)).await;
    settle::settle(app, api, begin, called, place).await
}

/// A request with a key that we have taken on.
#[derive(Debug)]
pub struct Taken {
    /// The key.
    pub key: Key,
    /// The request.
    pub request: KeyedRequest,
    /// Its place among the [`App::calls`], which it keeps until it is written down how its call ended.
    pub place: OwnedSemaphorePermit,
}

/// A request with a key, its body whole.
#[derive(Clone, Debug)]
pub struct KeyedRequest {
    /// The method, in upper case.
    pub method: String,
    /// The path, as the client wrote it.
    pub path: String,
    /// The query, without its `?`.
    pub query: Option<String>,
    /// The headers.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
}

/// What came of a call.
#[derive(Debug)]
pub enum Called {
    /// The upstream answered.
    Answered(Answer),
    /// Nothing was sent.
    NotSent(String),
    /// It was sent, and no whole answer came.
    NoAnswer {
        /// Whether we waited too long, or the connection broke.
        timed_out: bool,
        /// What happened, in words that name nothing secret.
        why: String,
    },
}

/// An answer on its way to the client.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: Headers,
    /// Its body.
    pub body: Body,
}

/// The body of an answer.
pub enum Body {
    /// All of it.
    Whole(Bytes),
    /// Its beginning, too long to be kept already, and what follows.
    Flowing(Bytes, BoxStream<'static, io::Result<Bytes>>),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(bytes) => write!(f, "Whole({} bytes)", bytes.len()),
            Self::Flowing(first, _) => write!(f, "Flowing({} bytes …)", first.len()),
        }
    }
}

impl Answer {
    /// An answer whose body is here.
    pub fn whole(status: u16, headers: Headers, body: impl Into<Bytes>) -> Self {
        Self { status, headers, body: Body::Whole(body.into()) }
    }
}

/// The key that a request must or may have. `None`: it passes through.
///
/// # Errors
/// When it has to have one and has none, or has one that is none.
pub fn key(api: &Api, method: &str, headers: &Headers) -> Result<Option<Key>, Problem> {
    let is_one_of = |methods: &[String]| methods.iter().any(|known| known == method);
    if !is_one_of(&api.methods) {
        return Ok(None);
    }
    match Key::read(headers, &api.header) {
        Ok(key) => Ok(Some(key)),
        Err(NoKey::Missing) if !is_one_of(&api.required) => Ok(None),
        Err(why) => Err(Problem::NoKey(why)),
    }
}

/// Begins; while another request with the key is being worked on, looks again as long as the API lets
/// a request wait.
async fn begin_or_wait(app: &App, api: &Api, begin: &Begin) -> Result<Begun, StoreError> {
    let patience_ends = Instant::now() + api.wait;
    let mut pause = limits::KEY_POLL_FIRST;
    loop {
        let begun = begin_in_time(app, begin).await?;
        if !matches!(begun, Begun::InFlight { .. }) || Instant::now() + pause > patience_ends {
            return Ok(begun);
        }
        // Anywhere below the pause, so that those who wait do not come back in step.
        sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        pause = (pause * 2).min(limits::KEY_POLL_MAX);
    }
}

/// Begins, and asks once more where the answer may only have been lost: its own owner is granted it again.
async fn begin_in_time(app: &App, begin: &Begin) -> Result<Begun, StoreError> {
    let patience = app.answer_within.saturating_sub(limits::ANSWER_MARGIN);
    let not_after = app.clock.now().plus(patience);
    let asked = async {
        let begin = || app.metrics.store_call("begin", app.store.begin(begin, not_after));
        match begin().await {
            Err(StoreError::Unavailable(_)) => begin().await,
            begun => begun,
        }
    };
    let late = |_| Err(StoreError::Unavailable("no answer in time".to_owned()));
    timeout(patience, asked).await.unwrap_or_else(late)
}

/// Waits for the call and keeps its key leased meanwhile. A call that takes longer than a key may be
/// in progress, or than a shut-down waits, is given up: what it does then nobody knows.
async fn while_leased(
    app: &App,
    api: &Api,
    begin: &Begin,
    call: impl Future<Output = Called>,
) -> Called {
    let given_up = |why: &str| Called::NoAnswer { timed_out: true, why: why.to_owned() };
    tokio::select! {
        called = call => called,
        never = keep_leased(app, begin) => match never {},
        () = sleep(api.lease_max) => given_up("it was in progress for too long"),
        () = app.tasks.grace_is_over() => given_up("hookonce was shut down"),
    }
}

/// Extends the lease again and again.
async fn keep_leased(app: &App, begin: &Begin) -> Infallible {
    let id = begin.scope.id();
    loop {
        sleep(begin.lease / limits::EXTENSIONS_PER_LEASE).await;
        match app.store.extend_key(id, begin.owner, begin.lease).await {
            Ok(Hold::Kept) => {}
            // The call has been sent: cutting it off now would only make its outcome unknown.
            Ok(Hold::Lost) => return std::future::pending().await,
            Err(error) => tracing::debug!(%error, "cannot extend the lease of a key; trying again"),
        }
    }
}

/// The saved answer, byte for byte, marked as such.
fn replayed(api: &Api, saved: SavedResponse, expires_at: Timestamp) -> Answer {
    let SavedResponse { status, mut headers, body } = saved;
    headers.set("idempotent-replayed", "true");
    headers.set(EXPIRES, expires_at.to_string());
    let status = match api.duplicate_status {
        Some(other) if (200..300).contains(&status) => other,
        _ => status,
    };
    Answer::whole(status, headers, body)
}

/// Until when a key gives its saved answer.
const EXPIRES: &str = "hookonce-key-expires";

/// The word for how a key stood, as the metrics have it.
fn outcome(api: &Api, begun: &Result<Begun, StoreError>) -> &'static str {
    match begun {
        Ok(Begun::Started) => "begun",
        Ok(Begun::Completed { .. }) => "replayed",
        Ok(Begun::InFlight { .. }) => "in_progress",
        Ok(Begun::Mismatch) => "mismatched",
        Ok(Begun::Unknown { .. }) => "unknown",
        Err(_) if api.fail_open => "failed_open",
        Err(_) => "unavailable",
    }
}

fn tell_store_failed(app: &App, api: &Api, error: &StoreError) {
    let about = format!("{} begin", api.name);
    let Some(more) = app.may_say(&about) else { return };
    if api.fail_open {
        tracing::error!(api.name = %api.name, %error, lines.held_back = more, "a request with a key was sent on unprotected, as `fail_open` says");
    } else {
        tracing::error!(api.name = %api.name, %error, lines.held_back = more, "cannot begin a key: answered 503");
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A request to charge somebody.
    pub(crate) fn request() -> KeyedRequest {
        KeyedRequest {
            method: "POST".to_owned(),
            path: "/payments/charges".to_owned(),
            query: None,
            headers: [("content-type", "application/json")].into_iter().collect(),
            body: Bytes::from_static(b"{\"amount\": 1}"),
        }
    }
}
