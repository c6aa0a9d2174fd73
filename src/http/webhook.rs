//! The endpoint a provider calls.

use std::{panic::AssertUnwindSafe, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, header},
    web,
};
use futures_util::FutureExt as _;

use super::{answer, body};
use crate::{
    app::App,
    receive::{NotReceived, receive},
    refusal::Refusal,
    request::{Headers, Unverified},
    source::Source,
};

/// Takes one request to a source's path.
pub(super) async fn endpoint(
    app: Arc<App>,
    source: Arc<Source>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let unverified = match unverified(&app, &source, &request, payload).await {
        Ok(unverified) => unverified,
        Err(refusal) => {
            tell_refused(&app, &source, &refusal);
            return answer::refused(&refusal);
        }
    };
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
            answer::not_received(&reason)
        }
        Err(_panic) => {
            tracing::error!(source.name = %source.name, "receiving a request panicked: please report this");
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

async fn unverified(
    app: &App,
    source: &Source,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<Unverified, Refusal> {
    if request.method() != Method::POST && request.method() != Method::GET {
        return Err(Refusal::Method);
    }
    let within = app.server.body_within;
    let body = body::read(request, payload, source.body_bytes_max, within).await?;
    Ok(Unverified {
        method: request.method().as_str().to_owned(),
        url: public_url(app, source, request),
        headers: headers(request),
        body,
        received_at: app.clock.now(),
    })
}

/// The headers of a request, in the project's own form.
pub(super) fn headers(request: &HttpRequest) -> Headers {
    let copied = |value: &header::HeaderValue| bytes::Bytes::copy_from_slice(value.as_bytes());
    request.headers().iter().map(|(name, value)| (name.as_str(), copied(value))).collect()
}

/// The URL as the provider called it. What is configured stands before what a request says of itself,
/// and `X-Forwarded-*` counts only from a proxy that is trusted.
fn public_url(app: &App, source: &Source, request: &HttpRequest) -> String {
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    if let Some(url) = &source.url {
        let registered = url.split(['?', '#']).next().unwrap_or_default();
        return format!("{registered}{query}");
    }
    let path = request.uri().path();
    if let Some(base) = &app.server.public_url {
        return format!("{}{path}{query}", base.trim_end_matches('/'));
    }
    let trusted = is_trusted(app, request);
    let text = |name: &str| request.headers().get(name)?.to_str().ok();
    let forwarded =
        |name: &str| text(name).filter(|_| trusted).and_then(|all| all.split(',').next());
    let scheme = forwarded("x-forwarded-proto").unwrap_or("http").trim();
    let host = forwarded("x-forwarded-host").or_else(|| text("host")).unwrap_or_default().trim();
    format!("{scheme}://{host}{path}{query}")
}

/// Whether a request comes from a proxy whose `X-Forwarded-*` count.
pub(super) fn is_trusted(app: &App, request: &HttpRequest) -> bool {
    let peer = request.peer_addr().map(|peer| peer.ip());
    peer.is_some_and(|peer| {
        app.server.trusted_proxies.iter().any(|proxies| proxies.contains(&peer))
    })
}

fn tell(app: &App, source: &Source, reason: &NotReceived, took: std::time::Duration) {
    match reason {
        NotReceived::Refused(refusal) => tell_refused(app, source, refusal),
        NotReceived::Unavailable(error) => {
            app.metrics.answered(&source.name, "unavailable", took);
            if let Some(more) = let_through(app, source, "unavailable") {
                tracing::error!(source.name = %source.name, %error, lines.held_back = more, "cannot accept: answered 503");
            }
        }
    }
}

fn tell_refused(app: &App, source: &Source, refusal: &Refusal) {
    app.metrics.refused(&source.name, refusal.code());
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
    app.refusal_lines.let_through(&format!("{} {code}", source.name), app.clock.monotonic())
}
