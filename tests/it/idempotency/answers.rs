//! Saved answers, and the requests that never get that far.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    client::{charge, request, send},
    payments,
    upstream::{Reply, Upstream, answer, ok},
};

#[tokio::test]
async fn a_retry_gets_the_first_answer_again() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|_, before| ok(&format!("charge {before}"))).await;
    let program = payments(folder.path(), &upstream, "").await;

    let first = charge(program.port, "k1").await;
    assert_eq!((first.status(), first.text()), (200, "charge 0".to_owned()));
    assert!(!first.is_replayed());
    let again = charge(program.port, "\"k1\"").await;
    assert_eq!((again.status(), again.text()), (200, "charge 0".to_owned()));
    assert!(again.is_replayed());
    assert_eq!(first.header("hookonce-key-expires").len(), "2026-01-01T00:00:00.000Z".len());
    assert!(!again.header("hookonce-key-expires").is_empty());
    let other = charge(program.port, "k2").await;
    assert_eq!(other.text(), "charge 1");
    assert_eq!(upstream.count(), 2);

    let (_, metrics) = program.ask("GET", "/metrics", None).await.unwrap();
    for line in [
        "hookonce_keys_total{api=\"payments\",outcome=\"begun\"} 2",
        "hookonce_keys_total{api=\"payments\",outcome=\"replayed\"} 1",
        "hookonce_key_calls_total{api=\"payments\",outcome=\"completed\"} 2",
    ] {
        assert!(metrics.contains(line), "{line} is not in:\n{metrics}");
    }
}

#[tokio::test]
async fn every_status_is_given_again_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|request, before| {
        let status: u16 = request.header("x-status").parse().unwrap();
        Reply::Bytes(answer(status, &[("X-Call", &before.to_string())], b"said"))
    })
    .await;
    let program = payments(folder.path(), &upstream, "save = \"all\"").await;
    let never_saved = [409, 425, 429, 503, 502, 504];
    for status in (200_u16..=599).filter(|status| !never_saved.contains(status)) {
        let (key, status_text) = (format!("k{status}"), status.to_string());
        let headers = [("Idempotency-Key", key.as_str()), ("X-Status", &status_text)];
        let bytes = request("POST", "/payments", &headers, b"{}");
        let first = send(program.port, &bytes).await.unwrap();
        let again = send(program.port, &bytes).await.unwrap();
        assert_eq!((first.status(), again.status()), (status, status));
        assert!(again.is_replayed() && !first.is_replayed(), "{status}");
        assert_eq!(first.body, again.body, "{status}");
        assert_eq!(first.header("x-call"), again.header("x-call"), "{status}");
    }
    assert_eq!(upstream.count(), 400 - never_saved.len());
}

#[tokio::test]
async fn an_answer_is_given_again_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let long: Vec<u8> = (0..5 << 20).map(|at: usize| (at * 31 % 251) as u8).collect();
    let bodies = [Vec::new(), (0..=255).collect(), long];
    let replies = bodies.clone();
    let upstream = Upstream::start(move |request, _| {
        let body = &replies[request.text().parse::<usize>().unwrap()];
        let headers = [
            ("Set-Cookie", "a=1; Path=/"),
            ("Set-Cookie", "b=2"),
            ("Content-Type", "application/octet-stream"),
            ("Date", "Thu, 01 Jan 2026 00:00:00 GMT"),
            ("Connection", "keep-alive, X-Private"),
            ("X-Private", "1"),
            ("Keep-Alive", "timeout=5"),
        ];
        Reply::Bytes(answer(201, &headers, body))
    })
    .await;
    let program = payments(folder.path(), &upstream, "answer_bytes_max = \"8MiB\"").await;
    for (at, body) in bodies.iter().enumerate() {
        let key = format!("k{at}");
        let headers = [("Idempotency-Key", key.as_str())];
        let bytes = request("POST", "/payments", &headers, at.to_string().as_bytes());
        let first = send(program.port, &bytes).await.unwrap();
        let again = send(program.port, &bytes).await.unwrap();
        assert!(again.is_replayed());
        for given in [&first, &again] {
            assert!(given.body == *body, "body {at} is another one");
            assert_eq!(given.status(), 201);
            assert_eq!(given.all("set-cookie"), ["a=1; Path=/", "b=2"]);
            assert_eq!(given.all("content-type"), ["application/octet-stream"]);
            assert_eq!(given.all("date"), ["Thu, 01 Jan 2026 00:00:00 GMT"]);
            assert_eq!(given.all("x-private"), [""; 0]);
            assert_eq!(given.all("keep-alive"), [""; 0]);
        }
    }
    assert_eq!(upstream.count(), bodies.len());
}

