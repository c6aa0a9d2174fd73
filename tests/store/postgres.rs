//! What can go wrong with Postgres and with nothing else: a server that is weak, away, silent or full,
//! connections that are cut, transactions that stand in each other's way.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use hookonce::{
    clock::SystemClock,
    delivery::{DeliveryId, Verdict},
    event::{Digest, EventId, EventState, NewEvent},
    receipt::Admission,
    store::{
        Hold, StoreError,
        postgres::{Migrated, PostgresStore, migrate},
    },
};
use tokio_postgres::{Client, NoTls};

use super::bench::{Bench, LONG, SHORT};
use crate::postgres_server::PostgresServer;

pub(super) async fn bench_at(url: &str) -> Bench {
    let clock = SystemClock::start();
    let store = PostgresStore::connect(url, None, clock.clone()).await;
    Bench::own(Arc::new(store.expect("postgres is there")), clock, ())
}

async fn refused(url: &str) -> StoreError {
    PostgresStore::connect(url, None, SystemClock::start()).await.expect_err("it is refused")
}

/// A new event under ids that no other bench has.
fn anew(bench: &Bench, identity: &str) -> NewEvent {
    let mut event = bench.routed(identity);
    event.named.digest = Some(Digest::of([identity.as_bytes()]));
    event.id = EventId::new(bench.now());
    event.deliveries[0].id = DeliveryId::new(bench.now());
    event
}

/// However the first try ended: the provider's retry, under new ids, is a yes, there is one delivery,
/// and the retry after that is a duplicate.
async fn the_retry_completes_it(bench: &Bench, identity: &str) {
    let retry = bench.admit(&anew(bench, identity)).await;
    assert_ne!(retry.1, Admission::Held);
    let again = bench.admit(&anew(bench, identity)).await;
    assert_eq!(again, (retry.0, Admission::Duplicate));
    let record = bench.record(retry.0).await;
    assert_eq!(record.deliveries.len(), 1);
    assert_eq!(record.row.state, EventState::Open);
    assert!(!record.row.resent_under_new_id);
    let leased = bench.take_one(LONG).await;
    assert_eq!(leased.event.id, retry.0);
    assert_eq!(bench.settle(&leased, Verdict::Done).await, Hold::Kept);
}

#[tokio::test]
async fn a_server_that_does_not_sync_is_refused() {
    let server = PostgresServer::start(&["fsync=off"]);
    let error = refused(&server.database()).await;
    assert!(matches!(&error, StoreError::Weak(why) if why.contains("fsync is off")), "{error}");
}

#[tokio::test]
async fn a_weak_default_does_not_weaken_a_commit() {
    let url = PostgresServer::shared().database();
    let server = PostgresServer::shared();
    let name = server.run(&url, "SELECT current_database()");
    for weak in [
        "synchronous_commit = off",
        "default_transaction_isolation = serializable",
        "default_transaction_read_only = on",
    ] {
        server.run(&server.url("postgres"), &format!("ALTER DATABASE {name} SET {weak}"));
    }
    // Making the schema is its owner's business, and not to be done in a database made read-only.
    let writable = format!("{url}&options=-c%20default_transaction_read_only%3Doff");
    drop(bench_at(&writable).await);
    let bench = bench_at(&url).await;
    the_retry_completes_it(&bench, "evt_1").await;
}

#[tokio::test]
async fn a_password_is_shown_nowhere() {
    let server = PostgresServer::shared();
    let url = server.database().replace("postgres@", "nobody:swordfish@");
    let error = refused(&url).await;
    assert!(matches!(error, StoreError::Failed(_)), "{error}");
    assert!(!format!("{error:?} {error}").contains("swordfish"), "{error:?}");
}

