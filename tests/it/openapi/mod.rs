//! `/openapi.json` and what is really answered: every route that is documented is asked, and every answer
//! is held against the document.

mod schema;

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use hookonce::{
    clock::{SystemClock, Timestamp},
    handler::http_client,
    provider::{self, Settings},
    request::{Headers, Unverified},
    secret::Secret,
    source::Source,
};
use serde_json::{Value, json};

use self::schema::mistakes;
use crate::support::{
    program::{Program, Setup},
    sender::SECRET,
    sink::{Behaviour, Sink},
    until,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// The routes that were asked, and how their answers are to be.
struct Walk<'a> {
    program: &'a Program,
    document: Value,
    asked: BTreeSet<(String, String)>,
}

impl Walk<'_> {
    /// Asks for what stands in the document as `template`, and gives the answer: it is a yes, and as the
    /// document says.
    async fn ask(
        &mut self,
        method: &str,
        template: &str,
        path: &str,
        body: Option<Value>,
    ) -> Value {
        let answer = send(self.program, method, path, body).await;
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text);
        self.asked.insert((method.to_lowercase(), template.to_owned()));
        self.expect(method, template, "200", &answer)
    }

    /// Sees that this is no, in the form of every no.
    async fn expect_no(&self, method: &str, template: &str, path: &str, body: Option<Value>) {
        let answer = send(self.program, method, path, body).await;
        assert!((400..500).contains(&answer.status), "{method} {path}: {answer:?}");
        let problem = self.expect(method, template, "default", &answer);
        assert_eq!(problem["status"], json!(answer.status), "{method} {path}");
    }

    fn operation(&self, method: &str, template: &str) -> &Value {
        let operation = &self.document["paths"][template][method.to_lowercase()];
        assert!(operation.is_object(), "{method} {template} is not documented");
        operation
    }

    /// Holds an answer against what is documented as `response`, and gives what is in it, if that is JSON.
    fn expect(&self, method: &str, template: &str, response: &str, answer: &Answer) -> Value {
        let content = &self.operation(method, template)["responses"][response]["content"];
        let content_type = answer.content_type.split(';').next().unwrap();
        let said = content.get(content_type);
        let said = said.unwrap_or_else(|| panic!("{method} {template}: {answer:?}"));
        if !content_type.ends_with("json") {
            return Value::Null;
        }
        let value = serde_json::from_str(&answer.text).unwrap();
        self.hold(&said["schema"], &value, &format!("{method} {template}"));
        value
    }

    fn hold(&self, schema: &Value, value: &Value, what: &str) {
        let found = mistakes(&self.document, schema, value);
        assert!(found.is_empty(), "{what}: {}\n{value:#}", found.join("\n"));
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    content_type: String,
    text: String,
}

async fn send(program: &Program, method: &str, path: &str, body: Option<Value>) -> Answer {
    let url = format!("http://127.0.0.1:{}{path}", program.admin_port);
    let asked = http_client().request(method.parse().unwrap(), url).timeout(PATIENCE);
    let asked = body.iter().fold(asked, reqwest::RequestBuilder::json);
    let answer = asked.send().await.unwrap();
    let (status, content_type) = (answer.status().as_u16(), content_type(&answer));
    Answer { status, content_type, text: answer.text().await.unwrap() }
}

fn content_type(answer: &reqwest::Response) -> String {
    answer.headers()["content-type"].to_str().unwrap().to_owned()
}

/// Sends a request to a source, signed as its provider does; gives our id of the event, if it has one.
async fn receive(
    program: &Program,
    source: &str,
    secret: &str,
    headers: Headers,
    body: &str,
) -> Value {
    let settings = Settings { secrets: vec![Secret::new(secret)], ..Settings::default() };
    let rules = Source::new(source, provider::find(source).unwrap(), settings).unwrap();
    let url = format!("http://127.0.0.1:{}/webhooks/{source}", program.port);
    let body = Bytes::copy_from_slice(body.as_bytes());
    let mut draft = Unverified {
        method: "POST".to_owned(),
        url: url.clone(),
        headers,
        body: body.clone(),
        received_at: Timestamp::default(),
    };
    rules.scheme.sign(&mut draft, SystemClock::start().now()).unwrap();
    let headers = draft.headers.iter();
    let post = http_client().post(url).header("content-type", "application/json").body(body);
    let post = headers.fold(post, |post, (name, value)| post.header(name, value));
    let answer: Value = post.send().await.unwrap().json().await.unwrap();
    answer["id"].clone()
}

