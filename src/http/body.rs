//! A body, bounded in size and in time, byte for byte.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    body::{EitherBody, MessageBody},
    dev::{Payload, ServiceRequest, ServiceResponse},
    http::{StatusCode, header},
    middleware::Next,
    web,
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use super::answer;
use crate::{limits, refusal::Refusal};

/// Reads a request's body.
///
/// What is announced as too long, or as encoded, is refused before a byte of it is read. actix's own
/// time-out covers the head only, so the body has its own.
///
/// # Errors
/// The refusal to answer with.
pub(super) async fn read(
    request: &HttpRequest,
    payload: web::Payload,
    body_bytes_max: usize,
    body_within: Duration,
) -> Result<Bytes, Refusal> {
    if is_encoded(request) {
        return Err(Refusal::Encoded);
    }
    read_as_sent(request, payload, body_bytes_max, body_within).await
}

/// Reads a body, encoded or not, for somebody else to unpack.
///
/// # Errors
/// The refusal to answer with.
pub(super) async fn read_as_sent(
    request: &HttpRequest,
    payload: web::Payload,
    body_bytes_max: usize,
    body_within: Duration,
) -> Result<Bytes, Refusal> {
    let too_large = Refusal::TooLarge { body_bytes_max };
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > body_bytes_max) {
        return Err(too_large);
    }
    let whole = collect(payload, body_bytes_max, announced.unwrap_or_default());
    tokio::time::timeout(body_within, whole).await.map_err(|_| Refusal::TooSlow)?
}

/// Reads the body of a request to the admin listener before anything is done with it: what unpacks it
/// there would wait for it for ever.
pub(super) async fn in_time<B: MessageBody>(
    body_within: Duration,
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let payload = request.extract::<web::Payload>().await?;
    let bytes_max = limits::ADMIN_BODY_BYTES_MAX;
    match read_as_sent(request.request(), payload, bytes_max, body_within).await {
        Ok(body) => {
            request.set_payload(Payload::from(body));
            Ok(next.call(request).await?.map_into_left_body())
        }
        Err(refusal) => {
            let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
            let mut response = HttpResponse::build(status);
            response.force_close(); // what is left of the body is not waited for
            let refused = answer::problem(&mut response, status, refusal.code());
            Ok(request.into_response(refused.map_into_boxed_body()).map_into_right_body())
        }
    }
}

async fn collect(
    mut payload: web::Payload,
    body_bytes_max: usize,
    announced: usize,
) -> Result<Bytes, Refusal> {
    let mut first = Bytes::new();
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| Refusal::BrokenBody)?;
        let so_far = first.len() + body.len();
        if so_far + chunk.len() > body_bytes_max {
            return Err(Refusal::TooLarge { body_bytes_max });
        }
        if so_far == 0 {
            first = chunk; // most bodies are one chunk, which then is not copied
        } else {
            if body.is_empty() {
                body.reserve(announced.max(so_far + chunk.len()));
                body.extend_from_slice(&first);
                first = Bytes::new();
            }
            body.extend_from_slice(&chunk);
        }
    }
    Ok(if body.is_empty() { first } else { body.freeze() })
}

/// Signatures cover the bytes as they were sent, and unpacking them is a way to fill our memory.
fn is_encoded(request: &HttpRequest) -> bool {
    let mut encodings = request.headers().get_all(header::CONTENT_ENCODING);
    encodings.any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}
