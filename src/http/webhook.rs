//! The endpoint a provider calls.

use std::{net::IpAddr, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, header},
    web,
};
use bytes::Bytes;
use futures_util::FutureExt as _;

use super::{
    answer,
    body::{self, Body, NotRead},
};
use crate::{
    app::{App, Place},
    clock::Timestamp,
    receive::{NotReceived, receive},
    refusal::Refusal,
    refusal_log::Seen,
    request::{Headers, Unverified},
    source::Source,
    telemetry::tail::Happening,
};

/// Takes one request to a source's path.
pub(super) async fn endpoint(
    app: Arc<App>,
    source: Arc<Source>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    // The room is given back with the answer, and not with the bytes: a store in memory keeps those.
    let (body, _room) = match body(&app, &source, &request, payload).await {
        Ok(Body { bytes, room }) => (bytes, room),
        Err(NotRead::Refused(refusal)) => {
            tell_refused(&app, &source, &refusal);
            note_refused(&app, &source, &refusal, &request, None);
            return answer::refused(&refusal);
        }
        Err(NotRead::NoRoom) => {
            tell_no_room(&app, &source);
            return answer::no_room();
        }
    };
    let received_at = app.clock.now();
    let unverified = unverified(&app, &source, &request, body.clone(), received_at);
    let begun = app.clock.monotonic();
    // A fault of ours must not look like a no, nor take the connection's other requests with it.
    let received = AssertUnwindSafe(receive(&app, &source, unverified)).catch_unwind().await;
    let took = app.clock.monotonic().saturating_sub(begun);
    match received {
        Ok(Ok(receipt)) => {
            app.metrics.answered(&source.name, receipt.status(), took);
            answer::receipt(&source, &receipt)
        }
        Ok(Err(reason)) => {
            tell(&app, &source, &reason, took);
            if let NotReceived::Refused(refusal) = &reason {
                note_refused(&app, &source, refusal, &request, Some((body, received_at)));
            }
            answer::not_received(&reason)
        }
        Err(_panic) => {
            if let Some(more) = let_through(&app, &source, "panic") {
                tracing::error!(source.name = %source.name, lines.held_back = more, "receiving a request panicked: please report this");
            }
            app.metrics.answered(&source.name, "unavailable", took);
            answer::unavailable()
        }
    }
}

/// Answers for every path that is no source's.
pub(super) fn unknown_source(app: &App) -> HttpResponse {
    app.metrics.refused("", Refusal::UnknownSource.code());
    answer::refused(&Refusal::UnknownSource)
}

async fn body(
    app: &App,
    source: &Source,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<Body, NotRead> {
    // GET and HEAD may be tests of the URL; which of them are is decided by the provider's rules.
    let is_usual = [Method::POST, Method::GET, Method::HEAD].contains(request.method());
    if !is_usual && !source.provider.methods().contains(&request.method().as_str()) {
        return Err(NotRead::Refused(Refusal::Method));
    }
    body::read(app, request, payload, source.body_bytes_max).await
}

fn unverified(
    app: &App,
    source: &Source,
    request: &HttpRequest,
    body: Bytes,
    received_at: Timestamp,
) -> Unverified {
    let (target, headers) = (target(request), headers(request));
    let place = Place { target: &target, headers: &headers, peer: peer(request) };
    Unverified {
        method: request.method().as_str().to_owned(),
        url: app.server.url(source, &place),
        headers,
        body,
        received_at,
    }
}

/// The headers of a request, in the project's own form.
pub(super) fn headers(request: &HttpRequest) -> Headers {
    let copied = |value: &header::HeaderValue| Bytes::copy_from_slice(value.as_bytes());
    request.headers().iter().map(|(name, value)| (name.as_str(), copied(value))).collect()
}

/// The path and the query.
fn target(request: &HttpRequest) -> String {
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}{query}", request.uri().path())
}

fn peer(request: &HttpRequest) -> Option<IpAddr> {
    request.peer_addr().map(|peer| peer.ip())
}

/// Keeps what was refused, for the doctor. The request is put together anew only if it is to be kept,
/// so that one that is accepted pays nothing for it.
fn note_refused(
    app: &App,
    source: &Source,
    refusal: &Refusal,
    request: &HttpRequest,
    body: Option<(Bytes, Timestamp)>,
) {
    app.refusals.note(&source.name, refusal.step(), app.clock.monotonic(), || {
        let body_was_read = body.is_some();
        let (body, received_at) = body.unwrap_or_else(|| (Bytes::new(), app.clock.now()));
        Seen {
            source: Arc::clone(&source.name),
            refusal: refusal.clone(),
            request: unverified(app, source, request, body, received_at),
            body_was_read,
            target: target(request),
            peer: peer(request),
        }
    });
}

fn tell(app: &App, source: &Source, reason: &NotReceived, took: Duration) {
    match reason {
        NotReceived::Refused(refusal) => tell_refused(app, source, refusal),
        NotReceived::Unavailable(error) => {
            app.metrics.answered(&source.name, "unavailable", took);
            if let Some(more) = let_through(app, source, "unavailable") {
                tracing::error!(source.name = %source.name, %error, lines.held_back = more, "cannot accept: answered 503");
            }
        }
        NotReceived::KeyNotKnown(place) => {
            app.metrics.answered(&source.name, "unavailable", took);
            if let Some(more) = let_through(app, source, "key not known") {
                tracing::warn!(source.name = %source.name, %place, lines.held_back = more, "{reason}: answered 503");
            }
        }
    }
}

fn tell_no_room(app: &App, source: &Source) {
    app.metrics.answered(&source.name, "unavailable", Duration::ZERO); // its last byte never came
    if let Some(more) = let_through(app, source, "no room") {
        tracing::warn!(source.name = %source.name, lines.held_back = more, "no room for the body of a request: answered 503");
    }
}

fn tell_refused(app: &App, source: &Source, refusal: &Refusal) {
    app.metrics.refused(&source.name, refusal.code());
    app.tail.tell(|| Happening::Refused {
        at: app.clock.now(),
        source: Arc::clone(&source.name),
        code: refusal.code().to_owned(),
    });
    if let Some(more) = let_through(app, source, refusal.code()) {
        tracing::warn!(
            source.name = %source.name, refusal.code = refusal.code(),
            reason = %refusal, lines.held_back = more,
            "refused a request"
        );
    }
}

/// A sender decides how often it is refused, but not how much we write about it.
fn let_through(app: &App, source: &Source, code: &str) -> Option<u64> {
    app.may_say(&format!("{} {code}", source.name))
}
