//! What encryption in front of a store promises: nothing that somebody has written is in its files, and
//! keys can be changed and missed without losing anything.

use std::{fs, path::Path, sync::Arc, time::Duration};

use hookonce::{
    clock::ManualClock,
    delivery::Verdict,
    event::{KeptRequest, NewEvent, RequestId},
    key::{Fingerprint, KeyScope, SavedResponse},
    refusal::{RefusalId, Step},
    store::{
        RefusalRow, Refused, Release, Store, StoreError, Wish,
        keys::{Begin, Begun, OnUnknown},
        memory::MemoryStore,
    },
};
use uuid::Uuid;

use super::bench::{Bench, LONG, SHORT, encrypted, manual_clock};

/// What must be found nowhere.
const SECRET: &str = "swordfish";

/// An event of a batch that has the secret wherever its sender can put one.
fn telling(bench: &Bench, identity: &str) -> NewEvent {
    let mut event = bench.routed(identity);
    event.named.body = format!("{{\"said\":\"{SECRET}\"}}").into();
    event.headers = Arc::new([("x-said", SECRET)].into_iter().collect());
    event.query = format!("said={SECRET}");
    event.retry_marker = Some(format!("x-retry: {SECRET}"));
    let id = RequestId::from_bytes(bench.number().to_be_bytes());
    event.request = Some(KeptRequest { id, body: format!("[{SECRET}]").into() });
    event
}

fn refused(bench: &Bench) -> Refused {
    Refused {
        row: RefusalRow {
            id: RefusalId::from_bytes(bench.number().to_be_bytes()),
            source: "stripe".into(),
            step: Step::NoMatch,
            problem: "no signature matches".to_owned(),
            received_at: bench.now(),
            method: "POST".to_owned(),
            url: format!("https://hooks.example.com/webhooks/stripe?said={SECRET}"),
            target: format!("/webhooks/stripe?said={SECRET}"),
            peer: None,
            body_bytes: Some(SECRET.len()),
            body_kept: true,
            left_out: 0,
            readmitted: None,
        },
        headers: [("x-said", SECRET)].into_iter().collect(),
        sealed: Vec::new(),
        body: Some(SECRET.into()),
    }
}

fn begin(owner: u128) -> Begin {
    Begin {
        scope: KeyScope::new("payments", "POST", "/charges", b"alice", "k1"),
        fingerprint: Fingerprint::of([b"same".as_slice()]),
        owner: Uuid::from_u128(owner),
        lease: LONG,
        on_unknown: OnUnknown::Keep,
    }
}

/// Has the secret written everywhere, and sees that all of it can be read back.
async fn write_everything(bench: &Bench) {
    let event = telling(bench, "evt_findable");
    bench.admit(&event).await;
    bench.admit(&telling(bench, "evt_findable")).await;
    let leased = bench.take_one(LONG).await;
    assert_eq!(leased.event.body, event.named.body);
    assert_eq!(leased.event.headers, *event.headers);
    assert_eq!(leased.event.query, event.query);
    let mut settlement = bench.settlement(&leased, Verdict::Dead);
    settlement.attempt.error = Some(format!("it said {SECRET}"));
    settlement.attempt.excerpt = Some(SECRET.to_owned());
    let written = settlement.attempt.clone();
    bench.store.settle(vec![settlement]).await.remove(0).expect("it settles");

    let record = bench.record(event.id).await;
    assert_eq!(record.request, event.request);
    assert_eq!(record.event.retry_marker, event.retry_marker);
    assert_eq!(record.duplicates[0].retry_marker, event.retry_marker);
    assert_eq!(record.deliveries[0].last_error, written.error);
    assert_eq!(bench.store.attempts(record.deliveries[0].id).await, Ok(vec![written]));

    let response = SavedResponse {
        status: 201,
        headers: [("x-said", SECRET)].into_iter().collect(),
        body: SECRET.into(),
    };
    let (store, begin) = (&bench.store, begin(1));
    assert_eq!(store.begin(&begin, bench.in_time()).await, Ok(Begun::Started));
    store.complete(begin.scope.id(), begin.owner, &response, LONG).await.expect("it completes");
    let begun = store.begin(&begin, bench.in_time()).await;
    assert!(matches!(begun, Ok(Begun::Completed { response: kept, .. }) if kept == response));

    let refused = refused(bench);
    store.keep_refusals(vec![refused.clone()]).await.expect("it is kept");
    assert_eq!(store.refusal(refused.row.id).await, Ok(Some(refused)));
}

