//! Which bucket a lease is from: remembered from the claim to the settlement.
//!
//! A lease does not say where its delivery is kept. Whoever claimed it is who settles it, in nearly all
//! cases by the same store, which has seen where it came from. What is not remembered is looked for in
//! all buckets: the scripts answer that a lease they do not know is lost, so that costs time and no more.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;

use super::{admit::unexpected, bucket::Served, work};
use crate::{
    delivery::{DeliveryId, Lease, Settlement},
    store::{Hold, Release, StoreError, batch::each},
};

/// How many leases are remembered. Some are never given back; at this number all are forgotten.
const REMEMBERED_MAX: usize = 100_000;

/// The buckets of the leases that this store has handed out.
#[derive(Debug, Default)]
pub(super) struct Homes {
    known: Mutex<HashMap<DeliveryId, usize>>,
}

impl Homes {
    /// Remembers where deliveries came from.
    pub(super) fn remember(&self, homes: Vec<(DeliveryId, usize)>) {
        let mut known = self.lock();
        if known.len() + homes.len() > REMEMBERED_MAX {
            known.clear();
        }
        known.extend(homes);
    }

    fn of(&self, delivery: DeliveryId) -> Option<usize> {
        self.lock().get(&delivery).copied()
    }

    fn forget(&self, delivery: DeliveryId) {
        self.lock().remove(&delivery);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeliveryId, usize>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The buckets that may have a delivery: one, or all of them.
    fn candidates<'a>(&self, buckets: &'a [Served], delivery: DeliveryId) -> &'a [Served] {
        let known = self.of(delivery).and_then(|home| buckets.get(home..=home));
        known.unwrap_or(buckets)
    }
}

/// See [`Store::settle`](crate::store::Store::settle).
pub(super) async fn settle(
    buckets: &[Served],
    homes: &Homes,
    settlement: Settlement,
) -> Result<Hold, StoreError> {
    let delivery = settlement.lease.delivery;
    let size = work::size(&settlement);
    let asked = homes.candidates(buckets, delivery).iter().map(|served| {
        let settlement = settlement.clone();
        async move { served.settlements.call(settlement, size).await? }
    });
    let hold = kept_by_any(join_all(asked).await)?;
    homes.forget(delivery);
    Ok(hold)
}

/// See [`Store::extend`](crate::store::Store::extend). A bucket that does not answer fails for its own leases only.
pub(super) async fn extend(
    buckets: &[Served],
    homes: &Homes,
    leases: &[Lease],
    lease: Duration,
) -> Vec<Result<Hold, StoreError>> {
    let asked = by_bucket(buckets, homes, leases).into_iter().map(|(served, own)| async move {
        let extended = async {
            let session = served.connection.session().await?;
            work::extend(&session, &own, lease).await
        };
        let holds = each(extended.await, own.len());
        own.into_iter().zip(holds).collect::<Vec<_>>()
    });
    let mut answers: HashMap<(DeliveryId, u64), Vec<Result<Hold, StoreError>>> = HashMap::new();
    for (lease, hold) in join_all(asked).await.into_iter().flatten() {
        answers.entry((lease.delivery, lease.token)).or_default().push(hold);
    }
    let hold = |lease: &Lease| {
        kept_by_any(answers.get(&(lease.delivery, lease.token)).cloned().unwrap_or_default())
    };
    leases.iter().map(hold).collect()
}

/// See [`Store::release`](crate::store::Store::release). Of several buckets one that does not answer is
/// asked again before the next claim from it: it stops no work in the others.
pub(super) async fn release(
    buckets: &[Served],
    homes: &Homes,
    release: &Release,
) -> Result<(), StoreError> {
    if let [only] = buckets {
        return only.release(release).await;
    }
    let parts: Vec<(&Served, Release)> = match release {
        Release::Claim { .. } => buckets.iter().map(|served| (served, release.clone())).collect(),
        Release::Leases(leases) => by_bucket(buckets, homes, leases)
            .into_iter()
            .map(|(served, own)| (served, Release::Leases(own)))
            .collect(),
    };
    let asked = parts.into_iter().map(|(served, part)| async move {
        if let Err(error) = served.release(&part).await {
            tracing::debug!(%error, store.bucket = served.bucket.tag(), "to be given back later");
            served.put_aside();
            served.remember_unanswered(part);
        }
    });
    join_all(asked).await;
    if let Release::Leases(leases) = release {
        leases.iter().for_each(|lease| homes.forget(lease.delivery));
    }
    Ok(())
}

/// The leases that each bucket is to be asked about.
fn by_bucket<'a>(
    buckets: &'a [Served],
    homes: &Homes,
    leases: &[Lease],
) -> Vec<(&'a Served, Vec<Lease>)> {
    let may_have = |served: &Served, lease: &Lease| {
        let candidates = homes.candidates(buckets, lease.delivery);
        candidates.iter().any(|candidate| std::ptr::eq(candidate, served))
    };
    let own = |served: &'a Served| {
        let own: Vec<Lease> =
            leases.iter().filter(|lease| may_have(served, lease)).copied().collect();
        (!own.is_empty()).then_some((served, own))
    };
    buckets.iter().filter_map(own).collect()
}

/// One of them has the lease, or none has; which is only known where all have answered.
fn kept_by_any(answers: Vec<Result<Hold, StoreError>>) -> Result<Hold, StoreError> {
    if answers.contains(&Ok(Hold::Kept)) {
        return Ok(Hold::Kept);
    }
    let first = answers.into_iter().reduce(Result::and);
    first.ok_or_else(unexpected)?
}
