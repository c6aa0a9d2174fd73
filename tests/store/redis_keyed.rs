//! What can go wrong with keyed requests on Redis and nowhere else: scripts that break off, a server
//! that is full, expiries.

use std::time::Duration;

use hookonce::{
    idempotency::once::{Consumer, Once, OnceError},
    key::KeyState,
    store::{
        Hold, StoreError,
        keys::{Begin, Begun, KeyCounts, KeyFilter, OnUnknown, Resolution, Resolved},
    },
};

use super::{
    bench::{Bench, LONG, SHORT},
    keys::{abandon, begin, begin_of, complete, extend, mark_unknown, resolve, start, told},
    redis::bench_at,
};
use crate::redis_server::RedisServer;

/// Each command that a script about keys uses, forbidden in turn.
const COMMANDS: [&str; 12] = [
    "get",
    "set",
    "del",
    "hset",
    "hget",
    "hmget",
    "hincrby",
    "zadd",
    "zrem",
    "sadd",
    "pexpireat",
    "time",
];

/// A server, and a store on it as a user whose commands can be forbidden.
async fn restricted() -> (RedisServer, Bench) {
    let server = RedisServer::start();
    server.run::<()>(&["ACL", "SETUSER", "worker", "on", ">swordfish", "~*", "+@all"]);
    let bench = bench_at(&server.url_for("worker", "swordfish")).await;
    (server, bench)
}

fn forbid(server: &RedisServer, command: &str) {
    server.run::<()>(&["ACL", "SETUSER", "worker", &format!("-{command}")]);
}

fn allow_all(server: &RedisServer) {
    server.run::<()>(&["ACL", "SETUSER", "worker", "+@all"]);
}

/// What is in the lists and the gauges is what is there.
async fn all_is_tidy(bench: &Bench, wanted: KeyCounts, listed: usize) {
    bench.prune().await;
    let counts = bench.store.key_counts().await.expect("the store counts");
    assert_eq!(counts.get("payments").copied().unwrap_or_default(), wanted);
    let all = KeyFilter { limit: 1000, ..KeyFilter::default() };
    assert_eq!(bench.store.keys(&all).await.expect("the store lists").len(), listed);
}

#[tokio::test]
async fn work_that_broke_off_at_any_command_is_completed_by_the_same_calls_again() {
    let (server, bench) = restricted().await;
    let mut broke_off = 0;
    for command in COMMANDS {
        let first = begin_of(&bench, command);
        forbid(&server, command);
        broke_off += u32::from(bench.store.begin(&first, bench.in_time()).await.is_err());
        allow_all(&server);
        assert_eq!(begin(&bench, &first).await, Begun::Started, "{command}");
        let other = begin(&bench, &begin_of(&bench, command)).await;
        assert!(matches!(other, Begun::InFlight { .. }), "{command}: {other:?}");

        forbid(&server, command);
        let id = first.scope.id();
        let answer = super::keys::response("done");
        let completed = bench.store.complete(id, first.owner, &answer, LONG).await;
        assert_ne!(completed, Ok(Hold::Lost), "{command}");
        allow_all(&server);
        assert_eq!(complete(&bench, &first, "done", LONG).await, Hold::Kept, "{command}");
        let again = told(&bench, command).await;
        assert_eq!(again.as_deref(), Some(b"done".as_slice()), "{command}");
    }
    assert!(broke_off >= 6, "only {broke_off} commands matter?");
    all_is_tidy(&bench, KeyCounts::default(), COMMANDS.len()).await;
}

#[tokio::test]
async fn a_key_that_was_freed_half_is_free() {
    let (server, bench) = restricted().await;
    for command in COMMANDS {
        let first = start(&bench, command).await;
        forbid(&server, command);
        let abandoned = bench.store.abandon(first.scope.id(), first.owner).await;
        assert_ne!(abandoned, Ok(Hold::Lost), "{command}");
        allow_all(&server);
        assert_eq!(abandon(&bench, &first).await, Hold::Kept, "{command}");
        assert_eq!(bench.store.key(first.scope.id()).await, Ok(None), "{command}");
    }
    start(&bench, "one").await;
    bench.pass(SHORT).await;
    all_is_tidy(&bench, KeyCounts { in_progress: 1, unknown: 0 }, 1).await;
}

