//! What becomes of a key whose call does not end as it should.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{
    client::{charge, charging, request, send},
    payments, setup,
    upstream::{Reply, Upstream, answer, ok},
};
use crate::{
    redis_server::RedisServer,
    support::{free_port, until},
};

#[tokio::test]
async fn a_second_request_meanwhile_is_told_to_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|_, _| Reply::Gated(answer(200, &[], b"done"))).await;
    let program = payments(folder.path(), &upstream, "").await;
    let port = program.port;
    let first = tokio::spawn(async move { charge(port, "k1").await });
    upstream.called(1).await;
    let second = charge(port, "k1").await;
    assert_eq!((second.status(), second.code().as_str()), (409, "key_in_progress"));
    let seconds: u64 = second.header("retry-after").parse().unwrap();
    assert!((1..=2).contains(&seconds));
    let changed = request("POST", "/payments/charges", &[("Idempotency-Key", "k1")], b"other");
    assert_eq!(send(port, &changed).await.unwrap().status(), 422);
    upstream.open_gate();
    assert_eq!(first.await.unwrap().status(), 200);
    assert!(charge(port, "k1").await.is_replayed());
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_second_request_can_wait_for_the_answer_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|_, _| Reply::Gated(answer(200, &[], b"done"))).await;
    let program = payments(folder.path(), &upstream, "wait = \"20s\"").await;
    let port = program.port;
    let both: Vec<_> = (0..2).map(|_| tokio::spawn(charge(port, "k1"))).collect();
    upstream.called(1).await;
    upstream.open_gate();
    let mut replayed = 0;
    for one in both {
        let answer = one.await.unwrap();
        assert_eq!(answer.text(), "done");
        replayed += usize::from(answer.is_replayed());
    }
    assert_eq!((replayed, upstream.count()), (1, 1));
}

#[tokio::test]
async fn an_answer_that_is_not_saved_frees_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|request, before| {
        let status = request.header("x-status").parse().unwrap();
        if before % 2 == 0 { Reply::Bytes(answer(status, &[], b"no")) } else { ok("yes") }
    })
    .await;
    for (save, statuses) in [
        ("2xx", &[303, 400, 402, 409, 425, 429, 500, 503][..]),
        ("final", &[409, 425, 429, 500, 503]),
        ("all", &[409, 425, 429, 503]),
    ] {
        let program = payments(folder.path(), &upstream, &format!("save = \"{save}\"")).await;
        for status in statuses {
            let (key, text) = (format!("k{status}"), status.to_string());
            let headers = [("Idempotency-Key", key.as_str()), ("X-Status", &text)];
            let bytes = request("POST", "/payments", &headers, b"{}");
            assert_eq!(send(program.port, &bytes).await.unwrap().status(), *status, "{save}");
            let again = send(program.port, &bytes).await.unwrap();
            assert_eq!((again.status(), again.is_replayed()), (200, false), "{save} {status}");
        }
    }
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_frees_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let closed = free_port();
    let program = setup(folder.path(), "memory:", closed, "").start().await;
    for _ in 0..2 {
        let answer = charge(program.port, "k1").await;
        assert_eq!((answer.status(), answer.code().as_str()), (502, "upstream_unreachable"));
    }
    assert_eq!(program.api("GET", "/api/v1/keys", None).await["keys"], serde_json::json!([]));
}

