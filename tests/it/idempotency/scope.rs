//! Which requests share a key, and which of those are the same.

use super::{
    client::{request, send},
    payments,
    upstream::{Upstream, ok},
};

#[tokio::test]
async fn another_path_method_or_client_has_another_key() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|_, before| ok(&before.to_string())).await;
    let program = payments(folder.path(), &upstream, "").await;
    let key = ("Idempotency-Key", "k1");
    let requests = [
        request("POST", "/payments/charges", &[key], b"{}"),
        request("POST", "/payments/refunds", &[key], b"{}"),
        request("PATCH", "/payments/charges", &[key], b"{}"),
        request("POST", "/payments/charges", &[key, ("Authorization", "Bearer alice")], b"{}"),
        request("POST", "/payments/charges", &[key, ("Authorization", "Bearer bob")], b"{}"),
    ];
    for _ in 0..2 {
        for (at, bytes) in requests.iter().enumerate() {
            assert_eq!(send(program.port, bytes).await.unwrap().text(), at.to_string());
        }
    }
    assert_eq!(upstream.count(), requests.len());
    assert!(!program.log().contains("alice"), "{}", program.log());
}

#[tokio::test]
async fn the_same_key_with_another_request_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|_, _| ok("done")).await;
    let more = "fingerprint_headers = [\"Content-Type\", \"Stripe-Account\"]";
    let program = payments(folder.path(), &upstream, more).await;
    let key = ("Idempotency-Key", "k1");
    let json = ("Content-Type", "application/json");
    let first = request("POST", "/payments?a=1&b=2", &[key, json], br#"{"amount": 1}"#);
    assert_eq!(send(program.port, &first).await.unwrap().status(), 200);
    for other in [
        request("POST", "/payments?b=2&a=1", &[key, json], br#"{"amount": 1}"#),
        request("POST", "/payments", &[key, json], br#"{"amount": 1}"#),
        request("POST", "/payments?a=1&b=2", &[key, json], br#"{"amount": 2}"#),
        request("POST", "/payments?a=1&b=2", &[key, json], br#"{"amount":1}"#),
        request("POST", "/payments?a=1&b=2", &[key, json], b""),
        request("POST", "/payments?a=1&b=2", &[key], br#"{"amount": 1}"#),
        request(
            "POST",
            "/payments?a=1&b=2",
            &[key, json, ("Stripe-Account", "acct_1")],
            br#"{"amount": 1}"#,
        ),
    ] {
        let answer = send(program.port, &other).await.unwrap();
        assert_eq!((answer.status(), answer.code().as_str()), (422, "key_reused"));
    }
    let traced = request(
        "POST",
        "/payments?a=1&b=2",
        &[key, json, ("X-Request-Id", "2")],
        br#"{"amount": 1}"#,
    );
    assert!(send(program.port, &traced).await.unwrap().is_replayed());
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn canonical_json_is_the_same_in_another_order() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|_, _| ok("done")).await;
    let program = payments(folder.path(), &upstream, "canonical_json = true").await;
    for (body, status) in [
        (r#"{"amount": 1, "to": "a"}"#, 200),
        (r#"{"to":"a","amount":1}"#, 200),
        (r#"{"to":"a","amount":2}"#, 422),
    ] {
        let bytes = request("POST", "/payments", &[("Idempotency-Key", "k1")], body.as_bytes());
        assert_eq!(send(program.port, &bytes).await.unwrap().status(), status, "{body}");
    }
    assert_eq!(upstream.count(), 1);
}