async fn stripe(program: &Program, id: &str) -> String {
    let body = json!({ "id": id, "object": "event", "type": "invoice.paid" }).to_string();
    let id = receive(program, "stripe", SECRET, Headers::default(), &body).await;
    id.as_str().unwrap().to_owned()
}

fn setup(folder: &std::path::Path, sink: &Sink) -> Setup {
    let config = format!(
        r#"
[store]
url = "sqlite:hookonce.db"
[sources.stripe]
secrets = ["{SECRET}"]
[sources.github]
secrets = ["{SECRET}"]
replay_guard = "hold"
[handlers.billing]
sources = ["stripe"]
url = "{url}"
order_by = "/id"
[handlers.audit]
sources = ["github"]
log = true
[apis.payments]
upstream = "http://127.0.0.1:{port}"
"#,
        url = sink.url(),
        port = sink.port,
    );
    Setup::new(folder, &config)
}

/// A handler that says never to some events, and an upstream that breaks off.
fn sink() -> Sink {
    Sink::behaving(|call| match call.event_id.starts_with("evt_dead") {
        true => Behaviour::Status(410, None),
        false if call.key.starts_with("unknown") => Behaviour::Abort,
        false => Behaviour::Status(200, None),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_route_answers_as_the_document_says() {
    let (folder, sink) = (tempfile::tempdir().unwrap(), sink());
    let setup = setup(folder.path(), &sink);
    let program = setup.start().await;
    let document = program.api("GET", "/openapi.json", None).await;
    let mut walk = Walk { program: &program, document, asked: BTreeSet::new() };
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        walk.ask("GET", path, path, None).await;
    }
    ask_about_events(&mut walk).await;
    ask_about_deliveries(&mut walk).await;
    ask_about_refusals(&mut walk).await;
    ask_about_keys(&mut walk).await;
    ask_about_handlers(&mut walk).await;
    watch(&mut walk).await;
    walk.ask("GET", "/api/v1/stats", "/api/v1/stats", None).await;
    for path in ["/api/v1/reload", "/api/v1/store/accept", "/api/v1/store/backup"] {
        walk.ask("POST", path, path, None).await;
    }

    let documented: BTreeSet<_> = walk.document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(|method| (method.clone(), path.clone()))
        })
        .collect();
    assert_eq!(
        walk.asked, documented,
        "a step of this test is missing for what is only documented"
    );
    for (method, template) in &documented {
        refuse(&walk, &method.to_uppercase(), template).await;
    }
}

/// What cannot be understood, and what is not there, is a problem in the one form of all problems.
async fn refuse(walk: &Walk<'_>, method: &str, template: &str) {
    let operation = walk.operation(method, template);
    let parameters = operation["parameters"].as_array().unwrap();
    if template.contains('{') {
        let segment = |segment: &str| match segment.starts_with('{') {
            true => "nobody".to_owned(),
            false => segment.to_owned(),
        };
        let path = template.split('/').map(segment).collect::<Vec<_>>().join("/");
        walk.expect_no(method, template, &path, None).await;
    }
    if parameters.iter().any(|parameter| parameter["in"] == "query") {
        walk.expect_no(method, template, &format!("{template}?nonsense=1"), None).await;
    }
    if operation.get("requestBody").is_some() {
        let path = template.replace("{id}", "00000000-0000-7000-8000-000000000000");
        walk.expect_no(method, template, &path, Some(json!({ "nonsense": 1 }))).await;
    }
}

