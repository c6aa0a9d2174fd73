//! The URL handler against a server that answers well and badly.

use std::{net::TcpListener, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use hookonce::{
    clock::ManualClock,
    delivery::DeliveryId,
    event::Event,
    handler::{Answer, Attempt, Handler, HttpHandler, Outcome, SigningKey, http_client},
    limits,
    secret::Secret,
};
use url::Url;

use super::{
    given::{NOW, attempt, event_with},
    server::{Reaction, Server},
};

const KEY: &[u8; 32] = b"a key that is thirty-two bytes..";

fn handler(url: &str) -> HttpHandler {
    let url = Url::parse(url).unwrap();
    let secret = Secret::new(format!("whsec_{}", STANDARD.encode(KEY)));
    let signing_key = SigningKey::parse(&secret).unwrap();
    HttpHandler::new(http_client(), url, Some(signing_key), ManualClock::at(NOW)).unwrap()
}

fn ok() -> Reaction {
    Reaction::Answer(200, "", String::new())
}

/// What one event gets from a server that reacts so.
async fn outcome_of(reaction: Reaction, attempt: Attempt) -> (Outcome, Server) {
    let server = Server::start([reaction]);
    let outcome = handler(&server.origin).handle(event_with("{}"), attempt).await;
    (outcome, server)
}

fn failed(outcome: Outcome) -> (Option<Duration>, Answer) {
    match outcome {
        Outcome::Failed { retry_after, answer } => (retry_after, answer),
        Outcome::Done(_) | Outcome::Rejected(_) => panic!("{outcome:?}"),
    }
}

#[tokio::test]
async fn the_request_is_the_original_and_carries_the_facts() {
    let server = Server::start([Reaction::Answer(201, "", "all fine\n".to_owned())]);
    let event = event_with(&b"\x00raw \xff bytes"[..]);
    let handler = handler(&format!("{}/billing?own=1", server.origin));
    let outcome = handler.handle(Arc::clone(&event), attempt()).await;

    let answer = Answer { status: Some(201), error: None, excerpt: Some("all fine".to_owned()) };
    assert_eq!(outcome, Outcome::Done(answer));
    let received = server.received();
    assert_eq!(received.line, "POST /billing?own=1&a=1&b=%20 HTTP/1.1");
    assert_eq!(received.body, event.body);
    let key = attempt().delivery.to_string();
    for (name, value) in [
        ("content-type", "application/json; charset=utf-8"),
        ("stripe-signature", "t=1,v1=ab"),
        ("idempotency-key", key.as_str()),
        ("webhook-id", key.as_str()),
        ("webhook-timestamp", "1767225600"),
        ("hookonce-source", "stripe"),
        ("hookonce-event-id", &event.id.to_string()),
        ("hookonce-provider-event-id", "evt_1"),
        ("hookonce-event-type", "invoice.paid"),
        ("hookonce-received-at", "2026-01-01T00:00:00.000Z"),
        ("hookonce-attempt", "3"),
        ("hookonce-lease-token", "7"),
    ] {
        assert_eq!(received.only(name), value, "{name}");
    }
    assert!(received.all("hookonce-replay-of").is_empty());
    assert!(received.all("hookonce-shadow").is_empty());
}

#[tokio::test]
async fn the_signature_is_over_id_time_and_body() {
    let (_, server) = outcome_of(ok(), attempt()).await;
    let received = server.received();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(KEY).unwrap();
    for part in ["webhook-id", "webhook-timestamp"] {
        mac.update(received.only(part).as_bytes());
        mac.update(b".");
    }
    mac.update(&received.body);
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(received.only("webhook-signature"), expected);
}

#[tokio::test]
async fn without_a_key_nothing_is_signed() {
    let server = Server::start([ok()]);
    let url = Url::parse(&server.origin).unwrap();
    let handler = HttpHandler::new(http_client(), url, None, ManualClock::at(NOW)).unwrap();
    handler.handle(event_with("{}"), attempt()).await;
    assert!(server.received().all("webhook-signature").is_empty());
}

#[tokio::test]
async fn forged_headers_and_credentials_do_not_arrive() {
    let server = Server::start([ok()]);
    let mut event = Event::clone(&event_with("{}"));
    for name in ["Idempotency-Key", "Webhook-Signature", "Hookonce-Attempt", "Hookonce_Attempt"] {
        event.headers.push(name, "forged");
    }
    for name in ["Authorization", "Cookie", "X-Gitlab-Token", "Svix-Signature", "X-Hop", "Host"] {
        event.headers.push(name, "forged");
    }
    event.headers.push("Connection", "x-hop");
    handler(&server.origin).handle(Arc::new(event), attempt()).await;

    let received = server.received();
    let forged: Vec<_> = received.headers.iter().filter(|(_, value)| value == "forged").collect();
    assert!(forged.is_empty(), "{forged:?}");
    assert_eq!(received.only("hookonce-attempt"), "3");
}

#[tokio::test]
async fn a_replay_says_of_what() {
    let first = DeliveryId::from_bytes([9; 16]);
    let (_, server) = outcome_of(ok(), Attempt { replay_of: Some(first), ..attempt() }).await;
    assert_eq!(server.received().only("hookonce-replay-of"), first.to_string());
}

#[tokio::test]
async fn gone_is_rejected() {
    let (outcome, _) = outcome_of(Reaction::Answer(410, "", String::new()), attempt()).await;
    let answer =
        Answer { status: Some(410), error: Some("answered 410".to_owned()), excerpt: None };
    assert_eq!(outcome, Outcome::Rejected(answer));
}

#[tokio::test]
async fn retry_after_is_passed_on_in_both_forms() {
    for (status, lines, seconds) in [
        (429, "retry-after: 120\r\n", Some(120)),
        (503, "retry-after: Thu, 01 Jan 2026 00:01:30 GMT\r\n", Some(90)),
        (400, "retry-after: 7\r\n", Some(7)),
        (500, "", None),
    ] {
        let (outcome, _) =
            outcome_of(Reaction::Answer(status, lines, "why".to_owned()), attempt()).await;
        let (retry_after, answer) = failed(outcome);
        assert_eq!(retry_after, seconds.map(Duration::from_secs), "{status}");
        assert_eq!(answer.status, Some(i32::from(status)));
        assert_eq!(answer.error, Some(format!("answered {status}")));
        assert_eq!(answer.excerpt.as_deref(), Some("why"));
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::start([ok()]);
    let lines: &'static str = format!("location: {}/\r\n", elsewhere.origin).leak();
    let (outcome, _) = outcome_of(Reaction::Answer(307, lines, String::new()), attempt()).await;
    let (_, answer) = failed(outcome);
    assert_eq!(answer.error.as_deref(), Some("answered 307, and redirects are not followed"));
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn connections_are_used_again() {
    let server = Server::start((0..5).map(|_| Reaction::Answer(200, "", "x".repeat(5000))));
    let handler = handler(&server.origin);
    for _ in 0..5 {
        handler.handle(event_with("{}"), attempt()).await;
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_was_closed_while_unused_costs_no_attempt() {
    let server = Server::start([Reaction::AnswerAndHangUp, ok()]);
    let other = Server::start([ok()]);
    let handler = handler(&server.origin);
    handler.handle(event_with("{}"), attempt()).await;
    server.wait_for_hang_up();
    // Any other traffic makes the runtime look at its sockets.
    outcome_of_url(&other.origin).await;

    let outcome = handler.handle(event_with("{}"), attempt()).await;
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    assert_eq!(server.connections(), 2);
}

async fn outcome_of_url(url: &str) -> Outcome {
    handler(url).handle(event_with("{}"), attempt()).await
}

#[tokio::test]
async fn a_long_answer_is_neither_kept_nor_read_to_its_end() {
    let (outcome, _) = outcome_of(Reaction::Answer(200, "", "x".repeat(1 << 20)), attempt()).await;
    let Outcome::Done(answer) = outcome else { panic!("{outcome:?}") };
    assert_eq!(answer.excerpt.map(|excerpt| excerpt.len()), Some(limits::EXCERPT_BYTES_MAX));
}

#[tokio::test]
async fn no_answer_in_time_is_a_failure_that_says_so() {
    let patient = Attempt { timeout: Duration::from_millis(200), ..attempt() };
    let (outcome, server) = outcome_of(Reaction::Stall("HTTP/1.1 200 OK\r\n"), patient).await;
    let (retry_after, answer) = failed(outcome);
    assert_eq!(retry_after, None);
    assert_eq!(answer.error, Some(format!("no answer from {} within 200ms", server.origin)));
}

#[tokio::test]
async fn the_status_counts_even_if_the_body_stalls_or_breaks_off() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart";
    for reaction in [Reaction::Stall(head), Reaction::Close(head)] {
        let patient = Attempt { timeout: Duration::from_secs(1), ..attempt() };
        let (outcome, _) = outcome_of(reaction, patient).await;
        let answer = Answer { status: Some(200), error: None, excerpt: Some("part".to_owned()) };
        assert_eq!(outcome, Outcome::Done(answer));
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_a_failure_that_says_so() {
    for (reaction, cause) in [
        (Reaction::Reset, "connection reset"),
        (Reaction::Close(""), "connection closed before message completed"),
    ] {
        let (outcome, server) = outcome_of(reaction, attempt()).await;
        let (_, answer) = failed(outcome);
        let error = format!("{} broke off before it answered: {cause}", server.origin);
        assert_eq!(answer.error, Some(error));
    }
}

#[tokio::test]
async fn a_refused_connection_names_the_handler_and_nothing_secret() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://user:pass@127.0.0.1:{port}/hidden?key=hidden");
    let (_, answer) = failed(outcome_of_url(&url).await);
    let error = format!("could not connect to http://127.0.0.1:{port}: connection refused");
    assert_eq!(answer.error, Some(error));
}
