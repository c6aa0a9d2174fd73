//! What a person says about a handler while it runs: paused, resumed, how many at once, how often.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::{
    alone,
    program::{Program, Setup},
    sender::{Connection, SECRET, Sender},
    sink::{Behaviour, Sink},
    until,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn config(sink: &Sink, more: &str) -> String {
    let url = sink.url();
    format!(
        r#"
[store]
url = "sqlite:hookonce.db"
[sources.stripe]
secrets = ["{SECRET}"]
[handlers.billing]
url = "{url}"
{more}
"#
    )
}

/// Sends these events; each is accepted.
async fn send(setup: &Setup, name: &str, events: usize) {
    let (sender, mut to) = (Sender::new(), Connection::to(setup.port));
    for event in 0..events {
        let answer = to.send(&sender.request(&format!("evt_{name}_{event}"))).await.unwrap();
        assert_eq!((answer.status, answer.word.as_str()), (200, "accepted"));
    }
}

async fn handled(sink: &Sink, events: usize) {
    until("the events are handled", PATIENCE, || async { sink.count() >= events }).await;
    assert_eq!(sink.count(), events, "each of them once");
}

async fn queued(program: &Program, events: u64) {
    let waits = || async {
        let total = program.stats().await.total;
        (total.queued, total.leased) == (events, 0)
    };
    until("the events wait", PATIENCE, waits).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_handler_keeps_its_events_over_a_restart_and_does_them_when_resumed() {
    let (folder, sink) = (tempfile::tempdir().unwrap(), Sink::start());
    let setup = Setup::new(folder.path(), &config(&sink, ""));
    let program = setup.start().await;
    send(&setup, "before", 3).await;
    handled(&sink, 3).await;

    let paused = program.api("POST", "/api/v1/handlers/billing/pause", None).await;
    assert_eq!(paused["paused"], json!(true));
    send(&setup, "paused", 5).await;
    queued(&program, 5).await;
    let (_, readiness) = program.ask("GET", "/readyz", None).await.unwrap();
    assert!(readiness.contains("handler `billing` is paused"), "{readiness}");
    let (_, metrics) = program.ask("GET", "/metrics", None).await.unwrap();
    assert!(metrics.contains("hookonce_handler_paused{handler=\"billing\"} 1"), "{metrics}");
    program.api("POST", "/api/v1/reload", None).await; // which says nothing about it
    send(&setup, "reloaded", 1).await;
    program.kill();

    let program = setup.start().await;
    send(&setup, "restarted", 1).await;
    queued(&program, 7).await;
    tokio::time::sleep(Duration::from_secs(1)).await; // more than a poll
    assert_eq!(sink.count(), 3, "it is paused still");

    let command = setup.command(&program, &["handlers", "resume", "billing"]);
    assert!(command.status.success(), "{command:?}");
    handled(&sink, 10).await;
    let list = program.api("GET", "/api/v1/handlers", None).await;
    assert_eq!(list["handlers"][0]["paused"], json!(false));
    let nobody = setup.command(&program, &["handlers", "pause", "nobody"]);
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_told_to_the_store_holds_for_the_server_that_starts_then() {
    let (folder, sink) = (tempfile::tempdir().unwrap(), Sink::start());
    let setup = Setup::new(folder.path(), &config(&sink, ""));
    let program = setup.start().await;
    let asked = ["handlers", "pause", "billing", "--server", "http://127.0.0.1:1"];
    assert_eq!(setup.command(&program, &asked).status.code(), Some(69));
    let file = setup.write(&setup.config);
    assert!(program.terminate().success());

    // No server runs: the command opens the store itself.
    let command = std::process::Command::new(env!("CARGO_BIN_EXE_hookonce"))
        .args(["handlers", "pause", "billing", "--config"])
        .arg(file)
        .output()
        .unwrap();
    assert!(command.status.success(), "{command:?}");
    let program = setup.start().await;
    send(&setup, "paused", 2).await;
    queued(&program, 2).await;
    program.api("POST", "/api/v1/handlers/billing/resume", None).await;
    handled(&sink, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrency_changes_while_the_handler_runs() {
    let (at_once, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let calls_take = Duration::from_millis(100);
    let sink = {
        let (at_once, most) = (Arc::clone(&at_once), Arc::clone(&most));
        Sink::behaving(move |_| {
            most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let at_once = Arc::clone(&at_once);
            tokio::spawn(async move {
                tokio::time::sleep(calls_take - Duration::from_millis(10)).await;
                at_once.fetch_sub(1, Ordering::SeqCst);
            });
            Behaviour::Slow(calls_take)
        })
    };
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(folder.path(), &config(&sink, "concurrency = 2"));
    let program = setup.start().await;
    send(&setup, "few", 10).await;
    handled(&sink, 10).await;
    assert_eq!(most.swap(0, Ordering::SeqCst), 2);

    let more = json!({ "concurrency": 6 });
    let now = program.api("POST", "/api/v1/handlers/billing/limits", Some(more)).await;
    assert_eq!((&now["concurrency"], &now["limits"]["concurrency"]), (&json!(6), &json!(6)));
    send(&setup, "more", 30).await;
    handled(&sink, 40).await;
    assert_eq!(most.swap(0, Ordering::SeqCst), 6);

    let back = setup.command(&program, &["handlers", "set", "billing"]);
    assert!(back.status.success(), "{back:?}");
    queued(&program, 0).await;
    send(&setup, "few_again", 10).await;
    handled(&sink, 50).await;
    assert_eq!(most.load(Ordering::SeqCst), 2, "as configured again");

    let none = json!({ "concurrency": 0 });
    let (status, said) =
        program.ask("POST", "/api/v1/handlers/billing/limits", Some(none)).await.unwrap();
    assert_eq!(status, 400, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_kept_within_a_fifth_and_changes_while_the_handler_runs() {
    let _alone = alone().await;
    let (folder, sink) = (tempfile::tempdir().unwrap(), Sink::start());
    let setup = Setup::new(folder.path(), &config(&sink, "rate = \"50/s\""));
    let program = setup.start().await;
    program.api("POST", "/api/v1/handlers/billing/pause", None).await;
    send(&setup, "many", 400).await;

    program.api("POST", "/api/v1/handlers/billing/resume", None).await;
    let per_second = rate_from(&sink, 0, 150).await;
    assert!((40.0..60.0).contains(&per_second), "{per_second} a second, and 50 are asked for");

    let faster = setup.command(&program, &["handlers", "set", "billing", "--rate", "100/s"]);
    assert!(faster.status.success(), "{faster:?}");
    let per_second = rate_from(&sink, sink.count(), 180).await;
    assert!((80.0..120.0).contains(&per_second), "{per_second} a second, and 100 are asked for");

    handled(&sink, 400).await;
    assert!(sink.calls().iter().all(|call| call.attempt == 1), "what waits uses no attempt up");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_redriven_at_a_rate_and_stopped_by_command() {
    let folder = tempfile::tempdir().unwrap();
    let is_well = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_well);
    let sink = Sink::behaving(move |_| match asked.load(Ordering::SeqCst) {
        true => Behaviour::Status(200, None),
        false => Behaviour::Status(410, None),
    });
    let setup = Setup::new(folder.path(), &config(&sink, ""));
    let program = setup.start().await;
    send(&setup, "dead", 30).await;
    let dead = async || program.stats().await.total.dead_now;
    until("all are dead", PATIENCE, || async { dead().await == 30 }).await;
    is_well.store(true, Ordering::SeqCst);

    // One a second would take half a minute: somebody stops it before.
    let slow = json!({ "handler": "billing", "per_second": 1 });
    program.api("POST", "/api/v1/redrives", Some(slow)).await;
    until("the first is redriven", PATIENCE, || async { dead().await < 30 }).await;
    let stop = setup.command(&program, &["redrive", "--handler", "billing", "--stop", "--json"]);
    let stopped: serde_json::Value = serde_json::from_slice(&stop.stdout).unwrap();
    assert_eq!(stopped["state"], json!("stopped"));
    assert!(dead().await > 20, "the rest is dead still");

    let all = ["redrive", "--handler", "billing", "--per-second", "20"];
    let redriven = setup.command(&program, &all);
    assert!(redriven.status.success(), "{redriven:?}");
    let said = String::from_utf8_lossy(&redriven.stdout).into_owned();
    assert!(said.contains("redriven: all are queued again"), "{said}");
    assert_eq!(dead().await, 0, "the command waits for the end");
    let none = setup.command(&program, &all);
    assert_eq!(none.status.code(), Some(1), "{none:?}");
}

/// How many calls a second reach the sink, from that one on and over so many.
async fn rate_from(sink: &Sink, first: usize, calls: usize) -> f64 {
    let last = first + calls;
    until("the calls have come", PATIENCE, || async { sink.count() > last }).await;
    let at = |call: usize| -> Instant { sink.calls()[call].at };
    calls as f64 / at(last).duration_since(at(first)).as_secs_f64()
}