async fn ask_about_events(walk: &mut Walk<'_>) {
    let id = stripe(walk.program, "evt_1").await;
    stripe(walk.program, "evt_1").await; // so that there is a duplicate to see
    let (events, one) = ("/api/v1/events", "/api/v1/events/{id}");
    let path = format!("{events}/{id}");
    walk.ask("GET", events, &format!("{events}?source=stripe&state=open&limit=1"), None).await;
    walk.ask("GET", events, events, None).await;
    until("it is delivered", PATIENCE, || async { walk.program.stats().await.total.done == 1 })
        .await;
    let event = walk.ask("GET", one, &path, None).await;
    assert_eq!(event["deliveries"][0]["attempts_made"][0]["outcome"], json!("done"));
    walk.ask("GET", &format!("{one}/request"), &format!("{path}/request"), None).await;
    let (template, path) = (format!("{one}/replay"), format!("{path}/replay"));
    walk.ask("POST", &template, &path, None).await;
    walk.ask("POST", &template, &path, Some(json!({ "handler": "billing", "reason": "asked" })))
        .await;

    let same = json!({ "action": "opened" }).to_string();
    let mut sent = Vec::new();
    for number in 1..=3 {
        let id = format!("9b0f5a6e-0000-4000-8000-00000000000{number}");
        let headers = [("x-github-delivery", id), ("x-github-event", "issues".to_owned())];
        let headers = headers.into_iter().collect();
        let id = receive(walk.program, "github", SECRET, headers, &same).await;
        sent.push(id.as_str().unwrap().to_owned());
    }
    let [_, held, other] = sent.as_slice() else { unreachable!("three were sent") };
    let (template, path) = (format!("{one}/admit"), format!("{events}/{held}/admit"));
    let admitted = walk.ask("POST", &template, &path, None).await;
    assert_eq!(walk.ask("POST", &template, &path, None).await, admitted, "sent again");
    let (path, reason) = (format!("{events}/{other}/erase"), json!({ "reason": "asked" }));
    walk.ask("POST", &format!("{one}/erase"), &path, Some(reason)).await;
}

async fn ask_about_deliveries(walk: &mut Walk<'_>) {
    for event in ["evt_dead_1", "evt_dead_2", "evt_dead_3"] {
        stripe(walk.program, event).await;
    }
    until("they are dead", PATIENCE, || async { walk.program.stats().await.total.dead_now == 3 })
        .await;
    let deliveries = "/api/v1/deliveries";
    let page = walk.ask("GET", deliveries, &format!("{deliveries}?state=dead"), None).await;
    let id = |row: usize| page["deliveries"][row]["id"].as_str().unwrap();
    let attempts = format!("{deliveries}/{{id}}/attempts");
    walk.ask("GET", &attempts, &format!("{deliveries}/{}/attempts", id(0)), None).await;

    let redrives = "/api/v1/redrives";
    let slowly = json!({ "handler": "billing", "per_second": 1 });
    walk.ask("POST", redrives, redrives, Some(slowly)).await;
    walk.ask("GET", redrives, redrives, None).await;
    let stop = "/api/v1/redrives/{handler}/stop";
    walk.ask("POST", stop, "/api/v1/redrives/billing/stop", None).await;
    until("they are dead again", PATIENCE, || async {
        walk.program.stats().await.total.dead_now == 3
    })
    .await;

    let pause = "/api/v1/handlers/{name}/pause";
    walk.ask("POST", pause, "/api/v1/handlers/billing/pause", None).await;
    let redrive = format!("{deliveries}/redrive");
    walk.ask("POST", &redrive, &redrive, Some(json!({ "ids": [id(0)] }))).await;
    let kill = format!("{deliveries}/kill");
    walk.ask("POST", &kill, &kill, Some(json!({ "handler": "billing" }))).await;
    let unblock = format!("{deliveries}/unblock");
    walk.ask("POST", &unblock, &unblock, Some(json!({ "ids": [id(1)] }))).await;
    let one = format!("{deliveries}/{{id}}/unblock");
    walk.ask("POST", &one, &format!("{deliveries}/{}/unblock", id(1)), None).await;
    let to = format!("{deliveries}/move");
    walk.ask("POST", &to, &to, Some(json!({ "ids": [id(1)], "to": "audit" }))).await;
    let resume = "/api/v1/handlers/{name}/resume";
    walk.ask("POST", resume, "/api/v1/handlers/billing/resume", None).await;
}

