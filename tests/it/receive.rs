//! What a webhook endpoint answers to requests of every kind, over a real socket.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    program::{Program, Setup},
    sender::{Connection, SECRET, Sender},
};

async fn start(folder: &std::path::Path) -> Program {
    let config = format!(
        r#"body_within = "1s"
[store]
url = "memory:"
[sources.stripe]
secrets = ["{SECRET}"]
body_bytes_max = "64KiB"
[sources.slack]
secrets = ["slack-secret"]
path = "/hooks/from-slack"
[sources.twilio]
secrets = ["twilio-token"]
[handlers.log]
log = true
"#
    );
    Setup::new(folder, &config).start().await
}

/// Sends these bytes on a connection of their own and reads what comes until it ends or falls silent.
async fn exchange(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let read = async {
        while stream.read_buf(&mut answer).await.is_ok_and(|count| count > 0) {
            if answer.windows(4).any(|window| window == b"\r\n\r\n") {
                break;
            }
        }
    };
    drop(tokio::time::timeout(Duration::from_secs(5), read).await);
    String::from_utf8_lossy(&answer).to_ascii_lowercase()
}

fn head(method: &str, path: &str, headers: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}\r\n").into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_its_status_its_word_and_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(folder.path()).await;
    let stripe = "/webhooks/stripe";
    for (what, request, status, code) in [
        (
            "no such source",
            head("POST", "/webhooks/nobody", "content-length: 0\r\n"),
            404,
            "unknown_source",
        ),
        ("no such path", head("POST", "/", "content-length: 0\r\n"), 404, "unknown_source"),
        (
            "a method nobody sends",
            head("PUT", stripe, "content-length: 0\r\n"),
            405,
            "method_not_allowed",
        ),
        ("a GET where there is no handshake", head("GET", stripe, ""), 405, "method_not_allowed"),
        (
            "too large, and says so",
            head("POST", stripe, "content-length: 65537\r\n"),
            413,
            "body_too_large",
        ),
        (
            "compressed",
            head("POST", stripe, "content-encoding: gzip\r\ncontent-length: 2\r\n"),
            415,
            "content_encoding",
        ),
        (
            "unsigned",
            [head("POST", stripe, "content-length: 2\r\n"), b"{}".to_vec()].concat(),
            401,
            "signature",
        ),
    ] {
        let answer = exchange(program.port, &request).await;
        assert!(answer.starts_with(&format!("http/1.1 {status} ")), "{what}: {answer}");
        assert!(answer.contains("\r\nhookonce-status: refused\r\n"), "{what}: {answer}");
        assert!(
            answer.contains("\r\ncontent-type: application/problem+json\r\n"),
            "{what}: {answer}"
        );
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{what}: {answer}");
    }
    assert_eq!(program.stats().await.total.events, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_is_bounded_while_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(folder.path()).await;
    let mut request = head("POST", "/webhooks/stripe", "transfer-encoding: chunked\r\n");
    for _ in 0..5 {
        request.extend_from_slice(b"4000\r\n");
        request.extend_from_slice(&[b'x'; 0x4000]);
        request.extend_from_slice(b"\r\n");
    }
    let answer = exchange(program.port, &request).await;
    assert!(answer.starts_with("http/1.1 413 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_408_in_its_own_time() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(folder.path()).await;
    let begun = Instant::now();
    let mut request = head("POST", "/webhooks/stripe", "content-length: 1000\r\n");
    request.extend_from_slice(b"a beginning");
    let answer = exchange(program.port, &request).await;
    assert!(answer.starts_with("http/1.1 408 "), "{answer}");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(1000) && took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_signatures_of_one_source_look_alike() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(folder.path()).await;
    let mut bodies = std::collections::HashSet::new();
    for signature in [
        "",
        "stripe-signature: garbage\r\n",
        "stripe-signature: t=1,v1=00\r\n",
        "stripe-signature: t=1,v1=\r\nstripe-signature: t=1\r\n",
    ] {
        let mut request =
            head("POST", "/webhooks/stripe", &format!("{signature}content-length: 2\r\n"));
        request.extend_from_slice(b"{}");
        let answer = Connection::to(program.port).send(&request).await.unwrap();
        assert_eq!(answer.status, 401);
        bodies.insert(answer.body);
    }
    assert_eq!(bodies.len(), 1, "{bodies:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn twilio_gets_twiml_and_a_duplicate_the_same_yes() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(folder.path()).await;
    // Signed for the URL as it is called here: there is no proxy, and none is configured.
    let body = "MessageSid=SM1&MessageStatus=sent";
    let url = format!("http://127.0.0.1:{}/webhooks/twilio", program.port);
    let signature = twilio_signature(&format!("{url}MessageSidSM1MessageStatussent"));
    let request = format!(
        "POST /webhooks/twilio HTTP/1.1\r\nhost: 127.0.0.1:{}\r\ncontent-type: application/x-www-form-urlencoded\r\nx-twilio-signature: {signature}\r\ncontent-length: {}\r\n\r\n{body}",
        program.port,
        body.len()
    );
    let mut connection = Connection::to(program.port);
    for word in ["accepted", "duplicate", "duplicate"] {
        let answer = connection.send(request.as_bytes()).await.unwrap();
        assert_eq!((answer.status, answer.word.as_str()), (200, word));
        assert!(answer.head.contains("content-type: text/xml"), "{answer:?}");
        assert!(answer.body.contains("<Response"), "{answer:?}");
    }
}

fn twilio_signature(text: &str) -> String {
    use base64::Engine as _;
    use hmac::{KeyInit as _, Mac as _};
    let mut mac = hmac::Hmac::<sha1::Sha1>::new_from_slice(b"twilio-token").unwrap();
    mac.update(text.as_bytes());
    base64::prelude::BASE64_STANDARD.encode(mac.finalize().into_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_is_told_its_challenge_at_a_path_of_its_own() {
    use hmac::{KeyInit as _, Mac as _};
    let folder = tempfile::tempdir().unwrap();
    let program = start(folder.path()).await;
    let body = r#"{"type":"url_verification","challenge":"a challenge","token":"t"}"#;
    let now = hookonce::clock::SystemClock::start().now().as_seconds();
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"slack-secret").unwrap();
    mac.update(format!("v0:{now}:{body}").as_bytes());
    let signature = hex::encode(mac.finalize().into_bytes());
    let request = format!(
        "POST /hooks/from-slack HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slack-request-timestamp: {now}\r\nx-slack-signature: v0={signature}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = Connection::to(program.port).send(request.as_bytes()).await.unwrap();
    assert_eq!((answer.status, answer.word.as_str()), (200, "handshake"));
    assert_eq!(answer.body, "a challenge");
    assert_eq!(program.stats().await.total.events, 0, "a handshake is no event");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_cannot_reach_the_admin_listener() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(folder.path()).await;
    let port = program.admin_port;
    let redrive = "POST /api/v1/deliveries/redrive HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 16\r\n";
    let body = "\r\n{\"handler\":\"log\"}";
    let own = format!("{redrive}host: 127.0.0.1:{port}\r\n{body}");
    assert!(exchange(port, own.replace("16", "17").as_bytes()).await.starts_with("http/1.1 200 "));
    for (what, headers, status) in [
        (
            "another page",
            format!("host: 127.0.0.1:{port}\r\norigin: https://evil.example\r\n"),
            403,
        ),
        ("a name that resolves here", "host: evil.example\r\n".to_owned(), 421),
        ("no name at all", String::new(), 400),
    ] {
        let answer = exchange(port, format!("{redrive}{headers}{body}").as_bytes()).await;
        assert!(answer.starts_with(&format!("http/1.1 {status} ")), "{what}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_have_the_fixed_names() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(folder.path()).await;
    let request = Sender::new().request("evt_1");
    let mut connection = Connection::to(program.port);
    for word in ["accepted", "duplicate"] {
        assert_eq!(connection.send(&request).await.unwrap().word, word);
    }
    crate::support::until("it is handled", Duration::from_secs(5), || async {
        program.stats().await.total.done == 1
    })
    .await;
    let (_, text) = program.ask("GET", "/metrics", None).await.unwrap();
    for line in [
        "hookonce_requests_total{source=\"stripe\",status=\"accepted\"} 1",
        "hookonce_requests_total{source=\"stripe\",status=\"duplicate\"} 1",
        "hookonce_deliveries_total{handler=\"log\",outcome=\"done\"} 1",
        "hookonce_deliveries{handler=\"log\",state=\"queued\"} 0",
        "hookonce_ack_seconds_count{source=\"stripe\"} 2",
        "hookonce_attempt_seconds_count{handler=\"log\"} 1",
        "hookonce_store_up 1",
    ] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
}
