//! kill -9 under load: what was acknowledged is handled, and what was done does not run again (P1, P4, P5).

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hookonce::{
    clock::{SystemClock, Timestamp},
    event::{EventId, Identity, Named, NewEvent, ReplayGuard},
    request::Headers,
    store::{self, Durability},
};

use crate::{
    exactly_once::config,
    postgres_server::PostgresServer,
    redis_server::RedisServer,
    support::{
        alone,
        program::{Program, Setup},
        sender::{Connection, Sender},
        sink::{Behaviour, Sink},
        until,
    },
};

const KILLS: usize = 20;
const CONNECTIONS: usize = 16;
/// As configured: so many attempts may be cut off by one kill.
const CONCURRENCY: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_under_load_lose_nothing_on_sqlite_with_a_hundred_thousand_events_stored() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let sink = slow_sink();
    let setup = Setup::new(folder.path(), &config("sqlite:hookonce.db", &sink));
    let stored = 100_000;
    fill(&setup, stored).await;
    let acknowledged = kill_under_load(&setup, Duration::from_secs(1)).await;
    check(&setup, &sink, &acknowledged, stored).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_under_load_lose_nothing_on_redis() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let (redis, sink) = (RedisServer::start(), slow_sink());
    let config = format!("{}\n[workers]\nlease = \"2s\"\n", config(&redis.url(), &sink));
    let setup = Setup::new(folder.path(), &config);
    let acknowledged = kill_under_load(&setup, Duration::from_secs(1)).await;
    check(&setup, &sink, &acknowledged, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_under_load_lose_nothing_on_postgres() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let (postgres, sink) = (PostgresServer::start(&[]), slow_sink());
    let config = format!("{}\n[workers]\nlease = \"2s\"\n", config(&postgres.database(), &sink));
    let setup = Setup::new(folder.path(), &config);
    let acknowledged = kill_under_load(&setup, Duration::from_secs(1)).await;
    check(&setup, &sink, &acknowledged, 0).await;
}

/// A handler that takes long enough for kills to hit attempts in progress.
fn slow_sink() -> Sink {
    Sink::behaving(|_| Behaviour::Slow(Duration::from_millis(20)))
}

/// Stores events that nobody wants, as a long life would leave them.
async fn fill(setup: &Setup, count: usize) {
    std::fs::create_dir_all(setup.data_dir()).unwrap();
    let clock = SystemClock::start();
    let url = format!("sqlite:{}", setup.data_dir().join("hookonce.db").display());
    let store = store::connect(&url, Durability::Always, None, &clock).await.unwrap();
    let headers = Arc::new(Headers::default());
    for lot in 0..count / 1000 {
        let now = clock.now();
        let stored = |number: usize| NewEvent {
            id: EventId::new(now),
            source: Arc::from("before"),
            named: Named {
                event_id: None,
                event_type: None,
                identity: Some(Identity::of([format!("{lot}-{number}").as_str()])),
                digest: None,
                body: bytes::Bytes::from(vec![b'x'; 500]),
            },
            replay_guard: ReplayGuard::Flag,
            window: Duration::from_hours(24 * 7),
            received_at: now,
            shadow: false,
            retry_marker: None,
            query: String::new(),
            headers: Arc::clone(&headers),
            request: None,
            deliveries: Vec::new(),
        };
        let events = (0..1000).map(stored).collect();
        for admitted in store.admit(events, Timestamp::from_millis(i64::MAX)).await {
            admitted.unwrap();
        }
    }
}

