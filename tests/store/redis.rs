//! What can go wrong with Redis and with nothing else: a server that is weak, away, silent or full,
//! and scripts that break off half-way.

use std::{sync::Arc, time::Duration};

use hookonce::{
    clock::SystemClock,
    delivery::Verdict,
    event::{Digest, EventState, NewEvent},
    receipt::Admission,
    store::{Durability, Hold, Prune, Release, Store, StoreError, redis::RedisStore},
};

use redis::{Connection, FromRedisValue, ToRedisArgs};

use super::bench::{Bench, LONG, SHORT};
use crate::redis_server::RedisServer;

impl RedisServer {
    /// Its URL for another user.
    pub(super) fn url_for(&self, user: &str, password: &str) -> String {
        self.url().replace("redis://", &format!("redis://{user}:{password}@"))
    }

    /// A connection beside the store's.
    fn connection(&self) -> Connection {
        self.try_connection().expect("the server answers")
    }

    /// Runs one command beside the store.
    pub(super) fn run<T: FromRedisValue>(&self, command: &[impl ToRedisArgs]) -> T {
        let mut parts = redis::Cmd::new();
        parts.arg(command);
        parts.query(&mut self.connection()).expect("the command runs")
    }

    /// All keys but those that say what the store is.
    fn keys_of_events(&self) -> Vec<Vec<u8>> {
        let mut keys: Vec<Vec<u8>> = self.run(&["KEYS", "h:{h00}*"]);
        keys.retain(|key| !key.starts_with(b"h:{h00}G") && !key.starts_with(b"h:{h00}V"));
        keys
    }

    /// Makes the store as it was before its first event.
    fn remove_events(&self) {
        for key in self.keys_of_events() {
            self.run::<()>(&[b"DEL".as_slice(), &key]);
        }
    }
}

const HANDLERS: [&str; 2] = ["audit", "billing"];

pub(super) async fn bench_at(url: &str) -> Bench {
    let clock = SystemClock::start();
    let store = RedisStore::connect(url, Durability::Always, None, clock.clone()).await;
    Bench::own(Arc::new(store.expect("redis is there")), clock, ())
}

pub(super) async fn refused(url: &str, durability: Durability) -> StoreError {
    RedisStore::connect(url, durability, None, SystemClock::start())
        .await
        .expect_err("it is refused")
}

/// A new event that makes the script write everything it can write.
pub(super) fn rich(bench: &Bench, identity: &str) -> NewEvent {
    let mut event = bench.routed_to(identity, &HANDLERS);
    event.named.digest = Some(Digest::of([identity.as_bytes()]));
    let in_a_batch = bench.batch(&[identity]).remove(0);
    NewEvent { request: in_a_batch.request, headers: in_a_batch.headers, ..event }
}

/// However the first try ended: the provider's retry, under new ids, is a yes, there is one delivery
/// for each handler, and the retry after that is a duplicate.
async fn the_retry_completes_it(bench: &Bench, identity: &str, case: &str) {
    let retry = bench.admit(&rich(bench, identity)).await;
    assert_ne!(retry.1, Admission::Held, "{case}");
    let again = bench.admit(&rich(bench, identity)).await;
    assert_eq!(again, (retry.0, Admission::Duplicate), "{case}");
    let record = bench.record(retry.0).await;
    assert_eq!(record.deliveries.len(), HANDLERS.len(), "{case}");
    assert_eq!(record.row.state, EventState::Open, "{case}");
    assert!(!record.row.resent_under_new_id, "{case}");
    assert_eq!(*record.request_body(), format!("[{identity}]"), "{case}");
    for handler in HANDLERS {
        let claimed = bench.claim(&bench.claim_for(handler, LONG)).await;
        assert_eq!(claimed.deliveries.len(), 1, "{case}: one delivery for {handler}");
        let event = &claimed.deliveries[0].event;
        assert_eq!(event.id, retry.0, "{case}");
        assert!(event.headers.only("x-of-the").is_ok(), "{case}");
        assert_eq!(bench.settle(&claimed.deliveries[0], Verdict::Done).await, Hold::Kept, "{case}");
    }
    assert_eq!(bench.record(retry.0).await.row.state, EventState::Done, "{case}");
}

