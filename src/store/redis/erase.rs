//! Erasing one event, in the bucket that has it, and the request it came in, in all of them.

use redis::{Value, from_redis_value};

use super::{
    admit::unexpected,
    bucket::Served,
    scripts::{self, Call},
    work::{delivery_id, refused},
};
use crate::{
    clock::Timestamp,
    event::EventId,
    store::{ERASED, Granted, StoreError},
};

/// See [`Wish::Erase`](crate::store::Wish::Erase). The event comes first: it decides whether it may be
/// erased, and goes on to know its request, so that what broke off behind it is completed when asked again.
pub(super) async fn erase(
    buckets: &[Served],
    home: &Served,
    event: EventId,
    not_after: Timestamp,
) -> Result<Granted, StoreError> {
    let answer = call(home, event, None, not_after).await?;
    let (request, killed) = match &answer {
        Value::BulkString(word) if word == b"N" => return Ok(Granted::NotFound),
        Value::BulkString(word) if word == b"R" => return Ok(Granted::Running),
        Value::BulkString(word) => return Err(refused(word)),
        _ => {
            let mut answer: Vec<Vec<u8>> = from_redis_value(answer).map_err(|_| unexpected())?;
            let killed = answer.split_off(answer.len().min(1));
            (answer.pop().ok_or_else(unexpected)?, killed)
        }
    };
    if !request.is_empty() {
        for other in buckets.iter().filter(|other| other.bucket.tag() != home.bucket.tag()) {
            if let Value::BulkString(word) = call(other, event, Some(&request), not_after).await? {
                return Err(refused(&word));
            }
        }
    }
    let mut killed: Vec<_> = killed.iter().filter_map(|id| delivery_id(id)).collect();
    killed.sort_unstable();
    Ok(Granted::Deliveries(killed))
}

async fn call(
    served: &Served,
    event: EventId,
    request: Option<&[u8]>,
    not_after: Timestamp,
) -> Result<Value, StoreError> {
    let session = served.connection.session().await?;
    let mut call = Call::of(&scripts::ERASE, &session);
    call.arg(session.to_server(not_after)).arg(event.as_bytes().as_slice()).arg(ERASED);
    if let Some(request) = request {
        call.arg(request);
    }
    session.call(&call).await
}
