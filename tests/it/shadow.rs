//! Shadow mode: what does not verify is let in, marked, and takes nothing from what does.

use std::time::Duration;

use crate::support::{
    program::Setup,
    sender::{Connection, SECRET, Sender},
    sink::Sink,
    until,
};

fn config(verify: &str, sink: &Sink) -> String {
    let url = sink.url();
    format!(
        r#"
[store]
url = "sqlite:hookonce.db"
[sources.stripe]
secrets = ["{SECRET}"]
verify = "{verify}"
[handlers.billing]
sources = ["stripe"]
url = "{url}"
"#
    )
}

/// The same request with a signature that somebody else made.
fn forged(request: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(request.to_vec()).unwrap();
    let (before, signature) = text.split_once("v1=").unwrap();
    let (_, after) = signature.split_once('\r').unwrap();
    format!("{before}v1={}\r{after}", "0".repeat(64)).into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_copy_is_let_in_and_the_real_one_is_fresh_all_the_same() {
    let (folder, sink) = (tempfile::tempdir().unwrap(), Sink::start());
    let setup = Setup::new(folder.path(), &config("shadow", &sink));
    let program = setup.start().await;
    let mut connection = Connection::to(setup.port);
    let real = Sender::new().request("evt_1");
    let mut words = Vec::new();
    for request in [&forged(&real), &forged(&real), &real, &real] {
        let answer = connection.send(request).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        words.push(answer.word);
    }
    assert_eq!(words, ["accepted", "duplicate", "accepted", "duplicate"]);

    until("both are handled", Duration::from_secs(20), || async { sink.count() == 2 }).await;
    let calls = sink.calls();
    let marks: Vec<_> = calls.iter().map(|call| call.headers.get("hookonce-shadow")).collect();
    assert!(marks.contains(&None) && marks.contains(&Some(&"true".to_owned())), "{marks:?}");
    assert_eq!(calls[0].body, calls[1].body);
    assert_ne!(calls[0].key, calls[1].key);

    let total = program.stats().await.total;
    assert_eq!((total.events, total.shadow, total.duplicates), (2, 1, 2));
    let page = program.api("GET", "/api/v1/events", None).await;
    assert_eq!(
        (&page["events"][0]["shadow"], &page["events"][1]["shadow"]),
        (&false.into(), &true.into())
    );
    let (_, metrics) = program.ask("GET", "/metrics", None).await.unwrap();
    assert!(metrics.contains("hookonce_shadow_total{source=\"stripe\"} 2"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shadow_mode_is_told_wherever_a_person_looks() {
    let (folder, sink) = (tempfile::tempdir().unwrap(), Sink::start());
    let setup = Setup::new(folder.path(), &config("shadow", &sink));
    let program = setup.start().await;
    let answer = Connection::to(setup.port).send(&forged(&Sender::new().request("evt_1"))).await;
    assert_eq!(answer.unwrap().status, 200);
    let page = program.api("GET", "/api/v1/events", None).await;
    let id = page["events"][0]["id"].as_str().unwrap();

    let mut told = vec![program.ask("GET", "/readyz", None).await.unwrap().1, program.log()];
    for command in [["check"].as_slice(), &["stats"], &["events"], &["events", "show", id]] {
        let output = setup.command(&program, command);
        assert!(output.status.success(), "{output:?}");
        told.push(String::from_utf8(output.stdout).unwrap());
    }
    for text in told {
        assert!(text.contains("SHADOW"), "{text}");
    }
    assert!(program.log().contains("no configured secret made any of its signatures"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_named_is_refused_in_shadow_mode_too() {
    let (folder, sink) = (tempfile::tempdir().unwrap(), Sink::start());
    let key = "00".repeat(32);
    let adyen = format!("[sources.adyen]\nsecrets = [\"{key}\"]\nverify = \"shadow\"\n");
    let setup = Setup::new(folder.path(), &format!("{}{adyen}", config("shadow", &sink)));
    let program = setup.start().await;
    let request = b"POST /webhooks/adyen HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n{]}";
    let answer = Connection::to(setup.port).send(request).await.unwrap();
    assert_eq!((answer.status, answer.word.as_str()), (400, "refused"), "{answer:?}");
    assert_eq!(program.stats().await.total.events, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn enforce_refuses_what_shadow_lets_in() {
    let (folder, sink) = (tempfile::tempdir().unwrap(), Sink::start());
    let setup = Setup::new(folder.path(), &config("enforce", &sink));
    let program = setup.start().await;
    let answer = Connection::to(setup.port).send(&forged(&Sender::new().request("evt_1"))).await;
    assert_eq!(answer.unwrap().status, 401);
    assert_eq!(program.stats().await.total.events, 0);
    let (_, ready) = program.ask("GET", "/readyz", None).await.unwrap();
    assert!(!ready.contains("SHADOW"), "{ready}");
}
