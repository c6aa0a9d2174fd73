//! Traces, as a collector gets them from the real program.
//!
//! A test of its own, since it wants the program built with another feature: see tests/run.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![expect(
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "tests are no server: they may panic, and they read the clock they need"
)]

#[path = "it/support/mod.rs"]
#[expect(dead_code, reason = "tests/it uses the rest of it")]
mod support;

use std::{
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;
use hookonce::event::EventId;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message as _;

use support::{
    program::{Program, Setup},
    sender::{Connection, SECRET, Sender},
    sink::{Behaviour, Sink},
    until,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// What a sender says of a trace of its own: it is sampled, it says.
const FORGED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A collector that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector {
    port: u16,
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let collector = Self { port, ..Self::default() };
        let requests = Arc::clone(&collector.requests);
        let server = HttpServer::new(move || {
            let requests = Arc::clone(&requests);
            App::new().default_service(web::to(move |request: HttpRequest, body: Bytes| {
                assert_eq!(request.path(), "/v1/traces");
                let decoded = ExportTraceServiceRequest::decode(body).unwrap();
                requests.lock().unwrap().push(decoded);
                async { HttpResponse::Ok().finish() }
            }))
        });
        tokio::spawn(server.workers(1).disable_signals().listen(listener).unwrap().run());
        collector
    }

    /// The services that have sent something, and every span of theirs.
    fn spans(&self) -> (Vec<String>, Vec<Span>) {
        let (mut services, mut spans) = (Vec::new(), Vec::new());
        for resource in self.requests.lock().unwrap().iter().flat_map(|sent| &sent.resource_spans) {
            let attributes = &resource.resource.as_ref().unwrap().attributes;
            services.extend(attribute(attributes, "service.name"));
            spans.extend(resource.scope_spans.iter().flat_map(|scope| scope.spans.clone()));
        }
        services.dedup();
        (services, spans)
    }
}

fn attribute(
    attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue],
    name: &str,
) -> Option<String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;

    let known = attributes.iter().find(|attribute| attribute.key == name)?;
    match known.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        other => panic!("{name} is {other:?}"),
    }
}

/// A program with a collector, whose handler is the sink.
fn setup(folder: &std::path::Path, collector: &Collector, sink: &Sink) -> Setup {
    let config = format!(
        "[store]\nurl = \"sqlite:hookonce.db\"\n[telemetry]\notlp = \"http://127.0.0.1:{}\"\n[sources.stripe]\nsecrets = [{SECRET:?}]\n[handlers.billing]\nsources = [\"stripe\"]\nurl = \"{}\"\n",
        collector.port,
        sink.url()
    );
    Setup::new(folder, &config)
}

/// Sends the event with a trace of its sender's; gives its id.
async fn send(program: &Program, word: &str) -> EventId {
    let body = r#"{"id":"evt_traced","object":"event","type":"invoice.paid"}"#;
    let request = Sender::new().signed(body, &[("traceparent", FORGED), ("tracestate", "a=1")]);
    let answer = Connection::to(program.port).send(&request).await.unwrap();
    assert_eq!((answer.status, answer.word.as_str()), (200, word));
    let answer: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    answer["id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_an_event_goes_from_its_request_to_every_attempt_over_a_restart() {
    let (folder, collector) = (tempfile::tempdir().unwrap(), Collector::start());
    let sink = Sink::behaving(|call| match call.attempt {
        1 => Behaviour::Status(500, Some("2".to_owned())), // time to stop the first process
        _ => Behaviour::Status(200, None),
    });
    let setup = setup(folder.path(), &collector, &sink);

    let program = setup.start().await;
    let event = send(&program, "accepted").await;
    let forged = Sender::with("whsec_somebody_else").request("evt_forged");
    assert_eq!(Connection::to(program.port).send(&forged).await.unwrap().status, 401);
    until("the first attempt is there", PATIENCE, || async { sink.count() == 1 }).await;
    assert!(program.terminate().success());
    assert_eq!(collector.spans().1.len(), 4, "what was left is sent at the end");

    let program = setup.start().await;
    until("the second attempt is there", PATIENCE, || async { sink.count() == 2 }).await;
    assert_eq!(send(&program, "duplicate").await, event);
    until("it is done", PATIENCE, || async { program.stats().await.total.done == 1 }).await;
    assert!(program.terminate().success());

    let (services, spans) = collector.spans();
    assert_eq!(services, ["hookonce"]);
    assert!(spans.iter().all(|span| span.trace_id == event.as_bytes()), "one trace: {spans:#?}");
    let named =
        |name: &str| -> Vec<&Span> { spans.iter().filter(|span| span.name == name).collect() };
    let (roots, copies): (Vec<_>, Vec<_>) =
        named("receive stripe").into_iter().partition(|span| span.parent_span_id.is_empty());
    let ([request], [copy]) = (roots.as_slice(), copies.as_slice()) else { panic!("{spans:#?}") };
    assert_eq!(request.kind(), SpanKind::Server);
    assert_eq!(attribute(&request.attributes, "status").unwrap(), "accepted");
    assert_eq!(copy.parent_span_id, request.span_id);
    assert_eq!(attribute(&copy.attributes, "status").unwrap(), "duplicate");
    for step in ["verify", "admit"] {
        let parents: Vec<_> = named(step).iter().map(|span| &span.parent_span_id).collect();
        assert_eq!(parents, [&request.span_id, &copy.span_id], "{step}");
    }
    let attempts = named("attempt billing");
    let outcomes: Vec<_> = attempts
        .iter()
        .map(|span| attribute(&span.attributes, "attempt.outcome").unwrap())
        .collect();
    assert_eq!(outcomes, ["failed", "done"]);
    assert_eq!(attempts[0].status.as_ref().unwrap().code(), StatusCode::Error);
    for (span, call) in attempts.iter().zip(sink.calls()) {
        assert_eq!(span.kind(), SpanKind::Client);
        assert_eq!(span.parent_span_id, request.span_id);
        assert!(span.start_time_unix_nano >= request.start_time_unix_nano);
        let (trace, id) = (hex::encode(&span.trace_id), hex::encode(&span.span_id));
        assert_eq!(call.headers["traceparent"], format!("00-{trace}-{id}-01"));
        assert!(!call.headers.contains_key("tracestate"), "{:?}", call.headers);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_is_told_of_once_and_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let nobody = Collector { port: support::free_port(), ..Collector::default() };
    let program = setup(folder.path(), &nobody, &sink).start().await;
    send(&program, "accepted").await;
    until("it is handled all the same", PATIENCE, || async { sink.count() == 1 }).await;
    let log = folder.path().join("log");
    assert!(program.terminate().success());
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(log.matches("spans cannot be sent").count(), 1, "{log}");
}
