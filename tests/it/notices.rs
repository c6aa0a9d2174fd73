//! What a person is told without having asked, by the real program.

use std::{fs, path::Path, time::Duration};

use hookonce::{
    clock::SystemClock,
    provider::{self, Settings},
    request::{Headers, Unverified},
    secret::Secret,
    source::{Proof, Source},
};
use serde_json::{Value, json};

use crate::support::{
    program::{Program, Setup},
    sender::{Connection, SECRET, Sender},
    sink::{Behaviour, Call, Sink},
    until,
};

const PATIENCE: Duration = Duration::from_secs(30);
const SIGNING_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A handler that says never to some events, until it is mended.
fn handler() -> Sink {
    Sink::behaving(|call| {
        let is_broken = call.event_id.starts_with("evt_dead") && call.attempt == 1;
        Behaviour::Status(if is_broken { 410 } else { 200 }, None)
    })
}

fn config(handler: &Sink, notices: &str) -> String {
    format!(
        "[store]\nurl = \"sqlite:hookonce.db\"\n[sources.stripe]\nsecrets = [\"{SECRET}\"]\n[handlers.billing]\nurl = \"{}\"\n{notices}",
        handler.url()
    )
}

async fn send(setup: &Setup, id: &str) {
    let answer = Connection::to(setup.port).send(&Sender::new().request(id)).await.unwrap();
    assert_eq!(answer.status, 200);
}

async fn dead_now(program: &Program, count: u64) {
    let are = || async { program.stats().await.total.dead_now == count };
    until("there are so many dead letters", PATIENCE, are).await;
}

fn json_of(call: &Call) -> Value {
    serde_json::from_slice(&call.body).unwrap()
}

