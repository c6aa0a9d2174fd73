//! What the suite runs on: a fresh store, its clock, and short ways to ask it for things.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use hookonce::{
    clock::{Clock, ManualClock, Timestamp},
    delivery::{Attempt, AttemptOutcome, Claim, DeliveryId, Lease, Leased, Settlement, Verdict},
    event::{
        Digest, EventId, Identity, KeptRequest, Named, NewDelivery, NewEvent, ReplayGuard,
        RequestId,
    },
    receipt::Admission,
    request::Headers,
    store::{
        Claimed, Counts, EventFilter, EventRecord, EventRow, Granted, Hold, Prune, Store,
        StoreError, Wish,
        encrypted::{EncryptedStore, EncryptionKeys},
        memory::MemoryStore,
    },
};
use uuid::Uuid;

/// A lease or delay that a test waits out: short enough to sleep through where the clock is real.
pub(crate) const SHORT: Duration = Duration::from_millis(50);

/// A lease, delay or window that never ends within a test.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// A fresh and empty store, and what a test needs around it.
pub(crate) struct Bench {
    /// The store.
    pub(crate) store: Arc<dyn Store>,
    clock: BenchClock,
    numbers: AtomicU64,
    /// Whether one verb may happen at several times, in several places.
    pub(crate) has_buckets: bool,
    /// What must live as long as the store: its folder, its server.
    kept: Box<dyn Any + Send + Sync>,
}

/// Whose time the store goes by.
#[derive(Clone)]
enum BenchClock {
    /// The test's: it moves when told to.
    Manual(Arc<ManualClock>),
    /// The store's own: the test sleeps, and knows the time about.
    #[cfg_attr(
        not(any(feature = "postgres", feature = "redis")),
        expect(dead_code, reason = "no store without a server has one")
    )]
    Own(Arc<dyn Clock>),
}

/// The model, which must pass its own suite.
pub(crate) async fn memory() -> Bench {
    let clock = manual_clock();
    Bench::manual(Arc::new(MemoryStore::new(clock.clone())), clock, ())
}

/// The model once more, going by the clock of another bench.
pub(crate) fn memory_beside(other: &Bench) -> Bench {
    let store = Arc::new(MemoryStore::new(other.clock()));
    Bench {
        store,
        clock: other.clock.clone(),
        numbers: AtomicU64::new(1 << 32),
        has_buckets: false,
        kept: Box::new(()),
    }
}

/// Postgres, in a database of its own.
#[cfg(feature = "postgres")]
pub(crate) async fn postgres() -> Bench {
    use hookonce::{clock::SystemClock, store::postgres::PostgresStore};
    let database = crate::postgres_server::PostgresServer::shared_database();
    let clock = SystemClock::start();
    let store = PostgresStore::connect(&database.url, None, clock.clone()).await;
    Bench::own(Arc::new(store.expect("postgres is there")), clock, database)
}

/// Redis, on a server of its own.
#[cfg(feature = "redis")]
pub(crate) async fn redis() -> Bench {
    use hookonce::{
        clock::SystemClock,
        store::{Durability, redis::RedisStore},
    };
    let server = crate::redis_server::RedisServer::start();
    let clock = SystemClock::start();
    let store = RedisStore::connect(&server.url(), Durability::Always, None, clock.clone()).await;
    Bench::own(Arc::new(store.expect("redis is there")), clock, server)
}

/// A cluster that all tests share, each in a namespace of its own, with a replica of everything.
#[cfg(feature = "redis")]
pub(crate) async fn cluster() -> Bench {
    use hookonce::{
        clock::SystemClock,
        store::{Durability, redis::RedisStore},
    };
    static TESTS: AtomicU64 = AtomicU64::new(0);
    let cluster = tokio::task::spawn_blocking(crate::redis_cluster::RedisCluster::shared).await;
    let url = cluster.expect("it starts").url();
    let url = format!("{url}?namespace=test{}", TESTS.fetch_add(1, Ordering::Relaxed));
    let clock = SystemClock::start();
    let store = RedisStore::connect(&url, Durability::Replicated, None, clock.clone()).await;
    let bench = Bench::own(Arc::new(store.expect("the cluster is there")), clock, ());
    Bench { has_buckets: true, ..bench }
}

