//! A person's wishes, in slices that each are one short script.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::future::join_all;
use redis::{Script, Value, from_redis_value};

use super::{
    admit::unexpected,
    bucket::Served,
    connection::{Connection, Session},
    erase,
    keys::Bucket,
    line,
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

/// How many ids one command reads.
const PAGE: usize = 10_000;

/// How long a redrive knows what it has renewed.
const REMEMBERED: Duration = Duration::from_hours(24);

/// See [`Store::wish`](crate::store::Store::wish). What is about an event is a matter of its bucket; what
/// is about deliveries goes through all of them, and each changes those it has.
pub(super) async fn grant(
    buckets: &[Served],
    wish: &Wish,
    not_after: Timestamp,
) -> Result<Granted, StoreError> {
    let (Wish::Replay { event, .. } | Wish::AdmitHeld { event, .. } | Wish::Erase { event }) = wish
    else {
        return grant_everywhere(buckets, wish, not_after).await;
    };
    // Also where nobody has it one of them is asked: it says whether it is too late.
    let first = buckets.first().ok_or_else(unexpected)?;
    let home = if buckets.len() == 1 { None } else { holder(buckets, *event).await? };
    let home = home.unwrap_or(first);
    if let Wish::Erase { event } = wish {
        return erase::erase(buckets, home, *event, not_after).await;
    }
    grant_in(&home.connection, wish, limits::WISH_ROWS_MAX, not_after).await
}

async fn grant_everywhere(
    buckets: &[Served],
    wish: &Wish,
    not_after: Timestamp,
) -> Result<Granted, StoreError> {
    let (mut changed, mut is_erased) = (Vec::new(), false);
    for served in buckets {
        let left = limits::WISH_ROWS_MAX.saturating_sub(changed.len());
        if left == 0 {
            break;
        }
        match grant_in(&served.connection, wish, left, not_after).await? {
            Granted::Deliveries(more) => changed.extend(more),
            Granted::Erased => is_erased = true,
            none @ (Granted::NotFound | Granted::Running) => return Ok(none),
        }
    }
    changed.sort_unstable();
    Ok(of_changed(changed, is_erased))
}

/// What a wish about deliveries did, which may have met some of erased events.
fn of_changed(changed: Vec<DeliveryId>, is_erased: bool) -> Granted {
    if is_erased && changed.is_empty() { Granted::Erased } else { Granted::Deliveries(changed) }
}

/// The bucket that has the event.
async fn holder(buckets: &[Served], event: EventId) -> Result<Option<&Served>, StoreError> {
    let asked = buckets.iter().map(|served| async move {
        let session = served.connection.session().await?;
        let mut command = redis::cmd("EXISTS");
        command.arg(served.bucket.event(event));
        let has: bool = session.query(&command).await?;
        Ok(has.then_some(served))
    });
    found(join_all(asked).await)
}

/// What one of several has found. That nobody has it is only known where all have answered.
pub(super) fn found<T>(
    answers: Vec<Result<Option<T>, StoreError>>,
) -> Result<Option<T>, StoreError> {
    let mut failed = Ok(None);
    for answer in answers {
        match answer {
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) => {}
            Err(error) => failed = Err(error),
        }
    }
    failed
}

async fn grant_in(
    connection: &Arc<Connection>,
    wish: &Wish,
    most: usize,
    not_after: Timestamp,
) -> Result<Granted, StoreError> {
    let bucket = &connection.bucket;
    let change = |script, own| Change { connection, script, own, most, not_after };
    match wish {
        Wish::Replay { event, deliveries } => {
            let session = connection.session().await?;
            route(&session, ("replay", *event, deliveries), not_after).await
        }
        Wish::AdmitHeld { event, deliveries } => {
            let session = connection.session().await?;
            route(&session, ("held", *event, deliveries), not_after).await
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
            let session = connection.session().await?;
            let meant = line::as_they_stand(&session, meant).await?;
            change(&scripts::MOVE, vec![to.as_bytes().to_vec()]).apply(meant).await
        }
        Wish::Kill { which } => {
            let meant = meant(connection, bucket, which, &[Place::Waiting]).await?;
            change(&scripts::KILL, Vec::new()).apply(meant).await
        }
        // It is about one event, wherever that is: `grant` has seen to it.
        Wish::Erase { .. } => Err(unexpected()),
        Wish::Unblock { which } => {
            // A handler's are those that still stand in line: the others are not its next ones.
            let (meant, which) = match which {
                Which::Ids(ids) => (ids.iter().copied().collect(), b"any".to_vec()),
                Which::Handler(_) => {
                    let dead = meant(connection, bucket, which, &[Place::AllDead]).await?;
                    (dead, b"line".to_vec())
                }
            };
            change(&scripts::UNBLOCK, vec![which]).apply(meant).await
        }
    }
}

