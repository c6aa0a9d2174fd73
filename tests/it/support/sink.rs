//! A handler's URL that counts what reaches it, and answers as it is told.

use std::{
    collections::HashMap,
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;

/// One call of the handler.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The delivery: `Idempotency-Key`.
    pub(crate) key: String,
    /// The provider's own id, out of the body.
    pub(crate) event_id: String,
    pub(crate) attempt: u32,
    pub(crate) token: u64,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Bytes,
    pub(crate) at: std::time::Instant,
}

/// How the handler answers a call.
#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// With this status and, if there is one, this `Retry-After`.
    Status(u16, Option<String>),
    /// With a 200, after a while.
    Slow(Duration),
    /// Never.
    Hang,
    /// By closing the connection without an answer.
    Abort,
}

type Rule = dyn Fn(&Call) -> Behaviour + Send + Sync;

/// A running handler; it ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Sink {
    pub(crate) port: u16,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Sink {
    /// A handler that says 200 to everything.
    pub(crate) fn start() -> Self {
        Self::behaving(|_| Behaviour::Status(200, None))
    }

    /// A handler that answers each call as `rule` says.
    pub(crate) fn behaving(rule: impl Fn(&Call) -> Behaviour + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let sink = Self { port, calls: Arc::default() };
        let (calls, rule): (_, Arc<Rule>) = (Arc::clone(&sink.calls), Arc::new(rule));
        let server = HttpServer::new(move || {
            let (calls, rule) = (Arc::clone(&calls), Arc::clone(&rule));
            App::new().app_data(web::PayloadConfig::new(64 << 20)).default_service(web::to(
                move |request, body| take(Arc::clone(&calls), Arc::clone(&rule), request, body),
            ))
        });
        let server = server.workers(1).disable_signals().listen(listener).unwrap().run();
        tokio::spawn(server);
        sink
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    /// How often each of the provider's events was handled.
    pub(crate) fn per_event(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for call in self.calls.lock().unwrap().iter() {
            *counts.entry(call.event_id.clone()).or_default() += 1;
        }
        counts
    }
}

async fn take(
    calls: Arc<Mutex<Vec<Call>>>,
    rule: Arc<Rule>,
    request: HttpRequest,
    body: Bytes,
) -> HttpResponse {
    let headers: HashMap<String, String> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned()))
        .collect();
    let number = |name: &str| headers.get(name).and_then(|value| value.parse().ok()).unwrap_or(0);
    let event: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let call = Call {
        key: headers.get("idempotency-key").cloned().unwrap_or_default(),
        event_id: event["id"].as_str().unwrap_or_default().to_owned(),
        attempt: number("hookonce-attempt") as u32,
        token: number("hookonce-lease-token"),
        headers,
        body,
        at: std::time::Instant::now(),
    };
    let behaviour = rule(&call);
    calls.lock().unwrap().push(call);
    match behaviour {
        Behaviour::Status(status, retry_after) => {
            let status = actix_web::http::StatusCode::from_u16(status).unwrap();
            let mut response = HttpResponse::build(status);
            if let Some(retry_after) = retry_after {
                response.insert_header(("retry-after", retry_after));
            }
            response.body("said the handler")
        }
        Behaviour::Slow(pause) => {
            tokio::time::sleep(pause).await;
            HttpResponse::Ok().finish()
        }
        Behaviour::Hang => std::future::pending().await,
        // Ends the task that serves the connection, and with it the connection; not a panic to report.
        Behaviour::Abort => std::panic::resume_unwind(Box::new(())),
    }
}
