//! What a person wishes of deliveries, and is told about it: in order, all of it, once, and no yes where
//! nothing was done.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    program::{Program, Setup},
    sender::{Connection, SECRET, Sender},
    sink::{Behaviour, Sink},
    until,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A handler that says never to everything, until it is told to be well.
fn ailing() -> (Sink, Arc<AtomicBool>) {
    let is_well = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_well);
    let sink = Sink::behaving(move |_| {
        let status = if asked.load(Ordering::SeqCst) { 200 } else { 410 };
        Behaviour::Status(status, None)
    });
    (sink, is_well)
}

fn config(sink: &Sink, more: &str) -> String {
    let url = sink.url();
    format!(
        "[store]\nurl = \"sqlite:hookonce.db\"\n[sources.stripe]\nsecrets = [\"{SECRET}\"]\n\
         [handlers.billing]\nurl = \"{url}\"\n{more}\n"
    )
}

/// Sends `evt_0`, `evt_1` …; each is accepted in a millisecond of its own, so that their ids are in order.
async fn send(setup: &Setup, events: usize) {
    let (sender, mut to) = (Sender::new(), Connection::to(setup.port));
    for event in 0..events {
        let answer = to.send(&sender.request(&format!("evt_{event}"))).await.unwrap();
        assert_eq!((answer.status, answer.word.as_str()), (200, "accepted"));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Sends so many events to a handler that says never, and waits until it has said so.
async fn die(setup: &Setup, program: &Program, events: usize) {
    send(setup, events).await;
    until("all are dead", PATIENCE, || async {
        program.stats().await.total.dead_now == events as u64
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_at_a_rate_keeps_the_order_of_admission() {
    let (folder, (sink, is_well)) = (tempfile::tempdir().unwrap(), ailing());
    let ordered = "order_by = \"/data/object/id\"\non_dead = \"skip\"";
    let setup = Setup::new(folder.path(), &config(&sink, ordered));
    let program = setup.start().await;
    die(&setup, &program, 4).await;
    is_well.store(true, Ordering::SeqCst);

    let slowly = json!({ "handler": "billing", "per_second": 2 });
    program.api("POST", "/api/v1/redrives", Some(slowly)).await;
    until("all are handled", PATIENCE, || async { sink.count() == 8 }).await;
    let again: Vec<_> = sink.calls().into_iter().skip(4).map(|call| call.event_id).collect();
    assert_eq!(again, ["evt_0", "evt_1", "evt_2", "evt_3"]);
}

/// The address of the only event, as the API has it.
async fn only_event(program: &Program) -> String {
    let page = program.api("GET", "/api/v1/events", None).await;
    let [event] = page["events"].as_array().unwrap().as_slice() else { panic!("{page}") };
    format!("/events/{}", event["id"].as_str().unwrap())
}

/// The hidden fields of the form on this page that is sent to `action`.
async fn hidden_fields(program: &Program, page: &str, action: &str) -> String {
    let (status, html) = program.ask("GET", page, None).await.unwrap();
    assert_eq!(status, 200, "{html}");
    let form = html.split(&format!("action=\"{action}\"")).nth(1).unwrap();
    let form = form.split("</form>").next().unwrap();
    let value = |name: &str| {
        let field = form.split(&format!("name=\"{name}\" value=\"")).nth(1).unwrap();
        field.split('"').next().unwrap()
    };
    format!("form_key={}&wish={}", value("form_key"), value("wish"))
}

/// Sends a form; gives the status and the page.
async fn press(program: &Program, action: &str, fields: &str) -> (u16, String) {
    let url = format!("http://127.0.0.1:{}{action}", program.admin_port);
    let form = hookonce::handler::http_client().post(url);
    let form = form.header("content-type", "application/x-www-form-urlencoded");
    let answer = form.body(fields.to_owned()).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_button_that_is_pressed_twice_is_one_wish() {
    let (folder, (sink, is_well)) = (tempfile::tempdir().unwrap(), ailing());
    let setup = Setup::new(folder.path(), &config(&sink, ""));
    let program = setup.start().await;
    die(&setup, &program, 1).await;
    is_well.store(true, Ordering::SeqCst);
    let event = only_event(&program).await;
    let api = format!("/api/v1{event}");
    let deliveries = async || program.api("GET", &api, None).await["deliveries"].clone();

    let replay = format!("{event}/replay");
    let fields = hidden_fields(&program, &event, &replay).await;
    for _ in 0..2 {
        assert_eq!(press(&program, &replay, &fields).await.0, 303);
    }
    assert_eq!(deliveries().await.as_array().unwrap().len(), 2);
    let next_page = hidden_fields(&program, &event, &replay).await;
    assert_eq!(press(&program, &replay, &next_page).await.0, 303);
    assert_eq!(deliveries().await.as_array().unwrap().len(), 3, "that is another wish");
    until("both are handled", PATIENCE, || async { program.stats().await.total.done == 2 }).await;

    let dead = deliveries().await[0]["id"].as_str().unwrap().to_owned();
    let redrive = format!("/deliveries/{dead}/redrive");
    let fields = hidden_fields(&program, "/dead", &redrive).await;
    for done in [3, 3] {
        assert_eq!(press(&program, &redrive, &fields).await.0, 303);
        until("it is handled", PATIENCE, || async { program.stats().await.total.done == done })
            .await;
    }
    assert_eq!(sink.count(), 4, "it died once, and was handled by each wish once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_whose_answer_was_lost_can_be_sent_again() {
    let (folder, sink) = (tempfile::tempdir().unwrap(), Sink::start());
    let setup = Setup::new(folder.path(), &config(&sink, ""));
    let program = setup.start().await;
    send(&setup, 1).await;
    let replay = format!("/api/v1{}/replay", only_event(&program).await);
    let ask = async |wish: Value| program.ask("POST", &replay, Some(wish)).await.unwrap();
    let wish = json!({ "wish": Uuid::now_v7() });
    let first = ask(wish.clone()).await;
    assert_eq!(first.0, 200, "{first:?}");
    assert_eq!(ask(wish).await, first);
    assert_ne!(ask(json!({ "wish": Uuid::now_v7() })).await, first);
    let (status, why) = ask(json!({ "wish": Uuid::nil() })).await;
    assert_eq!(status, 400, "{why}");
    until("all are handled", PATIENCE, || async { program.stats().await.total.done == 3 }).await;
    assert_eq!(sink.count(), 3, "the event, and two replays");
}

/// More than one wish changes.
const MANY: usize = 10_161;

/// Queues so many deliveries of the one event that is there.
const FILL: &str = "
BEGIN;
CREATE TEMP TABLE one AS SELECT * FROM deliveries;
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < MANY - 1)
INSERT INTO deliveries
SELECT CAST(substr(id, 1, 6) || randomblob(10) AS BLOB), event, source, handler, state, due_at, token,
    attempts, attempts_before_redrive, deaths_in_a_row, leased_at, replay_of, redriven_by, last_error,
    order_key, skips, place
FROM numbers, one;
UPDATE events SET deliveries_open = MANY;
UPDATE counts SET queued = MANY WHERE handler = 'billing';
COMMIT;";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wished_of_a_handler_is_done_to_all_it_has() {
    let (folder, sink) = (tempfile::tempdir().unwrap(), Sink::start());
    let setup = Setup::new(folder.path(), &config(&sink, ""));
    let program = setup.start().await;
    program.api("POST", "/api/v1/handlers/billing/pause", None).await;
    send(&setup, 1).await;
    assert!(program.terminate().success());
    let database = rusqlite::Connection::open(setup.data_dir().join("hookonce.db")).unwrap();
    database.execute_batch(&FILL.replace("MANY", &MANY.to_string())).unwrap();
    drop(database);
    let program = setup.start().await;
    let counted = async || {
        let total = program.stats().await.total;
        (total.queued, total.dead_now)
    };
    assert_eq!(counted().await, (MANY as u64, 0));

    let of_billing = ["--handler", "billing", "--json"];
    let said = |output: std::process::Output| {
        assert!(output.status.success(), "{output:?}");
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        (said["deliveries"].as_array().unwrap().len(), said["more"].clone())
    };
    let kill = setup.command(&program, &[&["deliveries", "kill"], &of_billing[..]].concat());
    assert_eq!(said(kill), (MANY, json!(false)));
    assert_eq!(counted().await, (0, MANY as u64));
    let redrive = setup.command(&program, &[&["redrive"], &of_billing[..]].concat());
    assert_eq!(said(redrive), (MANY, json!(false)));
    assert_eq!(counted().await, (MANY as u64, 0));

    // Who asks the API is told that there is more.
    for (most, more) in [(10_000, true), (MANY - 10_000, false)] {
        let all = json!({ "handler": "billing" });
        let killed = program.api("POST", "/api/v1/deliveries/kill", Some(all)).await;
        assert_eq!(killed["deliveries"].as_array().unwrap().len(), most);
        assert_eq!(killed["more"], json!(more));
    }

    let arguments = [&["deliveries", "move", "--to", "billing"], &of_billing[..]].concat();
    let moved_nowhere = setup.command(&program, &arguments);
    assert_eq!(moved_nowhere.status.code(), Some(1), "it would never come to an end");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_handler_only_those_are_unblocked_that_are_in_the_way() {
    let (folder, (sink, _)) = (tempfile::tempdir().unwrap(), ailing());
    let setup = Setup::new(folder.path(), &config(&sink, "order_by = \"/data/object/id\""));
    let program = setup.start().await;
    send(&setup, 2).await;
    for dead in [1, 2] {
        until("one is dead", PATIENCE, || async { program.stats().await.total.dead_now == dead })
            .await;
        let all = json!({ "handler": "billing" });
        let unblocked = program.api("POST", "/api/v1/deliveries/unblock", Some(all)).await;
        assert_eq!(unblocked["deliveries"].as_array().unwrap().len(), 1, "{unblocked}");
        assert_eq!(unblocked["more"], json!(false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_that_was_stopped_does_not_go_on_in_the_next_one() {
    let (folder, (sink, _)) = (tempfile::tempdir().unwrap(), ailing());
    let setup = Setup::new(folder.path(), &config(&sink, ""));
    let program = setup.start().await;
    die(&setup, &program, 40).await;
    program.api("POST", "/api/v1/handlers/billing/pause", None).await;
    let redrives = "/api/v1/redrives";
    let begin = async |per_second: u64| {
        let ask = json!({ "handler": "billing", "per_second": per_second });
        program.api("POST", redrives, Some(ask)).await["id"].clone()
    };
    let redriven =
        async || program.api("GET", redrives, None).await[0]["redriven"].as_u64().unwrap();

    let first = begin(10).await;
    until("a lot is redriven", PATIENCE, || async { redriven().await == 10 }).await;
    program.api("POST", "/api/v1/redrives/billing/stop", None).await;
    assert_ne!(begin(1).await, first);
    until("the next one goes on", PATIENCE, || async { redriven().await >= 3 }).await;
    let queued = program.stats().await.total.queued;
    assert!(queued < 20, "{queued} are queued again: the first one goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_to_be_done_where_nothing_was() {
    let (folder, sink) = (tempfile::tempdir().unwrap(), Sink::start());
    let setup = Setup::new(folder.path(), &config(&sink, ""));
    let program = setup.start().await;
    send(&setup, 1).await;
    until("it is done", PATIENCE, || async { program.stats().await.total.done == 1 }).await;
    let event = program.api("GET", &format!("/api/v1{}", only_event(&program).await), None).await;
    let done = event["deliveries"][0]["id"].as_str().unwrap();
    let nobody = Uuid::now_v7().to_string();

    for what in ["redrive", "kill", "move", "unblock"] {
        let path = format!("/api/v1/deliveries/{what}");
        let mut ask = json!({ "ids": [done] });
        if what == "move" {
            ask["to"] = json!("billing");
        }
        let (status, why) = program.ask("POST", &path, Some(ask.clone())).await.unwrap();
        assert!(matches!(status, 404 | 409), "{what} of what is done: {status} {why}");
        ask["ids"] = json!([nobody]);
        assert_eq!(program.ask("POST", &path, Some(ask)).await.unwrap().0, 404, "{what}");
        if what != "move" {
            let of_nobody = json!({ "handler": "typo" });
            assert_eq!(program.ask("POST", &path, Some(of_nobody)).await.unwrap().0, 404, "{what}");
        }
    }
    for arguments in [
        &["redrive", nobody.as_str()][..],
        &["redrive", "--handler", "typo"],
        &["deliveries", "kill", "--handler", "typo"],
        &["deliveries", "move", "--handler", "typo", "--to", "billing"],
        &["deliveries", "unblock", "--handler", "typo"],
        &["deliveries", "show", &nobody],
    ] {
        let said = setup.command(&program, arguments);
        assert_eq!(said.status.code(), Some(1), "{arguments:?}: {said:?}");
    }
    for arguments in [&["redrive", "--handler", "billing"][..], &["deliveries", "show", done]] {
        let said = setup.command(&program, arguments);
        assert!(said.status.success(), "nothing is wrong with this: {arguments:?}: {said:?}");
    }

    // The button of a page that is older than what became of its delivery.
    let (_, html) = program.ask("GET", "/handlers", None).await.unwrap();
    let key = html.split("name=\"form_key\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let redrive = format!("/deliveries/{done}/redrive");
    let (status, page) = press(&program, &redrive, &format!("form_key={key}")).await;
    assert_eq!(status, 409, "{page}");
    assert!(page.contains("is done, and not dead"), "{page}");
}