async fn route(
    session: &Session,
    (wish, event, deliveries): (&str, EventId, &[NewDelivery]),
    not_after: Timestamp,
) -> Result<Granted, StoreError> {
    let mut call = Call::of(&scripts::ROUTE, session);
    call.arg(session.to_server(not_after)).arg(wish).arg(event.as_bytes().as_slice());
    for delivery in deliveries {
        call.arg(delivery.id.as_bytes().as_slice()).arg(&*delivery.handler);
        call.arg(delivery.order.map(line::text).unwrap_or_default());
    }
    let answer: Vec<u8> = session.call(&call).await?;
    match answer.as_slice() {
        b"K" => Ok(Granted::Deliveries(deliveries.iter().map(|delivery| delivery.id).collect())),
        b"N" => Ok(Granted::NotFound),
        b"Z" => Ok(Granted::Erased),
        word => Err(refused(word)),
    }
}

/// Where the deliveries of a handler are looked for.
enum Place<'a> {
    /// Its queue.
    Waiting,
    /// Its dead ones, as many as a wish may change.
    Dead,
    /// All of them.
    AllDead,
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
    let most = limits::WISH_ROWS_MAX + 2 * limits::CONCURRENCY_MAX;
    let mut found = BTreeSet::new();
    for place in places {
        let ids: Vec<Vec<u8>> = match place {
            Place::Waiting => range(&session, &bucket.key("q", handler), most).await?,
            Place::Dead => range(&session, &bucket.key("x", handler), most).await?,
            Place::AllDead => range(&session, &bucket.key("x", handler), usize::MAX).await?,
            Place::Redriven(wish) => {
                let mut command = redis::cmd("SMEMBERS");
                command.arg(bucket.key("r", wish));
                session.query(&command).await?
            }
        };
        found.extend(ids.iter().filter_map(|id| delivery_id(id)));
    }
    Ok(found)
}

/// The first members of a sorted set, read in pages that keep nobody waiting.
async fn range(session: &Session, key: &[u8], most: usize) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut found: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut command = redis::cmd("ZRANGE");
        command.arg(key).arg(found.len()).arg(found.len() + PAGE - 1);
        let page: Vec<Vec<u8>> = session.query(&command).await?;
        let is_last = page.len() < PAGE;
        found.extend(page);
        if is_last || found.len() >= most {
            found.truncate(most);
            return Ok(found);
        }
    }
}

/// A script that changes deliveries, each by itself.
struct Change<'a> {
    connection: &'a Arc<Connection>,
    script: &'static Script,
    /// Its own arguments.
    own: Vec<Vec<u8>>,
    /// How many deliveries it may change.
    most: usize,
    not_after: Timestamp,
}

impl Change<'_> {
    /// Changes them in the order in which they are given.
    async fn apply(
        self,
        meant: impl IntoIterator<Item = DeliveryId>,
    ) -> Result<Granted, StoreError> {
        let meant: Vec<DeliveryId> = meant.into_iter().collect();
        let (mut changed, mut is_erased) = (Vec::new(), false);
        // Also with nothing to change the script is asked: it says whether it is too late.
        let slices = meant.chunks(SLICE).chain(meant.is_empty().then_some([].as_slice()));
        for slice in slices {
            let left = self.most.saturating_sub(changed.len());
            let slice = slice.get(..left).unwrap_or(slice);
            match self.change(slice).await? {
                Some(more) => changed.extend(more),
                None => is_erased = true,
            }
            if changed.len() >= self.most {
                break;
            }
        }
        Ok(of_changed(changed, is_erased))
    }

    /// Those that were changed; none where all that it would have changed is of erased events.
    async fn change(&self, slice: &[DeliveryId]) -> Result<Option<Vec<DeliveryId>>, StoreError> {
        let session = self.connection.session().await?;
        let mut call = Call::of(self.script, &session);
        call.arg(session.to_server(self.not_after));
        call.arg(&self.own);
        for id in slice {
            call.arg(id.as_bytes().as_slice());
        }
        let answer: Value = session.call(&call).await?;
        if let Value::BulkString(word) = &answer {
            return if word == b"Z" { Ok(None) } else { Err(refused(word)) };
        }
        let ids: Vec<Vec<u8>> = from_redis_value(answer).map_err(|_| unexpected())?;
        Ok(Some(ids.iter().filter_map(|id| delivery_id(id)).collect()))
    }
}