#[tokio::test]
async fn a_server_that_evicts_is_refused() {
    let server = RedisServer::start_with(&["--maxmemory-policy", "allkeys-lru"]);
    let error = refused(&server.url(), Durability::Relaxed).await.to_string();
    assert!(error.contains("maxmemory-policy is allkeys-lru: events would vanish"), "{error}");
}

#[tokio::test]
async fn a_server_that_syncs_now_and_then_is_too_weak_for_always() {
    let server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    let error = refused(&server.url(), Durability::Always).await;
    assert!(matches!(&error, StoreError::Weak(why) if why.contains("appendfsync")), "{error}");
    let relaxed =
        RedisStore::connect(&server.url(), Durability::Relaxed, None, SystemClock::start()).await;
    relaxed.expect("it is as strong as relaxed asks for").ready().await.expect("and ready");
}

#[tokio::test]
async fn a_server_without_a_file_is_too_weak_for_always() {
    let server = RedisServer::start_with(&["--appendonly", "no", "--appendfsync", "always"]);
    let error = refused(&server.url(), Durability::Always).await;
    assert!(matches!(&error, StoreError::Weak(why) if why.contains("appendonly")), "{error}");
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let server = RedisServer::start();
    server.run::<()>(&["HSET", "h:{h00}V", "schema", "99"]);
    let error = refused(&server.url(), Durability::Always).await;
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
}

#[tokio::test]
async fn a_user_who_may_not_read_the_settings_is_served() {
    let server = RedisServer::start();
    server.run::<()>(&["ACL", "SETUSER", "worker", "on", ">swordfish", "~*", "+@all", "-config"]);
    let bench = bench_at(&server.url_for("worker", "swordfish")).await;
    bench.store.ready().await.expect("it is ready");
    let wrong = refused(&server.url_for("worker", "hunter2"), Durability::Always).await.to_string();
    assert!(!wrong.contains("hunter2"), "{wrong}");
}

/// Each command that a script of the way through uses, forbidden in turn.
const COMMANDS: [&str; 19] = [
    "set",
    "get",
    "hset",
    "hget",
    "hmget",
    "hincrby",
    "zadd",
    "zrem",
    "zrange",
    "zrangebyscore",
    "hstrlen",
    "hlen",
    "time",
    "evalsha",
    "exists",
    "lpush",
    "ltrim",
    "hexists",
    "sadd",
];

#[tokio::test]
async fn an_admission_that_broke_off_at_any_command_is_completed_by_the_retry() {
    let server = RedisServer::start();
    server.run::<()>(&["ACL", "SETUSER", "worker", "on", ">swordfish", "~*", "+@all"]);
    let bench = bench_at(&server.url_for("worker", "swordfish")).await;
    let mut broke_off = 0;
    for command in COMMANDS {
        server.run::<()>(&["ACL", "SETUSER", "worker", &format!("-{command}")]);
        let first = bench.try_admit(&rich(&bench, command), bench.in_time()).await;
        broke_off += u32::from(first.is_err());
        server.run::<()>(&["ACL", "SETUSER", "worker", "+@all"]);
        the_retry_completes_it(&bench, command, command).await;
    }
    assert!(broke_off >= 6, "only {broke_off} commands matter?");
    let total = bench.total().await;
    let cases = u64::try_from(COMMANDS.len()).expect("it is small");
    assert_eq!((total.events, total.done), (cases, 2 * cases), "each was counted once");
    assert_eq!((total.queued, total.leased), (0, 0));
    bench.pass(SHORT).await;
    bench.prune().await;
    for kind in ["e", "R", "S"] {
        let left: Vec<Vec<u8>> = server.run(&["KEYS", &format!("h:{{h00}}{kind}*")]);
        assert!(left.is_empty(), "no request outlives its events: {left:?}");
    }
}