/// A request that was sent and not answered in full may have been carried out.
#[tokio::test]
async fn no_whole_answer_means_an_unknown_outcome_and_no_second_call() {
    let folder = tempfile::tempdir().unwrap();
    let cut_off = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this".to_vec();
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhalf ".to_vec();
    let upstream = Upstream::start(move |request, _| match request.text().as_str() {
        "reset" => Reply::Reset,
        "hang" => Reply::Hang,
        "close" => Reply::ThenClose(Vec::new()),
        "half a head" => Reply::ThenClose(b"HTTP/1.1 200 O".to_vec()),
        "half a body" => Reply::ThenClose(cut_off.clone()),
        "half the chunks" => Reply::ThenClose(chunked.clone()),
        "no HTTP" => Reply::ThenClose(b"nonsense\r\n\r\n".to_vec()),
        "drip" => Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly".to_vec()),
        "502" => Reply::Bytes(answer(502, &[], b"a gateway in between")),
        "504" => Reply::Bytes(answer(504, &[], b"a gateway in between")),
        other => panic!("{other}"),
    })
    .await;
    let program = payments(folder.path(), &upstream, "timeout = \"500ms\"").await;
    for (at, (how, status, code)) in [
        ("reset", 502, "upstream_broke_off"),
        ("close", 502, "upstream_broke_off"),
        ("half a head", 502, "upstream_broke_off"),
        ("half a body", 502, "upstream_broke_off"),
        ("half the chunks", 502, "upstream_broke_off"),
        ("no HTTP", 502, "upstream_broke_off"),
        ("hang", 504, "upstream_timed_out"),
        ("drip", 504, "upstream_timed_out"),
        ("502", 502, ""),
        ("504", 504, ""),
    ]
    .into_iter()
    .enumerate()
    {
        let key = format!("k{at}");
        let bytes =
            request("POST", "/payments", &[("Idempotency-Key", key.as_str())], how.as_bytes());
        let first = send(program.port, &bytes).await.unwrap();
        assert_eq!((first.status(), first.code().as_str()), (status, code), "{how}");
        let again = send(program.port, &bytes).await.unwrap();
        assert_eq!((again.status(), again.code().as_str()), (409, "outcome_unknown"), "{how}");
        assert_eq!(upstream.count(), at + 1, "{how}");
    }
}

#[tokio::test]
async fn an_upstream_that_honours_the_key_may_be_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|_, before| match before {
        0 => Reply::Reset,
        _ => ok("done"),
    })
    .await;
    let program = payments(folder.path(), &upstream, "on_unknown = \"retry\"").await;
    assert_eq!(charge(program.port, "k1").await.status(), 502);
    let again = charge(program.port, "k1").await;
    assert_eq!((again.status(), again.is_replayed()), (200, false));
    assert!(charge(program.port, "k1").await.is_replayed());
    let keys: Vec<_> =
        upstream.calls().iter().map(|call| call.header("idempotency-key").to_owned()).collect();
    assert_eq!(keys, ["k1", "k1"]);
}

#[tokio::test]
async fn a_client_that_hangs_up_stops_neither_the_call_nor_its_saving() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|_, _| Reply::Gated(answer(200, &[], b"done"))).await;
    let program = payments(folder.path(), &upstream, "").await;
    let mut client = TcpStream::connect(("127.0.0.1", program.port)).await.unwrap();
    let body = br#"{"amount": 1000}"#;
    let bytes = request("POST", "/payments/charges", &[("Idempotency-Key", "k1")], body);
    client.write_all(&bytes).await.unwrap();
    upstream.called(1).await;
    drop(client);
    // As long as it takes the server to notice; then the answer comes.
    tokio::time::sleep(Duration::from_millis(200)).await;
    upstream.open_gate();
    let port = program.port;
    until("the answer is saved", Duration::from_secs(5), || async {
        let again = charge(port, "k1").await;
        again.status() == 200 && again.is_replayed()
    })
    .await;
    assert_eq!(upstream.count(), 1);
}

