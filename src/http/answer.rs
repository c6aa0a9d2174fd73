//! What the sender gets to read.

use std::io;

use actix_web::{
    HttpResponse, HttpResponseBuilder,
    http::{
        ConnectionType, StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    event::EventId,
    idempotency::{Answer, Body},
    limits,
    receipt::{Receipt, Reply},
    receive::NotReceived,
    refusal::Refusal,
    source::Source,
};

/// The header that says in one word what became of a request.
const STATUS: &str = "Hookonce-Status";

/// The answer to a yes.
pub(super) fn receipt(source: &Source, receipt: &Receipt) -> HttpResponse {
    let status = receipt.status();
    match receipt {
        Receipt::Handshake(given) => reply(given, status),
        Receipt::Events(events) => match (source.reply(), events.as_slice()) {
            (Some(given), _) => reply(&given, status),
            (None, [(id, _)]) => {
                HttpResponse::Ok().insert_header((STATUS, status)).json(One { status, id: *id })
            }
            (None, many) => {
                let ids = many.iter().map(|(id, _)| *id).collect();
                HttpResponse::Ok().insert_header((STATUS, status)).json(Many { status, ids })
            }
        },
    }
}

#[derive(Serialize)]
struct One {
    status: &'static str,
    id: EventId,
}

#[derive(Serialize)]
struct Many {
    status: &'static str,
    ids: Vec<EventId>,
}

/// An answer with given content.
fn reply(given: &Reply, status: &'static str) -> HttpResponse {
    let mut response =
        HttpResponse::build(StatusCode::from_u16(given.status).unwrap_or(StatusCode::OK));
    response.insert_header((STATUS, status));
    if let Some(content_type) = &given.content_type {
        response.content_type(content_type.as_str());
    }
    for (name, value) in &given.headers {
        response.insert_header((name.as_str(), value.as_str()));
    }
    response.body(given.body.clone())
}

/// The answer to a no: the sender's fault, or ours.
pub(super) fn not_received(reason: &NotReceived) -> HttpResponse {
    match reason {
        NotReceived::Refused(refusal) => refused(refusal),
        NotReceived::Unavailable(_) | NotReceived::KeyNotKnown(_) => unavailable(),
    }
}

/// 4xx, with a stable code and nothing that helps a forger: it does not say which step failed, and
/// every bad signature reads the same.
pub(super) fn refused(refusal: &Refusal) -> HttpResponse {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = HttpResponse::build(status);
    response.insert_header((STATUS, "refused"));
    if matches!(refusal, Refusal::Method) {
        response.insert_header((header::ALLOW, "POST"));
    }
    if matches!(refusal, Refusal::TooLarge { .. } | Refusal::TooSlow | Refusal::BrokenBody) {
        response.force_close(); // what is left of the body is not waited for
    }
    problem(&mut response, status, refusal.code())
}

/// 503 for everything that is our fault: the one answer after which every provider tries again.
pub(super) fn unavailable() -> HttpResponse {
    let mut response = HttpResponse::ServiceUnavailable();
    let seconds = rand::random_range(limits::RETRY_AFTER_SECONDS);
    response.insert_header((STATUS, "unavailable"));
    response.insert_header((header::RETRY_AFTER, seconds.to_string()));
    problem(&mut response, StatusCode::SERVICE_UNAVAILABLE, "unavailable")
}

/// The same where there is no room for a body: what is left of it is not waited for.
pub(super) fn no_room() -> HttpResponse {
    let mut response = unavailable();
    response.head_mut().set_connection_type(ConnectionType::Close);
    response
}

/// An answer of an API, byte for byte. actix writes the framing itself.
pub(super) fn of_api(answer: Answer, is_head: bool) -> HttpResponse {
    let status = match StatusCode::from_u16(answer.status) {
        Ok(status) if !status.is_informational() => status,
        _ => StatusCode::BAD_GATEWAY, // nothing that an answer can end with
    };
    let mut response = HttpResponse::build(status);
    let mut length = None;
    for (name, value) in answer.headers.iter() {
        let pair = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value));
        match pair {
            (Ok(header::CONTENT_LENGTH), Ok(value)) => {
                length = value.to_str().ok().and_then(|length| length.parse().ok());
            }
            (Ok(name), Ok(value)) => drop(response.append_header((name, value))),
            _ => {} // it cannot be written as a header, so it did not come as one
        }
    }
    match (answer.body, length) {
        // The length is that of the answer to a GET: there is no body to count.
        (_, Some(length)) if is_head => {
            response.no_chunking(length).streaming(stream::empty::<io::Result<Bytes>>())
        }
        (Body::Whole(body), _) => response.body(body),
        (Body::Flowing(first, rest), length) => {
            if let Some(length) = length {
                response.no_chunking(length);
            }
            response.streaming(stream::iter([Ok(first)]).chain(rest))
        }
    }
}

/// A problem document, <https://www.rfc-editor.org/rfc/rfc9457>.
pub(super) fn problem(
    response: &mut HttpResponseBuilder,
    status: StatusCode,
    code: &str,
) -> HttpResponse {
    response.content_type(PROBLEM).body(document(status, code, None))
}

/// A problem document that says more: for people who may know it.
pub(super) fn problem_with(status: StatusCode, code: &str, detail: &str) -> HttpResponse {
    HttpResponse::build(status).content_type(PROBLEM).body(document(status, code, Some(detail)))
}

pub(super) const PROBLEM: &str = "application/problem+json";

fn document(status: StatusCode, code: &str, detail: Option<&str>) -> String {
    let document = Problem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or_default(),
        status: status.as_u16(),
        code,
        detail,
    };
    serde_json::to_string(&document).expect("plain data is always JSON")
}

/// A problem document.
#[derive(Serialize, JsonSchema)]
pub(super) struct Problem<'a> {
    r#type: &'a str,
    title: &'a str,
    /// The status of the answer.
    status: u16,
    /// What it is, in one word that stays.
    code: &'a str,
    /// What it is, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}
