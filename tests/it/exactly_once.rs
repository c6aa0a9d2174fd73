//! A provider that sends everything three times at once: each handler is triggered once (P2, P3).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::support::{
    alone,
    program::{Program, Setup},
    sender::{Connection, Sender},
    sink::Sink,
    until,
};
use crate::{postgres_server::PostgresServer, redis_server::RedisServer};

/// How many events; each is sent three times over these connections.
const EVENTS: usize = 20_000;
const COPIES: usize = 3;
const CONNECTIONS: usize = 64;

pub(crate) fn config(store: &str, sink: &Sink) -> String {
    format!(
        r#"
[store]
url = "{store}"
[sources.stripe]
secrets = ["{}"]
[handlers.billing]
url = "{}"
concurrency = 64
"#,
        crate::support::sender::SECRET,
        sink.url()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_events_sent_three_times_at_once_are_handled_once_on_sqlite() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let setup = Setup::new(folder.path(), &config("sqlite:hookonce.db", &sink));
    let program = setup.start().await;
    let unavailable = send_everything(&[&program]).await;
    check_handled_once(&program, &sink, unavailable).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_events_sent_three_times_at_once_are_handled_once_on_redis() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let (redis, sink) = (RedisServer::start(), Sink::start());
    let program = Setup::new(folder.path(), &config(&redis.url(), &sink)).start().await;
    let unavailable = send_everything(&[&program]).await;
    check_handled_once(&program, &sink, unavailable).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_spread_over_two_processes_on_one_redis_are_handled_once() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let (redis, sink) = (RedisServer::start(), Sink::start());
    let setup = || Setup::new(folder.path(), &config(&redis.url(), &sink));
    let programs = [setup().start().await, setup().start().await];
    let unavailable = send_everything(&[&programs[0], &programs[1]]).await;
    check_handled_once(&programs[1], &sink, unavailable).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_spread_over_two_processes_on_one_postgres_are_handled_once() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let (postgres, sink) = (PostgresServer::start(&[]), Sink::start());
    let url = postgres.database();
    let setup = || Setup::new(folder.path(), &config(&url, &sink));
    let programs = [setup().start().await, setup().start().await];
    let unavailable = send_everything(&[&programs[0], &programs[1]]).await;
    check_handled_once(&programs[1], &sink, unavailable).await;
}

/// Sends every event three times, the copies next to each other, spread over all connections and programs,
/// each until it is acknowledged. Says how many answers were 503: a busy machine may give some.
async fn send_everything(programs: &[&Program]) -> usize {
    let ports: Vec<u16> = programs.iter().map(|program| program.port).collect();
    let sender = Sender::new();
    let next = Arc::new(AtomicUsize::new(0));
    let send = |connection: usize| {
        let (sender, next) = (sender.clone(), Arc::clone(&next));
        let port = ports[connection % ports.len()];
        tokio::spawn(async move {
            let (mut connection, mut unavailable) = (Connection::to(port), 0);
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= EVENTS * COPIES {
                    return unavailable;
                }
                let request = sender.request(&format!("evt_{}", number / COPIES));
                let mut answer = connection.send(&request).await.expect("it answers");
                while answer.status == 503 {
                    unavailable += 1;
                    answer = connection.send(&request).await.expect("it answers");
                }
                assert_eq!(answer.status, 200, "{answer:?}");
            }
        })
    };
    let mut unavailable = 0;
    for task in (0..CONNECTIONS).map(send).collect::<Vec<_>>() {
        unavailable += task.await.unwrap();
    }
    unavailable
}

async fn check_handled_once(program: &Program, sink: &Sink, unavailable: usize) {
    until("every event is handled", std::time::Duration::from_secs(120), || async {
        program.stats().await.total.done == EVENTS as u64
    })
    .await;
    let stats = program.stats().await;
    assert_eq!(stats.total.events, EVENTS as u64);
    // A 503 may have been admitted all the same: its retry was one duplicate more.
    let duplicates = EVENTS * (COPIES - 1);
    let counted = duplicates as u64..=(duplicates + unavailable) as u64;
    assert!(counted.contains(&stats.total.duplicates), "{} duplicates", stats.total.duplicates);
    assert_eq!(stats.total.queued + stats.total.leased + stats.total.dead, 0);
    assert_eq!(sink.count(), EVENTS, "the handler is triggered once per event");
    assert_eq!(sink.per_event().len(), EVENTS);
}
