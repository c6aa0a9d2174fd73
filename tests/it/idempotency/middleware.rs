//! The middleware in front of a service of the user's own.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use hookonce::{
    Hookonce,
    api::{Api, Save},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::watch};

use super::client::{charge, charging, request, send};
use crate::support::until;

/// A service behind the middleware, and what it was asked.
struct Service {
    port: u16,
    calls: Arc<AtomicUsize>,
    gate: Arc<watch::Sender<bool>>,
}

impl Service {
    async fn start() -> Self {
        let api = Api { save: Save::All, ..Api::new("payments") };
        let hooks = Hookonce::builder().store("memory:").api(api).build().await.unwrap();
        let (calls, gate) = (Arc::<AtomicUsize>::default(), Arc::new(watch::Sender::new(false)));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let inner = (Arc::clone(&calls), Arc::clone(&gate));
        let server = HttpServer::new(move || {
            let inner = inner.clone();
            let service = web::to(move |request, body| serve(inner.clone(), request, body));
            App::new().wrap(hooks.idempotency("payments")).default_service(service)
        });
        tokio::spawn(server.workers(1).disable_signals().listen(listener).unwrap().run());
        Self { port, calls, gate }
    }

    fn count(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

async fn serve(
    (calls, gate): (Arc<AtomicUsize>, Arc<watch::Sender<bool>>),
    request: HttpRequest,
    body: String,
) -> HttpResponse {
    let number = calls.fetch_add(1, Ordering::SeqCst);
    let key = request.headers().get("idempotency-key").and_then(|key| key.to_str().ok());
    match key {
        Some("gated") => {
            gate.subscribe().wait_for(|open| *open).await.unwrap();
        }
        Some("failing") => return HttpResponse::InternalServerError().body("failed"),
        Some("panicking") => std::panic::resume_unwind(Box::new(())),
        _ => {}
    }
    HttpResponse::Created()
        .append_header(("Set-Cookie", "a=1"))
        .append_header(("Set-Cookie", "b=2"))
        .body(format!("{number}: {body}"))
}

#[tokio::test]
async fn a_service_is_called_once_per_key() {
    let service = Service::start().await;
    let first = charge(service.port, "k1").await;
    assert_eq!((first.status(), first.text().as_str()), (201, "0: {\"amount\": 1000}"));
    let again = charge(service.port, "k1").await;
    assert!(again.is_replayed());
    assert_eq!((again.status(), again.text()), (201, first.text()));
    assert_eq!(again.all("set-cookie"), ["a=1", "b=2"]);

    let other = request("POST", "/payments/charges", &[("Idempotency-Key", "k1")], b"other");
    assert_eq!(send(service.port, &other).await.unwrap().code(), "key_reused");
    let none = request("POST", "/payments/charges", &[], b"none");
    assert_eq!(send(service.port, &none).await.unwrap().code(), "key_missing");
    for bytes in [
        request("GET", "/payments/charges", &[("Idempotency-Key", "k1")], b""),
        request("POST", "/elsewhere", &[], b"none"),
    ] {
        assert_eq!(send(service.port, &bytes).await.unwrap().status(), 201);
    }
    assert_eq!(service.count(), 3);
}

#[tokio::test]
async fn an_encoded_letter_does_not_lead_past_the_middleware() {
    let service = Service::start().await;
    for target in ["/%70ayments", "/%70ayments/charges", "/payment%73"] {
        let encoded = request("POST", target, &[("Idempotency-Key", "k1")], b"");
        assert_eq!(send(service.port, &encoded).await.unwrap().code(), "not_found", "{target}");
    }
    assert_eq!(service.count(), 0);
    // What is encoded below the path is the service's own business.
    let below = request("POST", "/payments/%63harges", &[("Idempotency-Key", "k1")], b"");
    assert_eq!(send(service.port, &below).await.unwrap().status(), 201);
}

#[tokio::test]
async fn a_failure_of_the_service_is_kept_as_configured_and_a_panic_is_unknown() {
    let service = Service::start().await;
    for is_replayed in [false, true] {
        let answer = charge(service.port, "failing").await;
        assert_eq!((answer.status(), answer.is_replayed()), (500, is_replayed));
    }
    let panicked = charge(service.port, "panicking").await;
    assert_eq!(panicked.status(), 502, "{panicked:?}");
    assert_eq!(charge(service.port, "panicking").await.code(), "outcome_unknown");
    assert_eq!(service.count(), 2);
}

#[tokio::test]
async fn a_service_goes_on_when_its_client_hangs_up() {
    let service = Service::start().await;
    let mut client = TcpStream::connect(("127.0.0.1", service.port)).await.unwrap();
    client.write_all(&charging("gated")).await.unwrap();
    let patience = Duration::from_secs(10);
    until("it is called", patience, || async { service.count() == 1 }).await;
    assert_eq!(charge(service.port, "gated").await.code(), "key_in_progress");
    drop(client);
    // As long as it takes the server to notice: nothing that can be asked for tells that it has.
    tokio::time::sleep(Duration::from_millis(200)).await;
    service.gate.send_replace(true);
    until("its answer is saved", patience, || async {
        charge(service.port, "gated").await.is_replayed()
    })
    .await;
    assert_eq!(service.count(), 1);
}
