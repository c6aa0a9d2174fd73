//! A handler that fails in every way there is: each as promised, every attempt visible.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    alone,
    program::{Program, Setup},
    sender::{Connection, SECRET, Sender},
    sink::{Behaviour, Call, Sink},
    until,
};

fn setup(folder: &std::path::Path, sink: &Sink, retry: &str) -> Setup {
    let config = format!(
        r#"
[store]
url = "sqlite:hookonce.db"
[sources.stripe]
secrets = ["{SECRET}"]
[handlers.billing]
url = "{}"
timeout = "300ms"
retry = {retry}
"#,
        sink.url()
    );
    Setup::new(folder, &config)
}

/// Sends one event and waits until its delivery is in `state`; gives back its record.
async fn send_and_wait(program: &Program, id: &str, state: &str) -> Value {
    let answer = Connection::to(program.port).send(&Sender::new().request(id)).await.unwrap();
    assert_eq!((answer.status, answer.word.as_str()), (200, "accepted"));
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    let path = format!("/api/v1/events/{}", body["id"].as_str().unwrap());
    until(&format!("{id} is {state}"), Duration::from_secs(20), || async {
        program.api("GET", &path, None).await["deliveries"][0]["state"] == state
    })
    .await;
    program.api("GET", &path, None).await["deliveries"][0].clone()
}

fn outcomes(delivery: &Value) -> Vec<&str> {
    let attempts = delivery["attempts_made"].as_array().unwrap();
    attempts.iter().map(|attempt| attempt["outcome"].as_str().unwrap()).collect()
}

