//! A thousand clients at one id in the same instant, at four processes on one store: one delivery (P2).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Barrier;

use crate::{
    exactly_once::config,
    postgres_server::PostgresServer,
    redis_cluster::RedisCluster,
    redis_server::RedisServer,
    support::{
        alone,
        program::{Program, Setup},
        sender::{Connection, Sender},
        sink::Sink,
        until,
    },
};

const CLIENTS: usize = 1000;
const IDS: usize = 200;
const PROCESSES: usize = 4;
/// The program has a second for an answer; the rest is the way there and back on a busy machine.
const ANSWERED_WITHIN: Duration = Duration::from_millis(2000);

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_at_one_id_make_one_delivery_on_redis() {
    let redis = RedisServer::start();
    one_delivery_per_id(&redis.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_at_one_id_make_one_delivery_on_valkey() {
    let valkey = RedisServer::start_valkey();
    one_delivery_per_id(&valkey.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_at_one_id_make_one_delivery_on_a_cluster() {
    let cluster = tokio::task::spawn_blocking(|| RedisCluster::start(15_000)).await.unwrap();
    one_delivery_per_id(&cluster.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_at_one_id_make_one_delivery_on_postgres() {
    let postgres = PostgresServer::start(&[]);
    one_delivery_per_id(&postgres.database()).await;
}

async fn one_delivery_per_id(store: &str) {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let mut programs = Vec::new();
    for _ in 0..PROCESSES {
        programs.push(Setup::new(folder.path(), &config(store, &sink)).start().await);
    }
    everybody_sends_every_id(&programs).await;
    until("every event is handled", Duration::from_secs(60), || async {
        programs[0].stats().await.total.done == IDS as u64
    })
    .await;
    let stats = programs[0].stats().await.total;
    assert_eq!(stats.events, IDS as u64);
    // A 503 may have been admitted all the same: its retry was one duplicate more.
    assert!(stats.duplicates >= ((CLIENTS - 1) * IDS) as u64, "{} duplicates", stats.duplicates);
    assert_eq!(sink.count(), IDS, "the handler is triggered once per id");
    assert_eq!(sink.per_event().len(), IDS);
}

/// The clients wait for each other before each pair of ids, and half of them send it the other way
/// round: so the batches of the four processes cross.
async fn everybody_sends_every_id(programs: &[Program]) {
    let together = Arc::new(Barrier::new(CLIENTS));
    let sender = Sender::new();
    let pairs: Arc<Vec<[Vec<u8>; 2]>> = Arc::new(
        (0..IDS / 2)
            .map(|pair| [0, 1].map(|half| sender.request(&format!("evt_{pair}_{half}"))))
            .collect(),
    );
    let send = |client: usize| {
        let (together, pairs) = (Arc::clone(&together), Arc::clone(&pairs));
        let port = programs[client % programs.len()].port;
        tokio::spawn(async move {
            let mut connection = Connection::to(port);
            for pair in pairs.iter() {
                together.wait().await;
                send_until_acknowledged(&mut connection, &pair[client / 2 % 2]).await;
                send_until_acknowledged(&mut connection, &pair[1 - client / 2 % 2]).await;
            }
        })
    };
    for client in (0..CLIENTS).map(send).collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

async fn send_until_acknowledged(connection: &mut Connection, request: &[u8]) {
    let begun = Instant::now();
    loop {
        let answer = connection.send(request).await.expect("it answers");
        assert!(
            answer.took < ANSWERED_WITHIN,
            "answered {} after {:?}",
            answer.status,
            answer.took
        );
        if answer.status == 200 {
            return;
        }
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(begun.elapsed() < Duration::from_secs(30), "no yes for half a minute");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
