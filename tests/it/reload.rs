//! The configuration changes while requests and events are under way: nobody is turned away for it,
//! and nothing is lost.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;

use crate::support::{
    alone,
    program::{Program, Setup},
    sender::{Connection, SECRET, Sender},
    sink::Sink,
    until,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A store, a source `stripe` with these secrets, and what else there is.
fn config(secrets: &[&str], rest: &str) -> String {
    format!(
        "[store]\nurl = \"sqlite:hookonce.db\"\n[sources.stripe]\nsecrets = {secrets:?}\n{rest}"
    )
}

fn handler(name: &str, sink: &Sink) -> String {
    format!("[handlers.{name}]\nsources = [\"stripe\"]\nurl = \"{}\"\n", sink.url())
}

/// Providers that send one event after the other until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    senders: JoinSet<Vec<(String, u16)>>,
}

impl Load {
    /// Begins with `senders` connections, which sign with `secret`.
    fn start(port: u16, name: &'static str, secret: &str, senders: usize) -> Self {
        let (stop, mut running) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for connection in 0..senders {
            let (stop, sender) = (Arc::clone(&stop), Sender::with(secret));
            running.spawn(async move {
                let (mut sent, mut to) = (Vec::new(), Connection::to(port));
                while !stop.load(Ordering::Relaxed) {
                    let id = format!("evt_{name}_{connection}_{}", sent.len());
                    let answer = to.send(&sender.request(&id)).await;
                    sent.push((id, answer.map_or(0, |answer| answer.status)));
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                sent
            });
        }
        Self { stop, senders: running }
    }

    /// Stops, and gives the ids that were sent: every one of them was answered 200.
    async fn stop(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        let sent: Vec<_> = self.senders.join_all().await.into_iter().flatten().collect();
        let failed: Vec<_> = sent.iter().filter(|(_, status)| *status != 200).collect();
        assert!(failed.is_empty(), "{} of {} failed: {failed:?}", failed.len(), sent.len());
        assert!(sent.len() > 10, "hardly anything was sent: {}", sent.len());
        sent.into_iter().map(|(id, _)| id).collect()
    }
}

async fn reload(program: &Program) -> serde_json::Value {
    program.api("POST", "/api/v1/reload", None).await
}

/// Waits until exactly these events have reached the sink, each once.
async fn each_once(what: &str, sink: &Sink, sent: &BTreeSet<String>) {
    until(what, PATIENCE, || async { sink.count() >= sent.len() }).await;
    let handled = sink.per_event();
    assert!(handled.values().all(|times| *times == 1), "{what}: handled twice");
    assert_eq!(handled.into_keys().collect::<BTreeSet<_>>(), *sent, "{what}");
}

/// Waits until the load of now has reached the handler, too.
async fn more_are_handled(sink: &Sink) {
    let enough = sink.count() + 20;
    until("more events are handled", PATIENCE, || async { sink.count() >= enough }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_reloads_under_load_fail_no_request_and_lose_no_event() {
    let _alone = alone().await;
    let (folder, sink) = (tempfile::tempdir().unwrap(), Sink::start());
    let one = config(&[SECRET], &handler("billing", &sink));
    let other = format!(
        "{one}concurrency = 2\ntimeout = \"20s\"\n[sources.github]\nsecrets = [\"another secret\"]\n"
    );
    let setup = Setup::new(folder.path(), &one);
    let program = setup.start().await;
    let load = Load::start(setup.port, "load", SECRET, 4);
    let client = hookonce::handler::http_client();
    let url = format!("http://127.0.0.1:{}/api/v1/reload", setup.admin_port);
    for round in 0..1000 {
        setup.write(if round % 2 == 0 { &other } else { &one });
        let reloaded: serde_json::Value =
            client.post(&url).send().await.unwrap().json().await.unwrap();
        assert_eq!(reloaded["needs_restart"], serde_json::json!([]));
        let names = &reloaded["sources"][if round % 2 == 0 { "added" } else { "removed" }];
        assert_eq!(*names, serde_json::json!(["github"]), "round {round}");
    }
    let sent = load.stop().await;
    each_once("every event is handled", &sink, &sent).await;
    let (_, metrics) = program.ask("GET", "/metrics", None).await.unwrap();
    assert!(metrics.contains("hookonce_reloads_total{outcome=\"applied\"} 1000"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_rotated_under_load_and_no_valid_request_is_refused() {
    let (folder, sink) = (tempfile::tempdir().unwrap(), Sink::start());
    let (old, new) = (SECRET, "whsec_the_next_secret");
    let billing = handler("billing", &sink);
    let setup = Setup::new(folder.path(), &config(&[old], &billing));
    let program = setup.start().await;

    let with_old = Load::start(setup.port, "old", old, 2);
    more_are_handled(&sink).await;
    setup.write(&config(&[old, new], &billing));
    reload(&program).await;
    let with_new = Load::start(setup.port, "new", new, 2); // the provider has both for a while
    more_are_handled(&sink).await;
    let mut sent = with_old.stop().await;
    setup.write(&config(&[new], &billing));
    reload(&program).await;
    more_are_handled(&sink).await;
    sent.extend(with_new.stop().await);

    each_once("every event of both secrets is handled", &sink, &sent).await;
    let late = Connection::to(setup.port).send(&Sender::with(old).request("evt_late")).await;
    assert_eq!(late.unwrap().status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_leaves_the_old_configuration_running_and_says_so() {
    let (folder, sink) = (tempfile::tempdir().unwrap(), Sink::start());
    let good = config(&[SECRET], &handler("billing", &sink));
    let setup = Setup::new(folder.path(), &good);
    let program = setup.start().await;
    let load = Load::start(setup.port, "load", SECRET, 2);

    let file = setup.write(&format!("{good}concurrency = 0\n[sources.nobody]\n"));
    let (status, said) = program.ask("POST", "/api/v1/reload", None).await.unwrap();
    assert_eq!(status, 422, "{said}");
    assert!(said.contains("handlers.billing.concurrency"), "{said}");
    assert!(said.contains("sources.nobody"), "every mistake is told: {said}");
    assert!(!said.contains(SECRET) && !program.log().contains(SECRET));
    let command = setup.command(&program, &["reload"]);
    assert_eq!(command.status.code(), Some(64), "{command:?}");

    program.hang_up();
    let refused = "the configuration was not reloaded, and the old one goes on";
    let told = || async { program.log().matches(refused).count() == 3 };
    until("the log says that SIGHUP led to nothing", PATIENCE, told).await;

    setup.write(""); // half written, perhaps
    let (status, said) = program.ask("POST", "/api/v1/reload", None).await.unwrap();
    assert_eq!(status, 422, "{said}");
    std::fs::remove_file(&file).unwrap();
    let (status, said) = program.ask("POST", "/api/v1/reload", None).await.unwrap();
    assert_eq!(status, 422, "{said}");

    assert_eq!(program.ask("GET", "/readyz", None).await.unwrap().0, 200);
    let (_, metrics) = program.ask("GET", "/metrics", None).await.unwrap();
    assert!(metrics.contains("hookonce_reloads_total{outcome=\"refused\"} 5"), "{metrics}");

    setup.write(&good);
    let command = setup.command(&program, &["reload", "--json"]);
    assert!(command.status.success(), "{command:?}");
    let sent = load.stop().await;
    each_once("every event is handled", &sink, &sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_come_go_and_are_renamed_while_events_flow_and_nothing_is_lost() {
    let (folder, sink, added) = (tempfile::tempdir().unwrap(), Sink::start(), Sink::start());
    let setup = Setup::new(folder.path(), &config(&[SECRET], &handler("billing", &sink)));
    let program = setup.start().await;
    let load = Load::start(setup.port, "load", SECRET, 2);

    more_are_handled(&sink).await;
    let both = format!("{}{}", handler("billing", &sink), handler("audit", &added));
    setup.write(&config(&[SECRET], &both));
    reload(&program).await;
    until("the new handler has work", PATIENCE, || async { added.count() > 10 }).await;
    setup.write(&config(&[SECRET], &handler("billing", &sink)));
    let reloaded = reload(&program).await;
    assert_eq!(reloaded["handlers"]["removed"], serde_json::json!(["audit"]));
    more_are_handled(&sink).await;
    setup.write(&config(&[SECRET], &handler("invoices", &sink)));
    reload(&program).await;
    more_are_handled(&sink).await;
    let sent = load.stop().await;

    // What was queued for the old name waits for a person, who is told.
    let none_runs = || async { program.stats().await.total.leased == 0 };
    until("what was claimed under the old names has ended", PATIENCE, none_runs).await;
    let gone = serde_json::json!({ "handler": "billing", "to": "invoices" });
    program.api("POST", "/api/v1/deliveries/move", Some(gone)).await;
    each_once("every event is handled under one name or the other", &sink, &sent).await;

    // A handler that comes back takes up what waited for it.
    setup.write(&config(
        &[SECRET],
        &format!("{}{}", handler("invoices", &sink), handler("audit", &added)),
    ));
    reload(&program).await;
    let nothing_waits = || async {
        let total = program.stats().await.total;
        (total.queued, total.leased) == (0, 0)
    };
    until("the handler that came back has done its work", PATIENCE, nothing_waits).await;
    assert!(added.per_event().values().all(|times| *times == 1));
    assert_eq!(program.stats().await.total.dead, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_a_restart_is_named_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let plain = config(&[SECRET], "");
    let setup = Setup::new(folder.path(), &plain);
    let program = setup.start().await;
    setup
        .write(&format!("{}[workers]\nlease = \"7s\"\n", plain.replace("hookonce.db", "other.db")));
    let reloaded = reload(&program).await;
    assert_eq!(reloaded["needs_restart"], serde_json::json!(["store.url", "workers.lease"]));
    let answer = Connection::to(setup.port).send(&Sender::new().request("evt_1")).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(!setup.data_dir().join("other.db").exists());
}
