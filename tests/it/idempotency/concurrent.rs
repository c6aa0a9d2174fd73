//! A thousand requests with one key at once, again and again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::Barrier;

use super::{
    client::{Connection, charging},
    setup,
    upstream::{Upstream, ok},
};
use crate::{postgres_server::PostgresServer, redis_server::RedisServer, support::alone};

const AT_ONCE: usize = 1000;
const KEYS: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_at_once_run_once_on_sqlite() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|request, _| ok(request.header("idempotency-key"))).await;
    let program = setup(folder.path(), "sqlite:a.db", upstream.port, "").start().await;
    flood(&[program.port], &upstream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_at_once_run_once_over_two_processes_on_redis() {
    let _alone = alone().await;
    let redis = RedisServer::start();
    over_two_processes(&redis.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_at_once_run_once_over_two_processes_on_postgres() {
    let _alone = alone().await;
    let postgres = PostgresServer::start(&[]);
    over_two_processes(&postgres.database()).await;
}

async fn over_two_processes(store: &str) {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let upstream = Upstream::start(|request, _| ok(request.header("idempotency-key"))).await;
    let start = |at: usize| setup(folders[at].path(), store, upstream.port, "");
    let (one, other) = (start(0).start().await, start(1).start().await);
    flood(&[one.port, other.port], &upstream).await;
}

/// Sends each key over all connections at once; every answer must be the one answer, or 409.
async fn flood(ports: &[u16], upstream: &Upstream) {
    let barrier = Arc::new(Barrier::new(AT_ONCE));
    let statuses: Arc<Mutex<HashMap<(u16, bool), usize>>> = Arc::default();
    let send = |number: usize| {
        let (barrier, statuses) = (Arc::clone(&barrier), Arc::clone(&statuses));
        let port = ports[number % ports.len()];
        tokio::spawn(async move {
            let mut connection = Connection::to(port).await;
            for key in (0..KEYS).map(|key| format!("k{key}")) {
                barrier.wait().await;
                let mut answer = connection.send(&charging(&key)).await.expect("it answers");
                // A machine that is too busy says so, and has done nothing.
                while answer.status() == 503 {
                    answer = connection.send(&charging(&key)).await.expect("it answers");
                }
                let status = (answer.status(), answer.is_replayed());
                match status {
                    (200, _) => assert_eq!(answer.text(), key),
                    (409, false) => assert_eq!(answer.code(), "key_in_progress"),
                    _ => panic!("{answer:?}"),
                }
                *statuses.lock().unwrap().entry(status).or_default() += 1;
            }
        })
    };
    let sending: Vec<_> = (0..AT_ONCE).map(send).collect();
    for one in sending {
        tokio::time::timeout(Duration::from_secs(300), one).await.unwrap().unwrap();
    }
    let mut calls: HashMap<String, usize> = HashMap::new();
    for call in upstream.calls() {
        *calls.entry(call.header("idempotency-key").to_owned()).or_default() += 1;
    }
    assert_eq!(calls.len(), KEYS);
    assert!(calls.values().all(|count| *count == 1), "{calls:?}");
    let statuses = statuses.lock().unwrap();
    assert_eq!(statuses[&(200, false)], KEYS, "{statuses:?}");
    assert_eq!(statuses.values().sum::<usize>(), KEYS * AT_ONCE);
}
