//! Random sequences of keyed verbs, run against the model in memory and another store with the same
//! owners: every answer, and what is there in the end, must be the same.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use hookonce::{
    clock::Timestamp,
    key::{Fingerprint, KeyId, KeyScope, SavedResponse},
    request::Headers,
    store::{
        Prune, Store, StoreError,
        keys::{Begin, Begun, KeyFilter, Keys, OnUnknown, Resolution},
        memory::MemoryStore,
    },
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use uuid::Uuid;

use super::{
    bench::{Bench, LONG},
    model::same,
    moving,
};

const CASES: u32 = 64;
const VERBS: usize = 60;
const KEYS: [(&str, &str); 3] = [("payments", "k1"), ("payments", "k2"), ("refunds", "k1")];

/// Runs random sequences on fresh stores, and shows the shortest that do not agree.
pub(crate) fn agrees(fresh: impl AsyncFn() -> Bench) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let sequences = proptest::collection::vec(verb(), 1..=VERBS);
    TestRunner::new(config)
        .run(&sequences, |verbs| {
            runtime.block_on(async {
                let bench = fresh().await;
                let model = MemoryStore::new(bench.clock());
                let pair = Pair { bench, model };
                for verb in verbs {
                    pair.run(&verb).await?;
                }
                pair.compare_all().await?;
                pair.carry_over(&fresh().await).await?;
                Ok(())
            })
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

impl Pair {
    /// Whatever the sequence has left: the store gives away what the model does, and takes over all of it.
    async fn carry_over(&self, other: &Bench) -> Result<(), TestCaseError> {
        let begun = MemoryStore::new(self.bench.clock());
        let pairs: [(&dyn Store, &dyn Store); 2] =
            [(&*self.bench.store, &begun), (&self.model, &*other.store)];
        for (from, into) in pairs {
            let soon = self.bench.now().plus(Duration::from_secs(1));
            same("tally", moving::carry(from, into, soon).await, Vec::<String>::new())?;
        }
        Ok(())
    }
}

/// One step of a sequence. There are few keys and few owners, so that they meet.
#[derive(Clone, Debug)]
enum Verb {
    Begin { key: usize, owner: u128, other: bool, long: bool, retry: bool, late: bool },
    Extend { key: usize, owner: u128, long: bool },
    Complete { key: usize, owner: u128, answer: u8, long: bool },
    Abandon { key: usize, owner: u128 },
    MarkUnknown { key: usize, owner: u128 },
    Resolve { key: usize, answer: Option<u8>, long: bool, late: bool },
    Prune,
    Pass { millis: u64 },
}

fn verb() -> impl Strategy<Value = Verb> {
    let key = || 0..KEYS.len();
    let owner = || 1..4_u128;
    let rarely = || proptest::bool::weighted(0.1);
    let often = || proptest::bool::weighted(0.7);
    prop_oneof![
        10 => (key(), owner(), rarely(), often(), any::<bool>(), rarely()).prop_map(
            |(key, owner, other, long, retry, late)| Verb::Begin {
                key, owner, other, long, retry, late
            }
        ),
        3 => (key(), owner(), often()).prop_map(|(key, owner, long)| Verb::Extend {
            key, owner, long
        }),
        6 => (key(), owner(), 0..3_u8, often()).prop_map(|(key, owner, answer, long)| {
            Verb::Complete { key, owner, answer, long }
        }),
        2 => (key(), owner()).prop_map(|(key, owner)| Verb::Abandon { key, owner }),
        3 => (key(), owner()).prop_map(|(key, owner)| Verb::MarkUnknown { key, owner }),
        3 => (key(), proptest::option::of(0..3_u8), often(), rarely()).prop_map(
            |(key, answer, long, late)| Verb::Resolve { key, answer, long, late }
        ),
        1 => Just(Verb::Prune),
        3 => (0..120_u64).prop_map(|millis| Verb::Pass { millis }),
    ]
}

/// The store and the model side by side.
struct Pair {
    bench: Bench,
    model: MemoryStore,
}

impl Pair {
    async fn run(&self, verb: &Verb) -> Result<(), TestCaseError> {
        // No two verbs happen in one millisecond, so a server's clock orders them as ours does.
        self.bench.pass(Duration::ZERO).await;
        let (store, model) = (&self.bench.store, &self.model);
        match *verb {
            Verb::Begin { key, owner, other, long, retry, late } => {
                let begin = Begin {
                    scope: scope(key),
                    fingerprint: Fingerprint::of([[u8::from(other)].as_slice()]),
                    owner: Uuid::from_u128(owner),
                    lease: self.span(long),
                    on_unknown: if retry { OnUnknown::Retry } else { OnUnknown::Keep },
                };
                let not_after = self.not_after(late);
                let told = store.begin(&begin, not_after).await;
                let wanted = model.begin(&begin, not_after).await;
                same("begin", self.without_times(told), self.without_times(wanted))
            }
            Verb::Extend { key, owner, long } => {
                let (id, owner, lease) = (id(key), Uuid::from_u128(owner), self.span(long));
                let told = store.extend_key(id, owner, lease).await;
                same("extend", told, model.extend_key(id, owner, lease).await)
            }
            Verb::Complete { key, owner, answer, long } => {
                let (id, owner, answer) = (id(key), Uuid::from_u128(owner), response(answer));
                let told = store.complete(id, owner, &answer, self.span(long)).await;
                same("complete", told, model.complete(id, owner, &answer, self.span(long)).await)
            }
            Verb::Abandon { key, owner } => {
                let (id, owner) = (id(key), Uuid::from_u128(owner));
                let told = store.abandon(id, owner).await;
                same("abandon", told, model.abandon(id, owner).await)
            }
            Verb::MarkUnknown { key, owner } => {
                let (id, owner) = (id(key), Uuid::from_u128(owner));
                let told = store.mark_unknown(id, owner, "it timed out").await;
                same("mark unknown", told, model.mark_unknown(id, owner, "it timed out").await)
            }
            Verb::Resolve { key, answer, long, late } => {
                let resolution = match answer {
                    Some(answer) => Resolution::Complete {
                        response: response(answer),
                        retention: self.span(long),
                    },
                    None => Resolution::Free,
                };
                let not_after = self.not_after(late);
                let told = store.resolve(id(key), &resolution, not_after).await;
                same("resolve", told, model.resolve(id(key), &resolution, not_after).await)
            }
            // How many go is not the same: some stores let a key go before it is pruned.
            Verb::Prune => {
                let now = self.bench.now();
                let prune =
                    Prune { done_before: now, dead_before: now, held_before: now, now, lot: 100 };
                let told = store.prune(&prune).await.map(drop);
                same("prune", told, model.prune(&prune).await.map(drop))
            }
            Verb::Pass { millis } => {
                // Where the clock is real, only short spans run out within a test.
                let span = if self.bench.knows_the_time() { millis } else { millis / 100 };
                self.bench.pass(Duration::from_millis(span)).await;
                Ok(())
            }
        }
    }

    fn span(&self, long: bool) -> Duration {
        if long { LONG } else { self.bench.short() }
    }

    fn not_after(&self, late: bool) -> Timestamp {
        if late { self.bench.too_late() } else { self.bench.in_time() }
    }

    fn without_times(&self, begun: Result<Begun, StoreError>) -> Result<Begun, StoreError> {
        let at = Timestamp::default();
        begun.map(|begun| match begun {
            _ if self.bench.knows_the_time() => begun,
            Begun::InFlight { .. } => Begun::InFlight { retry_in: Duration::ZERO },
            Begun::Completed { response, .. } => {
                Begun::Completed { response, completed_at: at, expires_at: at }
            }
            begun => begun,
        })
    }

    async fn compare_all(&self) -> Result<(), TestCaseError> {
        self.bench.pass(Duration::ZERO).await;
        let exact = self.bench.knows_the_time();
        let told = everything(self.bench.store.as_ref(), exact).await;
        same("everything", told, everything(&self.model, exact).await)
    }
}

fn scope(key: usize) -> KeyScope {
    let (api, key) = KEYS[key];
    KeyScope::new(api, "POST", "/charges", b"alice", key)
}

fn id(key: usize) -> KeyId {
    scope(key).id()
}

fn response(answer: u8) -> SavedResponse {
    let headers: Headers = [("x-answer", vec![b'0' + answer])].into_iter().collect();
    SavedResponse { status: 200, headers, body: Bytes::copy_from_slice(&[answer]) }
}

/// All that a store can be asked about keys, as text.
async fn everything(store: &dyn Store, exact: bool) -> Result<String, StoreError> {
    let mut text = format!("{:#?}\n", store.key_counts().await?);
    for row in store.keys(&KeyFilter { limit: 100, ..KeyFilter::default() }).await? {
        let mut record = store.key(row.id).await?.expect("it was listed");
        assert_eq!(record, row, "a key alone is as it is in the list");
        if !exact {
            record.begun_at = Timestamp::default();
            record.lease_until = Timestamp::default();
            record.completed_at = record.completed_at.map(|_| Timestamp::default());
            record.expires_at = record.expires_at.map(|_| Timestamp::default());
        }
        writeln!(text, "{record:#?}").expect("a string takes all");
    }
    Ok(text)
}