#[tokio::test]
async fn a_prune_that_broke_off_at_any_command_is_completed_by_the_next() {
    let server = RedisServer::start();
    server.run::<()>(&["ACL", "SETUSER", "worker", "on", ">swordfish", "~*", "+@all"]);
    let bench = bench_at(&server.url_for("worker", "swordfish")).await;
    for command in ["get", "set", "hmget", "zrem", "srem", "scard", "del", "hincrby"] {
        let mut event = rich(&bench, command);
        event.deliveries.clear();
        bench.admit(&event).await;
        bench.pass(SHORT).await;
        let now = bench.now();
        let prune = Prune { done_before: now, dead_before: now, held_before: now, now, lot: 10 };
        server.run::<()>(&["ACL", "SETUSER", "worker", &format!("-{command}")]);
        assert!(bench.store.prune(&prune).await.is_err(), "{command}: it matters");
        server.run::<()>(&["ACL", "SETUSER", "worker", "+@all"]);
        assert!(bench.store.prune(&prune).await.is_ok(), "{command}");
        for kind in ["e", "R", "S"] {
            let left: Vec<Vec<u8>> = server.run(&["KEYS", &format!("h:{{h00}}{kind}*")]);
            assert!(left.is_empty(), "{command}: {left:?}");
        }
    }
}

#[tokio::test]
async fn work_that_broke_off_at_any_command_goes_on_and_burns_no_attempt() {
    let server = RedisServer::start();
    server.run::<()>(&["ACL", "SETUSER", "worker", "on", ">swordfish", "~*", "+@all"]);
    let bench = bench_at(&server.url_for("worker", "swordfish")).await;
    for command in COMMANDS {
        bench.queue(command).await;
        server.run::<()>(&["ACL", "SETUSER", "worker", &format!("-{command}")]);
        let claim = bench.claim_for("billing", SHORT);
        let claimed = bench.store.claim(&claim, bench.in_time()).await;
        server.run::<()>(&["ACL", "SETUSER", "worker", "+@all"]);
        let (handler, worker, id) = (claim.handler, claim.worker, claim.id);
        let unheard = Release::Claim { handler, worker, id };
        if claimed.is_ok_and(|claimed| claimed.deliveries.is_empty()) {
            panic!("{command}: the claim says there is nothing");
        }
        bench.store.release(&unheard).await.expect("the server is whole again");
        bench.pass(SHORT).await;
        let leased = bench.take_one(LONG).await;
        assert_eq!(leased.attempt, 1, "{command}: an attempt was burned");

        server.run::<()>(&["ACL", "SETUSER", "worker", &format!("-{command}")]);
        let settlement = bench.settlement(&leased, Verdict::Done);
        let first = bench.store.settle(vec![settlement.clone()]).await.remove(0);
        assert_ne!(first, Ok(Hold::Lost), "{command}");
        server.run::<()>(&["ACL", "SETUSER", "worker", "+@all"]);
        let second = bench.store.settle(vec![settlement]).await.remove(0);
        assert_eq!(second, Ok(Hold::Kept), "{command}");
        assert_eq!(bench.record(leased.event.id).await.row.state, EventState::Done, "{command}");
        assert!(bench.take(LONG).await.is_empty(), "{command}: done is done");
    }
    bench.pass(SHORT).await;
    assert_eq!(bench.prune().await, COMMANDS.len(), "each was known to have ended");
    let total = bench.total().await;
    assert_eq!((total.queued, total.leased, total.dead), (0, 0, 0));
}

