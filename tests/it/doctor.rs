//! The doctor, on the real program: each cause told from a real request, the fix, and what was refused
//! admitted after all, once.

use std::{
    path::Path,
    process::{Command, ExitStatus},
    time::Duration,
};

use bytes::Bytes;
use hookonce::{
    clock::{SystemClock, Timestamp},
    provider::{self, Settings},
    request::Unverified,
    secret::Secret,
    source::Source,
};
use serde_json::Value;

use crate::support::{
    alone,
    program::{Program, Setup},
    sender::{Connection, SECRET, Sender},
    sink::Sink,
    until,
};

const OTHER_SECRET: &str = "whsec_of_another_endpoint_that_no_output_may_show";
const SLACK_SECRET: &str = "slack-secret-that-no-output-may-show";
const TWILIO_SECRET: &str = "twilio-secret-that-no-output-may-show";
const GITLAB_TOKEN: &str = "gitlab-token-that-no-output-may-show";
const PASSWORD: &str = "canary-of-a-refused-header";

/// A request in the making: signed first, and altered then as something on its way would.
struct Request {
    source: &'static str,
    draft: Unverified,
}

impl Request {
    /// Signed by the rules of `provider`, with `secret`, `age` ago, for this source.
    fn signed(provider: &str, secret: &str, source: &'static str, body: &str) -> Self {
        Self::signed_at(SystemClock::start().now(), provider, secret, source, body)
    }

    fn signed_at(
        now: Timestamp,
        provider: &str,
        secret: &str,
        source: &'static str,
        body: &str,
    ) -> Self {
        let mut settings = Settings { secrets: vec![Secret::new(secret)], ..Settings::default() };
        if provider == "gitlab" {
            settings.extra.insert("scheme".to_owned(), "token".to_owned());
        }
        let rules = Source::new(source, provider::find(provider).unwrap(), settings).unwrap();
        let content_type = match body.starts_with('{') {
            true => "application/json",
            false => "application/x-www-form-urlencoded",
        };
        let mut draft = Unverified {
            method: "POST".to_owned(),
            url: format!("https://hooks.example.com/webhooks/{source}"),
            headers: [("content-type", content_type)].into_iter().collect(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            received_at: Timestamp::default(),
        };
        rules.scheme.sign(&mut draft, now).unwrap();
        Self { source, draft }
    }

    fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.draft.body = body.into();
        self
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.draft.headers.push(name, value.to_owned());
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.draft.headers.remove(name);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!(
            "POST /webhooks/{} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\n",
            self.source,
            self.draft.body.len()
        )
        .into_bytes();
        for (name, value) in self.draft.headers.iter() {
            bytes.extend_from_slice(format!("{name}: ").as_bytes());
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.draft.body);
        bytes
    }
}

fn stripe_event(id: &str) -> String {
    format!(r#"{{"id":"{id}","object":"event","type":"invoice.paid","data":{{"a":[1.50]}}}}"#)
}

/// The sources with mistakes in them, or without.
fn config(url: &str, is_right: bool) -> String {
    let (spelled, twilio_url) = match is_right {
        true => (OTHER_SECRET.to_owned(), "\nurl = \"https://hooks.example.com/webhooks/twilio\""),
        false => (format!(" {OTHER_SECRET}\\n"), ""),
    };
    format!(
        r#"
[store]
url = "sqlite:hookonce.db"
[sources.stripe]
secrets = ["{SECRET}"]
body_bytes_max = "64KiB"
[sources.spelled]
provider = "stripe"
secrets = ["{spelled}"]
[sources.slack]
secrets = ["{SLACK_SECRET}"]
[sources.twilio]
secrets = ["{TWILIO_SECRET}"]{twilio_url}
[sources.gitlab]
secrets = ["{GITLAB_TOKEN}"]
scheme = "token"
[handlers.all]
sources = ["stripe", "spelled", "slack", "twilio", "gitlab"]
url = "{url}"
"#
    )
}

/// Sends a request that must be refused, and gives what the doctor makes of it.
async fn refused(program: &Program, request: &[u8]) -> Value {
    let known = newest(program).await.map(|newest| newest["id"].clone());
    let answer = Connection::to(program.port).send(request).await.unwrap();
    assert!((400..500).contains(&answer.status), "{answer:?}");
    assert!(!answer.body.contains("likely"), "nothing of it reaches the sender: {answer:?}");
    until("it is kept", Duration::from_secs(20), || async {
        newest(program).await.map(|newest| newest["id"].clone()) != known
    })
    .await;
    newest(program).await.unwrap()
}

async fn newest(program: &Program) -> Option<Value> {
    let page = program.api("GET", "/api/v1/refusals?limit=1", None).await;
    page["refusals"].get(0).cloned()
}

fn run(setup: &Setup, program: &Program, arguments: &[&str]) -> (ExitStatus, String) {
    let output = setup.command(program, arguments);
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    for secret in [SECRET, OTHER_SECRET, SLACK_SECRET, TWILIO_SECRET, GITLAB_TOKEN, PASSWORD] {
        assert!(!text.contains(secret), "a secret is in:\n{text}");
    }
    (output.status, text)
}

/// Every file of the store holds no credential of a refused request.
fn store_shows_nothing(data_dir: &Path) {
    for file in std::fs::read_dir(data_dir).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for secret in [PASSWORD, GITLAB_TOKEN] {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "the store shows {secret}");
        }
    }
}

