//! What a yes on Redis survives, and what is noticed where it has not: a store that was emptied or put
//! back, a primary without a replica, a failover, a user who may not do what we do.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use hookonce::{
    clock::SystemClock,
    receipt::Admission,
    store::{Durability, Release, StoreError, redis::RedisStore},
};
use tempfile::TempDir;

use super::{
    bench::{Bench, LONG},
    redis::{bench_at, refused, rich},
};
use crate::redis_server::{RedisServer, free_port};

impl RedisServer {
    /// A sentinel that watches a primary on loopback.
    fn start_sentinel(name: &str, port: u16) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("sentinel.conf");
        let text = format!("sentinel monitor {name} 127.0.0.1 {port} 1\n");
        std::fs::write(&file, text).expect("it is written");
        let own_port = free_port();
        let settings = vec!["--sentinel".to_owned()];
        let child = Command::new("redis-server")
            .arg(&file)
            .args(["--sentinel", "--bind", "127.0.0.1", "--port", &own_port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let program = vec!["redis-server".to_owned()];
        let sentinel = Self { program, port: own_port, folder, settings, child };
        sentinel.wait_until_it_answers();
        sentinel
    }

    /// A copy of all it keeps.
    fn copy_of_folder(&self) -> TempDir {
        let copy = tempfile::tempdir().expect("a folder can be made");
        copied(self.folder.path(), copy.path());
        copy
    }

    /// Puts such a copy back; the server must not run.
    fn put_back(&self, copy: &TempDir) {
        std::fs::remove_dir_all(self.folder.path()).expect("it is removed");
        copied(copy.path(), self.folder.path());
    }
}

fn copied(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-rT").args([from, to]).status().expect("cp is there");
    assert!(done.success());
}

/// A store that remembers in `folder` what it saw, as a server does.
async fn bench_in(folder: &Path, url: &str, durability: Durability) -> Bench {
    let clock = SystemClock::start();
    let store = RedisStore::connect(url, durability, Some(folder), clock.clone()).await;
    Bench::own(Arc::new(store.expect("it may have lost something, and opens")), clock, ())
}

async fn is_forgotten(bench: &Bench) -> bool {
    // The first call after a restart of the server may only find that its connection is gone.
    while let Err(StoreError::Unavailable(_)) = bench.store.ready().await {}
    let admitted = bench.try_admit(&bench.event("evt_1"), bench.in_time()).await;
    let ready = bench.store.ready().await;
    match (&admitted, &ready) {
        (Err(StoreError::Forgotten(_)), Err(StoreError::Forgotten(_))) => true,
        (Ok(_), Ok(())) => false,
        _ => panic!("{admitted:?} and {ready:?}"),
    }
}

#[tokio::test]
async fn a_store_that_was_flushed_is_not_used_until_a_person_says_so() {
    let server = RedisServer::start();
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let benches = [
        bench_in(folder.path(), &server.url(), Durability::Always).await,
        bench_in(other.path(), &server.url(), Durability::Always).await,
    ];
    let event = benches[0].event("evt_1");
    benches[0].admit(&event).await;
    server.run::<()>(&["FLUSHALL"]);
    for bench in &benches {
        assert!(is_forgotten(bench).await, "it was used, and would run its events again");
    }
    let restarted = bench_in(folder.path(), &server.url(), Durability::Always).await;
    assert!(is_forgotten(&restarted).await, "a restart has forgotten it too");

    assert_eq!(restarted.store.accept().await, Ok(1));
    assert_eq!(restarted.store.accept().await, Ok(0), "there is nothing left to accept");
    tokio::time::sleep(Duration::from_millis(150)).await; // a refusal is remembered for so long
    for bench in benches.iter().chain([&restarted]) {
        assert!(!is_forgotten(bench).await, "the others follow");
    }
}

#[tokio::test]
async fn an_old_file_put_back_is_noticed() {
    let mut server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let bench = bench_in(folder.path(), &server.url(), Durability::Always).await;
    bench.admit(&bench.event("before")).await;
    let old = server.copy_of_folder();
    drop(bench);
    // A new process meets the store, and sees a later state of it than the copy has.
    let bench = bench_in(folder.path(), &server.url(), Durability::Always).await;
    bench.admit(&bench.event("after")).await;
    assert!(!is_forgotten(&bench).await);
    server.kill();
    server.put_back(&old);
    server.restart();
    assert!(is_forgotten(&bench).await, "`after` would be admitted again");
    assert_eq!(bench.store.accept().await, Ok(1));
    assert!(!is_forgotten(&bench).await);
}

#[tokio::test]
async fn what_relaxed_may_lose_is_no_reason_to_stop() {
    let mut server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let bench = bench_in(folder.path(), &server.url(), Durability::Relaxed).await;
    let old = server.copy_of_folder();
    drop(bench);
    let bench = bench_in(folder.path(), &server.url(), Durability::Relaxed).await;
    server.kill();
    server.put_back(&old);
    server.restart();
    assert!(!is_forgotten(&bench).await, "a second or two are within what it says it may lose");
}

#[tokio::test]
async fn every_command_that_is_forbidden_is_told_at_the_start() {
    let server = RedisServer::start();
    let rules = ["on", ">swordfish", "~*", "+@all", "-zadd", "-smembers", "-pexpire"];
    server.run::<()>(&[&["ACL", "SETUSER", "worker"][..], &rules].concat());
    let url = server.url_for("worker", "swordfish");
    let error = refused(&url, Durability::Always).await.to_string();
    assert!(error.contains("forbids our user ZADD, SMEMBERS, PEXPIRE"), "{error}");
    let left: Vec<Vec<u8>> = server.run(&["KEYS", "*"]);
    assert_eq!(left.len(), 0, "the attempt has left {left:?}");
}

#[tokio::test]
async fn the_number_of_buckets_is_fixed_by_the_first_who_writes() {
    let server = RedisServer::start();
    let bench = bench_at(&format!("{}?buckets=3", server.url())).await;
    bench.admit(&rich(&bench, "evt_1")).await;
    let error = refused(&server.url(), Durability::Always).await.to_string();
    assert!(error.contains("made with 3 buckets") && error.contains("?buckets=3"), "{error}");
}

#[tokio::test]
async fn a_server_without_replicas_is_too_weak_for_replicated() {
    let server = RedisServer::start();
    let error = refused(&server.url(), Durability::Replicated).await.to_string();
    assert!(error.contains("min-replicas-to-write is 0"), "{error}");
}

#[tokio::test]
async fn without_a_replica_that_has_it_nothing_is_answered_yes() {
    let server = RedisServer::start_with(
        &[
            &["--appendonly", "yes", "--appendfsync", "always", "--min-replicas-to-write", "1"][..],
            &["--repl-diskless-sync-delay", "0"],
        ]
        .concat(),
    );
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &server.port.to_string()]);
    for _ in 0..500 {
        if server.run::<String>(&["INFO", "replication"]).contains("state=online") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let clock = SystemClock::start();
    let store =
        RedisStore::connect(&server.url(), Durability::Replicated, None, clock.clone()).await;
    let bench = Bench::own(Arc::new(store.expect("it is strong enough")), clock, ());
    bench.queue("before").await;
    replica.freeze();
    let event = rich(&bench, "evt_1");
    let unsafe_yes = bench.try_admit(&event, bench.in_time()).await;
    assert!(matches!(unsafe_yes, Err(StoreError::Unavailable(_))), "{unsafe_yes:?}");
    let again = bench.try_admit(&event, bench.in_time()).await;
    assert!(
        matches!(again, Err(StoreError::Unavailable(_))),
        "sent again it is no safer: {again:?}"
    );
    let claim = bench.claim_for("billing", LONG);
    let claimed = bench.store.claim(&claim, bench.in_time()).await;
    assert!(claimed.is_err(), "{claimed:?}");
    replica.thaw();
    let (handler, worker, id) = (claim.handler, claim.worker, claim.id);
    let unheard = Release::Claim { handler, worker, id };
    while bench.store.release(&unheard).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(bench.take(LONG).await.remove(0).attempt, 1, "no attempt was burned");
    assert_eq!(bench.admit(&event).await, (event.id, Admission::Fresh));
}

