//! A person's wishes, in slices that each are one short script.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use redis::{Script, Value, from_redis_value};

use super::{
    admit::unexpected,
    connection::{Connection, Session},
    keys::Bucket,
    scripts::{self, Call},
    work::{delivery_id, refused},
};
use crate::{
    clock::Timestamp,
    delivery::DeliveryId,
    event::{EventId, NewDelivery},
    limits,
    store::{Granted, StoreError, Which, Wish},
};

/// How many deliveries one script changes: a few milliseconds, in which Redis does nothing else.
const SLICE: usize = 500;

/// How long a redrive knows what it has renewed.
const REMEMBERED: Duration = Duration::from_hours(24);

/// See [`Store::wish`](crate::store::Store::wish).
pub(super) async fn grant(
    connection: &Arc<Connection>,
    bucket: &Bucket,
    wish: &Wish,
    not_after: Timestamp,
) -> Result<Granted, StoreError> {
    let change = |script, own| Change { connection, bucket, script, own, not_after };
    match wish {
        Wish::Replay { event, deliveries } => {
            let session = connection.session().await?;
            route(&session, bucket, ("replay", *event, deliveries), not_after).await
        }
        Wish::AdmitHeld { event, deliveries } => {
            let session = connection.session().await?;
            route(&session, bucket, ("held", *event, deliveries), not_after).await
        }
        Wish::Redrive { id, which } => {
            let places = [Place::Dead, Place::Redriven(id.as_bytes())];
            let meant = meant(connection, bucket, which, &places).await?;
            let remembered_ms = REMEMBERED.as_millis().to_string().into_bytes();
            change(&scripts::REDRIVE, vec![id.as_bytes().to_vec(), remembered_ms])
                .apply(meant)
                .await
        }
        Wish::Move { which, to } => {
            let meant = meant(connection, bucket, which, &[Place::Waiting, Place::Dead]).await?;
            change(&scripts::MOVE, vec![to.as_bytes().to_vec()]).apply(meant).await
        }
        Wish::Kill { which } => {
            let meant = meant(connection, bucket, which, &[Place::Waiting]).await?;
            change(&scripts::KILL, Vec::new()).apply(meant).await
        }
    }
}

async fn route(
    session: &Session,
    bucket: &Bucket,
    (wish, event, deliveries): (&str, EventId, &[NewDelivery]),
    not_after: Timestamp,
) -> Result<Granted, StoreError> {
    let mut call = Call::of(&scripts::ROUTE, bucket);
    call.arg(session.to_server(not_after)).arg(wish).arg(event.as_bytes().as_slice());
    for delivery in deliveries {
        call.arg(delivery.id.as_bytes().as_slice()).arg(&*delivery.handler);
    }
    let answer: Vec<u8> = session.call(&call).await?;
    match answer.as_slice() {
        b"K" => Ok(Granted::Deliveries(deliveries.iter().map(|delivery| delivery.id).collect())),
        b"N" => Ok(Granted::NotFound),
        word => Err(refused(word)),
    }
}

/// Where the deliveries of a handler are looked for.
enum Place<'a> {
    /// Its queue.
    Waiting,
    /// Its dead ones.
    Dead,
    /// What a redrive has renewed before.
    Redriven(&'a [u8]),
}

/// The deliveries a wish may be about, oldest first. The scripts find out which it applies to.
async fn meant(
    connection: &Arc<Connection>,
    bucket: &Bucket,
    which: &Which,
    places: &[Place<'_>],
) -> Result<BTreeSet<DeliveryId>, StoreError> {
    let handler = match which {
        Which::Ids(ids) => return Ok(ids.iter().copied().collect()),
        Which::Handler(handler) => handler.as_bytes(),
    };
    let session = connection.session().await?;
    // Some of the queue is leased, and no wish is about that: so many more are looked at.
    let last = limits::WISH_ROWS_MAX + 2 * limits::CONCURRENCY_MAX;
    let mut found = BTreeSet::new();
    for place in places {
        let command = match place {
            Place::Waiting => range(&bucket.key("q", handler), last),
            Place::Dead => range(&bucket.key("x", handler), last),
            Place::Redriven(wish) => {
                let mut command = redis::cmd("SMEMBERS");
                command.arg(bucket.key("r", wish));
                command
            }
        };
        let ids: Vec<Vec<u8>> = session.query(&command).await?;
        found.extend(ids.iter().filter_map(|id| delivery_id(id)));
    }
    Ok(found)
}

fn range(key: &[u8], last: usize) -> redis::Cmd {
    let mut command = redis::cmd("ZRANGE");
    command.arg(key).arg(0).arg(last);
    command
}

/// A script that changes deliveries, each by itself.
struct Change<'a> {
    connection: &'a Arc<Connection>,
    bucket: &'a Bucket,
    script: &'static Script,
    /// Its own arguments.
    own: Vec<Vec<u8>>,
    not_after: Timestamp,
}

impl Change<'_> {
    async fn apply(self, meant: BTreeSet<DeliveryId>) -> Result<Granted, StoreError> {
        let meant: Vec<DeliveryId> = meant.into_iter().collect();
        let mut changed = Vec::new();
        // Also with nothing to change the script is asked: it says whether it is too late.
        let slices = meant.chunks(SLICE).chain(meant.is_empty().then_some([].as_slice()));
        for slice in slices {
            let left = limits::WISH_ROWS_MAX - changed.len();
            let slice = slice.get(..left).unwrap_or(slice);
            changed.extend(self.change(slice).await?);
            if changed.len() >= limits::WISH_ROWS_MAX {
                break;
            }
        }
        Ok(Granted::Deliveries(changed))
    }

    async fn change(&self, slice: &[DeliveryId]) -> Result<Vec<DeliveryId>, StoreError> {
        let session = self.connection.session().await?;
        let mut call = Call::of(self.script, self.bucket);
        call.arg(session.to_server(self.not_after));
        call.arg(&self.own);
        for id in slice {
            call.arg(id.as_bytes().as_slice());
        }
        let answer: Value = session.call(&call).await?;
        if let Value::BulkString(word) = &answer {
            return Err(refused(word));
        }
        let ids: Vec<Vec<u8>> = from_redis_value(answer).map_err(|_| unexpected())?;
        Ok(ids.iter().filter_map(|id| delivery_id(id)).collect())
    }
}
