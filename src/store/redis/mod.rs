//! The store in Redis, for several processes at once: on one server, behind Sentinel, or on a cluster.
//!
//! Each verb is a Lua script, which Redis runs by itself and never half at the same time as another.
//! It does not roll back, though: a script that breaks off leaves what it wrote. So every script
//! writes in an order that the next call can complete; `admit.lua` and `common.lua` say how, and
//! which keys there are.
//!
//! A script works in one bucket, whose keys carry one hash tag and are on one node. One server has one
//! bucket, a cluster has 16; an event's bucket follows from its identity. Their number is kept in the
//! store, and fixed: with another one a retry would be looked for in the wrong bucket.
//!
//! Leases and due times are counted by the server's clock, which all processes share.
//! It asks for Redis 7.0 or Valkey 7.2.

mod address;
mod admit;
mod bucket;
pub(super) mod cache;
mod check;
mod claim;
mod connection;
mod control;
mod erase;
mod export;
mod homes;
mod import;
mod keyed;
mod keyed_copy;
mod keys;
mod line;
mod meet;
mod moving;
mod primary;
mod read;
mod refusals;
mod scripts;
mod wish;
mod work;

use std::{
    cmp::Reverse,
    collections::HashMap,
    fmt,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join_all;

pub(super) use self::line::keeps_order;
use self::{
    address::Address, bucket::Served, connection::Connection, homes::Homes, keys::Bucket,
    primary::Primaries,
};
use super::{
    Claimed, DeliveryFilter, Durability, EventFilter, EventRecord, EventRow, Granted, Hold, Prune,
    Readmission, RefusalFilter, RefusalRow, Refusals, Refused, Release, Stats, Store, StoreError,
    Wish, batch, generation::Seen,
};
use crate::{
    clock::{Clock, Timestamp},
    control::{Controls, Setting},
    delivery::{Attempt, Claim, Delivery, DeliveryId, Lease, Leased, Settlement},
    event::{EventId, NewEvent},
    receipt::Admission,
    refusal::RefusalId,
};

/// A store on Redis.
pub struct RedisStore {
    address: Arc<Address>,
    durability: Durability,
    buckets: Vec<Served>,
    homes: Homes,
    seen: Arc<Seen>,
    /// Where the next claim begins, so that no bucket is always the last.
    turn: AtomicUsize,
    /// Two claims of a handler at once would each look at the same deliveries and get half of them.
    claiming: Mutex<HashMap<Arc<str>, Arc<tokio::sync::Mutex<()>>>>,
}

impl RedisStore {
    /// The store at `url`: `redis://user:password@host:port/db`, `redis-cluster://host:port,host:port` or
    /// `redis-sentinel://host:port,host:port/name`; each begins with `rediss` for TLS. Behind it may follow
    /// `?namespace=…`, so that several stores fit into one server, `buckets=…` and `ca=FILE`.
    ///
    /// A server that cannot be reached is no error here: calls answer [`StoreError::Unavailable`]
    /// until it is there. Neither is one that has forgotten what it held: see
    /// [`Store::accept`]. What was last seen of it is kept in `data_dir`, or as long as this lives.
    ///
    /// # Errors
    /// [`StoreError::Weak`] when the server's settings do not keep what `durability` promises, with
    /// all that is to be changed; [`StoreError::Newer`]; [`StoreError::Failed`] when the URL is none
    /// or the server refuses us.
    pub async fn connect(
        url: &str,
        durability: Durability,
        data_dir: Option<&Path>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let address = Arc::new(Address::parse(url)?);
        let seen = match data_dir {
            Some(folder) => Seen::in_folder(folder, &address.to_string())?,
            None => Seen::in_memory(),
        };
        let primaries = Primaries::new(Arc::clone(&address), Arc::clone(&clock));
        let way = |number| {
            let bucket = Bucket::number(&address.namespace, number);
            let (primaries, seen) = (Arc::clone(&primaries), Arc::clone(&seen));
            Connection::new(primaries, bucket, durability, seen, Arc::clone(&clock))
        };
        let ways: Vec<_> = (0..address.buckets).map(way).collect();
        let mut problems = join_all(ways.iter().map(Connection::session))
            .await
            .into_iter()
            .filter_map(Result::err);
        let passing = problems.try_fold(None, |known, problem| match problem {
            StoreError::Unavailable(_) | StoreError::Forgotten(_) => Ok(known.or(Some(problem))),
            _ => Err(problem),
        })?;
        if let Some(problem) = passing {
            tracing::warn!(%problem, "the store cannot be used yet; it is used as soon as it can");
        }
        drop(problems);
        let buckets = ways.into_iter().map(Served::new).collect();
        let turn = AtomicUsize::new(0);
        Ok(Self {
            address,
            durability,
            buckets,
            homes: Homes::default(),
            seen,
            turn,
            claiming: Mutex::default(),
        })
    }

    fn claiming_of(&self, handler: &Arc<str>) -> Arc<tokio::sync::Mutex<()>> {
        let mut claiming = self.claiming.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(claiming.entry(Arc::clone(handler)).or_default())
    }

    fn first_bucket(&self) -> Result<&Served, StoreError> {
        self.buckets.first().ok_or_else(admit::unexpected)
    }

    fn bucket_of(&self, event: &NewEvent) -> Result<&Served, StoreError> {
        let number = keys::bucket_of(event, self.buckets.len());
        self.buckets.get(number).ok_or_else(admit::unexpected)
    }
}

/// Runs a task that ends by itself when the store is dropped, because nobody can call it any more.
#[expect(
    clippy::disallowed_methods,
    reason = "it ends with the store, and holds nothing to wait for"
)]
pub(super) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}