#[tokio::test]
async fn the_primary_is_found_by_its_sentinel_also_after_a_failover() {
    let primary = RedisServer::start();
    let replica = RedisServer::start_with(
        &[
            &["--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0"]
                [..],
            &["--replicaof", "127.0.0.1", &primary.port.to_string()],
        ]
        .concat(),
    );
    let sentinel = RedisServer::start_sentinel("primary", primary.port);
    let url = format!("redis-sentinel://127.0.0.1:{}/primary", sentinel.port);
    let bench = bench_at(&url).await;
    let event = bench.event("evt_1");
    bench.admit(&event).await;
    for _ in 0..1000 {
        if replica.run::<String>(&["INFO", "replication"]).contains("role:master") {
            break;
        }
        // It refuses until it has met the replica.
        let asked = sentinel.try_connection().and_then(|mut open| {
            redis::cmd("SENTINEL").arg("FAILOVER").arg("primary").query::<()>(&mut open)
        });
        drop(asked);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut again = bench.try_admit(&bench.event("evt_1"), bench.in_time()).await;
    for _ in 0..300 {
        if again.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        again = bench.try_admit(&bench.event("evt_1"), bench.in_time()).await;
    }
    assert_eq!(again, Ok((event.id, Admission::Duplicate)), "the replica has it, and is in use");
}

/// A certificate for 127.0.0.1 and the authority that signed it, in a folder.
fn certificates() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let openssl = |arguments: &[&str]| {
        let done = Command::new("openssl")
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .expect("openssl is installed");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let authority = ["-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem"];
    openssl(&[&["req", "-x509", "-days", "2"], &key[..], &authority].concat());
    let own = ["-subj", "/CN=redis", "-addext", "subjectAltName=IP:127.0.0.1"];
    openssl(&[&["req", "-keyout", "own.key", "-out", "own.csr"], &key[..], &own].concat());
    let signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "own.pem"];
    let copied = ["x509", "-req", "-days", "2", "-in", "own.csr", "-copy_extensions", "copy"];
    openssl(&[&copied[..], &signed].concat());
    folder
}

#[tokio::test]
async fn a_server_is_trusted_by_its_certificate_and_by_nothing_else() {
    let (folder, tls_port) = (certificates(), free_port());
    let file = |name: &str| folder.path().join(name).display().to_string();
    let server = RedisServer::start_with(
        &[
            &["--appendonly", "yes", "--appendfsync", "always", "--tls-auth-clients", "no"][..],
            &["--tls-port", &tls_port.to_string(), "--tls-ca-cert-file", &file("ca.pem")],
            &["--tls-cert-file", &file("own.pem"), "--tls-key-file", &file("own.key")],
        ]
        .concat(),
    );
    server.run::<()>(&["ACL", "SETUSER", "worker", "on", ">sword fish", "~*", "+@all"]);
    let login = "rediss://worker:sword%20fish@127.0.0.1";
    let bench = bench_at(&format!("{login}:{tls_port}?ca={}", file("ca.pem"))).await;
    bench.store.ready().await.expect("its authority is known");
    bench.admit(&rich(&bench, "evt_1")).await;

    let stranger = bench_at(&format!("{login}:{tls_port}")).await;
    let refused = stranger.store.ready().await.unwrap_err().to_string();
    assert!(refused.contains("ertificate"), "{refused}");
}
