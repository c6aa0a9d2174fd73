//! A request that holds several events: admitted one by one, answered once, kept once.

use std::time::Duration;

use bytes::Bytes;
use hookonce::{
    clock::{SystemClock, Timestamp},
    provider::{self, Settings},
    request::{Headers, Unverified},
    secret::Secret,
    source::Source,
};
use serde_json::Value;

use crate::support::{
    program::{Program, Setup},
    sender::{Answer, Connection},
    sink::Sink,
    until,
};

const SECRET: &str = "8b1d2c3e-5f60-4718-92a3-b4c5d6e7f809";
const URL: &str = "https://hooks.example.com/webhooks/hubspot";

/// A HubSpot request about the events with these ids.
fn batch(ids: &[u32]) -> (Vec<u8>, String) {
    let event = |id: &u32| {
        format!(
            r#"{{"eventId":{id},"subscriptionId":1,"portalId":2,"occurredAt":3,"subscriptionType":"contact.creation","objectId":4}}"#
        )
    };
    let body = format!("[{}]\n", ids.iter().map(event).collect::<Vec<_>>().join(" , "));
    let settings = Settings { secrets: vec![Secret::new(SECRET)], ..Settings::default() };
    let hubspot = provider::find("hubspot").unwrap();
    let source = Source::new("hubspot", hubspot, settings).unwrap();
    let mut draft = Unverified {
        method: "POST".to_owned(),
        url: URL.to_owned(),
        headers: Headers::default(),
        body: Bytes::from(body.clone()),
        received_at: Timestamp::default(),
    };
    source.scheme.sign(&mut draft, SystemClock::start().now()).unwrap();
    let mut request =
        b"POST /webhooks/hubspot HTTP/1.1\r\nhost: a\r\nx-api-key: canary\r\n".to_vec();
    for (name, value) in draft.headers.iter() {
        let value = String::from_utf8_lossy(value);
        request.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    request.extend_from_slice(format!("content-length: {}\r\n\r\n{body}", body.len()).as_bytes());
    (request, body)
}

async fn start(folder: &std::path::Path, sink: &Sink) -> (Setup, Program) {
    let config = format!(
        r#"
[store]
url = "sqlite:hookonce.db"
[sources.hubspot]
secrets = ["{SECRET}"]
url = "{URL}"
[handlers.crm]
sources = ["hubspot"]
url = "{}"
"#,
        sink.url()
    );
    let setup = Setup::new(folder, &config);
    let program = setup.start().await;
    (setup, program)
}

fn ids(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    let ids = body["ids"].as_array().unwrap().iter();
    ids.map(|id| id.as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_one_request_and_as_many_events_each_handled_once() {
    let (folder, sink) = (tempfile::tempdir().unwrap(), Sink::start());
    let (setup, program) = start(folder.path(), &sink).await;
    let mut connection = Connection::to(setup.port);
    let (request, body) = batch(&[11, 12]);
    let first = connection.send(&request).await.unwrap();
    assert_eq!(first.word, "accepted");
    let (partly, other_body) = batch(&[12, 13]);
    let second = connection.send(&partly).await.unwrap();
    assert_eq!(second.word, "accepted", "one of them is fresh");
    let third = connection.send(&request).await.unwrap();
    assert_eq!(third.word, "duplicate");
    let (first, second, third) = (ids(&first), ids(&second), ids(&third));
    assert_eq!(
        (&second[0], &third),
        (&first[1], &first),
        "a duplicate is told by the first one's id"
    );

    until("each is handled", Duration::from_secs(20), || async { sink.count() == 3 }).await;
    for call in sink.calls() {
        let element: Value = serde_json::from_slice(&call.body).unwrap();
        assert!(element["eventId"].is_u64(), "a handler gets one event: {element}");
        assert!(call.headers.contains_key("x-hubspot-signature-v3"), "with the request's headers");
        assert!(!call.headers.contains_key("x-api-key"), "less its credentials");
    }
    let total = program.stats().await.total;
    assert_eq!((total.events, total.duplicates), (3, 3));
    for (id, whole) in [(&first[0], &body), (&first[1], &body), (&second[1], &other_body)] {
        let path = format!("/api/v1/events/{id}/request");
        let (status, request) = program.ask("GET", &path, None).await.unwrap();
        assert_eq!((status, &request), (200, whole));
        let shown = setup.command(&program, &["events", "show", id, "--request"]);
        assert_eq!(shown.stdout, whole.as_bytes());
        let view = program.api("GET", &format!("/api/v1/events/{id}"), None).await.to_string();
        assert!(!view.contains("canary"), "a credential is shown: {view}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_a_yes_only_when_all_of_it_is_in() {
    let (folder, sink) = (tempfile::tempdir().unwrap(), Sink::start());
    let (setup, program) = start(folder.path(), &sink).await;
    let outside = rusqlite::Connection::open(setup.data_dir().join("hookonce.db")).unwrap();
    outside
        .execute_batch(
            "CREATE TRIGGER broken BEFORE INSERT ON events WHEN NEW.event_id = '12'
             BEGIN SELECT RAISE(ABORT, 'it broke'); END",
        )
        .unwrap();
    let mut connection = Connection::to(setup.port);
    let (request, body) = batch(&[11, 12, 13]);
    let refused = connection.send(&request).await.unwrap();
    assert_eq!((refused.status, refused.word.as_str()), (503, "unavailable"));
    outside.execute_batch("DROP TRIGGER broken").unwrap();
    let retried = connection.send(&request).await.unwrap();
    assert_eq!(retried.word, "accepted");
    until("each is handled", Duration::from_secs(20), || async { sink.count() == 3 }).await;
    assert_eq!(program.stats().await.total.events, 3);
    for id in ids(&retried) {
        let path = format!("/api/v1/events/{id}/request");
        assert_eq!(program.ask("GET", &path, None).await.unwrap().1, body);
    }
}