/// Valkey, on a server of its own.
#[cfg(feature = "redis")]
pub(crate) async fn valkey() -> Bench {
    use hookonce::{
        clock::SystemClock,
        store::{Durability, redis::RedisStore},
    };
    let server = crate::redis_server::RedisServer::start_valkey();
    let clock = SystemClock::start();
    let store = RedisStore::connect(&server.url(), Durability::Always, None, clock.clone()).await;
    Bench::own(Arc::new(store.expect("valkey is there")), clock, server)
}

/// The embedded store, in a folder of its own.
#[cfg(feature = "sqlite")]
pub(crate) async fn sqlite() -> Bench {
    let folder = tempfile::tempdir().expect("a folder is made");
    let clock = manual_clock();
    let store =
        hookonce::store::sqlite::SqliteStore::open(&folder.path().join("store.db"), clock.clone())
            .expect("the store opens");
    Bench::manual(Arc::new(store), clock, folder)
}

/// The embedded store with a cache in front of it.
#[cfg(all(feature = "sqlite", feature = "redis"))]
pub(crate) async fn cached() -> Bench {
    let mut bench = sqlite().await;
    let server = crate::redis_server::RedisServer::start_with(&["--appendonly", "no"]);
    let clock = bench.clock();
    let store = hookonce::store::with_cache(bench.store, "sqlite:", &server.url(), &clock);
    bench.store = store.expect("the url is one");
    bench.kept = Box::new((bench.kept, server));
    bench
}

/// The model with encryption in front of it.
pub(crate) async fn encrypted_memory() -> Bench {
    let mut bench = memory().await;
    bench.store = encrypted(bench.store, &[1]);
    bench
}

/// The embedded store with encryption in front of it.
#[cfg(feature = "sqlite")]
pub(crate) async fn encrypted_sqlite() -> Bench {
    let mut bench = sqlite().await;
    bench.store = encrypted(bench.store, &[1]);
    bench
}

/// Encryption in front of a store, with a key for each number, the first of which encrypts.
pub(crate) fn encrypted(store: Arc<dyn Store>, keys: &[u8]) -> Arc<dyn Store> {
    let texts: Vec<String> = keys.iter().map(|key| BASE64_STANDARD.encode([*key; 32])).collect();
    let keys = EncryptionKeys::of(texts.iter().map(String::as_str)).expect("they are keys");
    Arc::new(EncryptedStore::new(store, keys))
}

/// A clock for a store that goes by the test's time.
pub(crate) fn manual_clock() -> Arc<ManualClock> {
    ManualClock::at(Timestamp::from_seconds(1_790_000_000))
}

impl Bench {
    /// A bench around a store that goes by `clock`.
    pub(crate) fn manual(
        store: Arc<dyn Store>,
        clock: Arc<ManualClock>,
        kept: impl Any + Send + Sync,
    ) -> Self {
        let clock = BenchClock::Manual(clock);
        Self { store, clock, numbers: AtomicU64::new(0), has_buckets: false, kept: Box::new(kept) }
    }

