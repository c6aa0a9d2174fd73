//! `order_by`: events with one key are handled one after another, in the order in which they were
//! acknowledged, whatever their handler does; and what that costs.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    postgres_server::PostgresServer,
    redis_server::RedisServer,
    support::{
        alone,
        program::{Program, Setup},
        sender::{Connection, SECRET, Sender},
        sink::{Behaviour, Call, Sink},
        until,
    },
};

const KEYS: usize = 100;
/// Events of each key that are handled while others come in, and then those that were waiting already.
const LIVE: usize = 20;
const WAITING: usize = 80;
/// How much longer the same may take in order.
const RATIO_MAX: f64 = 2.0;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_events_over_a_hundred_keys_are_handled_in_order_on_sqlite() {
    let _alone = alone().await;
    compare("sqlite", 1, || "sqlite:hookonce.db".to_owned()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_events_over_a_hundred_keys_are_handled_in_order_by_two_processes_on_redis() {
    let _alone = alone().await;
    let servers = [RedisServer::start(), RedisServer::start()];
    let mut urls = servers.iter().map(RedisServer::url);
    compare("redis", 2, || urls.next().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_events_over_a_hundred_keys_are_handled_in_order_by_two_processes_on_postgres()
{
    let _alone = alone().await;
    let postgres = PostgresServer::start(&[]);
    compare("postgres", 2, || postgres.database()).await;
}

/// The same load without order and with it, each on a fresh store.
#[expect(clippy::print_stdout, reason = "the figure is for whoever asks what order costs")]
async fn compare(name: &str, processes: usize, mut store: impl FnMut() -> String) {
    let (unordered, _) = run(&store(), "", processes).await;
    let (ordered, sink) = run(&store(), "order_by = \"/data/object/id\"", processes).await;
    check_order(&sink.calls());
    let ratio = ordered.as_secs_f64() / unordered.as_secs_f64();
    println!(
        "{name}: {} waiting events handled in {unordered:.2?}, in order in {ordered:.2?}: {ratio:.2} times as long",
        KEYS * WAITING
    );
    assert!(ratio < RATIO_MAX, "in order it takes {ratio:.2} times as long");
}

/// Handles everything; says how long what was waiting took, with as many attempts at once as there are
/// when nobody says otherwise.
async fn run(store: &str, order: &str, processes: usize) -> (Duration, Sink) {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::behaving(behaviour);
    let config = format!(
        r#"
[store]
url = "{store}"
[sources.stripe]
secrets = ["{SECRET}"]
[handlers.billing]
url = "{}"
retry = {{ first = "10ms" }}
{order}
"#,
        sink.url()
    );
    let mut programs = Vec::new();
    for _ in 0..processes {
        programs.push(Setup::new(folder.path(), &config).start().await);
    }
    let live = if order.is_empty() { 0 } else { LIVE };
    send(&programs, 0..live).await;
    until_done(&programs, KEYS * live).await;

    for program in &programs {
        program.api("POST", "/api/v1/handlers/billing/pause", Some(json!({}))).await;
    }
    send(&programs, live..live + WAITING).await;
    let waiting = programs[0].stats().await.total.queued;
    assert_eq!(waiting, (KEYS * WAITING) as u64, "nothing runs while it is paused");
    let begun = Instant::now();
    for program in &programs {
        program.api("POST", "/api/v1/handlers/billing/resume", Some(json!({}))).await;
    }
    until_done(&programs, KEYS * (live + WAITING)).await;
    (begun.elapsed(), sink)
}

async fn until_done(programs: &[Program], events: usize) {
    until("everything is handled", Duration::from_secs(300), || async {
        programs[0].stats().await.total.done == events as u64
    })
    .await;
}

/// Sends these events of every key, each once the one before it is acknowledged, to the processes in turn.
async fn send(programs: &[Program], numbers: std::ops::Range<usize>) {
    let sender = Sender::new();
    let of_key = |key: usize| {
        let (sender, numbers) = (sender.clone(), numbers.clone());
        let mut connections: Vec<_> =
            programs.iter().map(|program| Connection::to(program.port)).collect();
        async move {
            for number in numbers {
                let body = json!({
                    "id": format!("evt_{key}_{number}"), "object": "event", "type": "invoice.paid",
                    "data": { "object": { "id": format!("in_{key}") } },
                });
                let request = sender.signed(&body.to_string(), &[]);
                let to = number % connections.len();
                // Not acknowledged is not sent: a duplicate changes nothing, and the next one waits.
                while connections[to].send(&request).await.is_none_or(|got| got.status != 200) {}
            }
        }
    };
    join_all((0..KEYS).map(of_key)).await;
}

/// One attempt in ten fails; the others take up to 5 ms. Always the same for the same attempt.
fn behaviour(call: &Call) -> Behaviour {
    match dice(call) {
        0..26 => Behaviour::Status(500, None),
        more => Behaviour::Slow(Duration::from_millis(u64::from(more % 6))),
    }
}

fn dice(call: &Call) -> u8 {
    Sha256::digest(format!("{} {}", call.event_id, call.attempt))[0]
}

/// Of each key every event is handled, the next one not before the one before it has ended well.
fn check_order(calls: &[Call]) {
    let mut next: HashMap<String, (usize, Option<Instant>)> = HashMap::new();
    for call in calls {
        let (key, number) = call.event_id.rsplit_once('_').unwrap();
        let (wanted, not_before) = next.entry(key.to_owned()).or_insert((0, None));
        assert_eq!(number.parse::<usize>().unwrap(), *wanted, "the next of {key}");
        assert!(not_before.is_none_or(|end| call.at >= end), "two of {key} at once");
        if let Behaviour::Slow(took) = behaviour(call) {
            (*wanted, *not_before) = (*wanted + 1, Some(call.at + took));
        }
    }
    assert_eq!(next.len(), KEYS);
    assert!(next.values().all(|(handled, _)| *handled == LIVE + WAITING));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_unblocks_what_waits_behind_a_dead_delivery() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::behaving(|call| {
        let status = if call.event_id == "evt_1_0" && call.attempt < 3 { 410 } else { 200 };
        Behaviour::Status(status, None)
    });
    let config = format!(
        "[store]\nurl = \"sqlite:hookonce.db\"\n[sources.stripe]\nsecrets = [\"{SECRET}\"]\n\
         [handlers.billing]\nurl = \"{}\"\norder_by = \"/data/object/id\"\n",
        sink.url()
    );
    let setup = Setup::new(folder.path(), &config);
    let programs = [setup.start().await];
    let program = &programs[0];
    send(&programs, 0..2).await;
    // Of a hundred keys one is blocked, by its first event; the second waits behind it.
    let total = || async { program.stats().await.total };
    until("the others are handled", Duration::from_secs(30), || async {
        total().await.done == 2 * KEYS as u64 - 2
    })
    .await;
    assert_eq!((total().await.dead_now, total().await.queued), (1, 1));

    let dead = program.api("GET", "/api/v1/deliveries?state=dead", None).await;
    let id = dead["deliveries"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(dead["deliveries"][0]["in_line"], json!(true));
    // Redriven it keeps its place, and blocks again when it dies again.
    assert!(setup.command(program, &["redrive", &id]).status.success());
    until("it is dead again", Duration::from_secs(30), || async { total().await.dead == 2 }).await;
    assert_eq!(total().await.queued, 1);

    let page = format!("/events/{}", dead["deliveries"][0]["event"].as_str().unwrap());
    let (_, html) = program.ask("GET", &page, None).await.unwrap();
    assert!(html.contains(&format!("/deliveries/{id}/unblock")), "there is a button");
    let unblock = setup.command(program, &["deliveries", "unblock", &id]);
    assert!(unblock.status.success(), "{unblock:?}");
    until("the second is handled", Duration::from_secs(30), || async {
        total().await.done == 2 * KEYS as u64 - 1
    })
    .await;
    // Over the API, of one; and what is not there is not found.
    let path = format!("/api/v1/deliveries/{id}/unblock");
    program.api("POST", &path, Some(json!({}))).await;
    assert!(setup.command(program, &["redrive", &id]).status.success());
    until("the first is handled", Duration::from_secs(30), || async {
        total().await.done == 2 * KEYS as u64
    })
    .await;
    assert_eq!(program.ask("POST", &path, Some(json!({}))).await.unwrap().0, 404);
}