/// A request without a key leaves a connection behind, which the keyed call then goes over.
#[tokio::test]
async fn a_restart_waits_for_a_call_whose_client_has_gone() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|request, _| match request.first_line.as_str() {
        line if line.starts_with("GET") => ok("passed"),
        _ => Reply::Gated(answer(201, &[], b"done")),
    })
    .await;
    let setup = setup(folder.path(), "sqlite:hookonce.db", upstream.port, "");
    let program = setup.start().await;
    let port = program.port;
    let passed = send(port, &request("GET", "/payments/x", &[], b"")).await.unwrap();
    assert_eq!(passed.text(), "passed");
    let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    client.write_all(&charging("k1")).await.unwrap();
    upstream.called(2).await;
    drop(client);
    let ending = tokio::task::spawn_blocking(|| program.terminate());
    until("nothing listens", Duration::from_secs(10), || async {
        TcpStream::connect(("127.0.0.1", port)).await.is_err()
    })
    .await;
    // A server looks once a second whether its threads have nothing to do, and ends those. Nothing that
    // can be asked tells that they have ended.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!ending.is_finished());
    upstream.open_gate();
    assert!(ending.await.unwrap().success());

    let _program = setup.start().await;
    let again = charge(port, "k1").await;
    assert_eq!((again.status(), again.is_replayed()), (201, true), "{}", again.text());
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn a_key_is_leased_as_long_as_its_call_runs() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|_, _| Reply::Gated(answer(200, &[], b"done"))).await;
    // The lease is no longer than `lease_max`, so it must be extended a few times in a second.
    let more = "lease_max = \"3s\"\ntimeout = \"2900ms\"";
    let program = payments(folder.path(), &upstream, more).await;
    let port = program.port;
    let first = tokio::spawn(charge(port, "k1"));
    upstream.called(1).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2000) {
        assert_eq!(charge(port, "k1").await.code(), "key_in_progress");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    upstream.open_gate();
    assert_eq!(first.await.unwrap().status(), 200);
}

#[tokio::test]
async fn without_the_store_nothing_is_sent_unless_the_user_chose_so() {
    let _alone = crate::support::alone().await;
    let upstream = Upstream::start(|_, before| ok(&before.to_string())).await;
    for (fail_open, status, calls) in [("false", 503, 0), ("true", 200, 2)] {
        let folder = tempfile::tempdir().unwrap();
        let redis = RedisServer::start();
        let more = format!("fail_open = {fail_open}");
        let program = setup(folder.path(), &redis.url(), upstream.port, &more).start().await;
        redis.freeze();
        let before = upstream.count();
        for _ in 0..2 {
            let begun = Instant::now();
            let answer = charge(program.port, "k1").await;
            assert_eq!(answer.status(), status);
            if status == 503 {
                assert_eq!(answer.code(), "store_unavailable");
                assert!(!answer.header("retry-after").is_empty());
            }
            assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        }
        assert_eq!(upstream.count() - before, calls);
        redis.thaw();
        // What was begun without our hearing of it is let go of: the key is no worse off.
        let (port, before) = (program.port, upstream.count());
        until("the key works", Duration::from_secs(20), || async {
            charge(port, "k1").await.status() == 200
        })
        .await;
        assert!(charge(port, "k1").await.is_replayed());
        assert_eq!(upstream.count(), before + 1);
        let (_, metrics) = program.ask("GET", "/metrics", None).await.unwrap();
        let outcome = if fail_open == "true" { "failed_open" } else { "unavailable" };
        assert!(metrics.contains(&format!("outcome=\"{outcome}\"}} 2")), "{metrics}");
    }
}

/// The upstream has done its work, and the store fails before the answer is saved.
#[tokio::test]
async fn an_answer_that_cannot_be_saved_yet_reaches_the_client_and_is_saved_later() {
    let _alone = crate::support::alone().await;
    let folder = tempfile::tempdir().unwrap();
    let redis = Arc::new(RedisServer::start());
    let frozen = Arc::clone(&redis);
    let upstream = Upstream::start(move |_, before| {
        if before == 0 {
            frozen.freeze();
        }
        ok(&before.to_string())
    })
    .await;
    let program = setup(folder.path(), &redis.url(), upstream.port, "").start().await;
    let first = charge(program.port, "k1").await;
    assert_eq!((first.status(), first.text().as_str()), (200, "0"));
    redis.thaw();
    let port = program.port;
    let last = Arc::new(AtomicU16::new(0));
    until("the answer is saved", Duration::from_secs(20), || async {
        let again = charge(port, "k1").await;
        last.store(again.status(), Ordering::Relaxed);
        again.is_replayed()
    })
    .await;
    assert_eq!((last.load(Ordering::Relaxed), upstream.count()), (200, 1));
}