    /// A bench around a store with a clock of its own, about the same as `clock`.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub(crate) fn own(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        kept: impl Any + Send + Sync,
    ) -> Self {
        let clock = BenchClock::Own(clock);
        Self { store, clock, numbers: AtomicU64::new(0), has_buckets: false, kept: Box::new(kept) }
    }

    /// A lease or delay that is over with the next verb, and not before: where the clock is real, a
    /// longer one would end somewhere between two verbs, and not at the same for two stores.
    pub(crate) fn short(&self) -> Duration {
        if self.knows_the_time() { SHORT } else { Duration::from_millis(1) }
    }

    /// Whether the store's times are known exactly.
    pub(crate) fn knows_the_time(&self) -> bool {
        matches!(self.clock, BenchClock::Manual(_))
    }

    /// The store's clock, or one that is about the same.
    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        match &self.clock {
            BenchClock::Manual(clock) => clock.clone(),
            BenchClock::Own(clock) => clock.clone(),
        }
    }

    /// The store's time, exactly or about.
    pub(crate) fn now(&self) -> Timestamp {
        match &self.clock {
            BenchClock::Manual(clock) => clock.now(),
            BenchClock::Own(clock) => clock.now(),
        }
    }

    /// Lets `span` pass, and a little more.
    pub(crate) async fn pass(&self, span: Duration) {
        let span = span + Duration::from_millis(2);
        match &self.clock {
            BenchClock::Manual(clock) => clock.advance(span),
            BenchClock::Own(_) => tokio::time::sleep(span).await,
        }
    }

    /// A time by which the store is reached for sure.
    pub(crate) fn in_time(&self) -> Timestamp {
        self.now().plus(LONG)
    }

    /// A time by which the store cannot be reached any more.
    pub(crate) fn too_late(&self) -> Timestamp {
        self.now().minus(LONG)
    }

    /// An id of its own for everything: later ones are greater.
    pub(crate) fn number(&self) -> u128 {
        let number = self.numbers.fetch_add(1, Ordering::SeqCst);
        let millis = u128::try_from(self.now().as_millis()).expect("it is after 1970");
        (millis << 80) | u128::from(number)
    }

    /// A new event of source `stripe` with this identity, for no handler.
    pub(crate) fn event(&self, identity: &str) -> NewEvent {
        NewEvent {
            id: EventId::from_bytes(self.number().to_be_bytes()),
            source: "stripe".into(),
            named: Named {
                event_id: Some(identity.to_owned()),
                event_type: Some("invoice.paid".to_owned()),
                identity: Some(Identity::of([identity])),
                digest: None,
                body: Bytes::from_static(b"{}"),
            },
            replay_guard: ReplayGuard::Flag,
            window: LONG,
            received_at: self.now(),
            shadow: false,
            retry_marker: None,
            query: String::new(),
            headers: Arc::new(Headers::default()),
            request: None,
            deliveries: Vec::new(),
        }
    }

    /// A new event for handler `billing`.
    pub(crate) fn routed(&self, identity: &str) -> NewEvent {
        self.routed_to(identity, &["billing"])
    }

    /// A new event for these handlers.
    pub(crate) fn routed_to(&self, identity: &str, handlers: &[&str]) -> NewEvent {
        let mut event = self.event(identity);
        event.deliveries = handlers.iter().map(|handler| self.delivery(handler)).collect();
        event
    }

    /// New events for `billing` that came in one request, whose body lists them.
    pub(crate) fn batch(&self, identities: &[&str]) -> Vec<NewEvent> {
        let body = Bytes::from(format!("[{}]", identities.join(", ")));
        let id = RequestId::from_bytes(self.number().to_be_bytes());
        let headers: Arc<Headers> = Arc::new([("X-Of-The", "whole request")].into_iter().collect());
        let part = |identity: &&str| {
            let mut event = self.routed(identity);
            event.named.body = Bytes::copy_from_slice(identity.as_bytes());
            event.headers = Arc::clone(&headers);
            event.request = Some(KeptRequest { id, body: body.clone() });
            event
        };
        identities.iter().map(part).collect()
    }

    /// A new event whose content is `content`, to be held if that came before.
    pub(crate) fn guarded(&self, identity: &str, content: &str) -> NewEvent {
        let mut event = self.routed(identity);
        event.named.digest = Some(Digest::of([content.as_bytes()]));
        event.replay_guard = ReplayGuard::Hold;
        event
    }

    /// A new delivery for a handler.
    pub(crate) fn delivery(&self, handler: &str) -> NewDelivery {
        let id = DeliveryId::from_bytes(self.number().to_be_bytes());
        NewDelivery { id, handler: handler.into(), order: None }
    }

    /// Admits one event in time.
    pub(crate) async fn admit(&self, event: &NewEvent) -> (EventId, Admission) {
        self.try_admit(event, self.in_time()).await.expect("the store admits")
    }

    /// Admits one event, or says why not.
    pub(crate) async fn try_admit(
        &self,
        event: &NewEvent,
        not_after: Timestamp,
    ) -> Result<(EventId, Admission), StoreError> {
        let mut answers = self.store.admit(vec![event.clone()], not_after).await;
        assert_eq!(answers.len(), 1, "one event, one answer");
        answers.remove(0)
    }

    /// Admits a new event for `billing` and gives its delivery's id.
    pub(crate) async fn queue(&self, identity: &str) -> DeliveryId {
        let event = self.routed(identity);
        assert_eq!(self.admit(&event).await, (event.id, Admission::Fresh));
        event.deliveries[0].id
    }

    /// A claim of a worker nobody has seen before.
    pub(crate) fn claim_for(&self, handler: &str, lease: Duration) -> Claim {
        Claim {
            handler: handler.into(),
            worker: Uuid::from_u128(self.number()),
            id: Uuid::from_u128(self.number()),
            deliveries_max: 100,
            lease,
            attempts_max: 20,
        }
    }

    /// Makes this claim in time.
    pub(crate) async fn claim(&self, claim: &Claim) -> Claimed {
        self.store.claim(claim, self.in_time()).await.expect("the store lets claim")
    }

    /// Claims what is due for `billing`.
    pub(crate) async fn take(&self, lease: Duration) -> Vec<Leased> {
        self.claim(&self.claim_for("billing", lease)).await.deliveries
    }

    /// Claims the one delivery that is due for `billing`.
    pub(crate) async fn take_one(&self, lease: Duration) -> Leased {
        let mut taken = self.take(lease).await;
        assert_eq!(taken.len(), 1, "one delivery is due");
        taken.remove(0)
    }

    /// Settles one attempt.
    pub(crate) async fn settle(&self, leased: &Leased, verdict: Verdict) -> Hold {
        let settlement = self.settlement(leased, verdict);
        let mut answers = self.store.settle(vec![settlement]).await;
        assert_eq!(answers.len(), 1, "one settlement, one answer");
        answers.remove(0).expect("the store settles")
    }

    /// What a worker writes down about an attempt that ended so.
    pub(crate) fn settlement(&self, leased: &Leased, verdict: Verdict) -> Settlement {
        let (outcome, error) = match verdict {
            Verdict::Done => (AttemptOutcome::Done, None),
            Verdict::RetryAt(_) => (AttemptOutcome::Failed, Some("it answered 500".to_owned())),
            Verdict::Dead => (AttemptOutcome::Rejected, Some("it answered 410".to_owned())),
        };
        let attempt = Attempt {
            number: leased.attempt,
            started_at: self.now(),
            took_ms: Some(7),
            outcome,
            status: Some(200),
            error,
            excerpt: Some("said the handler".to_owned()),
        };
        Settlement { lease: leased.lease, verdict, attempt }
    }

    /// Extends one lease.
    pub(crate) async fn extend(&self, lease: Lease, by: Duration) -> Hold {
        let mut answers = self.store.extend(&[lease], by).await;
        assert_eq!(answers.len(), 1, "one lease, one answer");
        answers.remove(0).expect("the store extends")
    }

    /// Grants a wish in time.
    pub(crate) async fn wish(&self, wish: &Wish) -> Granted {
        self.store.wish(wish, self.in_time()).await.expect("the store grants")
    }

    /// Everything about an event that is there.
    pub(crate) async fn record(&self, id: EventId) -> EventRecord {
        self.store.event(id).await.expect("the store reads").expect("the event is there")
    }

    /// All events, newest first.
    pub(crate) async fn events(&self) -> Vec<EventRow> {
        let filter = EventFilter { limit: 1000, ..EventFilter::default() };
        self.store.events(&filter).await.expect("the store reads")
    }

    /// The counters and gauges over everything.
    pub(crate) async fn total(&self) -> Counts {
        self.store.stats().await.expect("the store counts").total
    }

    /// Prunes whatever ended before now, in one lot.
    pub(crate) async fn prune(&self) -> usize {
        self.prune_lot(10_000).await
    }

    /// The same, no more than `lot` of each kind.
    pub(crate) async fn prune_lot(&self, lot: usize) -> usize {
        let now = self.now();
        let prune = Prune { done_before: now, dead_before: now, held_before: now, now, lot };
        self.store.prune(&prune).await.expect("the store prunes")
    }
}