#[tokio::test]
async fn sslmode_says_who_is_believed() {
    let (server, certificate) = PostgresServer::start_with_tls();
    let plain = server.database();
    let with = |host: &str, query: &str| {
        plain.replace("127.0.0.1", host).replace("sslmode=disable", query)
    };
    let checked = format!("sslmode=verify-full&sslrootcert={certificate}");
    for (url, encrypted) in [
        (with("127.0.0.1", "sslmode=disable"), "f"),
        (with("127.0.0.1", "sslmode=prefer"), "t"),
        (with("127.0.0.1", "sslmode=require"), "t"),
        (with("localhost", &checked), "t"),
    ] {
        let bench = bench_at(&url).await;
        bench.store.ready().await.unwrap_or_else(|error| panic!("{url}: {error}"));
        let ours = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
            WHERE application_name = 'hookonce'";
        assert_eq!(server.run(&plain, ours), encrypted, "{url}");
        drop(bench);
        wait_for(&server, &plain, "application_name = 'hookonce'", 0).await;
    }
    for url in [with("127.0.0.1", &checked), with("localhost", "sslmode=verify-full")] {
        let error = bench_at(&url).await.store.ready().await.expect_err("it is somebody else");
        assert!(error.to_string().contains("certificate"), "{url}: {error}");
    }
}

#[tokio::test]
async fn an_older_schema_waits_for_its_migration_and_a_newer_one_is_refused() {
    let server = PostgresServer::shared();
    let url = server.database();
    let version_1 = format!(
        "CREATE SCHEMA hookonce; SET search_path = hookonce;
         CREATE TABLE schema_version (version bigint); INSERT INTO schema_version VALUES (1);
         {}",
        include_str!("../../src/store/postgres/schema.sql")
    );
    server.run(&url, &version_1);
    let error = refused(&url).await;
    assert!(error.to_string().contains("run `hookonce migrate`"), "{error}");
    let both = tokio::join!(migrate(&url), migrate(&url));
    let mut from = [both.0, both.1].map(|migrated| migrated.expect("it migrates").from);
    from.sort_unstable();
    let known = migrate(&url).await.expect("there is nothing to do").to;
    assert_eq!(from, [Some(1), Some(known)], "one does it, the other finds it done");
    the_retry_completes_it(&bench_at(&url).await, "evt_1").await;

    server.run(&url, "UPDATE hookonce.schema_version SET version = 99");
    let newer = StoreError::Newer { found: 99, known };
    assert_eq!(refused(&url).await, newer);
    assert_eq!(migrate(&url).await, Err(newer));
}

#[tokio::test]
async fn a_fresh_database_needs_no_migration() {
    let url = PostgresServer::shared().database();
    let stores = join_all((0..4).map(|_| bench_at(&url))).await; // all at once
    the_retry_completes_it(&stores[3], "evt_1").await;
    let migrated = migrate(&url).await.expect("there is nothing to do");
    assert_eq!(migrated, Migrated { from: Some(migrated.to), to: migrated.to });
}

#[tokio::test]
async fn text_that_postgres_does_not_take_comes_back_as_it_was() {
    let database = PostgresServer::shared_database();
    let bench = bench_at(&database.url).await;
    let mut event = bench.routed("a\0b\\0c");
    event.named.event_type = Some("nul\0.type".to_owned());
    event.retry_marker = Some("\\\0".to_owned());
    event.query = "a=\0".to_owned();
    bench.admit(&event).await;
    let leased = bench.take_one(LONG).await;
    assert_eq!(leased.event.event_id.as_deref(), Some("a\0b\\0c"));
    assert_eq!(leased.event.event_type, event.named.event_type);
    assert_eq!(leased.event.retry_marker, event.retry_marker);
    assert_eq!(leased.event.query, event.query);
    let mut settlement = bench.settlement(&leased, Verdict::Dead);
    settlement.attempt.excerpt = Some("said\0the handler".to_owned());
    bench.store.settle(vec![settlement.clone()]).await.remove(0).expect("the store settles");
    let attempts = bench.store.attempts(leased.lease.delivery).await.expect("the store reads");
    assert_eq!(attempts, [settlement.attempt]);
}