#[async_trait]
impl Store for RedisStore {
    fn survives(&self) -> String {
        check::survives(self.durability, self.address.has_replicas()).to_owned()
    }

    /// One shard that is away is no reason to turn everybody away: the others go on. One that has
    /// forgotten what it held is.
    async fn ready(&self) -> Result<(), StoreError> {
        let answers = join_all(self.buckets.iter().map(Served::ready)).await;
        let mut is_any_ready = false;
        let mut passing = None;
        for answer in answers {
            match answer {
                Ok(()) => is_any_ready = true,
                Err(error @ (StoreError::Unavailable(_) | StoreError::Full(_))) => {
                    passing = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        passing.filter(|_| !is_any_ready).map_or(Ok(()), Err)
    }

    async fn admit(
        &self,
        events: Vec<NewEvent>,
        not_after: Timestamp,
    ) -> Vec<Result<(EventId, Admission), StoreError>> {
        let sizes = batch::sizes(&events);
        let asked = events.into_iter().zip(sizes).map(|(event, size)| async move {
            line::check(&event, self.buckets.len())?;
            self.bucket_of(&event)?.admissions.call((event, not_after), size).await?
        });
        join_all(asked).await
    }

    async fn claim(&self, claim: &Claim, not_after: Timestamp) -> Result<Claimed, StoreError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = self.claiming_of(&claim.handler);
        let _in_turn = in_turn.lock().await;
        let (claimed, homes) = claim::claim(&self.buckets, claim, not_after, turn).await?;
        self.homes.remember(homes);
        Ok(claimed)
    }

    async fn extend(&self, leases: &[Lease], lease: Duration) -> Vec<Result<Hold, StoreError>> {
        homes::extend(&self.buckets, &self.homes, leases, lease).await
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Vec<Result<Hold, StoreError>> {
        let asked = settlements
            .into_iter()
            .map(|settlement| homes::settle(&self.buckets, &self.homes, settlement));
        join_all(asked).await
    }

    async fn release(&self, release: &Release) -> Result<(), StoreError> {
        homes::release(&self.buckets, &self.homes, release).await
    }

    async fn orphans(&self) -> Result<Vec<Leased>, StoreError> {
        Ok(Vec::new())
    }

    async fn accept(&self) -> Result<usize, StoreError> {
        let mut accepted = 0;
        for served in &self.buckets {
            accepted += usize::from(served.connection.accept().await?);
        }
        Ok(accepted)
    }

    fn steps_back(&self) -> u64 {
        self.seen.steps_back()
    }

    async fn wish(&self, wish: &Wish, not_after: Timestamp) -> Result<Granted, StoreError> {
        wish::grant(&self.buckets, wish, not_after).await
    }

    async fn events(&self, filter: &EventFilter) -> Result<Vec<EventRow>, StoreError> {
        let readers =
            self.buckets.iter().map(|served| async { served.reader().events(filter).await });
        let mut rows = all(join_all(readers).await)?;
        rows.sort_unstable_by_key(|row| Reverse(row.id));
        rows.truncate(filter.limit);
        Ok(rows)
    }

    async fn event(&self, id: EventId) -> Result<Option<EventRecord>, StoreError> {
        let readers =
            self.buckets.iter().map(|served| async move { served.reader().event(id).await });
        wish::found(join_all(readers).await)
    }

    async fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<Delivery>, StoreError> {
        let readers =
            self.buckets.iter().map(|served| async { served.reader().deliveries(filter).await });
        let mut rows = all(join_all(readers).await)?;
        rows.sort_unstable_by_key(|row| Reverse(row.id));
        rows.truncate(filter.limit);
        Ok(rows)
    }

    async fn attempts(&self, delivery: DeliveryId) -> Result<Vec<Attempt>, StoreError> {
        let readers = self
            .buckets
            .iter()
            .map(|served| async move { served.reader().attempts(delivery).await });
        all(join_all(readers).await)
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        let readers = self.buckets.iter().map(|served| async { served.reader().counters().await });
        let mut sums: HashMap<String, i64> = HashMap::new();
        for counters in join_all(readers).await {
            for (name, value) in counters? {
                *sums.entry(name).or_default() += value;
            }
        }
        Ok(read::stats(&sums))
    }

    async fn waiting_since(&self, handler: &str) -> Result<Option<Timestamp>, StoreError> {
        let readers = self
            .buckets
            .iter()
            .map(|served| async move { served.reader().waiting_since(handler).await });
        let since: Vec<_> = join_all(readers).await.into_iter().collect::<Result<_, _>>()?;
        Ok(since.into_iter().flatten().min())
    }

    async fn control(&self, handler: &str, setting: Setting) -> Result<(), StoreError> {
        control::set(self.first_bucket()?, handler, setting).await
    }

    async fn controls(&self) -> Result<Controls, StoreError> {
        control::all(self.first_bucket()?).await
    }

    async fn prune(&self, prune: &Prune) -> Result<usize, StoreError> {
        let (mut gone, mut failed) = (0, Ok(()));
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.buckets.len().max(1);
        for served in self.buckets.iter().cycle().skip(turn).take(self.buckets.len()) {
            let lot = prune.lot.saturating_sub(gone);
            if lot == 0 {
                break;
            }
            match served.prune(prune, lot).await {
                Ok(more) => gone += more,
                Err(error) => failed = Err(error), // the others are pruned all the same
            }
        }
        failed.map(|()| gone)
    }
}

/// What all buckets have answered, one after the other.
fn all<T>(answers: Vec<Result<Vec<T>, StoreError>>) -> Result<Vec<T>, StoreError> {
    let mut whole = Vec::new();
    for answer in answers {
        whole.extend(answer?);
    }
    Ok(whole)
}

/// All refusals are in the first bucket: they are few, and there is a bound for each source.
#[async_trait]
impl Refusals for RedisStore {
    async fn keep_refusals(&self, refused: Vec<Refused>) -> Result<(), StoreError> {
        refusals::keep(self.first_bucket()?, &refused).await
    }

    async fn refusals(&self, filter: &RefusalFilter) -> Result<Vec<RefusalRow>, StoreError> {
        refusals::page(self.first_bucket()?, filter).await
    }

    async fn refusal(&self, id: RefusalId) -> Result<Option<Refused>, StoreError> {
        refusals::one(self.first_bucket()?, id).await
    }

    async fn note_readmitted(
        &self,
        id: RefusalId,
        readmission: &Readmission,
    ) -> Result<(), StoreError> {
        refusals::note_readmitted(self.first_bucket()?, id, readmission).await
    }
}

/// Without the password in its URL.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("address", &self.address)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}
