//! What the other buttons do: handlers, held events, refused requests, keys.

use std::time::Duration;

use bytes::Bytes;
use hookonce::{
    clock::SystemClock,
    provider::{self, Settings},
    request::{Headers, Unverified},
    secret::Secret,
    source::Source,
};
use reqwest::Method;

use super::{api_that_hangs_up, browser::Browser, config, page, send};
use crate::support::{
    program::{Program, Setup},
    sender::{Connection, SECRET, Sender},
    sink::Sink,
    until,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn to(sink: &Sink) -> String {
    format!("url = \"{}\"", sink.url())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_is_paused_and_limited_and_goes_on() {
    let (folder, sink) = (tempfile::tempdir().unwrap(), Sink::start());
    let setup = Setup::new(folder.path(), &config(&to(&sink)));
    let program = setup.start().await;
    let browser = Browser::start().await;
    browser.open(&page(&program, "/")).await;
    browser.click("th a[href='/handlers#billing']").await;
    browser.click("form[action='/handlers/billing/pause'] button").await;
    browser.wait_for("No attempt begins").await;
    send(&setup, &["evt_1", "evt_2"], 1).await;
    browser.reload_until("2 queued").await;
    browser.open(&page(&program, "/")).await;
    assert!(browser.text().await.contains("handler `billing` is paused"), "a warning says so");

    browser.open(&page(&program, "/handlers")).await;
    browser.click("summary").await;
    browser.write("[name=concurrency]", "3").await;
    browser.write("[name=rate]", "40/s\n").await;
    browser.wait_for("At most 3 at once, 40/s.").await;
    let list = program.api("GET", "/api/v1/handlers", None).await;
    let limits = serde_json::json!({ "concurrency": 3, "rate": "40/s" });
    assert_eq!(list["handlers"][0]["limits"], limits);
    browser.click("summary").await;
    browser.write("[name=rate]", " often\n").await;
    browser.wait_for("is no rate").await;

    assert_eq!(sink.count(), 0, "it is paused all the time");
    browser.open(&page(&program, "/handlers")).await;
    browser.click("form[action='/handlers/billing/resume'] button").await;
    browser.wait_for("running").await;
    until("what waited is done", PATIENCE, || async { sink.count() == 2 }).await;
}

/// The same content under two ids, as GitHub would sign it: the id is not signed.
async fn send_twice_under_other_ids(setup: &Setup) {
    let settings = Settings { secrets: vec![Secret::new(SECRET)], ..Settings::default() };
    let github = Source::new("github", provider::find("github").unwrap(), settings).unwrap();
    for (id, word) in [("id-1", "accepted"), ("id-2", "held")] {
        let now = SystemClock::start().now();
        let mut draft = Unverified {
            method: "POST".to_owned(),
            url: "http://127.0.0.1/webhooks/github".to_owned(),
            headers: Headers::default(),
            body: Bytes::from_static(b"{\"action\":\"opened\"}"),
            received_at: now,
        };
        github.scheme.sign(&mut draft, now).unwrap();
        let signature = draft.headers.only("x-hub-signature-256").unwrap();
        let request = format!(
            "POST /webhooks/github HTTP/1.1\r\nhost: 127.0.0.1\r\nx-github-event: issues\r\nx-github-delivery: {id}\r\nx-hub-signature-256: {signature}\r\ncontent-length: {}\r\n\r\n{}",
            draft.body.len(),
            str::from_utf8(&draft.body).unwrap()
        );
        let answer = Connection::to(setup.port).send(request.as_bytes()).await.unwrap();
        assert_eq!((answer.status, &*answer.word), (200, word), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_event_is_admitted() {
    let (folder, sink) = (tempfile::tempdir().unwrap(), Sink::start());
    let github = format!("[sources.github]\nsecrets = [\"{SECRET}\"]\nreplay_guard = \"hold\"\n");
    let setup = Setup::new(folder.path(), &(config(&to(&sink)) + &github));
    let program = setup.start().await;
    let browser = Browser::start().await;
    send_twice_under_other_ids(&setup).await;
    until("the first one is done", PATIENCE, || async { sink.count() == 1 }).await;

    browser.open(&page(&program, "/")).await;
    browser.click("a[href='/events?state=held']").await;
    browser.wait_for("id-2").await;
    browser.click("tbody a").await;
    browser.wait_for("had come before under another id").await;
    browser.click("form[action$='/admit'] button").await;
    browser.wait_for("It is admitted").await;
    until("the second one is done", PATIENCE, || async { sink.count() == 2 }).await;
    assert_eq!(program.stats().await.total.held_now, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_is_readmitted_once_its_cause_is_mended() {
    let (folder, sink) = (tempfile::tempdir().unwrap(), Sink::start());
    let mended = config(&to(&sink));
    let broken = mended.replace(SECRET, "whsec_of_yesterday_and_wrong");
    let setup = Setup::new(folder.path(), &broken);
    let program = setup.start().await;
    let browser = Browser::start().await;
    let request = Sender::new().request("evt_refused");
    assert_eq!(Connection::to(setup.port).send(&request).await.unwrap().status, 401);

    browser.open(&page(&program, "/refusals")).await;
    browser.reload_until("the signature does not hold").await;
    browser.click("article a").await;
    browser.click("form[action$='/readmit'] button").await;
    browser.wait_for("It was refused again").await;

    setup.write(&mended);
    program.api("POST", "/api/v1/reload", None).await;
    browser.click("form[action$='/readmit'] button").await;
    browser.wait_for("It was admitted after all").await;
    browser.click(".notice a").await;
    browser.wait_for("evt_refused").await;
    until("it is done", PATIENCE, || async { sink.count() == 1 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_whose_outcome_is_unknown_are_resolved() {
    let folder = tempfile::tempdir().unwrap();
    let api = api_that_hangs_up();
    let setup = Setup::new(folder.path(), &(config("log = true") + &api));
    let program = setup.start().await;
    let browser = Browser::start().await;
    for key in ["was-done", "was-not"] {
        assert_eq!(pay(&program, key).await.0, 502);
    }

    browser.open(&page(&program, "/keys?state=unknown")).await;
    let of = |key: &str| format!("article[aria-label='Key {key}']");
    browser.click(&format!("{} summary", of("was-done"))).await;
    let clear = format!("document.querySelector(\"{} [name=status]\").value = ''", of("was-done"));
    browser.run(&clear).await;
    browser.write(&format!("{} [name=status]", of("was-done")), "201").await;
    browser.write(&format!("{} [name=body]", of("was-done")), "paid\n").await;
    until("it has its answer", PATIENCE, || async {
        pay(&program, "was-done").await == (201, "paid".to_owned())
    })
    .await;

    browser.open(&page(&program, "/keys?state=unknown")).await;
    assert!(!browser.text().await.contains("was-done"));
    browser.click(&format!("{} summary", of("was-not"))).await;
    browser.click(&format!("{} form button", of("was-not"))).await;
    until("it is free", PATIENCE, || async { !browser.text().await.contains("was-not") }).await;
}

async fn pay(program: &Program, key: &str) -> (u16, String) {
    let url = format!("http://127.0.0.1:{}/payments/charges", program.port);
    let asked = hookonce::handler::http_client().request(Method::POST, url);
    let answer = asked.header("idempotency-key", key).body("{}").send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}
