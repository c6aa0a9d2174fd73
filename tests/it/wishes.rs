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
