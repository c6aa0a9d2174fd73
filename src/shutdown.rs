//! How it ends: every task is told to stop, and waited for.

use std::time::Duration;

use tokio::{runtime::Handle, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::limits;

/// The background tasks of one hookonce, and the word that ends them. Clones share both.
///
/// They run on the runtime in which this was made: each thread of a server has one of its own, and what
/// runs there ends with it.
#[derive(Clone, Debug)]
pub struct Tasks {
    home: Option<Handle>,
    tracker: TaskTracker,
    stop: CancellationToken,
    cut: CancellationToken,
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            home: Handle::try_current().ok(),
            tracker: TaskTracker::default(),
            stop: CancellationToken::default(),
            cut: CancellationToken::default(),
        }
    }
}

impl Tasks {
    /// Starts a task that [`Tasks::shut_down`] will wait for.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let task = self.tracker.track_future(task);
        match &self.home {
            Some(home) => home.spawn(task),
            None => tokio::spawn(task),
        }
    }

    /// Starts a task on the thread of a server: for what cannot leave it, such as the service behind
    /// the middleware. It ends with that thread at the latest.
    pub fn spawn_here<T: 'static>(&self, task: impl Future<Output = T> + 'static) -> JoinHandle<T> {
        tokio::task::spawn_local(self.tracker.track_future(task))
    }

    /// Waits until somebody asks to stop.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Whether somebody has asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits until the grace of the shut-down is over and what still runs is to be cut off.
    pub async fn grace_is_over(&self) {
        self.cut.cancelled().await;
    }

    /// Asks every task to stop, without waiting.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Asks every task to stop and waits for them, at most for `grace`; then cuts off what still runs,
    /// and waits a moment for that. Says whether all have ended.
    pub async fn shut_down(&self, grace: Duration) -> bool {
        self.stop();
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait()).await.is_ok() {
            return true;
        }
        self.cut.cancel();
        tokio::time::timeout(limits::SHUTDOWN_CUT, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn shutting_down_waits_for_what_was_spawned() {
        let tasks = Tasks::default();
        let told = tasks.clone();
        let task = tasks.spawn(async move { told.stopping().await });
        assert!(tasks.shut_down(Duration::from_secs(5)).await);
        assert!(task.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_given_up() {
        let tasks = Tasks::default();
        tasks.spawn(std::future::pending::<()>());
        assert!(!tasks.shut_down(Duration::from_secs(5)).await);
    }
}
