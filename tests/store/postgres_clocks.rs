//! Clocks of ours that are wrong, or are set while the store is in use. The server's clock is right.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use hookonce::{
    clock::{Clock, SystemClock, Timestamp},
    delivery::Verdict,
    limits,
    receipt::Admission,
    store::{
        Hold,
        moving::{Cursor, Record},
        postgres::PostgresStore,
    },
};

use super::{
    bench::{Bench, LONG, SHORT},
    postgres::bench_at,
};
use crate::postgres_server::PostgresServer;

const HOUR: i64 = 3_600_000;

/// A clock that can be set.
#[derive(Debug)]
struct WrongClock {
    real: Arc<dyn Clock>,
    ahead_ms: AtomicI64,
    passed_ms: AtomicU64,
}

impl WrongClock {
    fn ahead_by(ahead_ms: i64) -> Arc<Self> {
        let real = SystemClock::start();
        Arc::new(Self { real, ahead_ms: AtomicI64::new(ahead_ms), passed_ms: AtomicU64::new(0) })
    }

    /// Sets the wall clock only, as an operator does.
    fn set_ahead_by(&self, ahead_ms: i64) {
        self.ahead_ms.store(ahead_ms, Ordering::SeqCst);
    }

    /// Lets time pass that the wall clock does not show.
    fn pass_unseen(&self, span: Duration) {
        let millis = u64::try_from(span.as_millis()).expect("it is short");
        self.passed_ms.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for WrongClock {
    fn now(&self) -> Timestamp {
        let ahead_ms = self.ahead_ms.load(Ordering::SeqCst);
        Timestamp::from_millis(self.real.now().as_millis() + ahead_ms)
    }

    fn monotonic(&self) -> Duration {
        self.real.monotonic() + Duration::from_millis(self.passed_ms.load(Ordering::SeqCst))
    }
}

/// A process of its own on the store at `url`, which goes by this clock.
async fn bench_by(url: &str, clock: &Arc<WrongClock>) -> Bench {
    let clock: Arc<dyn Clock> = clock.clone();
    let store = PostgresStore::connect(url, None, clock.clone()).await;
    Bench::own(Arc::new(store.expect("postgres is there")), clock, ())
}

/// How many marks and digests the store gives away when it moves.
async fn marks_given_away(bench: &Bench) -> usize {
    let (mut marks, mut next) = (0, Some(Cursor::default()));
    while let Some(cursor) = next {
        let (records, behind) = bench.store.export(&cursor).await.expect("the store reads");
        let is_mark = |record: &&Record| matches!(record, Record::Mark(_) | Record::Digest(_));
        marks += records.iter().filter(is_mark).count();
        next = behind;
    }
    marks
}

#[tokio::test]
async fn a_process_whose_clock_is_ahead_forgets_no_marks_and_leaves_none_behind() {
    let database = PostgresServer::shared_database();
    let right = bench_at(&database.url).await;
    let ahead = bench_by(&database.url, &WrongClock::ahead_by(40 * 24 * HOUR)).await;
    let mut first = right.guarded("first", "content");
    first.deliveries.clear();
    right.admit(&first).await;
    right.pass(SHORT).await;
    assert_eq!(right.prune().await, 1);

    assert_eq!(marks_given_away(&ahead).await, 2);
    assert_eq!(ahead.prune().await, 0);
    assert_eq!(right.admit(&right.event("first")).await.1, Admission::Duplicate);
    assert_eq!(right.admit(&right.guarded("another", "content")).await.1, Admission::Held);
}

#[tokio::test]
async fn what_is_admitted_after_our_clock_was_set_forward_is_due_at_once() {
    let database = PostgresServer::shared_database();
    let clock = WrongClock::ahead_by(0);
    let bench = bench_by(&database.url, &clock).await;
    for number in 0..4 {
        bench.admit(&bench.event(&format!("evt_{number}"))).await; // each connection knows the time
    }
    clock.set_ahead_by(HOUR);
    let delivery = bench.queue("after").await;
    assert_eq!(bench.take_one(LONG).await.lease.delivery, delivery);
}

#[tokio::test]
async fn a_retry_after_our_clock_was_set_forward_waits_no_longer_than_any_retry() {
    let database = PostgresServer::shared_database();
    let clock = WrongClock::ahead_by(0);
    let bench = bench_by(&database.url, &clock).await;
    bench.queue("evt_1").await;
    bench.queue("evt_2").await;
    let leased = bench.take(LONG).await;
    assert_eq!(bench.settle(&leased[0], Verdict::Done).await, Hold::Kept);
    clock.set_ahead_by(365 * 24 * HOUR);
    bench.settle(&leased[1], Verdict::RetryAt(bench.now().plus(SHORT))).await;
    let waits = "SELECT due_at - hookonce.now_ms() FROM hookonce.deliveries WHERE state = 0";
    let waits_ms = PostgresServer::shared().run(&database.url, waits);
    let waits_ms: u128 = waits_ms.parse().expect("it is queued, and not due yet");
    assert!(waits_ms <= limits::RETRY_DELAY_MAX.as_millis(), "it waits {waits_ms} ms");
}

#[tokio::test]
async fn what_was_due_long_ago_is_found_after_our_clock_was_set_back() {
    let database = PostgresServer::shared_database();
    let clock = WrongClock::ahead_by(0);
    let bench = bench_by(&database.url, &clock).await;
    let right = bench_at(&database.url).await;
    assert!(bench.take(LONG).await.is_empty()); // it knows from now on where to look
    clock.set_ahead_by(-HOUR);
    clock.pass_unseen(Duration::from_secs(31));
    let mut event = right.routed("evt_1");
    event.received_at = right.now().minus(Duration::from_secs(60));
    right.admit(&event).await;
    assert_eq!(bench.take_one(LONG).await.event.id, event.id);
}
