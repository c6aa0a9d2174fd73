//! What a key costs: the same requests through the same proxy, without keys and with fresh ones.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hookonce::{
    Hookonce,
    api::{Api, UpstreamUrl},
    clock::SystemClock,
    http,
    store::{self, Durability},
};

use crate::{CONNECTIONS, ROUNDS, median, redis_server::RedisServer, sender::Connection, sink};

const REQUESTS: usize = 20_000;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    WithoutKeys,
    Memory,
    Sqlite,
    RedisAlways,
    RedisRelaxed,
}

const CASES: [(Case, &str); 5] = [
    (Case::WithoutKeys, "proxy without keys"),
    (Case::Memory, "proxy, fresh keys, memory"),
    (Case::Sqlite, "proxy, fresh keys, SQLite (FULL)"),
    (Case::RedisAlways, "proxy, fresh keys, Redis always"),
    (Case::RedisRelaxed, "proxy, fresh keys, Redis relaxed"),
];

pub(crate) async fn measure() {
    let mut rates = vec![Vec::new(); CASES.len()];
    for round in 0..ROUNDS {
        for (at, (case, name)) in CASES.iter().enumerate() {
            let rate = rate(*case).await;
            println!("round {}: {name}: {rate:.0}/s", round + 1);
            rates[at].push(rate);
        }
    }
    let without_keys = median(&rates[0]);
    println!("\n{:<44} {:>10} {:>14}", "median of the rounds", "requests/s", "/ without keys");
    for (at, (_, name)) in CASES.iter().enumerate() {
        let rate = median(&rates[at]);
        println!("{name:<44} {rate:>10.0} {:>14.2}", rate / without_keys);
    }
}

async fn rate(case: Case) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let redis = match case {
        Case::RedisAlways => Some(RedisServer::start()),
        Case::RedisRelaxed => {
            Some(RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "everysec"]))
        }
        _ => None,
    };
    let file = format!("sqlite:{}", folder.path().join("bench.db").display());
    let (url, durability) = match (case, &redis) {
        (Case::RedisRelaxed, Some(redis)) => (redis.url(), Durability::Relaxed),
        (_, Some(redis)) => (redis.url(), Durability::Always),
        (Case::Sqlite, None) => (file, Durability::Always),
        _ => ("memory:".to_owned(), Durability::Always),
    };
    let store = store::connect(&url, durability, None, &SystemClock::start()).await.unwrap();
    let upstream = UpstreamUrl(format!("http://127.0.0.1:{}", sink()).parse().unwrap());
    let api = Api { upstream: Some(upstream), required: Vec::new(), ..Api::new("payments") };
    let hookonce = Hookonce::builder().open_store(store).api(api).build().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = http::serve_public(Arc::clone(hookonce.app()), listener).unwrap();
    let stop = server.handle();
    tokio::spawn(server);

    let begun = Instant::now();
    send_all(port, case != Case::WithoutKeys).await;
    let took = begun.elapsed();
    stop.stop(false).await;
    hookonce.app().tasks.shut_down(Duration::from_secs(5)).await;
    REQUESTS as f64 / took.as_secs_f64()
}

/// Sends every request once over all connections; each must be answered 200.
async fn send_all(port: u16, with_keys: bool) {
    let next = Arc::new(AtomicUsize::new(0));
    let send = |_| {
        let next = Arc::clone(&next);
        tokio::spawn(async move {
            let mut connection = Connection::to(port);
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= REQUESTS {
                    return;
                }
                let answer = connection.send(&request(number, with_keys)).await;
                assert_eq!(answer.expect("it answers").status, 200);
            }
        })
    };
    for task in (0..CONNECTIONS).map(send).collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// A request of about a kilobyte.
fn request(number: usize, with_keys: bool) -> Vec<u8> {
    let key = match with_keys {
        true => format!("idempotency-key: order-{number:012}\r\n"),
        false => String::new(),
    };
    let body = format!("{{\"amount\":{number},\"note\":\"{}\"}}", "x".repeat(1000));
    format!(
        "POST /payments HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer somebody\r\ncontent-type: application/json\r\n{key}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
