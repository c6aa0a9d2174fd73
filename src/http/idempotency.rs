//! The middleware: the same path for an actix-web service of the user's own, which stands where an
//! upstream would.

use std::{cell::Cell, future::poll_fn, panic::AssertUnwindSafe, pin::Pin, rc::Rc, sync::Arc};

use actix_web::{
    Error, HttpRequest, HttpResponse,
    body::{BoxBody, MessageBody},
    dev::{Service, ServiceRequest, ServiceResponse, Transform},
    error::InternalError,
    http::Method,
    middleware::{Next, from_fn},
    web,
};
use bytes::{Bytes, BytesMut};
use futures_util::{
    FutureExt as _, StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::sync::mpsc;

use super::{answer, api, webhook};
use crate::{
    api::Api,
    app::App,
    idempotency::{self, Answer, Body, Called, Problem, Taken},
    limits,
    request::Headers,
    shutdown::Tasks,
};

/// Stands in front of a service, or of a part of one, and honours the keys of requests to the API's path.
pub(crate) fn middleware<S, B>(
    app: Arc<App>,
    api: Arc<Api>,
) -> impl Transform<S, ServiceRequest, Response = ServiceResponse, Error = Error, InitError = ()>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    from_fn(move |request: ServiceRequest, next: Next<B>| {
        take(Arc::clone(&app), Arc::clone(&api), request, next)
    })
}

async fn take<B: MessageBody + 'static>(
    app: Arc<App>,
    api: Arc<Api>,
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse, Error> {
    // The decoded path, by which actix routes: `/%70ayments` is served as `/payments` is.
    if !api.is_at(request.match_info().as_str()) {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    let headers = webhook::headers(request.request());
    let key = match api::wanted_key(&app, &api, request.request(), &headers) {
        Ok(Some(key)) => key,
        Ok(None) => return Ok(next.call(request).await?.map_into_boxed_body()),
        Err(problem) => return Ok(refused(request, &problem)),
    };
    let payload = request.extract::<web::Payload>().await?;
    let taken = match api::read(&app, &api, request.request(), headers, payload).await {
        Ok((keyed, place)) => Taken { key, request: keyed, place },
        Err(problem) => return Ok(refused(request, &problem)),
    };
    request.set_payload(taken.request.body.clone().into()); // the service reads it as if nobody had
    // A task of its own, which a client that hangs up does not end. The service cannot leave this thread.
    let tasks = app.tasks.clone();
    let answering = tasks.spawn_here(carry_out(app, api, taken, Inside { request, next }));
    answering.await.unwrap_or_else(|_panic| {
        let answer = answer::of_api(Problem::Unavailable.answer(), false);
        Err(InternalError::from_response("a service panicked", answer).into())
    })
}

/// The service, and the request that it is to be called with.
struct Inside<B> {
    request: ServiceRequest,
    next: Next<B>,
}

/// Where the request of actix is, without which there is no answer of actix. It cannot be kept beside the
/// call: actix panics when it routes a request of which there is a clone.
#[derive(Default)]
enum Held {
    Asked(ServiceRequest),
    Answered(HttpRequest),
    #[default]
    Gone,
}

async fn carry_out<B: MessageBody + 'static>(
    app: Arc<App>,
    api: Arc<Api>,
    taken: Taken,
    inside: Inside<B>,
) -> Result<ServiceResponse, Error> {
    let is_head = inside.request.method() == Method::HEAD;
    let held = Rc::new(Cell::new(Held::Asked(inside.request)));
    let call = |_| async {
        let Held::Asked(request) = held.take() else { unreachable!("it is called once") };
        let called = AssertUnwindSafe(inside.next.call(request)).catch_unwind().await;
        let Ok(called) = called else {
            let why = "the service panicked".to_owned();
            return Called::NoAnswer { timed_out: false, why };
        };
        let response = match called {
            Ok(response) => {
                let (request, response) = response.into_parts();
                held.set(Held::Answered(request));
                response.map_into_boxed_body()
            }
            Err(error) => error.error_response(),
        };
        collected(response, api.answer_bytes_max, &app.tasks).await
    };
    let given = idempotency::answer(&app, &api, taken, call).await;
    let response = answer::of_api(given, is_head);
    match held.take() {
        Held::Asked(request) => Ok(request.into_response(response)),
        Held::Answered(request) => Ok(ServiceResponse::new(request, response)),
        Held::Gone => Err(InternalError::from_response("a service failed", response).into()),
    }
}

/// The service's answer: whole, or, where it is too long to be kept, as it flows.
async fn collected(response: HttpResponse, bytes_max: usize, tasks: &Tasks) -> Called {
    let status = response.status().as_u16();
    let headers = headers(&response);
    let mut body = response.into_body();
    let mut first = BytesMut::new();
    loop {
        match next_chunk(&mut body).await {
            Some(Ok(chunk)) => first.extend_from_slice(&chunk),
            Some(Err(_)) => {
                let why = "the service broke off its answer".to_owned();
                return Called::NoAnswer { timed_out: false, why };
            }
            None => return Called::Answered(Answer::whole(status, headers, first)),
        }
        if first.len() > bytes_max {
            let body = Body::Flowing(first.freeze(), flowing(body, tasks));
            return Called::Answered(Answer { status, headers, body });
        }
    }
}

fn headers(response: &HttpResponse) -> Headers {
    let copied = |value: &[u8]| Bytes::copy_from_slice(value);
    let headers = response.headers().iter();
    headers.map(|(name, value)| (name.as_str(), copied(value.as_bytes()))).collect()
}

/// What is left of a body, which cannot leave this thread itself.
fn flowing(mut body: BoxBody, tasks: &Tasks) -> BoxStream<'static, std::io::Result<Bytes>> {
    let (sender, rest) = mpsc::channel(limits::CHUNKS_WAITING_MAX);
    tasks.spawn_here(async move {
        while let Some(chunk) = next_chunk(&mut body).await {
            let chunk = chunk.map_err(|error| std::io::Error::other(error.to_string()));
            if sender.send(chunk).await.is_err() {
                break; // the client has gone
            }
        }
    });
    stream::unfold(rest, |mut rest| async { Some((rest.recv().await?, rest)) }).boxed()
}

async fn next_chunk(body: &mut BoxBody) -> Option<Result<Bytes, Box<dyn std::error::Error>>> {
    poll_fn(|context| Pin::new(&mut *body).poll_next(context)).await
}

fn refused(request: ServiceRequest, problem: &Problem) -> ServiceResponse {
    let is_head = request.method() == Method::HEAD;
    request.into_response(answer::of_api(problem.answer(), is_head))
}