#[tokio::test]
async fn a_takeover_that_broke_off_leaves_one_owner() {
    let (server, bench) = restricted().await;
    for command in COMMANDS {
        let first = start(&bench, command).await;
        assert_eq!(mark_unknown(&bench, &first).await, Hold::Kept);
        let retry = Begin { on_unknown: OnUnknown::Retry, ..begin_of(&bench, command) };
        forbid(&server, command);
        let begun = bench.store.begin(&retry, bench.in_time()).await;
        allow_all(&server);
        assert!(!matches!(begun, Ok(Begun::Unknown { .. })), "{command}: {begun:?}");
        assert_eq!(begin(&bench, &retry).await, Begun::Started, "{command}");
        assert_eq!(complete(&bench, &first, "late", LONG).await, Hold::Lost, "{command}");
        assert_eq!(complete(&bench, &retry, "done", LONG).await, Hold::Kept, "{command}");
    }
    all_is_tidy(&bench, KeyCounts::default(), COMMANDS.len()).await;
}

#[tokio::test]
async fn a_full_server_begins_nothing_and_ends_what_was_begun() {
    let server = RedisServer::start();
    let bench = bench_at(&server.url()).await;
    let (first, second, third) =
        (start(&bench, "k1").await, start(&bench, "k2").await, start(&bench, "k3").await);
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    let refused = bench.store.begin(&begin_of(&bench, "k4"), bench.in_time()).await;
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    assert_eq!(extend(&bench, &first, LONG).await, Hold::Kept);
    assert_eq!(complete(&bench, &first, "done", LONG).await, Hold::Kept);
    assert_eq!(abandon(&bench, &second).await, Hold::Kept);
    assert_eq!(mark_unknown(&bench, &third).await, Hold::Kept);
    let freed = resolve(&bench, third.scope.id(), &Resolution::Free).await;
    assert_eq!(freed, Resolved::Done);
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    start(&bench, "k4").await;
}

#[tokio::test]
async fn a_server_that_hung_does_not_begin_late_what_nobody_waits_for() {
    let server = RedisServer::start();
    let bench = bench_at(&server.url()).await;
    let first = begin_of(&bench, "k1");
    server.freeze();
    let answer = bench.store.begin(&first, bench.now().plus(Duration::from_millis(300))).await;
    server.thaw();
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    start(&bench, "k1").await; // which also waits for what the server has still to do
    assert_eq!(complete(&bench, &first, "forged", LONG).await, Hold::Lost);
}

#[tokio::test]
async fn a_consumer_that_could_not_begin_leaves_its_key_free() {
    let server = RedisServer::start();
    let bench = bench_at(&server.url()).await;
    let orders = Consumer::new("orders", bench.store.clone(), bench.clock());
    let work = || async { Ok::<u32, std::io::Error>(1) };
    server.freeze();
    let thaw = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        server.thaw();
    };
    let (refused, ()) = tokio::join!(orders.once("m1", LONG, work()), thaw);
    assert!(matches!(refused, Err(OnceError::Store(_))), "{refused:?}");
    let done = orders.once("m1", LONG, work()).await.expect("the server is back");
    assert_eq!(done, Once::Done(1));
}

#[tokio::test]
async fn a_key_expires_once_it_is_completed_and_never_before() {
    let server = RedisServer::start();
    let bench = bench_at(&server.url()).await;
    let expiries = || {
        let keys: Vec<Vec<u8>> = server.run(&["KEYS", "h:{*"]);
        let ttl = |key: &Vec<u8>| server.run::<i64>(&[b"PTTL".as_slice(), key]);
        keys.iter().filter(|key| ttl(key) != -1).count()
    };
    let first = start(&bench, "k1").await;
    assert_eq!(expiries(), 0, "in progress");
    assert_eq!(extend(&bench, &first, LONG).await, Hold::Kept);
    assert_eq!(mark_unknown(&bench, &first).await, Hold::Kept);
    assert_eq!(expiries(), 0, "unknown");
    assert_eq!(complete(&bench, &first, "done", SHORT * 4).await, Hold::Kept);
    assert_eq!(expiries(), 2, "the key, and the answer beside it");
    bench.pass(SHORT * 4).await;
    assert_eq!(expiries(), 0, "both are over");
    let anew = start(&bench, "k1").await;
    assert_eq!(expiries(), 0, "begun anew");
    let shown = bench.store.key(anew.scope.id()).await.expect("the store reads");
    assert_eq!(shown.map(|key| key.state), Some(KeyState::InProgress));
}

#[tokio::test]
async fn two_processes_begin_one_key_once() {
    let server = RedisServer::start();
    let (one, other) = (bench_at(&server.url()).await, bench_at(&server.url()).await);
    let begins = (0..200_u128).map(|number| {
        let bench = if number % 2 == 0 { &one } else { &other };
        let owner = uuid::Uuid::from_u128(number + 1);
        let wish = Begin { owner, ..begin_of(bench, &format!("k{}", number / 20)) };
        async move { begin(bench, &wish).await }
    });
    let answers = futures_util::future::join_all(begins).await;
    assert_eq!(answers.iter().filter(|answer| **answer == Begun::Started).count(), 10);
}