/// What fails on the first attempt and is well on the second.
fn first(call: &Call, behaviour: Behaviour) -> Behaviour {
    if call.attempt == 1 { behaviour } else { Behaviour::Status(200, None) }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_fail_is_tried_again_and_told_with_its_status_and_error() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::behaving(|call| {
        first(
            call,
            match call.event_id.as_str() {
                "evt_500" => Behaviour::Status(500, None),
                "evt_404" => Behaviour::Status(404, None),
                "evt_302" => Behaviour::Status(302, None),
                "evt_hang" => Behaviour::Hang,
                "evt_reset" => Behaviour::Abort,
                other => panic!("nobody sent {other}"),
            },
        )
    });
    let retry = r#"{ attempts = 3, first = "10ms", max = "20ms" }"#;
    let program = setup(folder.path(), &sink, retry).start().await;
    for (id, status, error) in [
        ("evt_500", json!(500), "500"),
        ("evt_404", json!(404), "404"),
        ("evt_302", json!(302), "302"),
        ("evt_hang", Value::Null, "within 300ms"),
        ("evt_reset", Value::Null, "connection"),
    ] {
        let delivery = send_and_wait(&program, id, "done").await;
        assert_eq!(outcomes(&delivery), ["failed", "done"], "{id}");
        let failed = &delivery["attempts_made"][0];
        assert_eq!(failed["status"], status, "{id}: {failed}");
        let told = failed["error"].as_str().unwrap();
        assert!(told.contains(error), "{id}: {told}");
        assert!(failed["started_at"].is_string() && failed["took_ms"].is_u64(), "{failed}");
    }
    let calls = sink.calls();
    let tried: Vec<_> = calls.iter().filter(|call| call.event_id == "evt_500").collect();
    let [first, second] = tried.as_slice() else { panic!("it ran {} times", tried.len()) };
    assert_eq!(first.key, second.key, "all attempts carry one key (P7)");
    assert!(first.token < second.token, "the lease token rises (P7)");
    assert_eq!((first.attempt, second.attempt), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn gone_is_dead_at_once_and_a_redrive_gives_a_fresh_budget() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::behaving(|call| match (call.event_id.as_str(), call.attempt) {
        ("evt_gone", 1) => Behaviour::Status(410, None),
        (_, 1..=2) => Behaviour::Status(500, None),
        _ => Behaviour::Status(200, None),
    });
    let retry = r#"{ attempts = 2, first = "5ms", max = "5ms" }"#;
    let program = setup(folder.path(), &sink, retry).start().await;

    let gone = send_and_wait(&program, "evt_gone", "dead").await;
    assert_eq!(outcomes(&gone), ["rejected"]);
    let spent = send_and_wait(&program, "evt_spent", "dead").await;
    assert_eq!(outcomes(&spent), ["failed", "failed"]);
    assert_eq!(program.stats().await.total.dead_now, 2);

    let ids = json!({ "ids": [gone["id"], spent["id"]] });
    let redriven = program.api("POST", "/api/v1/deliveries/redrive", Some(ids)).await;
    assert_eq!(redriven["deliveries"].as_array().unwrap().len(), 2);
    until("both are done", Duration::from_secs(10), || async {
        program.stats().await.total.done == 2
    })
    .await;
    let path = format!("/api/v1/deliveries/{}/attempts", gone["id"].as_str().unwrap());
    let attempts = program.api("GET", &path, None).await;
    let seen: Vec<_> = attempts
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| (attempt["number"].as_u64().unwrap(), attempt["outcome"].as_str().unwrap()))
        .collect();
    // 410, then, with a fresh budget and numbers that go on: 500, 200.
    assert_eq!(seen, [(1, "rejected"), (2, "failed"), (3, "done")]);
    assert_eq!(program.stats().await.total.dead_now, 0);
    assert_eq!(program.stats().await.total.dead, 2, "what was counted stays counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_of_a_dead_event_redrives_it_only_where_that_is_asked_for() {
    for (on_dead_duplicate, runs) in [("ignore", 1), ("redrive", 2)] {
        let folder = tempfile::tempdir().unwrap();
        let sink = Sink::behaving(|call| first(call, Behaviour::Status(410, None)));
        let mut setup = setup(folder.path(), &sink, "{ attempts = 3 }");
        let secrets = format!("secrets = [\"{SECRET}\"]");
        let asked = format!("{secrets}\non_dead_duplicate = \"{on_dead_duplicate}\"");
        setup.config = setup.config.replace(&secrets, &asked);
        let program = setup.start().await;
        let dead = send_and_wait(&program, "evt_dead", "dead").await;
        let again = Sender::new().request("evt_dead");
        let answer = Connection::to(program.port).send(&again).await.unwrap();
        assert_eq!((answer.status, answer.word.as_str()), (200, "duplicate"));
        if runs == 2 {
            until("the dead letter is done", Duration::from_secs(10), || async {
                program.stats().await.total.done == 1
            })
            .await;
        }
        let stats = program.stats().await.total;
        assert_eq!((stats.events, stats.duplicates, stats.dead), (1, 1, 1));
        assert_eq!(sink.count(), runs, "{on_dead_duplicate}");
        let keys: std::collections::HashSet<_> =
            sink.calls().into_iter().map(|call| call.key).collect();
        assert_eq!(keys.into_iter().collect::<Vec<_>>(), [dead["id"].as_str().unwrap()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::behaving(|call| first(call, Behaviour::Status(429, Some("2".to_owned()))));
    let retry = r#"{ attempts = 3, first = "1ms", max = "1ms" }"#;
    let program = setup(folder.path(), &sink, retry).start().await;
    send_and_wait(&program, "evt_429", "done").await;
    let calls = sink.calls();
    let waited = calls[1].at - calls[0].at;
    assert!(waited >= Duration::from_secs(2), "waited only {waited:?}");
    assert!(waited < Duration::from_secs(5), "waited {waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_a_new_delivery_with_a_new_key() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let program = setup(folder.path(), &sink, "{ attempts = 1 }").start().await;
    let delivery = send_and_wait(&program, "evt_again", "done").await;
    let event = delivery["event"].as_str().unwrap();
    let path = format!("/api/v1/events/{event}/replay");
    let made = program.api("POST", &path, Some(json!({}))).await;
    until("the replay is done", Duration::from_secs(10), || async { sink.count() == 2 }).await;
    let calls = sink.calls();
    assert_ne!(calls[0].key, calls[1].key);
    assert_eq!(calls[1].key, made["deliveries"][0].as_str().unwrap());
    assert_eq!(calls[1].headers["hookonce-replay-of"], delivery["id"].as_str().unwrap());
    assert_eq!(calls[0].body, calls[1].body);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_event_starts_its_handler_within_milliseconds() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let program = setup(folder.path(), &sink, "{ attempts = 1 }").start().await;
    let (sender, mut connection) = (Sender::new(), Connection::to(program.port));
    let mut waits = Vec::new();
    for number in 0..50 {
        let request = sender.request(&format!("evt_{number}"));
        let sent = std::time::Instant::now();
        assert_eq!(connection.send(&request).await.unwrap().status, 200);
        until("it is handled", Duration::from_secs(5), || async { sink.count() > number }).await;
        waits.push(sink.calls()[number].at - sent);
    }
    waits.sort_unstable();
    // Far below the poll interval of 500 ms, and far above what a busy machine adds.
    assert!(waits[25] < Duration::from_millis(100), "the median event waited {:?}", waits[25]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_running_attempts_end_and_leaves_the_rest_queued() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::behaving(|_| Behaviour::Slow(Duration::from_millis(200)));
    let setup = setup(folder.path(), &sink, "{ attempts = 5 }");
    let program = setup.start().await;
    let (sender, mut connection) = (Sender::new(), Connection::to(program.port));
    for number in 0..40 {
        let request = sender.request(&format!("evt_{number}"));
        assert_eq!(connection.send(&request).await.unwrap().status, 200);
    }
    until("the first attempts run", Duration::from_secs(5), || async { sink.count() >= 16 }).await;
    assert!(program.terminate().success());
    let program = setup.start().await;
    until("all are done", Duration::from_secs(10), || async {
        program.stats().await.total.done == 40
    })
    .await;
    assert_eq!(sink.count(), 40, "no attempt was cut off or run twice by the stop");
}