/// Looks at a notice as whoever gets it does: with any library for Standard Webhooks.
fn verifies(call: &Call) -> bool {
    let secrets = vec![Secret::new(SIGNING_SECRET)];
    let settings = Settings { secrets, ..Settings::default() };
    let rules = provider::find("standardwebhooks").unwrap();
    let source = Source::new("told", rules, settings).unwrap();
    let mut headers = Headers::default();
    for (name, value) in &call.headers {
        headers.push(name, value.clone());
    }
    let now = SystemClock::start().now();
    let request = Unverified {
        method: "POST".to_owned(),
        url: String::new(),
        headers,
        body: call.body.clone(),
        received_at: now,
    };
    matches!(source.verify(request, now), Ok(Proof::Holds(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_told_once_signed_and_so_is_its_end() {
    let (folder, handler) = (tempfile::tempdir().unwrap(), handler());
    // The first attempt fails, and the same notice comes again.
    let told = Sink::behaving(|call| match call.attempt {
        1 => Behaviour::Status(500, None),
        _ => Behaviour::Status(200, None),
    });
    let notices =
        format!("[notices]\nurl = \"{}\"\nsigning_secret = \"{SIGNING_SECRET}\"\n", told.url());
    let setup = Setup::new(folder.path(), &config(&handler, &notices));
    let program = setup.start().await;
    send(&setup, "evt_dead_1").await;
    until("it is told", PATIENCE, || async { told.count() == 2 }).await;
    let calls = told.calls();
    let notice = json_of(&calls[1]);
    assert_eq!((&notice["kind"], &notice["state"]), (&json!("dead_letters"), &json!("begun")));
    assert_eq!((&notice["subject"], &notice["count"]), (&json!("billing"), &json!(1)));
    assert!(calls.iter().all(verifies), "{calls:?}");
    assert_eq!(calls[0].key, calls[1].key, "it is the same notice");
    assert_eq!(calls[0].body, calls[1].body);

    send(&setup, "evt_dead_2").await;
    dead_now(&program, 2).await;
    tokio::time::sleep(hookonce::limits::NOTICES_LOOK_EVERY * 2).await;
    assert_eq!(told.count(), 2, "the time for another has not come");

    let redriven = setup.command(&program, &["redrive", "--handler", "billing"]);
    assert!(redriven.status.success(), "{redriven:?}");
    dead_now(&program, 0).await;
    until("its end is told", PATIENCE, || async { told.count() == 4 }).await;
    assert_eq!(json_of(&told.calls()[3])["state"], json!("ended"));
    let (_, metrics) = program.ask("GET", "/metrics", None).await.unwrap();
    let sent = "hookonce_notices_total{kind=\"dead_letters\",outcome=\"sent\"} 2";
    assert!(metrics.contains(sent), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_told_after_a_reload_and_a_bad_one_changes_nothing() {
    let (folder, handler) = (tempfile::tempdir().unwrap(), handler());
    let setup = Setup::new(folder.path(), &config(&handler, ""));
    let program = setup.start().await;
    send(&setup, "evt_dead_1").await;
    dead_now(&program, 1).await;

    setup.write(&config(&handler, "[notices]\nurl = \"nowhere\"\n"));
    assert_eq!(program.ask("POST", "/api/v1/reload", None).await.unwrap().0, 422);
    let file = |name: &str| folder.path().join(name);
    let script = "env > $0.part && cat > $1 && mv $0.part $0";
    let words = json!(["sh", "-c", script, file("variables"), file("notice")]);
    setup.write(&config(&handler, &format!("[notices]\ncommand = {words}\n")));
    program.api("POST", "/api/v1/reload", None).await;

    until("the command has run", PATIENCE, || async { file("variables").exists() }).await;
    let notice: Value = serde_json::from_str(&read(&file("notice"))).unwrap();
    let variables = read(&file("variables"));
    for (name, field) in
        [("KIND", "kind"), ("STATE", "state"), ("SUBJECT", "subject"), ("TEXT", "text")]
    {
        let line = format!("HOOKONCE_NOTICE_{name}={}\n", notice[field].as_str().unwrap());
        assert!(variables.contains(&line), "{line} is not in {variables}");
    }
    assert!(variables.contains("HOOKONCE_NOTICE_COUNT=1\n"), "{variables}");
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_when_told_holds_nothing_up() {
    let (folder, handler) = (tempfile::tempdir().unwrap(), handler());
    let told = Sink::behaving(|_| Behaviour::Hang);
    let setup = Setup::new(
        folder.path(),
        &config(&handler, &format!("[notices]\nurl = \"{}\"\n", told.url())),
    );
    let program = setup.start().await;
    send(&setup, "evt_dead").await;
    until("somebody is told, and hangs", PATIENCE, || async { told.count() == 1 }).await;
    let begun = std::time::Instant::now();
    for event in 0..50 {
        send(&setup, &format!("evt_{event}")).await;
    }
    until("all are handled", PATIENCE, || async { handler.count() == 51 }).await;
    assert!(begun.elapsed() < hookonce::limits::NOTICE_TIMEOUT / 2, "{:?}", begun.elapsed());
    assert_eq!(told.count(), 1, "it hangs still");
    let begun = std::time::Instant::now();
    assert!(program.terminate().success());
    assert!(begun.elapsed() < hookonce::limits::NOTICE_TIMEOUT / 2, "the end waits for no notice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_of_refusals_is_told() {
    let (folder, handler, told) = (tempfile::tempdir().unwrap(), handler(), Sink::start());
    let notices = format!("[notices]\nurl = \"{}\"\n", told.url());
    let setup = Setup::new(folder.path(), &config(&handler, &notices));
    let _program = setup.start().await;
    let forger = Sender::with("whsec_of_a_forger");
    let mut forged = Connection::to(setup.port);
    for event in 0..hookonce::limits::REFUSALS_JUMP_MIN {
        let answer = forged.send(&forger.request(&format!("evt_forged_{event}"))).await.unwrap();
        assert_eq!(answer.status, 401);
    }
    let notice = |kind: &str, state: &str| {
        let is =
            |notice: &Value| (&notice["kind"], &notice["state"]) == (&json!(kind), &json!(state));
        told.calls().iter().map(json_of).find(is)
    };
    let has = async |kind: &str, state: &str| {
        until(kind, PATIENCE, || async { notice(kind, state).is_some() }).await;
    };
    has("refusals_jump", "begun").await;
    assert_eq!(notice("refusals_jump", "begun").unwrap()["count"], json!(20));
    assert!(notice("dead_letters", "begun").is_none());
}
