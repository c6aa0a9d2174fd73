//! Spans as OpenTelemetry has them, sent by OTLP over HTTP.
//!
//! Only the batches and the protocol are OpenTelemetry's. Which spans there are, and under which ids, is
//! decided in [`trace`](super::trace): a tracer would make ids up that no other process could know.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::{
    InstrumentationScope, Key, KeyValue, TraceFlags,
    trace::{self, SpanContext, Status, TraceState},
};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _},
};
use reqwest::Client;
use url::Url;

use super::trace::{Exporter, Span, SpanKind};
use crate::{limits, shutdown::Tasks};

/// How we call ourselves, unless `OTEL_SERVICE_NAME` says otherwise.
const SERVICE_NAME: &str = "hookonce";

/// Sends spans to a collector, in batches and in the background.
///
/// What `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_BSP_*` say
/// is followed, as everywhere.
#[derive(Debug)]
pub struct Otlp {
    batches: BatchSpanProcessor,
    scope: InstrumentationScope,
}

/// A collector that spans cannot be sent to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("traces cannot be sent: {0}")]
pub struct NoExporter(String);

impl Otlp {
    /// Posts them to this URL of a collector. To be called in the runtime that it is to send from.
    ///
    /// # Errors
    /// When what the environment says of it cannot be understood.
    pub fn to(endpoint: &Url, client: Client) -> Result<Self, NoExporter> {
        let sender = Sender { client, tasks: Tasks::default(), is_failing: AtomicBool::default() };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(sender)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint.as_str())
            .with_timeout(limits::SPANS_TIMEOUT) // for all its tries
            .build()
            .map_err(|error| NoExporter(error.to_string()))?;
        let mut batches = BatchSpanProcessor::builder(exporter).build();
        batches.set_resource(&resource());
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Ok(Self { batches, scope })
    }
}

impl Exporter for Otlp {
    fn export(&self, span: Span) {
        self.batches.on_end(data(span, self.scope.clone()));
    }

    fn shut_down(&self, patience: Duration) {
        if let Err(error) = self.batches.shutdown_with_timeout(patience) {
            tracing::warn!(%error, "the last spans may not have been sent");
        }
    }
}

fn resource() -> Resource {
    let told = Resource::builder().build();
    let name = told.get(&Key::from_static_str("service.name")).map(|name| name.to_string());
    let is_told = name.is_some_and(|name| !name.starts_with("unknown_service"));
    let resource = Resource::builder()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if is_told { resource.build() } else { resource.with_service_name(SERVICE_NAME).build() }
}

fn data(span: Span, scope: InstrumentationScope) -> SpanData {
    let trace = trace::TraceId::from_bytes(span.trace);
    let id = trace::SpanId::from_bytes(span.id);
    let (at, after) = span.began;
    let millis = Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or(0));
    let start_time = SystemTime::UNIX_EPOCH + millis + after;
    SpanData {
        span_context: SpanContext::new(
            trace,
            id,
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        ),
        parent_span_id: span.parent.map_or(trace::SpanId::INVALID, trace::SpanId::from_bytes),
        parent_span_is_remote: false,
        span_kind: match span.kind {
            SpanKind::Server => trace::SpanKind::Server,
            SpanKind::Client => trace::SpanKind::Client,
            SpanKind::Internal => trace::SpanKind::Internal,
        },
        name: span.name.into(),
        start_time,
        end_time: start_time + span.took,
        attributes: span.attributes.into_iter().map(|(name, it)| KeyValue::new(name, it)).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: span.error.map_or(Status::Unset, Status::error),
        instrumentation_scope: scope,
    }
}

/// Carries a batch over. The thread that asks for it has no runtime, so it is done in ours.
#[derive(Debug)]
struct Sender {
    client: Client,
    tasks: Tasks,
    is_failing: AtomicBool,
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.tasks.spawn(send(self.client.clone(), request)).await;
        let answer = sent.unwrap_or_else(|error| Err(error.into())); // a panic ends this batch only
        let problem = match &answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("answered {}", answer.status())),
            Err(error) => Some(error.to_string()),
        };
        // One line when it begins and one when it is over, however long that takes.
        match (problem, &self.is_failing) {
            (Some(problem), failing) if !failing.swap(true, Ordering::Relaxed) => {
                tracing::warn!(
                    problem,
                    "spans cannot be sent: is the collector at `telemetry.otlp` there?"
                );
            }
            (None, failing) if failing.swap(false, Ordering::Relaxed) => {
                tracing::info!("spans are sent again");
            }
            _ => {}
        }
        answer
    }
}

/// Sends it, and waits so long for the answer.
async fn send(client: Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let exchange = exchange(client, request);
    let in_time = tokio::time::timeout(limits::SPANS_TIMEOUT, exchange).await;
    in_time.unwrap_or_else(|_| Err(format!("no answer within {:?}", limits::SPANS_TIMEOUT).into()))
}

/// Reads as much of the answer as anybody looks at.
async fn exchange(client: Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let sent = client.execute(request.try_into()?).await;
    let mut answer = sent.map_err(reqwest::Error::without_url)?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > limits::ANSWER_BYTES_READ_MAX {
            break;
        }
    }
    Ok(Response::builder().status(answer.status()).body(body.into())?)
}
