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

/// `canary-of-the-encryption-key!!!!`
const ENCRYPTION_KEY: &str = "Y2FuYXJ5LW9mLXRoZS1lbmNyeXB0aW9uLWtleSEhISE=";

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_event_is_in_no_file_and_an_erased_one_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::behaving(|_| Behaviour::Status(500, None));
    let config = format!(
        r#"
[log]
level = "trace"
[store]
url = "sqlite:hookonce.db"
encryption_keys = ["{ENCRYPTION_KEY}"]
[sources.stripe]
secrets = ["{SECRET}"]
[handlers.billing]
url = "{}"
retry = {{ attempts = 5, first = "1h", max = "1h" }}
"#,
        sink.url()
    );
    let setup = Setup::new(folder.path(), &config);
    let program = setup.start().await;
    let request = with_canaries(&Sender::new().request("evt_1"));
    assert_eq!(Connection::to(setup.port).send(&request).await.unwrap().status, 200);
    until("the first attempt has failed", Duration::from_secs(20), || async {
        let page = program.api("GET", "/api/v1/deliveries", None).await;
        page["deliveries"][0]["attempts"] == 1 && page["deliveries"][0]["state"] == "queued"
    })
    .await;
    assert!(!is_in_a_file(&setup.data_dir(), BODY), "it is ciphertext there");
    let page = program.api("GET", "/api/v1/events", None).await;
    let id = page["events"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/events/{id}");
    let record = program.api("GET", &path, None).await;
    assert!(record["headers"].to_string().contains(BODY), "the owner reads it");

    let erased =
        setup.command(&program, &["events", "erase", &id, "--reason", "they asked for it"]);
    assert!(erased.status.success(), "{erased:?}");
    let record = program.api("GET", &path, None).await;
    assert!(!record["erased_at"].is_null() && !record.to_string().contains(BODY), "{record}");
    assert_eq!(record["deliveries"][0]["last_error"], "erased");
    let again = setup.command(&program, &["replay", &id]);
    let why = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(!again.status.success() && why.contains("erased"), "{why}");
    let no_reason = program
        .ask("POST", &format!("{path}/erase"), Some(serde_json::json!({ "reason": " " })))
        .await;
    assert_eq!(no_reason.unwrap().0, 400);
    assert_eq!(Connection::to(setup.port).send(&request).await.unwrap().word, "duplicate");
    let log = program.log();
    assert!(log.contains("they asked for it") && !log.contains(ENCRYPTION_KEY), "{log}");
    program.terminate();
    for canary in [BODY, ENCRYPTION_KEY, "canary-of-the-encryption-key"] {
        assert!(!is_in_a_file(&setup.data_dir(), canary), "{canary}");
    }
}

fn is_in_a_file(folder: &std::path::Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|file| {
        let bytes = std::fs::read(file.unwrap().path()).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}