#[tokio::test]
async fn what_is_no_request_with_a_key_never_reaches_the_upstream() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|_, _| ok("done")).await;
    let program = payments(folder.path(), &upstream, "body_bytes_max = \"1KiB\"").await;
    let long = "k".repeat(256);
    let key = ("Idempotency-Key", "k1");
    for (method, target, headers, body, status, code) in [
        ("POST", "/payments", vec![], "{}".to_owned(), 400, "key_missing"),
        ("PATCH", "/payments", vec![], "{}".to_owned(), 400, "key_missing"),
        ("POST", "/payments", vec![("Idempotency-Key", "")], "{}".to_owned(), 400, "key_malformed"),
        (
            "POST",
            "/payments",
            vec![("Idempotency-Key", "a b")],
            "{}".to_owned(),
            400,
            "key_malformed",
        ),
        (
            "POST",
            "/payments",
            vec![("Idempotency-Key", &long)],
            "{}".to_owned(),
            400,
            "key_malformed",
        ),
        ("POST", "/payments", vec![key, key], "{}".to_owned(), 400, "key_malformed"),
        ("POST", "/payments", vec![key], "x".repeat(1025), 413, "body_too_large"),
        ("POST", "/payments/../admin", vec![key], "{}".to_owned(), 404, "not_found"),
        ("POST", "/payments/%2e%2e/admin", vec![key], "{}".to_owned(), 404, "not_found"),
        ("GET", "/payments/%2E./admin", vec![], String::new(), 404, "not_found"),
        ("POST", "/paymentsx", vec![key], "{}".to_owned(), 404, "unknown_source"),
        ("POST", "/admin", vec![key], "{}".to_owned(), 404, "unknown_source"),
    ] {
        let answer = send(program.port, &request(method, target, &headers, body.as_bytes())).await;
        let answer = answer.unwrap();
        let document: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status(), document["code"].as_str()), (status, Some(code)), "{target}");
    }
    assert_eq!(upstream.count(), 0);
}