#[tokio::test]
async fn an_admission_that_met_a_wrong_type_at_any_key_is_completed_by_the_retry() {
    let server = RedisServer::start();
    let bench = bench_at(&server.url()).await;
    let event = rich(&bench, "evt_1");
    bench.admit(&event).await;
    let keys = server.keys_of_events();
    assert!(keys.len() >= 10, "mark, digest, event, two deliveries, two queues, lists, counters");
    for key in keys {
        let case = String::from_utf8_lossy(&key).into_owned();
        server.remove_events();
        server.run::<()>(&[b"LPUSH".as_slice(), &key, b"planted"]);
        let first = bench.try_admit(&event, bench.in_time()).await;
        assert!(matches!(first, Err(StoreError::Failed(_))), "{case}: {first:?}");
        server.run::<()>(&[b"DEL".as_slice(), &key]);
        the_retry_completes_it(&bench, "evt_1", &case).await;
        let total = bench.total().await;
        assert_eq!((total.events, total.done, total.duplicates), (1, 2, 1), "{case}");
    }
}

#[tokio::test]
async fn one_bad_event_does_not_refuse_its_neighbours() {
    let server = RedisServer::start();
    let bench = bench_at(&server.url()).await;
    server.run::<()>(&["SET", "h:{h00}qaudit", "planted"]);
    let (bad, good) = (bench.routed_to("bad", &["audit"]), bench.routed("good"));
    let answers = bench.store.admit(vec![bad, good.clone()], bench.in_time()).await;
    assert!(matches!(answers[0], Err(StoreError::Failed(_))), "{answers:?}");
    assert_eq!(answers[1], Ok((good.id, Admission::Fresh)));
}

#[tokio::test]
async fn a_full_server_admits_nothing_and_is_drained() {
    let server = RedisServer::start();
    let bench = bench_at(&server.url()).await;
    bench.queue("before").await;
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    let event = rich(&bench, "evt_1");
    let refused = bench.try_admit(&event, bench.in_time()).await;
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    assert!(bench.store.ready().await.is_err(), "a full store is not ready");
    let leased = bench.take_one(LONG).await;
    assert_eq!(bench.settle(&leased, Verdict::Done).await, Hold::Kept);
    bench.pass(SHORT).await;
    assert_eq!(bench.prune().await, 1);
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    the_retry_completes_it(&bench, "evt_1", "full").await;
}

#[tokio::test]
async fn a_server_that_hung_does_not_do_late_what_nobody_waits_for() {
    let server = RedisServer::start();
    let bench = bench_at(&server.url()).await;
    let event = rich(&bench, "evt_1");
    let clock = SystemClock::start();
    server.freeze();
    let answer = bench.try_admit(&event, bench.now().plus(Duration::from_millis(300))).await;
    let took = clock.monotonic();
    server.thaw();
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    assert!(took < Duration::from_millis(950), "the answer was there after {took:?}");
    let claim = bench.claim(&bench.claim_for("billing", LONG)).await;
    assert!(claim.deliveries.is_empty(), "what was late was done");
    assert_eq!(bench.total().await.events, 0);
    the_retry_completes_it(&bench, "evt_1", "hung").await;
}

#[tokio::test]
async fn a_silent_server_keeps_nobody_waiting_and_heals_at_once() {
    let server = RedisServer::start();
    let bench = bench_at(&server.url()).await;
    let clock = SystemClock::start();
    server.freeze();
    for _ in 0..2 {
        let began = clock.monotonic();
        let claim = bench.claim_for("billing", LONG);
        let (claimed, stats, ready) = tokio::join!(
            bench.store.claim(&claim, bench.in_time()),
            bench.store.stats(),
            bench.store.ready(),
        );
        assert!(matches!(claimed, Err(StoreError::Unavailable(_))), "{claimed:?}");
        assert!(stats.is_err() && ready.is_err());
        let took = clock.monotonic().saturating_sub(began);
        assert!(took < Duration::from_millis(950), "they waited {took:?}");
    }
    server.thaw();
    bench.store.ready().await.expect("it is back");
}

#[tokio::test]
async fn a_server_that_was_killed_is_in_use_as_soon_as_it_is_back() {
    let mut server = RedisServer::start();
    let bench = bench_at(&server.url()).await;
    let before = bench.event("evt_1");
    bench.admit(&before).await;
    server.kill();
    let away = bench.try_admit(&rich(&bench, "evt_2"), bench.in_time()).await;
    assert!(matches!(away, Err(StoreError::Unavailable(_))), "{away:?}");
    assert!(bench.store.ready().await.is_err());
    server.restart();
    let again = bench.admit(&bench.event("evt_1")).await;
    assert_eq!(again, (before.id, Admission::Duplicate), "what was answered yes is there");
    the_retry_completes_it(&bench, "evt_2", "killed").await;
}

