//! A configuration that changed while work was queued, and a store from the future.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    program::Setup,
    sender::{Connection, SECRET, Sender},
    sink::{Behaviour, Sink},
    until,
};

fn config(handler: &str, sink: &Sink) -> String {
    format!(
        r#"
[store]
url = "sqlite:hookonce.db"
[sources.stripe]
secrets = ["{SECRET}"]
[handlers.{handler}]
url = "{}"
retry = {{ attempts = 50, first = "1h", max = "1h" }}
"#,
        sink.url()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn work_of_a_renamed_handler_waits_is_warned_about_and_can_be_moved_or_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (down, well) = (Sink::behaving(|_| Behaviour::Status(500, None)), Sink::start());
    let setup = Setup::new(folder.path(), &config("billing", &down));
    let program = setup.start().await;
    for id in ["evt_1", "evt_2"] {
        let answer = Connection::to(setup.port).send(&Sender::new().request(id)).await.unwrap();
        assert_eq!(answer.status, 200);
    }
    until("both have failed once", Duration::from_secs(10), || async { down.count() == 2 }).await;
    assert!(program.terminate().success());

    // Renamed: nobody serves what waits for `billing`.
    let setup = Setup { config: config("invoices", &well), ..setup };
    let program = setup.start().await;
    let ready = program.api("GET", "/readyz", None).await;
    let warning = ready["warnings"][0].as_str().unwrap();
    assert!(warning.contains("2 deliveries wait for handler `billing`"), "{warning}");
    let checked = setup.command(&program, &["check"]);
    assert!(checked.status.success());
    let text = String::from_utf8(checked.stdout).unwrap();
    assert!(text.contains("handler `billing`, which is not configured"), "{text}");
    assert_eq!(program.stats().await.handlers["billing"].queued, 2, "it stays");

    let waiting = program.api("GET", "/api/v1/deliveries?handler=billing", None).await;
    let first = waiting["deliveries"][0]["id"].as_str().unwrap();
    let killed = setup.command(&program, &["deliveries", "kill", first]);
    assert!(killed.status.success(), "{killed:?}");
    let moved = setup
        .command(&program, &["deliveries", "move", "--handler", "billing", "--to", "invoices"]);
    assert!(moved.status.success(), "{moved:?}");
    assert_eq!(program.stats().await.handlers["billing"].queued, 0);
    assert_eq!(program.stats().await.total.dead_now, 1);

    // What was moved is due when it was due before: an hour from now. A redrive is due at once.
    let dead = program.api("GET", "/api/v1/deliveries?state=dead", None).await;
    assert_eq!(dead["deliveries"][0]["handler"], "invoices", "dead letters move too");
    let ask = json!({ "handler": "invoices" });
    program.api("POST", "/api/v1/deliveries/redrive", Some(ask)).await;
    until("the redriven one is done", Duration::from_secs(10), || async { well.count() == 1 })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_of_a_renamed_source_stays_is_warned_about_and_is_handled_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::behaving(|call| match call.attempt {
        1 => Behaviour::Status(500, None),
        _ => Behaviour::Status(200, None),
    });
    let setup = Setup::new(folder.path(), &config("billing", &sink));
    let program = setup.start().await;
    let answer = Connection::to(setup.port).send(&Sender::new().request("evt_1")).await.unwrap();
    assert_eq!(answer.status, 200);
    until("it has failed once", Duration::from_secs(10), || async {
        program.stats().await.handlers["billing"].queued == 1 && sink.count() == 1
    })
    .await;
    assert!(program.terminate().success());

    let renamed = "[sources.payments]\nprovider = \"stripe\"";
    let setup = Setup { config: setup.config.replace("[sources.stripe]", renamed), ..setup };
    let program = setup.start().await;
    let warning = "of source `stripe`, which is not configured any more";
    let ready = program.api("GET", "/readyz", None).await;
    assert!(ready["warnings"][0].as_str().unwrap().contains(warning), "{ready}");
    let checked = setup.command(&program, &["check"]);
    let text = String::from_utf8(checked.stdout).unwrap();
    assert!(text.contains(warning), "{text}");
    assert_eq!(program.stats().await.sources["stripe"].queued, 1, "it stays");

    // Its retry is an hour away: killed and redriven it is due at once.
    for command in [["deliveries", "kill"].as_slice(), &["redrive"]] {
        let arguments = [command, &["--handler", "billing"]].concat();
        assert!(setup.command(&program, &arguments).status.success());
    }
    until("it is handled", Duration::from_secs(10), || async {
        program.stats().await.sources["stripe"].done == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_a_newer_version_is_refused_with_a_clear_word() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let setup = Setup::new(folder.path(), &config("billing", &sink));
    assert!(setup.start().await.terminate().success());
    let file = rusqlite::Connection::open(setup.data_dir().join("hookonce.db")).unwrap();
    file.pragma_update(None, "user_version", 9999).unwrap();
    drop(file);
    let program = setup.spawn();
    let (status, log) = program.wait();
    assert_eq!(status.code(), Some(69));
    assert!(log.contains("the store was written by a newer hookonce (schema 9999"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_of_the_store_is_not_used_until_a_person_accepts_it() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let setup = Setup::new(folder.path(), &config("billing", &sink));
    let parts = ["hookonce.db", "hookonce.db-wal", "hookonce.db-shm"];
    let (data_dir, copy) = (setup.data_dir(), tempfile::tempdir().unwrap());
    let send = |id| {
        let (request, port) = (Sender::new().request(id), setup.port);
        async move { Connection::to(port).send(&request).await.unwrap() }
    };
    for id in ["evt_1", "evt_2"] {
        let program = setup.start().await;
        assert_eq!(send(id).await.status, 200);
        until("it is done", Duration::from_secs(10), || async {
            program.stats().await.total.done == sink.count() as u64
                && sink.per_event().contains_key(id)
        })
        .await;
        assert!(program.terminate().success());
        for part in parts.iter().filter(|part| id == "evt_1" && data_dir.join(part).exists()) {
            std::fs::copy(data_dir.join(part), copy.path().join(part)).unwrap();
        }
    }
    for part in parts {
        drop(std::fs::remove_file(data_dir.join(part)));
        drop(std::fs::copy(copy.path().join(part), data_dir.join(part)));
    }

    let program = setup.spawn();
    until("it listens", Duration::from_secs(10), || async {
        program.ask("GET", "/healthz", None).await.is_some()
    })
    .await;
    let (status, readiness) = program.ask("GET", "/readyz", None).await.unwrap();
    assert_eq!(status, 503);
    assert!(readiness.contains("the file is older than when it was last seen"), "{readiness}");
    assert!(readiness.contains("hookonce store accept"), "{readiness}");
    for id in ["evt_1", "evt_2"] {
        let answer = send(id).await;
        assert_eq!((answer.status, answer.word.as_str()), (503, "unavailable"));
    }
    assert_eq!(sink.count(), 2, "what it has forgotten did not run again");

    let accepted = setup.command(&program, &["store", "accept", "--json"]);
    assert!(accepted.status.success(), "{accepted:?}");
    assert!(String::from_utf8_lossy(&accepted.stdout).contains(r#""accepted": 1"#), "{accepted:?}");
    program.ready_within(Duration::from_secs(5)).await;
    assert_eq!(send("evt_1").await.word, "duplicate");
    assert_eq!(send("evt_2").await.word, "accepted", "that is what was accepted");
}
