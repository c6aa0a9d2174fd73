//! A body, bounded in size and in time, byte for byte; and all bodies together, bounded in memory.

use std::sync::Arc;

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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer;
use crate::{app::App, limits, refusal::Refusal};

/// A body that was read.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    /// What it takes of the room for all bodies, which is given back when this is dropped.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

impl Body {
    /// Its bytes, which give the room back when the last copy of them is dropped.
    pub(super) fn into_bytes(self) -> Bytes {
        match self.room {
            Some(_) => Bytes::from_owner(self),
            None => self.bytes,
        }
    }
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Why a body was not read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotRead {
    /// The sender must do something about it.
    Refused(Refusal),
    /// Other bodies take all the room there is: it may come again later.
    NoRoom,
}

/// Reads a request's body.
///
/// What is announced as too long, or as encoded, is refused before a byte of it is read. actix's own
/// time-out covers the head only, so the body has its own.
///
/// # Errors
/// See [`NotRead`].
pub(super) async fn read(
    app: &App,
    request: &HttpRequest,
    payload: web::Payload,
    body_bytes_max: usize,
) -> Result<Body, NotRead> {
    if is_encoded(request) {
        return Err(NotRead::Refused(Refusal::Encoded));
    }
    read_as_sent(app, request, payload, body_bytes_max).await
}

/// Reads a body, encoded or not, for somebody else to unpack.
///
/// # Errors
/// See [`NotRead`].
pub(super) async fn read_as_sent(
    app: &App,
    request: &HttpRequest,
    payload: web::Payload,
    body_bytes_max: usize,
) -> Result<Body, NotRead> {
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > body_bytes_max) {
        return Err(NotRead::Refused(Refusal::TooLarge { body_bytes_max }));
    }
    let room = Room { of_all: &app.body_room, taken: None };
    let whole = collect(payload, body_bytes_max, announced.unwrap_or_default(), room);
    let in_time = tokio::time::timeout(app.server.body_within, whole).await;
    in_time.unwrap_or(Err(NotRead::Refused(Refusal::TooSlow)))
}

/// Reads the body of a request to the admin listener before anything is done with it: what unpacks it
/// there would wait for it for ever.
pub(super) async fn in_time<B: MessageBody>(
    app: Arc<App>,
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let payload = request.extract::<web::Payload>().await?;
    let bytes_max = limits::ADMIN_BODY_BYTES_MAX;
    match read_as_sent(&app, request.request(), payload, bytes_max).await {
        Ok(body) => {
            request.set_payload(Payload::from(body.into_bytes()));
            Ok(next.call(request).await?.map_into_left_body())
        }
        Err(NotRead::NoRoom) => {
            let refused = answer::no_room().map_into_boxed_body();
            Ok(request.into_response(refused).map_into_right_body())
        }
        Err(NotRead::Refused(refusal)) => {
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
    mut room: Room<'_>,
) -> Result<Body, NotRead> {
    let mut first = Bytes::new();
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| NotRead::Refused(Refusal::BrokenBody))?;
        let so_far = first.len() + body.len();
        if so_far + chunk.len() > body_bytes_max {
            return Err(NotRead::Refused(Refusal::TooLarge { body_bytes_max }));
        }
        room.grow_to(so_far + chunk.len())?;
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
    let bytes = if body.is_empty() { first } else { body.freeze() };
    Ok(Body { bytes, room: room.taken })
}

/// What one body has of the room for all of them. It grows with what has come, not with what was
/// announced: announcing costs a stranger nothing.
struct Room<'a> {
    of_all: &'a Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Room<'_> {
    fn grow_to(&mut self, bytes: usize) -> Result<(), NotRead> {
        if bytes <= limits::BODY_BYTES_FREE {
            return Ok(()); // so that nearly all events never come here
        }
        let has = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = u32::try_from(bytes - has).map_err(|_| NotRead::NoRoom)?;
        let more = Arc::clone(self.of_all).try_acquire_many_owned(missing);
        let more = more.map_err(|_| NotRead::NoRoom)?;
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        Ok(())
    }
}

/// Signatures cover the bytes as they were sent, and unpacking them is a way to fill our memory.
fn is_encoded(request: &HttpRequest) -> bool {
    let mut encodings = request.headers().get_all(header::CONTENT_ENCODING);
    encodings.any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

#[cfg(test)]
mod tests {
    use actix_web::{FromRequest as _, test::TestRequest};

    use super::*;
    use crate::{clock::ManualClock, store::memory::MemoryStore};

    const LONG: usize = 3 * limits::BODY_BYTES_FREE;

    /// An app with this much room for bodies.
    fn app(room: usize) -> App {
        let clock = ManualClock::at(crate::clock::Timestamp::from_millis(0));
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let mut app = App::new(Vec::new(), Vec::new(), store, clock);
        app.body_room = Arc::new(Semaphore::new(room));
        app
    }

    async fn read(app: &App, bytes: usize) -> Result<Body, NotRead> {
        let request = TestRequest::post().set_payload(vec![b'x'; bytes]);
        let (request, mut payload) = request.to_http_parts();
        let payload = web::Payload::from_request(&request, &mut payload).await.unwrap();
        super::read(app, &request, payload, limits::BODY_BYTES_MAX).await
    }

    #[tokio::test]
    async fn long_bodies_share_the_room_there_is() {
        let app = app(LONG + 1);
        let first = read(&app, LONG).await.unwrap();
        assert_eq!((first.bytes.len(), app.body_room.available_permits()), (LONG, 1));
        assert_eq!(read(&app, LONG).await.unwrap_err(), NotRead::NoRoom);
        assert_eq!(app.body_room.available_permits(), 1);
        drop(first);
        assert_eq!(read(&app, LONG).await.unwrap().bytes.len(), LONG);
        assert_eq!(app.body_room.available_permits(), LONG + 1);
    }

    #[tokio::test]
    async fn a_short_body_needs_no_room() {
        let body = read(&app(0), limits::BODY_BYTES_FREE).await.unwrap();
        assert_eq!((body.bytes.len(), body.room.is_none()), (limits::BODY_BYTES_FREE, true));
    }
}
