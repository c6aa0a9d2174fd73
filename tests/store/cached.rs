//! The cache in front of a store: it makes duplicates fast, and never anything wrong.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![expect(clippy::disallowed_methods, reason = "how long it really took is what is asked here")]

use std::time::{Duration, Instant};

use hookonce::{event::EventId, limits, receipt::Admission};

use crate::{
    redis_server::RedisServer,
    store::bench::{self, Bench},
};

/// A store behind a cache, and the server of the cache.
async fn behind_a_cache() -> (Bench, RedisServer) {
    let server = RedisServer::start_with(&["--appendonly", "no"]);
    let mut bench = bench::sqlite().await;
    let clock = bench.clock();
    let store = hookonce::store::with_cache(bench.store, "sqlite:a", &server.url(), &clock);
    bench.store = store.unwrap();
    (bench, server)
}

/// Admits new events until the cache knows one, and says which.
async fn admit_and_cache(bench: &Bench, name: &str) -> (EventId, String) {
    let begun = Instant::now();
    for number in 0.. {
        assert!(begun.elapsed() < Duration::from_secs(5), "no mark is ever cached");
        bench.pass(limits::CACHE_PAUSE).await; // it may have been passed over
        let identity = format!("{name} {number}");
        let first = bench.routed(&identity);
        assert_eq!(bench.admit(&first).await, (first.id, Admission::Fresh));
        tokio::time::sleep(Duration::from_millis(20)).await; // a mark is cached behind the answer
        let hits_before = hits(bench);
        let again = bench.admit(&bench.routed(&identity)).await;
        assert_eq!(again, (first.id, Admission::Duplicate));
        if hits(bench) > hits_before {
            return (first.id, identity);
        }
    }
    unreachable!("the loop has no end but these")
}

fn hits(bench: &Bench) -> u64 {
    bench.store.cache().unwrap().hits
}

#[tokio::test]
async fn a_duplicate_that_the_cache_knows_is_noted_and_counted() {
    let (bench, _server) = behind_a_cache().await;
    let (first, known) = admit_and_cache(&bench, "a").await;
    let before = bench.total().await.duplicates;
    let mut again = bench.routed(&known);
    again.retry_marker = Some("x-retry: 2".to_owned());
    assert_eq!(bench.admit(&again).await, (first, Admission::Duplicate));
    assert_eq!(bench.total().await.duplicates, before + 1);
    let newest = bench.record(first).await.duplicates.remove(0);
    assert_eq!(newest.retry_marker.as_deref(), Some("x-retry: 2"));
    assert_eq!(bench.record(first).await.deliveries.len(), 1, "a duplicate triggers nothing");
}

#[tokio::test]
async fn a_flushed_cache_is_asked_the_store_again() {
    let (bench, server) = behind_a_cache().await;
    let (first, known) = admit_and_cache(&bench, "a").await;
    redis::cmd("FLUSHALL").exec(&mut server.try_connection().unwrap()).unwrap();
    assert_eq!(bench.admit(&bench.routed(&known)).await, (first, Admission::Duplicate));
}

#[tokio::test]
async fn a_cache_that_hangs_or_is_dead_only_makes_it_slower() {
    let (bench, mut server) = behind_a_cache().await;
    let (first, known) = admit_and_cache(&bench, "a").await;
    server.freeze();
    let begun = Instant::now();
    for number in 0..20 {
        let new = bench.routed(&format!("while it hangs {number}"));
        assert_eq!(bench.admit(&new).await, (new.id, Admission::Fresh));
        assert_eq!(bench.admit(&bench.routed(&known)).await, (first, Admission::Duplicate));
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?} for 40 events", begun.elapsed());
    server.thaw();
    server.kill();
    let new = bench.routed("while it is dead");
    assert_eq!(bench.admit(&new).await, (new.id, Admission::Fresh));
    assert_eq!(bench.admit(&bench.routed(&known)).await, (first, Admission::Duplicate));
    assert!(bench.store.cache().unwrap().failures > 0);

    server.restart();
    admit_and_cache(&bench, "once it is back").await;
}

#[tokio::test]
async fn what_others_wrote_into_the_cache_is_not_believed() {
    let (bench, server) = behind_a_cache().await;
    let (first, known) = admit_and_cache(&bench, "a").await;
    let mut other = server.try_connection().unwrap();
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut other).unwrap();
    for key in keys {
        redis::cmd("SET").arg(key).arg("nonsense").exec(&mut other).unwrap();
    }
    assert_eq!(bench.admit(&bench.routed(&known)).await, (first, Admission::Duplicate));
}

#[tokio::test]
async fn what_was_cached_of_another_generation_of_the_store_is_void() {
    let server = RedisServer::start_with(&["--appendonly", "no"]);
    let cached = |bench: &Bench| {
        let clock = bench.clock();
        let store = std::sync::Arc::clone(&bench.store);
        hookonce::store::with_cache(store, "sqlite:a", &server.url(), &clock).unwrap()
    };
    let mut first = bench::sqlite().await;
    first.store = cached(&first);
    let (_, known) = admit_and_cache(&first, "a").await;

    // The same URL, and a new file: as if the store had been lost, and a person had accepted that.
    let mut after = bench::sqlite().await;
    after.store = cached(&after);
    let new = after.routed(&known);
    assert_eq!(after.admit(&new).await, (new.id, Admission::Fresh));
}
