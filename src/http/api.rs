//! The endpoint that a client of an API calls.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, header},
    web,
};
use futures_util::{StreamExt as _, stream};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::{
    answer,
    body::{self, NotRead},
    webhook,
};
use crate::{
    api::Api,
    app::App,
    idempotency::{
        self, Answer, Body, Called, Client, Key, KeyedRequest, Problem, Taken,
        forward::{Head, Inflow, Part, Upstream, is_final},
        unsaved,
    },
    request::Headers,
};

/// One API and all that its requests need. Clones share it.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) app: Arc<App>,
    pub(super) api: Arc<Api>,
    pub(super) upstream: Upstream,
}

/// Takes one request to an API's path.
pub(super) async fn endpoint(
    endpoint: Endpoint,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let is_head = request.method() == Method::HEAD;
    let answer = answered(endpoint, request, payload).await;
    answer::of_api(answer.unwrap_or_else(|problem| problem.answer()), is_head)
}

async fn answered(
    endpoint: Endpoint,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<Answer, Problem> {
    let Endpoint { app, api, .. } = &endpoint;
    let headers = webhook::headers(&request);
    let Some(key) = wanted_key(app, api, &request, &headers)? else {
        return Ok(pass(endpoint, &request, headers, payload).await);
    };
    let (keyed, place) = read(app, api, &request, headers, payload).await?;
    let taken = Taken { key, request: keyed, place };
    let client = client(app, &request);
    Ok(carry_out(endpoint, taken, client).await)
}

/// The key of a request that may be sent on; `None` where it goes without.
pub(super) fn wanted_key(
    app: &App,
    api: &Api,
    request: &HttpRequest,
    headers: &Headers,
) -> Result<Option<Key>, Problem> {
    let path = request.uri().path();
    if !is_final(path) || !api.is_at(path) {
        return Err(Problem::NotFound);
    }
    let key = idempotency::key(api, request.method().as_str(), headers);
    match &key {
        Ok(Some(_)) => {}
        Ok(None) => app.metrics.key_begun(&api.name, "passed"),
        Err(problem) => app.metrics.key_begun(&api.name, problem.code()),
    }
    key
}

/// A request with a key, its body read, and its place: that comes first, since a body takes memory.
pub(super) async fn read(
    app: &App,
    api: &Api,
    request: &HttpRequest,
    headers: Headers,
    payload: web::Payload,
) -> Result<(KeyedRequest, OwnedSemaphorePermit), Problem> {
    let unavailable = |_| {
        app.metrics.key_begun(&api.name, "unavailable");
        Problem::Unavailable
    };
    let place = Arc::clone(&app.calls).try_acquire_owned().map_err(unavailable)?;
    let body = body::read_as_sent(app, request, payload, api.body_bytes_max).await;
    let body = body.map_err(|why| {
        let (word, problem) = match why {
            NotRead::Refused(refusal) => (refusal.code(), Problem::Body(refusal)),
            NotRead::NoRoom => ("unavailable", Problem::Unavailable),
        };
        app.metrics.key_begun(&api.name, word);
        problem
    })?;
    let keyed = KeyedRequest {
        method: request.method().as_str().to_owned(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().map(str::to_owned),
        headers,
        body: body.into_bytes(),
    };
    Ok((keyed, place))
}

/// Carries out a request with a key in a task of its own, which a client that hangs up does not end.
async fn carry_out(endpoint: Endpoint, taken: Taken, client: Client) -> Answer {
    let Endpoint { app, api, upstream } = endpoint;
    let tasks = app.tasks.clone();
    let carrying_out = async move {
        let (within, answer_bytes_max) = (api.timeout, api.answer_bytes_max);
        let call =
            |request| async move { upstream.call(request, client, within, answer_bytes_max).await };
        idempotency::answer(&app, &api, taken, call).await
    };
    let answering = tasks.spawn(carrying_out.in_current_span());
    // It ends without an answer only by a fault of ours, and then the store knows how far it came.
    answering.await.unwrap_or_else(|_panic| Problem::Unavailable.answer())
}

/// Sends a request on as it comes in, and its answer back as it comes out.
///
/// It is sent in a task, as one with a key is, since they share the connections to the upstream. This one
/// ends with its client.
async fn pass(
    endpoint: Endpoint,
    request: &HttpRequest,
    headers: Headers,
    payload: web::Payload,
) -> Answer {
    let Endpoint { app, api, upstream } = endpoint;
    let head = Head {
        method: request.method().as_str().to_owned(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().map(str::to_owned),
        headers,
        client: client(&app, request),
    };
    let has_body = request.headers().contains_key(header::CONTENT_LENGTH)
        || request.headers().contains_key(header::TRANSFER_ENCODING);
    let (body, feeding) = if has_body {
        let (parts, inflow) = Inflow::new();
        let feeding = app.tasks.spawn_here(feed(payload, parts));
        (inflow.into(), Some(AbortOnDropHandle::new(feeding)))
    } else {
        (reqwest::Body::default(), None)
    };
    let within = api.timeout;
    let passing = async move { upstream.pass(&head, body, within).await };
    let passing = AbortOnDropHandle::new(app.tasks.spawn(passing.in_current_span()));
    let called = passing.await.unwrap_or_else(|_panic| {
        let why = "sending it on panicked: please report this".to_owned();
        Called::NoAnswer { timed_out: false, why }
    });
    let answer = tell_passed(&app, &api, called);
    match feeding {
        Some(feeding) => fed_meanwhile(answer, feeding),
        None => answer,
    }
}

/// Puts a request's body where it is sent on from. Its end is said only where it came: otherwise the
/// upstream must not take it for whole.
async fn feed(mut payload: web::Payload, parts: mpsc::Sender<Part>) {
    while let Some(chunk) = payload.next().await {
        let Ok(chunk) = chunk else { return }; // the client has gone
        if parts.send(Part::Chunk(chunk)).await.is_err() {
            return; // the upstream has gone, or wants no more
        }
    }
    parts.send(Part::End).await.ok(); // it fails where nobody waits for the end
}

/// Has a request's body sent on for as long as its answer flows: an upstream may answer before it has
/// read everything.
fn fed_meanwhile(answer: Answer, feeding: AbortOnDropHandle<()>) -> Answer {
    let Body::Flowing(first, rest) = answer.body else { return answer };
    let rest = stream::unfold((rest, feeding), |(mut rest, feeding)| async {
        Some((rest.next().await?, (rest, feeding)))
    });
    Answer { body: Body::Flowing(first, rest.boxed()), ..answer }
}

fn tell_passed(app: &App, api: &Api, called: Called) -> Answer {
    if let Called::NotSent(why) | Called::NoAnswer { why, .. } = &called
        && let Some(more) = app.may_say(&format!("{} passed", api.name))
    {
        tracing::warn!(api.name = %api.name, lines.held_back = more, "a request without a key got no answer: {why}");
    }
    unsaved(called)
}

/// Who called, and how. What a request says of itself counts only from a proxy that is trusted.
fn client(app: &App, request: &HttpRequest) -> Client {
    let peer = request.peer_addr().map(|peer| peer.ip());
    let is_trusted = app.server.trusts(peer);
    let text = |name: &str| request.headers().get(name)?.to_str().ok();
    let forwarded = |name: &str| text(name).filter(|_| is_trusted);
    let host = forwarded("x-forwarded-host").or_else(|| text("host"));
    Client {
        peer,
        is_trusted,
        scheme: forwarded("x-forwarded-proto").unwrap_or_else(|| app.server.scheme()).to_owned(),
        host: host.or_else(|| request.uri().host()).unwrap_or_default().to_owned(),
    }
}
