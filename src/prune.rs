//! Takes away what has been kept long enough, in small lots, so that it is never in the way.

use std::{sync::Arc, time::Duration};

use crate::{app::App, clock::Timestamp, limits, shutdown::Tasks, store::Prune};

/// How long events are kept after their end. Their marks live on until their window is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Events whose deliveries are all done.
    pub done: Duration,
    /// Events with a dead delivery, and unrouted ones.
    pub dead: Duration,
    /// Held events, from when they came.
    pub held: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { done: limits::RETENTION, dead: limits::RETENTION_DEAD, held: limits::RETENTION_HELD }
    }
}

impl Retention {
    fn lot(self, now: Timestamp) -> Prune {
        Prune {
            done_before: now.minus(self.done),
            dead_before: now.minus(self.dead),
            held_before: now.minus(self.held),
            now,
            lot: limits::PRUNE_LOT,
        }
    }
}

/// Prunes every now and then until it is told to stop.
pub async fn run(app: Arc<App>, retention: Retention, tasks: Tasks) {
    while !tasks.is_stopping() {
        let lot = retention.lot(app.clock.now());
        let pause = match app.metrics.store_call("prune", app.store.prune(&lot)).await {
            Ok(pruned) if pruned >= limits::PRUNE_LOT => limits::PRUNE_PAUSE,
            Ok(_) => limits::PRUNE_INTERVAL,
            Err(error) => {
                tracing::debug!(%error, "cannot prune; trying again");
                limits::PRUNE_INTERVAL
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = tasks.stopping() => {}
        }
    }
}