/// What two servers could read as two different requests is refused with its connection.
#[tokio::test]
async fn ambiguous_framing_never_reaches_the_upstream() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|_, _| ok("done")).await;
    let program = payments(folder.path(), &upstream, "").await;
    let smuggled = "GET /payments/smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    for framing in [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: identity, chunked\r\n",
        "content-length: 0\r\ncontent-length: 45\r\n",
        "content-length: +3\r\n",
        "content-length: 0x3\r\n",
        "content-length: 3, 3\r\n",
        "content-length : 3\r\n",
        " content-length: 3\r\n",
    ] {
        let bytes = format!(
            "POST /payments HTTP/1.1\r\nhost: a\r\nidempotency-key: k1\r\n{framing}\r\n0\r\n\r\n{smuggled}"
        );
        let mut stream = TcpStream::connect(("127.0.0.1", program.port)).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        let read = stream.read_to_end(&mut said);
        drop(tokio::time::timeout(Duration::from_secs(3), read).await.expect("it hangs up"));
        let said = String::from_utf8_lossy(&said);
        assert!(said.starts_with("HTTP/1.1 400 "), "{framing}: {said}");
        assert_eq!(said.matches("HTTP/1.1").count(), 1, "{framing}: {said}");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn what_needs_no_key_passes_through_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|request, before| {
        match request.first_line.as_str() {
        line if line.starts_with("HEAD") => {
            Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n".to_vec())
        }
        line if line.contains("chunked") => Reply::Bytes(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
                .to_vec(),
        ),
        _ => Reply::Bytes(answer(200, &[], format!("{before}").as_bytes())),
    }
    })
    .await;
    let program = payments(folder.path(), &upstream, "body_bytes_max = \"1KiB\"").await;
    let long = vec![b'x'; 3 << 20];
    for (at, method) in ["GET", "PUT", "DELETE", "OPTIONS", "GET"].into_iter().enumerate() {
        let headers = [("Idempotency-Key", "k1")];
        let body = if method == "PUT" { long.as_slice() } else { b"" };
        let bytes = request(method, "/payments/a%2Fb?c=%20d&e", &headers, body);
        let answer = send(program.port, &bytes).await.unwrap();
        assert_eq!((answer.status(), answer.text()), (200, at.to_string()));
        let call = upstream.calls().pop().unwrap();
        assert_eq!(call.first_line, format!("{method} /payments/a%2Fb?c=%20d&e HTTP/1.1"));
        assert!(call.body == body, "{method}: {} bytes", call.body.len());
        assert_eq!(call.all("idempotency-key"), ["k1"]);
        assert_eq!(call.all("host"), [format!("127.0.0.1:{}", upstream.port)]);
        assert_eq!(call.all("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(call.all("x-forwarded-host"), ["api.example.com"]);
        assert_eq!(call.all("x-forwarded-proto"), ["http"]);
    }
    let head = send(program.port, &request("HEAD", "/payments", &[], b"")).await.unwrap();
    assert_eq!((head.status(), head.header("content-length")), (200, "1234"));
    let chunked = send(program.port, &request("GET", "/payments/chunked", &[], b"")).await.unwrap();
    assert_eq!(chunked.text(), "abcde");
}

#[tokio::test]
async fn other_methods_can_have_keys_and_a_key_can_be_optional() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|_, before| ok(&before.to_string())).await;
    let more = "methods = [\"PUT\"]\nrequired = false\nheader = \"X-Request-Key\"";
    let program = payments(folder.path(), &upstream, more).await;
    let keyed = request("PUT", "/payments/1", &[("X-Request-Key", "k1")], b"{}");
    for text in ["0", "0"] {
        assert_eq!(send(program.port, &keyed).await.unwrap().text(), text);
    }
    for (text, bytes) in [
        ("1", request("PUT", "/payments/1", &[], b"{}")),
        ("2", request("PUT", "/payments/1", &[], b"{}")),
        ("3", request("POST", "/payments/1", &[("X-Request-Key", "k1")], b"{}")),
    ] {
        assert_eq!(send(program.port, &bytes).await.unwrap().text(), text);
    }
}

#[tokio::test]
async fn an_answer_too_long_to_keep_reaches_its_client_and_is_never_made_twice() {
    let folder = tempfile::tempdir().unwrap();
    let long = vec![b'x'; 100_000];
    let reply = answer(201, &[], &long);
    let upstream = Upstream::start(move |_, _| Reply::Bytes(reply.clone())).await;
    let program = payments(folder.path(), &upstream, "answer_bytes_max = \"1KiB\"").await;
    let first = charge(program.port, "k1").await;
    assert_eq!(first.status(), 201);
    assert!(first.body == long);
    for _ in 0..2 {
        let again = charge(program.port, "k1").await;
        assert_eq!((again.status(), again.code().as_str()), (409, "answer_not_kept"));
        assert!(again.is_replayed() && again.text().contains("status 201"), "{}", again.text());
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_duplicate_can_have_a_status_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|request, _| {
        let status = if request.text().contains("bad") { 422 } else { 201 };
        Reply::Bytes(answer(status, &[], b"made"))
    })
    .await;
    let more = "duplicate_status = 200\nsave = \"final\"";
    let program = payments(folder.path(), &upstream, more).await;
    assert_eq!(charge(program.port, "k1").await.status(), 201);
    let again = charge(program.port, "k1").await;
    assert_eq!((again.status(), again.text().as_str()), (200, "made"));
    let bad = request("POST", "/payments", &[("Idempotency-Key", "k2")], b"bad");
    for _ in 0..2 {
        assert_eq!(send(program.port, &bad).await.unwrap().status(), 422);
    }
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn a_saved_answer_is_forgotten_after_its_retention() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|_, before| ok(&before.to_string())).await;
    let program = payments(folder.path(), &upstream, "retention = \"1s\"").await;
    assert_eq!(charge(program.port, "k1").await.text(), "0");
    assert_eq!(charge(program.port, "k1").await.text(), "0");
    crate::support::until("the answer is forgotten", Duration::from_secs(5), || async {
        charge(program.port, "k1").await.text() == "1"
    })
    .await;
}