async fn ask_about_refusals(walk: &mut Walk<'_>) {
    let forged = r#"{"id":"evt_forged","object":"event","type":"invoice.paid"}"#;
    receive(walk.program, "stripe", "whsec_of_a_forger", Headers::default(), forged).await;
    let refusals = "/api/v1/refusals";
    let kept = || async {
        let page = walk.program.api("GET", refusals, None).await;
        page["refusals"].as_array().unwrap().len() == 1
    };
    until("the refusal is kept", PATIENCE, kept).await;
    let page = walk.ask("GET", refusals, &format!("{refusals}?step=no_match"), None).await;
    let path = format!("{refusals}/{}", page["refusals"][0]["id"].as_str().unwrap());
    let one = format!("{refusals}/{{id}}");
    walk.ask("GET", &one, &path, None).await;
    let again = walk.ask("POST", &format!("{one}/readmit"), &format!("{path}/readmit"), None).await;
    assert_eq!(again["status"], json!("refused"));
}

async fn ask_about_keys(walk: &mut Walk<'_>) {
    let url = format!("http://127.0.0.1:{}/payments", walk.program.port);
    for (key, status) in [("fine", 200), ("unknown", 502)] {
        let call = http_client().post(&url).header("idempotency-key", key).body("charge");
        assert_eq!(call.send().await.unwrap().status(), status);
    }
    let keys = "/api/v1/keys";
    walk.ask("GET", keys, keys, None).await;
    let page = walk.ask("GET", keys, &format!("{keys}?api=payments&state=unknown"), None).await;
    let path = format!("{keys}/{}", page["keys"][0]["id"].as_str().unwrap());
    let one = format!("{keys}/{{id}}");
    walk.ask("GET", &one, &path, None).await;
    let free = Some(json!({ "outcome": "free" }));
    walk.ask("POST", &format!("{one}/resolve"), &format!("{path}/resolve"), free).await;
}

async fn ask_about_handlers(walk: &mut Walk<'_>) {
    let limits = "/api/v1/handlers/{name}/limits";
    let asked = json!({ "concurrency": 3, "rate": "50/s" });
    walk.ask("POST", limits, "/api/v1/handlers/billing/limits", Some(asked)).await;
    walk.ask("GET", "/api/v1/handlers", "/api/v1/handlers", None).await;
}

/// What the live tail tells is as its schema says.
async fn watch(walk: &mut Walk<'_>) {
    let tail = "/api/v1/tail";
    let url = format!("http://127.0.0.1:{}{tail}?source=stripe", walk.program.admin_port);
    let mut stream = http_client().get(url).send().await.unwrap();
    let mut seen = String::new();
    let mut sent = false;
    while seen.matches("data: ").count() < 2 {
        let chunk = tokio::time::timeout(PATIENCE, stream.chunk()).await.unwrap().unwrap().unwrap();
        seen.push_str(std::str::from_utf8(&chunk).unwrap());
        if !sent {
            stripe(walk.program, "evt_watched").await; // received, and attempted then
            sent = true;
        }
    }
    assert_eq!(content_type(&stream), "text/event-stream");
    let content = &walk.operation("GET", tail)["responses"]["200"]["content"];
    let schema = &content["text/event-stream"]["schema"]["contentSchema"];
    for data in seen.lines().filter_map(|line| line.strip_prefix("data: ")) {
        let happening = serde_json::from_str(data).unwrap();
        walk.hold(schema, &happening, tail);
    }
    walk.asked.insert(("get".to_owned(), tail.to_owned()));
}
