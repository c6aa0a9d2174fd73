//! Secrets appear nowhere, whatever happens.

use std::time::Duration;

use crate::support::{
    program::Setup,
    sender::{Connection, SECRET, Sender},
    sink::{Behaviour, Sink},
    until,
};

/// Canaries: one for each way a secret can come in.
const SIGNING_SECRET: &str = "whsec_Y2FuYXJ5LW9mLXRoZS1zaWduaW5nLXNlY3JldA==";
const URL_PASSWORD: &str = "canary-of-the-url";
const AUTHORIZATION: &str = "canary-of-a-header";
const BODY: &str = "canary-of-the-body";
const REFUSED_AUTHORIZATION: &str = "canary-of-a-refused-header";
const REFUSED_QUERY: &str = "canary-of-a-refused-query";

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_gets_into_logs_metrics_errors_or_the_api() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::behaving(|_| Behaviour::Status(500, None));
    let url = sink.url().replace("http://", &format!("http://user:{URL_PASSWORD}@"));
    let config = format!(
        r#"
[log]
level = "trace"
[store]
url = "sqlite:hookonce.db"
[sources.stripe]
secrets = ["{SECRET}"]
[handlers.billing]
url = "{url}"
signing_secret = "{SIGNING_SECRET}"
retry = {{ attempts = 2, first = "1ms", max = "1ms" }}
[handlers.nobody]
url = "http://user:{URL_PASSWORD}@127.0.0.1:1/"
retry = {{ attempts = 1 }}
"#
    );
    let setup = Setup::new(folder.path(), &config);
    let program = setup.start().await;
    let mut connection = Connection::to(setup.port);
    let good = with_canaries(&Sender::new().request("evt_1"));
    let event = connection.send(&good).await.unwrap();
    assert_eq!(event.status, 200, "{event:?}");
    let forged = String::from_utf8(with_canaries(&Sender::new().request("evt_2"))).unwrap();
    let forged = forged
        .replace(AUTHORIZATION, REFUSED_AUTHORIZATION)
        .replace("/webhooks/stripe ", &format!("/webhooks/stripe?access_token={REFUSED_QUERY} "));
    let mut forged = forged.into_bytes();
    *forged.last_mut().unwrap() = b' ';
    assert_eq!(connection.send(&forged).await.unwrap().status, 401);
    until("both deliveries are dead", Duration::from_secs(20), || async {
        program.stats().await.total.dead == 2
    })
    .await;

    let mut seen = vec![event.head, event.body];
    until("the refusal is kept", Duration::from_secs(20), || async {
        program.api("GET", "/api/v1/refusals", None).await["refusals"].get(0).is_some()
    })
    .await;
    let page = program.api("GET", "/api/v1/refusals", None).await;
    let refusal = page["refusals"][0]["id"].as_str().unwrap().to_owned();
    let one_refusal = format!("/api/v1/refusals/{refusal}");
    for path in [
        "/metrics",
        "/readyz",
        "/api/v1/stats",
        "/api/v1/events",
        "/api/v1/deliveries",
        "/api/v1/refusals",
        &one_refusal,
    ] {
        seen.push(program.ask("GET", path, None).await.unwrap().1);
    }
    let page = program.api("GET", "/api/v1/events", None).await;
    let id = page["events"][0]["id"].as_str().unwrap();
    let record = program.api("GET", &format!("/api/v1/events/{id}"), None).await;
    assert!(record["body"].as_str().unwrap().contains("evt_1"), "the owner sees the body");
    seen.push(record.to_string());
    for command in [
        ["check"].as_slice(),
        &["stats"],
        &["events"],
        &["deliveries"],
        &["doctor"],
        &["doctor", "--json"],
        &["refusals"],
        &["refusals", "show", &refusal],
        &["refusals", "readmit", &refusal],
    ] {
        let output = setup.command(&program, command);
        seen.push(String::from_utf8([output.stdout, output.stderr].concat()).unwrap());
    }
    seen.push(program.log());
    for text in seen {
        for canary in [
            SECRET,
            SIGNING_SECRET,
            URL_PASSWORD,
            AUTHORIZATION,
            REFUSED_AUTHORIZATION,
            REFUSED_QUERY,
        ] {
            assert!(!text.contains(canary), "{canary} is in:\n{text}");
        }
    }
    assert!(!program.log().contains(BODY), "a body is in the log");
    program.terminate();
    for file in std::fs::read_dir(setup.data_dir()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for canary in [SECRET, SIGNING_SECRET, REFUSED_AUTHORIZATION, REFUSED_QUERY] {
            let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!found, "{canary} is in the store");
        }
    }
}

/// The request with an `Authorization` header.
fn with_canaries(request: &[u8]) -> Vec<u8> {
    let at = request.windows(2).position(|window| window == b"\r\n").unwrap();
    let mut bytes = request[..at].to_vec();
    let header = format!("\r\nauthorization: Bearer {AUTHORIZATION}\r\nx-note: {BODY}");
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(&request[at..]);
    bytes
}