#[tokio::test]
async fn a_store_may_be_opened_before_its_server() {
    let mut server = RedisServer::start();
    server.kill();
    let bench = bench_at(&server.url()).await;
    assert!(matches!(bench.store.ready().await, Err(StoreError::Unavailable(_))));
    server.restart();
    bench.store.ready().await.expect("it is there now");
    the_retry_completes_it(&bench, "evt_1", "opened before").await;
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_is_told_them_again() {
    let server = RedisServer::start();
    let bench = bench_at(&server.url()).await;
    server.run::<()>(&["SCRIPT", "FLUSH"]);
    bench.admit(&rich(&bench, "evt_1")).await;
    server.run::<()>(&["SCRIPT", "FLUSH"]);
    assert_eq!(bench.take(LONG).await.len(), 1);
}

#[tokio::test]
async fn two_processes_admit_one_identity_once() {
    let server = RedisServer::start();
    let benches = [bench_at(&server.url()).await, bench_at(&server.url()).await];
    for number in 0..50 {
        let identity = format!("evt_{number}");
        let copies = (0..8).map(|copy| {
            let bench = &benches[copy % 2];
            let mut event = bench.routed(&identity);
            // The two benches count by themselves: nothing else keeps their ids apart.
            event.id = hookonce::event::EventId::new(bench.now());
            event.deliveries[0].id = hookonce::delivery::DeliveryId::new(bench.now());
            async move { bench.admit(&event).await }
        });
        let answers = futures_util::future::join_all(copies).await;
        let fresh = answers.iter().filter(|(_, admission)| *admission == Admission::Fresh);
        assert_eq!(fresh.count(), 1, "{answers:?}");
    }
    assert_eq!(benches[0].take(LONG).await.len() + benches[1].take(LONG).await.len(), 50);
}

#[tokio::test]
async fn a_mark_takes_little_once_its_event_is_pruned() {
    let server = RedisServer::start();
    let bench = bench_at(&server.url()).await;
    for (digests, bytes_max) in [(0, 160), (1, 320)] {
        server.remove_events();
        let mut event = bench.event("evt_1");
        event.named.digest = (digests == 1).then(|| Digest::of([b"content".as_slice()]));
        bench.admit(&event).await;
        bench.pass(SHORT).await;
        assert_eq!(bench.prune().await, 1);
        let mut keys = server.keys_of_events();
        keys.retain(|key| !key.ends_with(b"}c"));
        assert_eq!(keys.len(), 1 + digests, "nothing else is left: {keys:?}");
        let (mut bytes, mut lives_ms) = (0_u64, Vec::<i64>::new());
        for key in &keys {
            bytes += server.run::<u64>(&[b"MEMORY".as_slice(), b"USAGE", key]);
            lives_ms.push(server.run(&[b"PTTL".as_slice(), key]));
        }
        println!("{} keys take {bytes} bytes", keys.len());
        assert!(bytes <= bytes_max, "{bytes} bytes");
        let window_ms = i64::try_from(LONG.as_millis()).expect("it is short");
        let left = |ms: &i64| (window_ms - 60_000..=window_ms).contains(ms);
        assert!(lives_ms.iter().all(left), "what remains of the window, not {lives_ms:?}");
    }
}

#[tokio::test]
async fn a_store_that_is_dropped_leaves_no_connection() {
    let server = RedisServer::start();
    let bench = bench_at(&server.url()).await;
    bench.admit(&rich(&bench, "evt_1")).await;
    drop(bench);
    for _ in 0..500 {
        let clients: String = server.run(&["CLIENT", "LIST"]);
        if clients.lines().count() == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a connection is still open");
}