#[tokio::test]
async fn one_bad_event_does_not_refuse_its_neighbours() {
    let database = PostgresServer::shared_database();
    let bench = bench_at(&database.url).await;
    let (good, mut bad) = (bench.routed("good"), bench.routed("bad"));
    bad.deliveries.push(bad.deliveries[0].clone()); // the same id twice
    let other = bench.routed("other");
    let all = vec![good.clone(), bad.clone(), other.clone()];
    let answers = bench.store.admit(all, bench.in_time()).await;
    assert_eq!(answers[0], Ok((good.id, Admission::Fresh)));
    assert!(matches!(answers[1], Err(StoreError::Failed(_))), "{answers:?}");
    assert_eq!(answers[2], Ok((other.id, Admission::Fresh)));
    bad.deliveries.pop();
    assert_eq!(bench.admit(&bad).await, (bad.id, Admission::Fresh), "it left no mark");
}

#[tokio::test]
async fn crossing_batches_of_two_processes_do_not_deadlock() {
    let database = PostgresServer::shared_database();
    let benches = [bench_at(&database.url).await, bench_at(&database.url).await];
    for round in 0..20 {
        let batch = |bench: &Bench, backwards: bool| {
            let mut batch: Vec<_> =
                (0..50).map(|number| anew(bench, &format!("evt_{round}_{number}"))).collect();
            if backwards {
                batch.reverse();
            }
            batch
        };
        let clock = SystemClock::start();
        let admitted = join_all((0..6).map(|copy| {
            let bench = &benches[copy % 2];
            bench.store.admit(batch(bench, copy % 3 == 0), bench.in_time())
        }))
        .await;
        assert!(clock.monotonic() < Duration::from_secs(2), "round {round} took {clock:?}");
        let all: Vec<_> = admitted.into_iter().flatten().map(|one| one.expect("a yes")).collect();
        let fresh = all.iter().filter(|(_, admission)| *admission == Admission::Fresh).count();
        assert_eq!((all.len(), fresh), (300, 50), "round {round}");
    }
    let total = benches[0].total().await;
    assert_eq!((total.events, total.duplicates, total.queued), (1000, 5000, 1000));
}

#[tokio::test]
async fn a_mark_that_another_transaction_holds_delays_nobody_else() {
    let server = PostgresServer::shared();
    let database = PostgresServer::shared_database();
    let bench = bench_at(&database.url).await;
    let (held, free) = (anew(&bench, "held"), anew(&bench, "free"));
    bench.admit(&held).await;
    // As another process would that hangs between deleting the mark and its commit.
    let url = database.url.clone();
    let hold = std::thread::spawn(move || {
        server.run(&url, "BEGIN; DELETE FROM hookonce.marks; SELECT pg_sleep(2); ROLLBACK")
    });
    wait_for(server, &database.url, "state = 'active' AND query LIKE '%pg_sleep(2)%'", 1).await;
    let copy = anew(&bench, "held");
    let answers = bench.store.admit(vec![copy, free.clone()], bench.in_time()).await;
    assert!(matches!(answers[0], Err(StoreError::Unavailable(_))), "{answers:?}");
    assert_eq!(answers[1], Ok((free.id, Admission::Fresh)));
    hold.join().expect("it slept");
    let again = bench.admit(&anew(&bench, "held")).await;
    assert_eq!(again, (held.id, Admission::Duplicate));
}

