//! A claim over all buckets: first they are asked what is due, then those that have what is due longest
//! give it, each its share, under one claim id.
//!
//! A bucket that does not answer is passed over: its deliveries wait, the others' do not.

use std::{collections::HashMap, sync::Arc};

use futures_util::future::join_all;

use super::{bucket::Served, work};
use crate::{
    clock::Timestamp,
    delivery::{Claim, DeliveryId},
    limits,
    store::{Claimed, Release, StoreError},
};

/// Deliveries, and the buckets they came from.
pub(super) type Homes = Vec<(DeliveryId, usize)>;

/// What a bucket says before anything is taken.
struct Look<'a> {
    served: &'a Served,
    number: usize,
    /// What is due, the longest first, with since when.
    due: Vec<(i64, DeliveryId)>,
    /// When the first that is not due yet is, or the first at all.
    next: Option<Timestamp>,
    last_claim: LastClaim,
}

/// What the bucket remembers of the worker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LastClaim {
    None,
    This,
    Another,
}

/// See [`Store::claim`](crate::store::Store::claim). `turn` says where to begin where all are alike.
pub(super) async fn claim(
    buckets: &[Served],
    claim: &Claim,
    not_after: Timestamp,
    turn: usize,
) -> Result<(Claimed, Homes), StoreError> {
    if let [only] = buckets {
        let session = only.connection.session().await?;
        let claimed = work::claim(&session, claim, limits::BATCH_BYTES_MAX, not_after).await?;
        return Ok((claimed, Homes::new()));
    }
    let numbered = buckets.iter().enumerate().cycle();
    let in_turn = numbered.skip(turn % buckets.len()).take(buckets.len());
    let asked = in_turn.filter(|(_, served)| !served.is_aside()).map(|one| look(one, claim));
    let mut looks = Vec::new();
    let mut problem = StoreError::Unavailable("no bucket of the store answers".to_owned());
    for look in join_all(asked).await {
        match look {
            Ok(look) => looks.push(look),
            Err(error) => problem = error,
        }
    }
    if looks.is_empty() {
        return Err(problem);
    }
    let shares = shares(&looks, claim.deliveries_max);
    take(looks, &shares, claim, not_after).await
}

async fn look<'a>(
    (number, served): (usize, &'a Served),
    claim: &Claim,
) -> Result<Look<'a>, StoreError> {
    let looked = async {
        served.give_back_unanswered().await?;
        let session = served.connection.session().await?;
        work::look(&session, claim).await
    };
    let seen = looked.await.inspect_err(|error| {
        served.put_aside();
        tracing::debug!(%error, store.bucket = served.bucket.tag(), "claims pass the bucket over");
    })?;
    let last_claim = match seen.last_claim {
        None => LastClaim::None,
        Some(last) if last.windows(16).any(|bytes| bytes == claim.id.as_bytes()) => LastClaim::This,
        Some(_) => LastClaim::Another,
    };
    Ok(Look { served, number, due: seen.due, next: seen.next, last_claim })
}

/// How many each bucket gives: together what is due longest. A claim that was made before is answered
/// by those that remember it, and by no other.
fn shares(looks: &[Look<'_>], most: usize) -> Vec<Option<usize>> {
    if looks.iter().any(|look| look.last_claim == LastClaim::This) {
        let again = |look: &Look<'_>| (look.last_claim == LastClaim::This).then_some(most);
        return looks.iter().map(again).collect();
    }
    let mut due: Vec<(i64, DeliveryId, usize)> = Vec::new();
    for (at, look) in looks.iter().enumerate() {
        due.extend(look.due.iter().map(|(since, id)| (*since, *id, at)));
    }
    due.sort_unstable();
    let mut shares = vec![None; looks.len()];
    for (_, _, at) in due.into_iter().take(most) {
        if let Some(share) = shares.get_mut(at) {
            *share = Some(share.unwrap_or(0) + 1);
        }
    }
    // Also where nothing is due one of them is asked: it says whether it is too late.
    if let [first, ..] = shares.as_mut_slice()
        && looks.iter().all(|look| look.due.is_empty())
    {
        *first = Some(most);
    }
    shares
}

async fn take(
    looks: Vec<Look<'_>>,
    shares: &[Option<usize>],
    claim: &Claim,
    not_after: Timestamp,
) -> Result<(Claimed, Homes), StoreError> {
    let asked = shares.iter().flatten().count().max(1);
    let bytes_max = limits::BATCH_BYTES_MAX / asked;
    let taking = looks.iter().zip(shares).map(|(look, share)| async move {
        let share = (*share)?;
        let own = Claim { deliveries_max: share, ..claim.clone() };
        Some(take_from(look.served, &own, bytes_max, not_after).await)
    });
    let answers = join_all(taking).await;
    let late = answers.iter().flatten().any(|answer| matches!(answer, Err(StoreError::Late)));
    let since: HashMap<DeliveryId, i64> =
        looks.iter().flat_map(|look| &look.due).map(|(since, id)| (*id, *since)).collect();

    let (mut whole, mut homes) = (Claimed::default(), Homes::new());
    let mut problem = None;
    let mut has_answer = false;
    for (look, answer) in looks.iter().zip(answers) {
        match answer {
            None => whole.next_due_at = earlier(whole.next_due_at, look.next),
            Some(Ok(claimed)) => {
                has_answer = true;
                whole.next_due_at = earlier(whole.next_due_at, claimed.next_due_at);
                whole.dead += claimed.dead;
                homes
                    .extend(claimed.deliveries.iter().map(|one| (one.lease.delivery, look.number)));
                whole.deliveries.extend(claimed.deliveries);
            }
            Some(Err(error)) => problem = Some(error),
        }
    }
    if let Some(error) = problem.filter(|_| !has_answer) {
        return Err(error);
    }
    whole.deliveries.sort_by_key(|one| {
        let id = one.lease.delivery;
        (since.get(&id).copied(), id)
    });
    if !late {
        forget_another(&looks, shares, claim).await;
    }
    Ok((whole, homes))
}

/// Takes from one bucket. What it may have taken although it does not say so is given back later: no
/// attempt is burned.
async fn take_from(
    served: &Served,
    claim: &Claim,
    bytes_max: usize,
    not_after: Timestamp,
) -> Result<Claimed, StoreError> {
    let taken = async {
        let session = served.connection.session().await?;
        work::claim(&session, claim, bytes_max, not_after).await
    };
    taken.await.inspect_err(|error| {
        if *error != StoreError::Late {
            served.put_aside();
            served.remember_unanswered(Release::Claim {
                handler: Arc::clone(&claim.handler),
                worker: claim.worker,
                id: claim.id,
            });
        }
    })
}

/// Of each worker the last claim is remembered, and no other: also by buckets that had a part in the one
/// before and none in this.
async fn forget_another(looks: &[Look<'_>], shares: &[Option<usize>], claim: &Claim) {
    let stale = looks
        .iter()
        .zip(shares)
        .filter(|(look, share)| look.last_claim == LastClaim::Another && share.is_none());
    let forgetting = stale.map(|(look, _)| async move {
        let session = look.served.connection.session().await?;
        work::forget_last_claim(&session, claim.worker).await
    });
    for forgotten in join_all(forgetting).await {
        if let Err(error) = forgotten {
            // It is remembered a little longer, and its deliveries are settled or fall due all the same.
            tracing::debug!(%error, "an old claim is still remembered");
        }
    }
}

/// The earlier of two times, where there are any.
fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    [one, other].into_iter().flatten().min()
}
