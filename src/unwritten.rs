//! What is done, as long as the store has not written it down.
//!
//! A store that was away for longer than a lease takes what comes first when it is back: our outcome, or
//! our next claim. Where it is the claim, it hands out again what is done already. That is not run a
//! second time: its outcome is written down under the new lease.
//!
//! An attempt that failed is not remembered. It is tried again anyhow, and its retry may be claimed before
//! we have heard that the failure is written.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    delivery::{DeliveryId, Lease, Leased},
    store::StoreError,
};

/// The leases under which outcomes are to be written down.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    leases: Mutex<HashMap<DeliveryId, Under>>,
    /// Held during a claim, until it is known what of it is done already.
    claiming: tokio::sync::Mutex<()>,
}

/// What an outcome is written down under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Under {
    /// The lease that is held now.
    pub(crate) lease: Lease,
    /// The number of its attempt.
    pub(crate) number: u32,
}

impl Unwritten {
    /// Notes that a delivery is done.
    pub(crate) fn insert(&self, under: Under) {
        self.lock().insert(under.lease.delivery, under);
    }

    /// It is written down, or cannot be any more.
    pub(crate) fn remove(&self, delivery: DeliveryId) {
        self.lock().remove(&delivery);
    }

    /// Makes a claim, and gives what it got less what is done already.
    pub(crate) async fn during(
        &self,
        claim: impl Future<Output = Result<Vec<Leased>, StoreError>>,
    ) -> Result<Vec<Leased>, StoreError> {
        let _until_sorted_out = self.claiming.lock().await;
        let mut claimed = claim.await?;
        let mut leases = self.lock();
        claimed.retain(|leased| match leases.get_mut(&leased.lease.delivery) {
            Some(known) => {
                *known = Under { lease: leased.lease, number: leased.attempt };
                false
            }
            None => true,
        });
        Ok(claimed)
    }

    /// What to write an outcome down under now, where that is another lease than the one that was lost.
    pub(crate) async fn instead_of(&self, lost: Lease) -> Option<Under> {
        // The answer to a claim may be on its way yet, behind the one that says it is lost.
        let _no_claim = self.claiming.lock().await;
        let known = self.lock().get(&lost.delivery).copied();
        known.filter(|known| known.lease != lost)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeliveryId, Under>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
