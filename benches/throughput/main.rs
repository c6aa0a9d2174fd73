//! How many events a second, and what each store costs: `cargo bench`.
//!
//! Everything runs in this one process, the load generator and the handler too, so read the figures as
//! ratios of the floor: an endpoint that reads, verifies and names the event, and stores nothing.
//! Rounds are interleaved, and the median counts, since machines are noisy. The servers are real ones:
//! SQLite in a temporary folder, `redis-server` on a free port.
//!
//! `cargo bench -- SQLite` measures the floor and what has that in its name; `cargo bench -- proxy` what a
//! key costs in front of an API.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    dead_code,
    reason = "a measurement may fail, and prints"
)]

#[path = "../../tests/support/redis_server.rs"]
mod redis_server;
#[path = "../../tests/it/support/sender.rs"]
mod sender;

mod null_store;
mod proxy;

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use actix_web::{App as ActixApp, HttpResponse, HttpServer, web};
use hookonce::{
    Hookonce,
    clock::SystemClock,
    from,
    handler::{HttpHandler, http_client},
    http, on,
    store::{self, Durability, Store},
};

use self::{
    null_store::NullStore,
    redis_server::RedisServer,
    sender::{Connection, SECRET, Sender},
};

const CONNECTIONS: usize = 64;
const EVENTS: usize = 40_000;
const ROUNDS: usize = 3;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Floor,
    Memory,
    Sqlite,
    RedisAlways,
    RedisRelaxed,
    SqliteDuplicates,
    RedisDuplicates,
    SqliteHandled,
    RedisHandled,
}

const CASES: [(Case, &str); 9] = [
    (Case::Floor, "floor: verified, nothing stored"),
    (Case::Memory, "accepted, memory"),
    (Case::Sqlite, "accepted, SQLite (FULL)"),
    (Case::RedisAlways, "accepted, Redis always"),
    (Case::RedisRelaxed, "accepted, Redis relaxed"),
    (Case::SqliteDuplicates, "duplicates, SQLite"),
    (Case::RedisDuplicates, "duplicates, Redis always"),
    (Case::SqliteHandled, "through to an HTTP handler, SQLite"),
    (Case::RedisHandled, "through to an HTTP handler, Redis always"),
];

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    if wanted.as_deref() != Some("proxy") {
        runtime.block_on(measure(wanted.as_deref()));
    }
    if wanted.as_deref().is_none_or(|wanted| wanted == "proxy") {
        runtime.block_on(proxy::measure());
    }
}

async fn measure(wanted: Option<&str>) {
    let is_wanted = |(case, name): &&(Case, &str)| {
        *case == Case::Floor || wanted.is_none_or(|wanted| name.contains(wanted))
    };
    let cases: Vec<_> = CASES.iter().filter(is_wanted).collect();
    let mut rates = vec![Vec::new(); cases.len()];
    for round in 0..ROUNDS {
        let requests = requests(round);
        for (at, (case, name)) in cases.iter().enumerate() {
            let rate = rate(*case, &requests).await;
            println!("round {}: {name}: {rate:.0}/s", round + 1);
            rates[at].push(rate);
        }
    }
    let floor = median(&rates[0]);
    println!("\n{:<44} {:>10} {:>8}", "median of the rounds", "events/s", "/ floor");
    for (at, (_, name)) in cases.iter().enumerate() {
        let rate = median(&rates[at]);
        println!("{name:<44} {rate:>10.0} {:>8.2}", rate / floor);
    }
}

fn median(rates: &[f64]) -> f64 {
    let mut sorted = rates.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Signed requests about events that no round before had.
fn requests(round: usize) -> Arc<Vec<Vec<u8>>> {
    let sender = Sender::new();
    Arc::new(
        (0..EVENTS).map(|number| sender.request(&format!("evt_{round}_{number:08}"))).collect(),
    )
}

async fn rate(case: Case, requests: &Arc<Vec<Vec<u8>>>) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let redis = match case {
        Case::RedisAlways | Case::RedisDuplicates | Case::RedisHandled => {
            Some(RedisServer::start())
        }
        Case::RedisRelaxed => {
            Some(RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "everysec"]))
        }
        _ => None,
    };
    let store = open(case, folder.path(), redis.as_ref()).await;
    let mut builder = Hookonce::builder()
        .open_store(Arc::clone(&store))
        .source("stripe", from("stripe").secret(SECRET));
    let handled = matches!(case, Case::SqliteHandled | Case::RedisHandled);
    if handled {
        let url = format!("http://127.0.0.1:{}/hook", sink());
        let clock = SystemClock::start();
        let handler = HttpHandler::new(http_client(), url.parse().unwrap(), None, clock).unwrap();
        builder = builder.handle("sink", on("stripe", ["*"]).concurrency(64), Arc::new(handler));
    }
    let hookonce = builder.build().await.unwrap();
    let workers = hookonce.spawn_workers();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = http::serve_public(Arc::clone(hookonce.app()), listener).unwrap();
    let stop = server.handle();
    tokio::spawn(server);

    let duplicates = matches!(case, Case::SqliteDuplicates | Case::RedisDuplicates);
    if duplicates {
        send_all(port, requests, "accepted").await;
    }
    let begun = Instant::now();
    send_all(port, requests, if duplicates { "duplicate" } else { "accepted" }).await;
    while handled && store.stats().await.unwrap().total.done < EVENTS as u64 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = begun.elapsed();
    stop.stop(false).await;
    workers.shut_down(Duration::from_secs(5)).await;
    EVENTS as f64 / took.as_secs_f64()
}

async fn open(case: Case, folder: &std::path::Path, redis: Option<&RedisServer>) -> Arc<dyn Store> {
    let clock = SystemClock::start();
    let file = format!("sqlite:{}", folder.join("bench.db").display());
    let (url, durability) = match (case, redis) {
        (Case::Floor, _) => return Arc::new(NullStore),
        (Case::Memory, _) => ("memory:".to_owned(), Durability::Always),
        (Case::RedisRelaxed, Some(redis)) => (redis.url(), Durability::Relaxed),
        (_, Some(redis)) => (redis.url(), Durability::Always),
        (_, None) => (file, Durability::Always),
    };
    store::connect(&url, durability, None, &clock).await.unwrap()
}

/// Sends every request once over all connections; each must get this word.
async fn send_all(port: u16, requests: &Arc<Vec<Vec<u8>>>, word: &'static str) {
    let next = Arc::new(AtomicUsize::new(0));
    let send = |_| {
        let (requests, next) = (Arc::clone(requests), Arc::clone(&next));
        tokio::spawn(async move {
            let mut connection = Connection::to(port);
            while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                let answer = connection.send(request).await.expect("it answers");
                assert_eq!(answer.word, word, "{answer:?}");
            }
        })
    };
    for task in (0..CONNECTIONS).map(send).collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// A handler that says 200 to everything; gives its port.
fn sink() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let yes = || async { HttpResponse::Ok().finish() };
    let server = HttpServer::new(move || ActixApp::new().default_service(web::to(yes)));
    tokio::spawn(server.workers(1).disable_signals().listen(listener).unwrap().run());
    port
}