/// Sends new events without a pause, each until it is acknowledged, and kills the program again and
/// again meanwhile. Says which were acknowledged.
async fn kill_under_load(setup: &Setup, ready_within: Duration) -> HashSet<String> {
    let acknowledged = Arc::new(Mutex::new(HashSet::new()));
    let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let send = |_| {
        let (acknowledged, stop, next) =
            (Arc::clone(&acknowledged), Arc::clone(&stop), Arc::clone(&next));
        let (sender, port) = (Sender::new(), setup.port);
        tokio::spawn(async move {
            let mut connection = Connection::to(port);
            while !stop.load(Ordering::Relaxed) {
                let id = format!("evt_{}", next.fetch_add(1, Ordering::Relaxed));
                while connection
                    .send(&sender.request(&id))
                    .await
                    .is_none_or(|answer| answer.status != 200)
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                acknowledged.lock().unwrap().insert(id);
            }
        })
    };
    let senders: Vec<_> = (0..CONNECTIONS).map(send).collect();
    for _ in 0..KILLS {
        let program = setup.spawn();
        let took = program.ready_within(Duration::from_secs(20)).await;
        assert!(took < ready_within, "ready only after {took:?}");
        tokio::time::sleep(Duration::from_millis(rand::random_range(100..600))).await;
        program.kill();
    }
    let last = setup.start().await;
    stop.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await.unwrap();
    }
    last.kill();
    Arc::into_inner(acknowledged).unwrap().into_inner().unwrap()
}

async fn check(setup: &Setup, sink: &Sink, acknowledged: &HashSet<String>, stored_before: usize) {
    let program = setup.start().await;
    until("nothing is queued or leased", Duration::from_secs(60), || async {
        let total = program.stats().await.total;
        total.queued + total.leased == 0
    })
    .await;
    let stats = program.stats().await.total;
    let handled = sink.per_event();
    let lost: Vec<_> = acknowledged.iter().filter(|id| !handled.contains_key(*id)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert_eq!(stats.events, (handled.len() + stored_before) as u64, "one event for each id");
    assert_eq!(stats.done, handled.len() as u64);
    assert_eq!(stats.dead, 0);

    let again: Vec<_> = handled.iter().filter(|(_, count)| **count > 1).collect();
    let seconds: usize = again.iter().map(|(_, count)| *count - 1).sum();
    assert!(seconds <= (KILLS + 1) * CONCURRENCY, "{seconds} second runs");
    let mut ours = ids_of(&program, again.iter().map(|(id, _)| id.as_str()).collect()).await;
    for (id, count) in again {
        let ours = ours.remove(id).unwrap();
        check_only_cut_off_attempts_ran_again(&program, &ours, *count).await;
    }
}

/// Our ids of these events, out of the list from its newest on: to ask for each would walk all of it
/// again and again.
async fn ids_of(program: &Program, mut wanted: HashSet<&str>) -> HashMap<String, String> {
    let (mut found, mut before) = (HashMap::new(), String::new());
    while !wanted.is_empty() {
        let page = program.api("GET", &format!("/api/v1/events?limit=500{before}"), None).await;
        for row in page["events"].as_array().unwrap() {
            let theirs = row["event_id"].as_str().unwrap_or_default();
            if wanted.remove(theirs) {
                found.insert(theirs.to_owned(), row["id"].as_str().unwrap().to_owned());
            }
        }
        match page["next"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => assert!(wanted.is_empty(), "not in the list: {wanted:?}"),
        }
    }
    found
}

/// A second run is right only where the first was cut off: no attempt may follow one that was done.
async fn check_only_cut_off_attempts_ran_again(program: &Program, id: &str, runs: usize) {
    let event = program.api("GET", &format!("/api/v1/events/{id}"), None).await;
    let attempts = event["deliveries"][0]["attempts_made"].as_array().unwrap();
    let outcomes: Vec<_> =
        attempts.iter().map(|attempt| attempt["outcome"].as_str().unwrap()).collect();
    let (last, before) = outcomes.split_last().unwrap();
    assert_eq!(*last, "done", "{id}: {outcomes:?}");
    assert!(before.iter().all(|outcome| *outcome == "died"), "{id}: {outcomes:?}");
    assert!(runs <= outcomes.len(), "{id} ran {runs} times with {outcomes:?}");
}
