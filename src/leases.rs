//! The leases a worker holds, and our own idea of when each of them ends.
//!
//! That idea is measured by the monotonic clock from before the claim, or the extension, was sent. So
//! it always ends before the store's, and an attempt is cancelled before somebody else can claim it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::watch, time::Instant};

use crate::delivery::Lease;

/// What is held just now.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    held: Arc<Mutex<HashMap<Lease, watch::Sender<Instant>>>>,
}

/// One held lease; dropping it means that it is not extended any more.
#[derive(Debug)]
pub(crate) struct Holding {
    lease: Lease,
    ends: watch::Receiver<Instant>,
    held: Arc<Mutex<HashMap<Lease, watch::Sender<Instant>>>>,
}

impl Leases {
    /// Notes a lease that ends at `end`.
    pub(crate) fn hold(&self, lease: Lease, end: Instant) -> Holding {
        let (sender, ends) = watch::channel(end);
        lock(&self.held).insert(lease, sender);
        Holding { lease, ends, held: Arc::clone(&self.held) }
    }

    /// Everything held now.
    pub(crate) fn all(&self) -> Vec<Lease> {
        lock(&self.held).keys().copied().collect()
    }

    /// Moves the end of a lease. An end that has passed says that the lease is lost.
    pub(crate) fn move_end(&self, lease: &Lease, end: Instant) {
        if let Some(sender) = lock(&self.held).get(lease) {
            sender.send_replace(end);
        }
    }
}

impl Holding {
    /// Waits until the lease has ended without having been extended.
    pub(crate) async fn lost(&self) {
        let mut ends = self.ends.clone();
        loop {
            let end = *ends.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep_until(end) => return,
                changed = ends.changed() => if changed.is_err() { return },
            }
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        lock(&self.held).remove(&self.lease);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{clock::Timestamp, delivery::DeliveryId};

    fn lease() -> Lease {
        Lease { delivery: DeliveryId::new(Timestamp::from_seconds(1)), token: 1 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_lost_at_its_end_and_not_before() {
        let leases = Leases::default();
        let start = Instant::now();
        let holding = leases.hold(lease(), start + Duration::from_secs(3));
        holding.lost().await;
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn an_extension_puts_the_end_off() {
        let (leases, lease) = (Leases::default(), lease());
        let start = Instant::now();
        let holding = leases.hold(lease, start + Duration::from_secs(3));
        let extend = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            leases.move_end(&lease, start + Duration::from_secs(7));
        };
        tokio::join!(holding.lost(), extend);
        assert_eq!(start.elapsed(), Duration::from_secs(7));
    }

    #[tokio::test]
    async fn what_is_dropped_is_not_held() {
        let leases = Leases::default();
        let holding = leases.hold(lease(), Instant::now());
        assert_eq!(leases.all().len(), 1);
        drop(holding);
        assert_eq!(leases.all(), []);
    }
}