/// Whether any file in this folder, or in one below it, has this text in it.
fn is_in_files(folder: &Path, text: &str) -> bool {
    let entries = fs::read_dir(folder).expect("the folder can be read");
    entries.map(|entry| entry.expect("it can be listed").path()).any(|path| {
        if path.is_dir() {
            return is_in_files(&path, text);
        }
        let bytes = fs::read(&path).unwrap_or_default(); // a socket, say
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

fn nothing_is_in_files(folder: &Path) {
    assert!(is_in_files(folder, "evt_findable"), "what stays in plain is what this would find");
    assert!(!is_in_files(folder, SECRET));
}

#[cfg(feature = "sqlite")]
fn sqlite_in(folder: &Path, clock: &Arc<ManualClock>) -> Arc<dyn Store> {
    let path = folder.join("store.db");
    let store = hookonce::store::sqlite::SqliteStore::open(&path, clock.clone());
    Arc::new(store.expect("the store opens"))
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn nothing_that_somebody_wrote_is_in_an_sqlite_file_or_its_log() {
    let (folder, clock) = (tempfile::tempdir().expect("a folder is made"), manual_clock());
    let store = encrypted(sqlite_in(folder.path(), &clock), &[1]);
    let bench = Bench::manual(store, clock, ());
    write_everything(&bench).await;
    nothing_is_in_files(folder.path());
    drop(bench); // which brings the log into the file
    nothing_is_in_files(folder.path());
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn what_is_erased_is_in_no_sqlite_file_any_more() {
    let (folder, clock) = (tempfile::tempdir().expect("a folder is made"), manual_clock());
    let bench = Bench::manual(sqlite_in(folder.path(), &clock), clock, ());
    let mut event = telling(&bench, "evt_findable");
    // So long that it lies on pages of its own, which become free.
    event.named.body = SECRET.repeat(10_000).into();
    bench.admit(&event).await;
    bench.admit(&telling(&bench, "evt_findable")).await;
    let leased = bench.take_one(LONG).await;
    let mut settlement = bench.settlement(&leased, Verdict::Done);
    settlement.attempt.excerpt = Some(SECRET.to_owned());
    bench.store.settle(vec![settlement]).await.remove(0).expect("it settles");
    assert!(is_in_files(folder.path(), SECRET));
    bench.wish(&Wish::Erase { event: event.id }).await;
    nothing_is_in_files(folder.path());
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn nothing_that_somebody_wrote_is_in_the_files_of_redis() {
    use hookonce::{
        clock::SystemClock,
        store::{Durability, redis::RedisStore},
    };
    let server = crate::redis_server::RedisServer::start();
    let clock = SystemClock::start();
    let store = RedisStore::connect(&server.url(), Durability::Always, None, clock.clone()).await;
    let store = encrypted(Arc::new(store.expect("redis is there")), &[1]);
    let bench = Bench::own(store, clock, ());
    write_everything(&bench).await;
    server.run::<()>(&["SAVE"]);
    nothing_is_in_files(server.folder.path());
}

/// One store in memory, seen with these keys.
fn seen_with(inner: &Arc<MemoryStore>, clock: &Arc<ManualClock>, keys: &[u8]) -> Bench {
    Bench::manual(encrypted(inner.clone(), keys), clock.clone(), ())
}

#[tokio::test]
async fn a_key_is_rotated_and_the_old_one_still_opens() {
    let clock = manual_clock();
    let inner = Arc::new(MemoryStore::new(clock.clone()));
    let old = seen_with(&inner, &clock, &[1]);
    let first = telling(&old, "evt_1");
    old.admit(&first).await;
    clock.advance(SHORT);
    let both = seen_with(&inner, &clock, &[2, 1]);
    let second = telling(&both, "evt_2");
    both.admit(&second).await;
    for event in [&first, &second] {
        assert_eq!(both.record(event.id).await.event.body, event.named.body);
    }
    let new = seen_with(&inner, &clock, &[2]);
    assert_eq!(new.record(second.id).await.event.body, second.named.body);
    let problem = new.store.event(first.id).await.expect_err("its key is gone");
    assert!(matches!(&problem, StoreError::Failed(why) if why.contains("encryption_keys")));
}

#[tokio::test]
async fn what_was_kept_in_plain_is_read_with_keys_and_looks_like_no_sealed_thing() {
    let clock = manual_clock();
    let inner = Arc::new(MemoryStore::new(clock.clone()));
    let sealed = seen_with(&inner, &clock, &[1]);
    sealed.admit(&sealed.event("evt_0")).await;
    let ciphertext = inner.event(sealed.events().await[0].id).await.expect("it reads");
    let ciphertext = ciphertext.expect("it is there").event.body;
    clock.advance(SHORT);
    let plain = seen_with(&inner, &clock, &[]);
    let (first, mut second) = (telling(&plain, "evt_1"), telling(&plain, "evt_2"));
    second.named.body = ciphertext; // of a key that is not there: somebody has seen the store
    for event in [&first, &second] {
        plain.admit(event).await;
    }
    let bench = seen_with(&inner, &clock, &[2]);
    for event in [&first, &second] {
        let record = bench.record(event.id).await;
        assert_eq!(record.event.body, event.named.body);
        assert_eq!(record.event.headers, *event.headers);
        assert_eq!(record.row.body_bytes, event.named.body.len());
    }
}

#[tokio::test]
async fn without_its_key_a_delivery_waits_and_loses_nothing() {
    let clock = manual_clock();
    let inner = Arc::new(MemoryStore::new(clock.clone()));
    let bench = seen_with(&inner, &clock, &[1]);
    let event = telling(&bench, "evt_1");
    bench.admit(&event).await;
    for keys in [[2].as_slice(), &[]] {
        clock.advance(SHORT);
        let other = seen_with(&inner, &clock, keys);
        for _ in 0..3 {
            let claim = other.claim_for("billing", LONG);
            let problem = other.store.claim(&claim, other.in_time()).await;
            let problem = problem.expect_err("nothing is handed out").to_string();
            assert!(problem.contains("is not in `encryption_keys`"), "{problem}");
        }
    }
    clock.advance(SHORT);
    let leased = bench.take_one(LONG).await;
    assert_eq!((leased.attempt, &leased.event.body), (1, &event.named.body));
}

#[tokio::test]
async fn what_can_be_read_is_handed_out_beside_what_cannot() {
    let clock = manual_clock();
    let inner = Arc::new(MemoryStore::new(clock.clone()));
    let old = seen_with(&inner, &clock, &[1]);
    old.admit(&telling(&old, "evt_1")).await;
    clock.advance(SHORT);
    let bench = seen_with(&inner, &clock, &[2]);
    let event = telling(&bench, "evt_2");
    bench.admit(&event).await;
    let leased = bench.take_one(LONG).await;
    assert_eq!(leased.event.id, event.id);
    bench.store.release(&Release::Leases(vec![leased.lease])).await.expect("it is given back");
    clock.advance(Duration::from_millis(1));
    assert_eq!(seen_with(&inner, &clock, &[2, 1]).take(LONG).await.len(), 2);
}
