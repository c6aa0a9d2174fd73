//! HEAD: the answer to a GET, without its body.

use actix_web::{
    Error,
    body::{BodySize, BodyStream, BoxBody, EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::Method,
    middleware::Next,
};
use bytes::Bytes;
use futures_util::stream;

/// Has HEAD answered by whatever answers GET. The body is left out by actix, which knows what was asked
/// for; but a stream it would read to its end, and the live tail has none.
pub(super) async fn like_get<B: MessageBody>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    if *request.method() != Method::HEAD {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    request.head_mut().method = Method::GET;
    let response = next.call(request).await?;
    Ok(match response.response().body().size() {
        BodySize::Stream => response.map_body(|_, _| EitherBody::right(nothing())),
        _ => response.map_into_left_body(),
    })
}

/// A stream that has ended.
fn nothing() -> BoxBody {
    BoxBody::new(BodyStream::new(stream::empty::<Result<Bytes, Error>>()))
}