/// One request for each cause, with the kind that is to be told and a word of its cause or evidence.
fn causes() -> Vec<(Request, &'static str, &'static str)> {
    let stripe = |secret, source, id| Request::signed("stripe", secret, source, &stripe_event(id));
    let now = SystemClock::start().now();
    let aged =
        |then| Request::signed_at(then, "stripe", SECRET, "stripe", &stripe_event("evt_old"));
    let pretty = "{\n  \"id\": \"evt_p\",\n  \"object\": \"event\",\n  \"type\": \"invoice.paid\",\n  \"data\": {\n    \"a\": [\n      1.50\n    ]\n  }\n}";
    let unknown = "whsec_of_nobody";
    let signature =
        |request: &Request| request.draft.headers.only("stripe-signature").unwrap().to_owned();
    let doubled = stripe(SECRET, "stripe", "evt_d");
    let header = signature(&doubled);
    let quoted = stripe(SECRET, "stripe", "evt_q");
    let in_quotes = format!("\"{}\"", signature(&quoted));
    let form = "command=%2Fdeploy&text=a+b";
    let hours = |hours: u64| Duration::from_secs(3600 * hours);
    vec![
        (aged(now.minus(hours(2))), "stale", "behind our clock"),
        (aged(now.plus(hours(3))), "stale", "ahead of our clock"),
        (stripe(OTHER_SECRET, "spelled", "evt_s"), "secret_spelling", "white space"),
        (stripe(SECRET, "spelled", "evt_w"), "wrong_source", "source `stripe`"),
        (Request::signed("slack", SLACK_SECRET, "stripe", "a=b"), "wrong_source", "source `slack`"),
        (stripe(SECRET, "stripe", "evt_p").with_body(pretty), "body_altered", "compact JSON"),
        (
            stripe(SECRET, "stripe", "evt_l").with_body(stripe_event("evt_l") + "\n"),
            "body_altered",
            "white space at its end",
        ),
        (
            Request::signed("slack", SLACK_SECRET, "slack", form)
                .with_body("command=/deploy&text=a%20b"),
            "body_altered",
            "form",
        ),
        (
            Request::signed("twilio", TWILIO_SECRET, "twilio", "CallStatus=completed")
                .with("x-forwarded-proto", "https")
                .with("x-forwarded-host", "hooks.example.com"),
            "url_mismatch",
            "https://hooks.example.com/webhooks/twilio",
        ),
        (
            stripe(SECRET, "stripe", "evt_m").without("stripe-signature"),
            "header_missing",
            "Stripe-Signature",
        ),
        (
            stripe(SECRET, "stripe", "evt_g")
                .without("stripe-signature")
                .with("x-hub-signature-256", "sha256=00"),
            "other_provider",
            "GitHub",
        ),
        (doubled.with("stripe-signature", &header), "header_doubled", "two proxies"),
        (
            quoted.without("stripe-signature").with("stripe-signature", &in_quotes),
            "header_malformed",
            "quotes",
        ),
        (
            stripe(SECRET, "stripe", "evt_f")
                .without("stripe-signature")
                .with("stripe-signature", "sha256=00"),
            "header_malformed",
            "another version",
        ),
        (stripe(SECRET, "stripe", "evt_e").with_body(""), "body_empty", "swallowed"),
        (
            Request::signed("stripe", unknown, "stripe", r#"{"id":"evt_t","livemode":false}"#),
            "test_mode",
            "test mode",
        ),
        (stripe(unknown, "stripe", "evt_n"), "no_match", "no secret matched"),
        (
            stripe(SECRET, "stripe", "evt_b").with_body("x".repeat(65 << 10)),
            "unread",
            "longer than",
        ),
        (
            stripe(SECRET, "stripe", "evt_c").with("content-encoding", "gzip"),
            "unread",
            "content encoding",
        ),
        (
            Request::signed("gitlab", GITLAB_TOKEN, "gitlab", "{}")
                .without("x-gitlab-token")
                .with("x-gitlab-token", PASSWORD)
                .with("authorization", PASSWORD),
            "no_match",
            "no secret matched",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_cause_is_told_from_the_request_and_mended_ones_are_readmitted_once() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let mut setup = Setup::new(folder.path(), &config(&sink.url(), false));
    let program = setup.start().await;
    let mut ids = std::collections::HashMap::new();
    for (request, kind, word) in causes() {
        let found = refused(&program, &request.bytes()).await;
        assert_eq!(found["finding"]["kind"], kind, "{found:#}");
        let told = found["finding"].to_string();
        assert!(told.contains(word), "`{word}` is not in {found:#}");
        assert!(!told.contains("whsec_of"), "{found:#}");
        ids.entry((kind, word)).or_insert(found["id"].as_str().unwrap().to_owned());
    }
    let id = |kind, word| ids[&(kind, word)].as_str();
    let spelled = id("secret_spelling", "white space");
    let url = id("url_mismatch", "https://hooks.example.com/webhooks/twilio");
    let forged = id("no_match", "no secret matched");

    let (status, text) = run(&setup, &program, &["doctor"]);
    assert_eq!(status.code(), Some(1), "{text}");
    for line in
        ["source spelled", "take the white space out", "server.public_url", "trusted_proxies"]
    {
        assert!(text.contains(line), "`{line}` is not in:\n{text}");
    }
    let (_, text) =
        run(&setup, &program, &["refusals", "show", id("no_match", "no secret matched")]);
    assert!(text.contains("evt_n"), "the owner sees the body:\n{text}");
    let gitlab = newest(&program).await.unwrap();
    let (_, text) = run(&setup, &program, &["refusals", "show", gitlab["id"].as_str().unwrap()]);
    assert!(text.contains("sealed, and not shown"), "{text}");
    run(&setup, &program, &["refusals", "list", "--source", "stripe", "--json"]);
    let (status, text) = run(&setup, &program, &["refusals", "readmit", spelled]);
    assert_eq!(status.code(), Some(1), "not before the fix:\n{text}");
    assert_eq!(program.stats().await.total.events, 0);
    let metrics = program.ask("GET", "/metrics", None).await.unwrap().1;
    assert!(
        metrics.contains("hookonce_refusals_noted_total{outcome=\"kept\",source=\"gitlab\"} 1")
    );
    assert!(!program.log().contains(PASSWORD));
    program.terminate();
    store_shows_nothing(&setup.data_dir());

    setup.config = config(&sink.url(), true);
    let program = setup.start().await;
    let (_, text) = run(&setup, &program, &["doctor", "--source", "spelled"]);
    assert!(text.contains("with today's configuration it is accepted"), "{text}");
    let (status, text) = run(&setup, &program, &["refusals", "readmit", spelled, url]);
    assert_eq!(status.code(), Some(0), "{text}");
    assert_eq!(text.matches("accepted").count(), 2, "{text}");
    until("both are handled", Duration::from_secs(20), || async { sink.count() == 2 }).await;

    let again = program.api("POST", &format!("/api/v1/refusals/{spelled}/readmit"), None).await;
    assert_eq!(again["status"], "duplicate", "{again}");
    let resent = Request::signed("stripe", OTHER_SECRET, "spelled", &stripe_event("evt_s"));
    let answer = Connection::to(program.port).send(&resent.bytes()).await.unwrap();
    assert_eq!(answer.word, "duplicate", "the provider's retry: {answer:?}");
    let still = program.api("POST", &format!("/api/v1/refusals/{forged}/readmit"), None).await;
    assert_eq!(still["status"], "refused", "{still}");
    let large = id("unread", "longer than");
    let (status, _) =
        program.ask("POST", &format!("/api/v1/refusals/{large}/readmit"), None).await.unwrap();
    assert_eq!(status, 400, "its body is not there");
    let total = program.stats().await.total;
    assert_eq!((total.events, total.done), (2, 2));
    assert_eq!(sink.count(), 2, "each of them once");
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_times_that_are_off_by_the_same_are_a_clock() {
    let folder = tempfile::tempdir().unwrap();
    let config =
        format!("[store]\nurl = \"memory:\"\n[sources.stripe]\nsecrets = [\"{SECRET}\"]\n");
    let program = Setup::new(folder.path(), &config).start().await;
    let mut found = Value::Null;
    for seconds in [0, 4, 8] {
        let then = SystemClock::start().now().minus(Duration::from_secs(3600 + seconds));
        let body = stripe_event(&format!("evt_{seconds}"));
        let request = Request::signed_at(then, "stripe", SECRET, "stripe", &body);
        found = refused(&program, &request.bytes()).await;
    }
    assert_eq!(found["finding"]["kind"], "stale", "one alone tells of no clock");
    let page = program.api("GET", "/api/v1/refusals", None).await;
    for refusal in page["refusals"].as_array().unwrap() {
        assert_eq!(refusal["finding"]["kind"], "clock_skew", "{refusal:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_key_what_was_sealed_is_not_readmitted_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let mut setup = Setup::new(folder.path(), &config(&sink.url(), false));
    let program = setup.start().await;
    let request = Request::signed("stripe", OTHER_SECRET, "spelled", &stripe_event("evt_1"))
        .with("authorization", PASSWORD);
    let id = refused(&program, &request.bytes()).await["id"].as_str().unwrap().to_owned();
    program.terminate();
    let key = setup.data_dir().join("refusals.key");
    let kept = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();

    setup.config = config(&sink.url(), true);
    let program = setup.start().await;
    let (status, text) = run(&setup, &program, &["refusals", "readmit", &id]);
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("the key that sealed its credentials is not here"), "{text}");
    assert_eq!(newest(&program).await.unwrap()["finding"]["kind"], "unknown");
    program.terminate();
    std::fs::write(&key, kept).unwrap();

    // No server runs: the command opens the store itself.
    let config = folder.path().join(format!("hookonce-{}.toml", setup.port));
    let output = Command::new(env!("CARGO_BIN_EXE_hookonce"))
        .args(["refusals", "readmit", &id, "--config"])
        .arg(config)
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && text.contains("accepted"), "{text}");
    let _program = setup.start().await;
    until("it is handled", Duration::from_secs(20), || async { sink.count() == 1 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_forgeries_stays_bounded_and_honest_senders_are_answered() {
    const FORGERIES: usize = 20_000;
    const SENDERS: usize = 16;
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let program = Setup::new(folder.path(), &config(&sink.url(), false)).start().await;
    let mut forged = Sender::new().request("evt_0");
    *forged.last_mut().unwrap() = b' ';
    let port = program.port;
    let flood: Vec<_> = (0..SENDERS)
        .map(|_| {
            let forged = forged.clone();
            tokio::spawn(async move {
                let mut connection = Connection::to(port);
                for _ in 0..FORGERIES / SENDERS {
                    assert_eq!(connection.send(&forged).await.unwrap().status, 401);
                }
            })
        })
        .collect();
    let mut honest = Connection::to(port);
    let mut sent = 0;
    while !flood.iter().all(tokio::task::JoinHandle::is_finished) {
        sent += 1;
        let answer = honest.send(&Sender::new().request(&format!("evt_{sent}"))).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.took < Duration::from_secs(1), "{answer:?}");
    }
    for sender in flood {
        sender.await.unwrap();
    }
    assert!(sent > 0);
    let page = program.api("GET", "/api/v1/refusals?limit=1000", None).await;
    let refusals = page["refusals"].as_array().unwrap();
    assert!(!refusals.is_empty() && refusals.len() <= 20, "{}", refusals.len());
    let metrics = program.ask("GET", "/metrics", None).await.unwrap().1;
    let counted = |outcome: &str| -> usize {
        let name =
            format!("hookonce_refusals_noted_total{{outcome=\"{outcome}\",source=\"stripe\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
    };
    assert_eq!(counted("kept") + counted("left_out"), FORGERIES, "{metrics}");
    assert!(counted("kept") < 200, "{metrics}");
    assert_eq!(program.stats().await.total.events, sent);
}
