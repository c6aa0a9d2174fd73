//! What the operator reads: every line says what it is about, a flood writes few of them, and the metrics
//! tell what waits.

use std::time::Duration;

use serde_json::Value;

use crate::support::{
    program::{Program, Setup},
    sender::{Connection, SECRET, Sender},
    sink::{Behaviour, Sink},
    until,
};

const PATIENCE: Duration = Duration::from_secs(20);

fn config(store: &str, sink: &Sink) -> String {
    format!(
        "[log]\nformat = \"json\"\n[store]\nurl = \"{store}\"\n[sources.stripe]\nsecrets = [{SECRET:?}]\n[handlers.billing]\nsources = [\"stripe\"]\nurl = \"{}\"\n",
        sink.url()
    )
}

/// The lines with this message, as they were written.
fn lines(program: &Program, message: &str) -> Vec<Value> {
    let log = program.log();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    lines.filter(|line| line["message"] == message).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_a_request_and_of_an_attempt_has_its_ids() {
    let (folder, sink) = (tempfile::tempdir().unwrap(), Sink::behaving(|_| Behaviour::Abort));
    let setup = Setup::new(folder.path(), &config("sqlite:hookonce.db", &sink));
    let program = setup.start().await;
    let mut to = Connection::to(setup.port);
    let accepted = to.send(&Sender::new().request("evt_1")).await.unwrap();
    let answer: Value = serde_json::from_str(&accepted.body).unwrap();
    let refused = to.send(&Sender::with("whsec_another").request("evt_2")).await.unwrap();
    assert_eq!((accepted.status, refused.status), (200, 401));
    until("the attempt has failed", PATIENCE, || async {
        !lines(&program, "attempt failed").is_empty()
    })
    .await;

    let failed = &lines(&program, "attempt failed")[0];
    assert_eq!(failed["span"]["event.id"], answer["id"]);
    assert_eq!(failed["span"]["handler.name"], "billing");
    assert_eq!(failed["span"]["attempt.number"], 1);
    assert_eq!(failed["span"]["delivery.id"], sink.calls()[0].key);
    let refused = &lines(&program, "refused a request")[0];
    assert_eq!(refused["source.name"], "stripe");
    assert!(refused["span"]["request.id"].is_string(), "{refused}");

    let (_, metrics) = program.ask("GET", "/metrics", None).await.unwrap();
    for line in [
        "hookonce_oldest_due_seconds{handler=\"billing\"} ",
        "hookonce_store_seconds_count{verb=\"admit\"} 1",
        "hookonce_store_seconds_count{verb=\"settle\"} 1",
        "hookonce_build_info{version=",
    ] {
        assert!(metrics.contains(line), "{line} is not in:\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_could_not_be_admitted_is_named_all_the_same() {
    let (folder, sink) = (tempfile::tempdir().unwrap(), Sink::start());
    let nobody = format!("redis://127.0.0.1:{}", crate::support::free_port());
    let setup = Setup::new(folder.path(), &config(&nobody, &sink));
    let program = setup.spawn();
    let mut to = Connection::to(setup.port);
    until("it answers", PATIENCE, || async {
        program.ask("GET", "/healthz", None).await.is_some()
    })
    .await;
    let answer = to.send(&Sender::new().request("evt_1")).await.unwrap();
    assert_eq!(answer.status, 503);
    let said = lines(&program, "cannot accept: answered 503");
    assert!(said[0]["span"]["event.id"].is_string(), "{said:?}");
    assert!(said[0]["span"]["request.id"].is_string(), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_forged_requests_and_of_failing_attempts_writes_few_lines() {
    const FLOOD: usize = 500;
    let (folder, sink) =
        (tempfile::tempdir().unwrap(), Sink::behaving(|_| Behaviour::Status(500, None)));
    let setup = Setup::new(folder.path(), &config("sqlite:hookonce.db", &sink));
    let program = setup.start().await;
    let begun = std::time::Instant::now();
    let mut to = Connection::to(setup.port);
    for number in 0..FLOOD {
        let forged = Sender::with("whsec_another").request(&format!("evt_forged_{number}"));
        assert_eq!(to.send(&forged).await.unwrap().status, 401);
        let good = Sender::new().request(&format!("evt_{number}"));
        assert_eq!(to.send(&good).await.unwrap().status, 200);
    }
    until("each was attempted", PATIENCE, || async { sink.per_event().len() == FLOOD }).await;
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    let (refused, failed) =
        (lines(&program, "refused a request"), lines(&program, "attempt failed"));
    assert!((1..=seconds).contains(&refused.len()), "{} in {seconds} s", refused.len());
    assert!((1..=seconds * 10).contains(&failed.len()), "{} in {seconds} s", failed.len());
}
