//! What the tests stand on: a running program, a provider that sends, a handler that counts.

pub(crate) mod disk;
pub(crate) mod program;
pub(crate) mod sender;
pub(crate) mod sink;

use std::{
    collections::BTreeSet,
    net::TcpListener,
    sync::Mutex,
    time::{Duration, Instant},
};

/// A port that was free a moment ago, and is given to nobody else: of two programs with one port the one
/// that came too late ends, and its test would be answered by the other.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if GIVEN.lock().unwrap().insert(port) {
            return port;
        }
    }
}

/// Held by tests that load the machine or measure time, so that no two of them run at once.
pub(crate) async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    ALONE.lock().await
}

/// Waits until `condition` holds, and fails the test when it does not within `patience`.
pub(crate) async fn until<F: Future<Output = bool>>(
    what: &str,
    patience: Duration,
    mut condition: impl FnMut() -> F,
) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < patience, "waited {patience:?} for this in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
