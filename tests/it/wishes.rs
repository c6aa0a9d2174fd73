//! What a person wishes of deliveries, and is told about it: in order, all of it, once, and no yes where
//! nothing was done.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;

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