/// Waits until so many of the server's sessions in this database fit.
pub(super) async fn wait_for(server: &PostgresServer, url: &str, fit: &str, wanted: usize) {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND {fit}"
    );
    for _ in 0..200 {
        if server.run(url, &sql) == wanted.to_string() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("there are not {wanted} sessions with {fit}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_cut_at_random_lose_nothing_and_run_nothing_twice() {
    const EVENTS: usize = 150;
    let server = PostgresServer::shared();
    let database = PostgresServer::shared_database();
    let bench = bench_at(&database.url).await;
    let (url, over) = (database.url.clone(), Arc::new(AtomicBool::new(false)));
    let told = Arc::clone(&over);
    let cutting = std::thread::spawn(move || {
        let mut cut = 0;
        while !told.load(Ordering::SeqCst) {
            let one = "SELECT count(pg_terminate_backend(pid)) FROM (
                SELECT pid FROM pg_stat_activity WHERE application_name = 'hookonce'
                    AND datname = current_database() ORDER BY random() LIMIT 1) AS one";
            cut += server.run(&url, one).parse::<u32>().expect("a number");
            std::thread::sleep(Duration::from_millis(5));
        }
        cut
    });
    let admit_until_yes = |number: usize| {
        let bench = &bench;
        async move {
            let mut fresh = 0;
            loop {
                // As a provider does: the same event under ids of ours that are new each time.
                let event = anew(bench, &format!("evt_{number}"));
                match bench.try_admit(&event, bench.in_time()).await {
                    Ok((_, Admission::Fresh)) => fresh += 1,
                    Ok(_) => return fresh,
                    Err(StoreError::Unavailable(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    for first in (0..EVENTS).step_by(10) {
        let fresh = join_all((first..first + 10).map(admit_until_yes)).await;
        assert!(fresh.iter().all(|fresh| *fresh <= 1), "{fresh:?}");
    }
    over.store(true, Ordering::SeqCst);
    let cut = cutting.join().expect("nobody panicked");
    assert!(cut > 10, "only {cut} connections were cut");
    let mut seen = std::collections::BTreeSet::new();
    while let Some(leased) = {
        bench.pass(SHORT).await;
        let taken = bench.store.claim(&bench.claim_for("billing", LONG), bench.in_time()).await;
        Some(taken.map(|taken| taken.deliveries).unwrap_or_default()).filter(|got| !got.is_empty())
    } {
        for leased in leased {
            assert!(seen.insert(leased.event.event_id.clone()), "{leased:?} came twice");
            assert_eq!(bench.settle(&leased, Verdict::Done).await, Hold::Kept);
        }
    }
    assert_eq!(seen.len(), EVENTS);
    let total = bench.total().await;
    assert_eq!((total.events, total.done), (150, 150));
}

#[tokio::test]
async fn a_server_that_hung_does_not_do_late_what_nobody_waits_for() {
    let server = PostgresServer::start(&[]);
    let bench = bench_at(&server.database()).await;
    bench.admit(&anew(&bench, "before")).await; // both intake connections may be open or not
    bench.take_one(LONG).await;
    let event = anew(&bench, "evt_1");
    let clock = SystemClock::start();
    server.freeze();
    let claim = bench.claim_for("billing", LONG);
    let (answer, claimed, ready) = tokio::join!(
        bench.try_admit(&event, bench.now().plus(Duration::from_millis(300))),
        bench.store.claim(&claim, bench.in_time()),
        bench.store.ready(),
    );
    let took = clock.monotonic();
    server.thaw();
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    assert!(matches!(claimed, Err(StoreError::Unavailable(_))), "{claimed:?}");
    assert!(ready.is_err());
    assert!(took < Duration::from_millis(1200), "the answers were there after {took:?}");
    bench.store.ready().await.expect("it is back");
    assert!(bench.take(LONG).await.is_empty(), "what was late was done");
    assert_eq!(bench.total().await.events, 1);
    the_retry_completes_it(&bench, "evt_1").await;
}

#[tokio::test]
async fn a_server_that_was_killed_is_in_use_as_soon_as_it_is_back() {
    let server = PostgresServer::start(&[]);
    let bench = bench_at(&server.database()).await;
    let before = bench.event("evt_1");
    bench.admit(&before).await;
    server.kill();
    let away = bench.try_admit(&anew(&bench, "evt_2"), bench.in_time()).await;
    assert!(matches!(away, Err(StoreError::Unavailable(_))), "{away:?}");
    assert!(bench.store.ready().await.is_err());
    server.restart();
    let again = bench.admit(&bench.event("evt_1")).await;
    assert_eq!(again, (before.id, Admission::Duplicate), "what was answered yes is there");
    the_retry_completes_it(&bench, "evt_2").await;
}

#[tokio::test]
async fn a_store_may_be_opened_before_its_server() {
    let server = PostgresServer::start(&[]);
    let url = server.database();
    server.kill();
    let bench = bench_at(&url).await;
    assert!(matches!(bench.store.ready().await, Err(StoreError::Unavailable(_))));
    server.restart();
    bench.store.ready().await.expect("it is there now");
    the_retry_completes_it(&bench, "evt_1").await;
}

#[tokio::test]
async fn a_server_without_a_free_connection_is_full_and_heals() {
    let server = PostgresServer::start(&["max_connections=8", "superuser_reserved_connections=0"]);
    let url = server.database();
    let others = take_connections(&url, 8).await;
    let bench = bench_at(&url).await;
    let refused = bench.try_admit(&anew(&bench, "evt_1"), bench.in_time()).await;
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    drop(others);
    while !matches!(bench.store.ready().await, Ok(())) {
        tokio::time::sleep(Duration::from_millis(20)).await; // until the others have hung up
    }
    the_retry_completes_it(&bench, "evt_1").await;
}

/// A session beside the store's, which ends when it is dropped.
#[expect(
    clippy::disallowed_methods,
    reason = "it ends with its client, and holds nothing to wait for"
)]
pub(super) async fn session(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    drop(tokio::spawn(connection));
    Ok(client)
}

/// That many connections; each ends when its client is dropped. One that is refused is asked for again: whoever was
/// connected before may still be on the way out.
async fn take_connections(url: &str, number: usize) -> Vec<Client> {
    let mut taken = Vec::new();
    while taken.len() < number {
        match session(url).await {
            Ok(client) => taken.push(client),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    taken
}

#[tokio::test]
async fn a_long_transaction_elsewhere_does_not_slow_the_queue() {
    const EVENTS: usize = 20_000;
    let server = PostgresServer::shared();
    let database = PostgresServer::shared_database();
    let bench = bench_at(&database.url).await;
    let idle = server.idle_in_transaction(&database.url);
    wait_for(
        server,
        &database.url,
        "state = 'idle in transaction' AND backend_xmin IS NOT NULL",
        1,
    )
    .await;
    let clock = SystemClock::start();
    let (mut lap, mut first, mut last) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for lot in 0..EVENTS / 1000 {
        let events = (0..1000).map(|number| anew(&bench, &format!("evt_{lot}_{number}"))).collect();
        for admitted in bench.store.admit(events, bench.in_time()).await {
            admitted.expect("the store admits");
        }
        loop {
            let began = clock.monotonic();
            let leased = bench.take(LONG).await;
            if leased.is_empty() {
                break;
            }
            let settled = leased.iter().map(|leased| bench.settlement(leased, Verdict::Done));
            for hold in bench.store.settle(settled.collect()).await {
                assert_eq!(hold, Ok(Hold::Kept));
            }
            last = clock.monotonic().saturating_sub(began);
            lap = lap.max(last);
        }
        if lot == 0 {
            first = clock.monotonic();
        }
    }
    let mean = clock.monotonic() / u32::try_from(EVENTS / 1000).expect("it is small");
    println!("first lot {first:?}, mean {mean:?}, longest claim and settle {lap:?}, last {last:?}");
    drop(idle);
    assert!(mean < first * 3, "a thousand took {first:?} at first, and {mean:?} on average");
    let total = bench.total().await;
    assert_eq!((total.done, total.queued, total.leased), (20_000, 0, 0));
}

#[tokio::test]
async fn pruning_does_not_stall_intake() {
    let database = PostgresServer::shared_database();
    let bench = bench_at(&database.url).await;
    for lot in 0..4 {
        let events = (0..500).map(|number| bench.event(&format!("old_{lot}_{number}"))).collect();
        for admitted in bench.store.admit(events, bench.in_time()).await {
            admitted.expect("the store admits");
        }
    }
    bench.pass(SHORT).await;
    let now = bench.now();
    let prune = hookonce::store::Prune {
        done_before: now,
        dead_before: now,
        held_before: now,
        now,
        lot: hookonce::limits::PRUNE_LOT,
    };
    let pruning = async {
        let mut pruned = 0;
        while pruned < 2000 {
            pruned += bench.store.prune(&prune).await.expect("the store prunes");
        }
        pruned
    };
    let clock = SystemClock::start();
    let intake = async {
        let mut slowest = Duration::ZERO;
        for number in 0..100 {
            let began = clock.monotonic();
            bench.admit(&anew(&bench, &format!("new_{number}"))).await;
            slowest = slowest.max(clock.monotonic().saturating_sub(began));
        }
        slowest
    };
    let (pruned, slowest) = tokio::join!(pruning, intake);
    println!("slowest admit beside pruning: {slowest:?}");
    assert_eq!(pruned, 2000);
    assert!(slowest < Duration::from_millis(500), "an admit took {slowest:?}");
    let again = bench.admit(&bench.event("old_0_0")).await;
    assert_eq!(again.1, Admission::Duplicate, "marks outlive their events");
}

#[tokio::test]
async fn a_store_that_is_dropped_leaves_no_connection() {
    let server = PostgresServer::shared();
    let database = PostgresServer::shared_database();
    let bench = bench_at(&database.url).await;
    the_retry_completes_it(&bench, "evt_1").await;
    drop(bench);
    wait_for(server, &database.url, "application_name = 'hookonce'", 0).await;
}

/// A store that remembers in `folder` what it saw, as a server does.
async fn bench_in(folder: &Path, url: &str) -> Bench {
    let clock = SystemClock::start();
    let store = PostgresStore::connect(url, Some(folder), clock.clone()).await;
    Bench::own(Arc::new(store.expect("it may have lost something, and opens")), clock, ())
}

async fn is_forgotten(bench: &Bench) -> bool {
    // The first call after a database has gone may only find that its connection has.
    while let Err(StoreError::Unavailable(_)) = bench.store.ready().await {}
    let admitted = bench.try_admit(&anew(bench, "evt_1"), bench.in_time()).await;
    let ready = bench.store.ready().await;
    match (&admitted, &ready) {
        (Err(StoreError::Forgotten(_)), Err(StoreError::Forgotten(_))) => true,
        (Ok(_), Ok(())) => false,
        _ => panic!("{admitted:?} and {ready:?}"),
    }
}

/// Runs SQL about a database from beside it, as soon as that can be done.
async fn from_beside(server: &PostgresServer, sql: &str) {
    while server.try_run(&server.url("postgres"), sql).is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_database_that_was_emptied_is_not_used_until_a_person_says_so() {
    let server = PostgresServer::shared();
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    from_beside(server, "CREATE DATABASE emptied").await;
    let url = server.url("emptied");
    let benches = [bench_in(folder.path(), &url).await, bench_in(other.path(), &url).await];
    benches[0].admit(&anew(&benches[0], "evt_1")).await;
    from_beside(server, "DROP DATABASE emptied WITH (FORCE)").await;
    from_beside(server, "CREATE DATABASE emptied").await;
    for bench in &benches {
        assert!(is_forgotten(bench).await, "it was used, and would run its events again");
    }
    let restarted = bench_in(folder.path(), &url).await;
    assert!(is_forgotten(&restarted).await, "a restart has forgotten it too");

    assert_eq!(restarted.store.accept().await, Ok(1));
    assert_eq!(restarted.store.accept().await, Ok(0), "there is nothing left to accept");
    for bench in benches.iter().chain([&restarted]) {
        assert!(!is_forgotten(bench).await, "the others follow");
    }
}

#[tokio::test]
async fn an_old_snapshot_put_back_is_not_used_until_a_person_says_so() {
    let server = PostgresServer::shared();
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    from_beside(server, "CREATE DATABASE restored").await;
    let url = server.url("restored");
    drop(bench_in(folder.path(), &url).await);
    from_beside(server, "CREATE DATABASE snapshot TEMPLATE restored").await;
    // As it does by itself within five seconds.
    server.run(&url, "UPDATE hookonce.generations SET counter = counter + 1");
    let benches = [bench_in(folder.path(), &url).await, bench_in(other.path(), &url).await];
    for bench in &benches {
        assert!(!is_forgotten(bench).await);
    }
    from_beside(server, "DROP DATABASE restored WITH (FORCE)").await;
    from_beside(server, "ALTER DATABASE snapshot RENAME TO restored").await;
    for bench in &benches {
        assert!(is_forgotten(bench).await, "what came since would be admitted again");
    }
    assert_eq!(benches[0].store.accept().await, Ok(1));
    for bench in &benches {
        assert!(!is_forgotten(bench).await, "the other follows");
    }
}
