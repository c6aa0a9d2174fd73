//! Random sequences of verbs, run against the model in memory and another store with the same ids:
//! every answer, and what is there in the end, must be the same.

use std::{
    fmt::{Debug, Write as _},
    sync::Arc,
    time::Duration,
};

use hookonce::{
    clock::Timestamp,
    delivery::{Attempt, Claim, Leased, Verdict},
    event::{Digest, Identity, KeptRequest, NewDelivery, NewEvent, ReplayGuard, RequestId},
    order::OnDead,
    store::{
        Claimed, DeliveryFilter, EventFilter, Prune, Release, Store, StoreError, Which, Wish,
        memory::MemoryStore,
    },
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use uuid::Uuid;

use super::{
    bench::{self, Bench, LONG, SHORT},
    moving,
};

const CASES: u32 = 64;
const VERBS: usize = 60;
const SOURCES: [&str; 2] = ["stripe", "github"];
const HANDLERS: [&str; 3] = ["audit", "billing", "crm"];

/// Runs random sequences on fresh stores, and shows the shortest that do not agree.
pub(crate) fn agrees(fresh: impl AsyncFn() -> Bench) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let sequences = proptest::collection::vec(verb(), 1..=VERBS);
    TestRunner::new(config)
        .run(&sequences, |verbs| {
            runtime.block_on(async {
                let mut pair = Pair::around(fresh().await);
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

/// One step of a sequence. Numbers point at what earlier steps made, modulo how much that is.
#[derive(Clone, Debug)]
enum Verb {
    Admit {
        source: usize,
        identity: Option<u8>,
        content: Option<u8>,
        hold: bool,
        shadow: bool,
        routes: u8,
        request: Option<u8>,
        order: Option<(u8, bool)>,
    },
    AdmitAgain {
        event: usize,
        late: bool,
    },
    Claim {
        handler: usize,
        worker: u128,
        most: usize,
        attempts_max: u32,
        long: bool,
    },
    ClaimAgain {
        claim: usize,
        late: bool,
    },
    Extend {
        lease: usize,
        long: bool,
    },
    Settle {
        lease: usize,
        verdict: u8,
    },
    Release {
        lease: usize,
    },
    ReleaseClaim {
        claim: usize,
    },
    Replay {
        event: usize,
        handler: usize,
        order: Option<(u8, bool)>,
    },
    AdmitHeld {
        event: usize,
        handler: usize,
        order: Option<(u8, bool)>,
    },
    Redrive {
        handler: usize,
        one: Option<usize>,
    },
    Move {
        handler: usize,
        one: Option<usize>,
        to: usize,
    },
    Kill {
        handler: usize,
        one: Option<usize>,
    },
    Erase {
        event: usize,
    },
    Unblock {
        handler: usize,
        one: Option<usize>,
    },
    WishAgain {
        wish: usize,
    },
    Prune {
        done: bool,
        dead: bool,
        held: bool,
    },
    Pass {
        millis: u64,
    },
}

fn verb() -> impl Strategy<Value = Verb> {
    let at = any::<usize>;
    let one = || proptest::option::weighted(0.5, any::<usize>());
    let request = || proptest::option::weighted(0.3, 0..3_u8);
    let order = || proptest::option::weighted(0.5, (0..2_u8, any::<bool>()));
    let few = |most: u8| proptest::option::weighted(0.8, 0..most);
    prop_oneof![
        8 => (at(), few(8), few(4), any::<(bool, bool)>(), any::<u8>(), request(), order()).prop_map(
            |(source, identity, content, (hold, shadow), routes, request, order)| Verb::Admit {
                source, identity, content, hold, shadow, routes, request, order
            }
        ),
        2 => (at(), any::<bool>()).prop_map(|(event, late)| Verb::AdmitAgain { event, late }),
        8 => (at(), 0..3_u128, 0..4_usize, 1..4_u32, any::<bool>()).prop_map(
            |(handler, worker, most, attempts_max, long)| Verb::Claim {
                handler, worker, most, attempts_max, long
            }
        ),
        2 => (at(), any::<bool>()).prop_map(|(claim, late)| Verb::ClaimAgain { claim, late }),
        2 => (at(), any::<bool>()).prop_map(|(lease, long)| Verb::Extend { lease, long }),
        8 => (at(), any::<u8>()).prop_map(|(lease, verdict)| Verb::Settle { lease, verdict }),
        2 => at().prop_map(|lease| Verb::Release { lease }),
        1 => at().prop_map(|claim| Verb::ReleaseClaim { claim }),
        2 => (at(), at(), order()).prop_map(|(event, handler, order)| Verb::Replay {
            event, handler, order
        }),
        2 => (at(), at(), order()).prop_map(|(event, handler, order)| Verb::AdmitHeld {
            event, handler, order
        }),
        2 => (at(), one()).prop_map(|(handler, one)| Verb::Redrive { handler, one }),
        1 => (at(), one(), at()).prop_map(|(handler, one, to)| Verb::Move { handler, one, to }),
        1 => (at(), one()).prop_map(|(handler, one)| Verb::Kill { handler, one }),
        1 => at().prop_map(|event| Verb::Erase { event }),
        1 => (at(), one()).prop_map(|(handler, one)| Verb::Unblock { handler, one }),
        1 => at().prop_map(|wish| Verb::WishAgain { wish }),
        1 => any::<(bool, bool, bool)>().prop_map(|(done, dead, held)| Verb::Prune {
            done, dead, held
        }),
        4 => (0..120_u64).prop_map(|millis| Verb::Pass { millis }),
    ]
}

/// The store and the model side by side, and what was asked of them so far.
struct Pair {
    bench: Bench,
    model: MemoryStore,
    events: Vec<NewEvent>,
    claims: Vec<Claim>,
    leased: Vec<Leased>,
    wishes: Vec<Wish>,
}

impl Pair {
    fn around(bench: Bench) -> Self {
        let model = MemoryStore::new(bench.clock());
        Self {
            bench,
            model,
            events: Vec::new(),
            claims: Vec::new(),
            leased: Vec::new(),
            wishes: Vec::new(),
        }
    }

    async fn run(&mut self, verb: &Verb) -> Result<(), TestCaseError> {
        // No two verbs happen in one millisecond, so a server's clock orders them as ours does.
        self.bench.pass(Duration::ZERO).await;
        match *verb {
            Verb::Admit { .. } => {
                let event = self.new_event(verb);
                self.events.push(event.clone());
                self.admit(event, false).await
            }
            Verb::AdmitAgain { event, late } => match pick(&self.events, event) {
                Some(event) => self.admit(event, late).await,
                None => Ok(()),
            },
            Verb::Claim { handler, worker, most, attempts_max, long } => {
                // In several buckets one verb happens at several times, so which delivery of it falls due
                // first is not told: claims then take all there is.
                let takes_all = self.bench.has_buckets && most > 0;
                let claim = Claim {
                    worker: Uuid::from_u128(worker),
                    deliveries_max: if takes_all { 100 } else { most },
                    attempts_max,
                    ..self.bench.claim_for(
                        HANDLERS[handler % 3],
                        if long { LONG } else { self.bench.short() },
                    )
                };
                self.claim(&claim, false).await
            }
            Verb::ClaimAgain { claim, late } => match pick(&self.claims, claim) {
                Some(claim) => self.claim(&claim, late).await,
                None => Ok(()),
            },
            Verb::Extend { lease, long } => self.extend(lease, long).await,
            Verb::Settle { lease, verdict } => self.settle(lease, verdict).await,
            Verb::Release { lease } => match pick(&self.leased, lease) {
                Some(leased) => self.release(Release::Leases(vec![leased.lease])).await,
                None => Ok(()),
            },
            Verb::ReleaseClaim { claim } => match pick(&self.claims, claim) {
                Some(Claim { handler, worker, id, .. }) => {
                    self.release(Release::Claim { handler, worker, id }).await
                }
                None => Ok(()),
            },
            Verb::WishAgain { wish } => match pick(&self.wishes, wish) {
                Some(wish) => self.grant(&wish).await,
                None => Ok(()),
            },
            Verb::Prune { done, dead, held } => self.prune([done, dead, held]).await,
            Verb::Pass { millis } => {
                // Where the clock is real, only short leases run out within a test.
                let span = if self.bench.knows_the_time() { millis } else { millis / 100 };
                self.bench.pass(Duration::from_millis(span)).await;
                Ok(())
            }
            Verb::Replay { .. }
            | Verb::AdmitHeld { .. }
            | Verb::Redrive { .. }
            | Verb::Move { .. }
            | Verb::Kill { .. }
            | Verb::Erase { .. }
            | Verb::Unblock { .. } => match self.new_wish(verb) {
                Some(wish) => {
                    self.wishes.push(wish.clone());
                    self.grant(&wish).await
                }
                None => Ok(()),
            },
        }
    }

    fn new_event(&self, verb: &Verb) -> NewEvent {
        let Verb::Admit { source, identity, content, hold, shadow, routes, request, order } = *verb
        else {
            unreachable!("the caller looked")
        };
        let mut event = self.bench.event("evt");
        event.source = SOURCES[source % 2].into();
        // What has no identity is never told from its copies, so it has no digest either. Where there
        // is a digest it is in the identity too: the same id with other content is another event.
        let content = content.filter(|_| identity.is_some());
        let name = |number| format!("evt_{number} {content:?}");
        event.named.identity = identity.map(|number| Identity::of([name(number).as_str()]));
        event.named.digest = content.map(|number| Digest::of([[number].as_slice()]));
        event.replay_guard = if hold { ReplayGuard::Hold } else { ReplayGuard::Flag };
        event.shadow = shadow;
        if let Some(number) = request {
            // The same id always means the same request, which came to one source.
            let number = 2 * number + u8::from(source % 2 == 1);
            let (id, body) = (RequestId::from_bytes([number; 16]), vec![number; 9].into());
            event.request = Some(KeptRequest { id, body });
            event.headers = Arc::new([("x-request", vec![number])].into_iter().collect());
        }
        event.window = if self.bench.knows_the_time() { SHORT * 10 } else { LONG };
        let routed = HANDLERS.iter().enumerate().filter(|(at, _)| routes & (1 << at) != 0);
        event.deliveries = routed.map(|(_, handler)| self.new_delivery(handler, order)).collect();
        event
    }

    /// A delivery, in a line where the store keeps any.
    fn new_delivery(&self, handler: &str, order: Option<(u8, bool)>) -> NewDelivery {
        let order = order.filter(|_| !self.bench.has_buckets).map(|(key, skips)| {
            super::order::order(key, if skips { OnDead::Skip } else { OnDead::Block })
        });
        NewDelivery { order, ..self.bench.delivery(handler) }
    }

    fn new_wish(&self, verb: &Verb) -> Option<Wish> {
        let which = |handler: usize, one: Option<usize>| match one {
            None => Some(Which::Handler(HANDLERS[handler % 3].into())),
            Some(one) => Some(Which::Ids(vec![pick(&self.all_deliveries(), one)?.id])),
        };
        Some(match *verb {
            Verb::Replay { event, handler, order } => Wish::Replay {
                event: pick(&self.events, event)?.id,
                deliveries: vec![self.new_delivery(HANDLERS[handler % 3], order)],
            },
            Verb::AdmitHeld { event, handler, order } => Wish::AdmitHeld {
                event: pick(&self.events, event)?.id,
                deliveries: vec![self.new_delivery(HANDLERS[handler % 3], order)],
            },
            Verb::Redrive { handler, one } => Wish::Redrive {
                id: Uuid::from_u128(self.bench.number()),
                which: which(handler, one)?,
            },
            Verb::Move { handler, one, to } => {
                Wish::Move { which: which(handler, one)?, to: HANDLERS[to % 3].into() }
            }
            Verb::Kill { handler, one } => Wish::Kill { which: which(handler, one)? },
            // A request comes again here after one of its events was erased, which it never does.
            Verb::Erase { event } => {
                let event = pick(&self.events, event)?;
                event.request.is_none().then_some(Wish::Erase { event: event.id })?
            }
            Verb::Unblock { handler, one } => Wish::Unblock { which: which(handler, one)? },
            _ => return None,
        })
    }

    fn all_deliveries(&self) -> Vec<NewDelivery> {
        self.events.iter().flat_map(|event| event.deliveries.clone()).collect()
    }

    fn not_after(&self, late: bool) -> Timestamp {
        if late { self.bench.too_late() } else { self.bench.in_time() }
    }

    async fn admit(&self, event: NewEvent, late: bool) -> Result<(), TestCaseError> {
        let not_after = self.not_after(late);
        let told = self.bench.store.admit(vec![event.clone()], not_after).await;
        let wanted = self.model.admit(vec![event], not_after).await;
        same("admit", told, wanted)
    }

    async fn claim(&mut self, claim: &Claim, late: bool) -> Result<(), TestCaseError> {
        let not_after = self.not_after(late);
        let told = self.bench.store.claim(claim, not_after).await;
        let wanted = self.model.claim(claim, not_after).await;
        if let Ok(claimed) = &told {
            self.leased.extend(claimed.deliveries.iter().cloned());
            // A store may forget a claim that got nothing: who asks again has lost nothing.
            self.claims.retain(|known| known.id != claim.id);
            if !claimed.deliveries.is_empty() {
                self.claims.push(claim.clone());
            }
        }
        same("claim", self.without_times(told), self.without_times(wanted))
    }

    fn without_times(&self, claimed: Result<Claimed, StoreError>) -> Result<Claimed, StoreError> {
        claimed.map(|mut claimed| {
            if self.bench.has_buckets {
                claimed.deliveries.sort_by_key(|leased| leased.lease.delivery);
            }
            if !self.bench.knows_the_time() {
                claimed.next_due_at = claimed.next_due_at.map(|_| Timestamp::default());
            }
            claimed
        })
    }

    async fn extend(&self, lease: usize, long: bool) -> Result<(), TestCaseError> {
        let Some(leased) = pick(&self.leased, lease) else { return Ok(()) };
        let by = if long { LONG } else { self.bench.short() };
        let told = self.bench.store.extend(&[leased.lease], by).await;
        let expected = self.model.extend(&[leased.lease], by).await;
        same("extend", told, expected)
    }

    async fn settle(&self, lease: usize, verdict: u8) -> Result<(), TestCaseError> {
        let Some(leased) = pick(&self.leased, lease) else { return Ok(()) };
        let died = verdict >= 0xc0;
        let verdict = match verdict % 4 {
            0 => Verdict::Dead,
            1 => Verdict::Done,
            2 => Verdict::RetryAt(self.bench.now()),
            _ => Verdict::RetryAt(self.bench.now().plus(self.bench.short())),
        };
        let mut settlement = self.bench.settlement(&leased, verdict);
        if died {
            settlement.attempt = Attempt::died(leased.attempt, self.bench.now());
        }
        let told = self.bench.store.settle(vec![settlement.clone()]).await;
        same("settle", told, self.model.settle(vec![settlement]).await)
    }

    async fn release(&self, release: Release) -> Result<(), TestCaseError> {
        let told = self.bench.store.release(&release).await;
        same("release", told, self.model.release(&release).await)
    }

    async fn grant(&self, wish: &Wish) -> Result<(), TestCaseError> {
        let not_after = self.bench.in_time();
        let told = self.bench.store.wish(wish, not_after).await;
        same("wish", told, self.model.wish(wish, not_after).await)
    }

    async fn prune(&self, which: [bool; 3]) -> Result<(), TestCaseError> {
        let now = self.bench.now();
        let [done_before, dead_before, held_before] =
            which.map(|goes| if goes { now } else { self.bench.too_late() });
        let prune = Prune { done_before, dead_before, held_before, now, lot: 10_000 };
        let told = self.bench.store.prune(&prune).await;
        same("prune", told, self.model.prune(&prune).await)
    }

    async fn compare_all(&self) -> Result<(), TestCaseError> {
        let exact = self.bench.knows_the_time();
        let told = everything(self.bench.store.as_ref(), exact).await;
        same("everything", told, everything(&self.model, exact).await)
    }
}

impl Pair {
    /// Whatever the sequence has left: the store gives away what the model does, and takes over all of it.
    async fn carry_over(&self, other: &Bench) -> Result<(), TestCaseError> {
        // It opens what is carried as ciphertext, and leaves the rest as it is.
        let begun = bench::encrypted(Arc::new(MemoryStore::new(self.bench.clock())), &[1]);
        let pairs: [(&dyn Store, &dyn Store); 2] =
            [(&*self.bench.store, &*begun), (&self.model, &*other.store)];
        let exact = self.bench.knows_the_time();
        for (from, into) in pairs {
            let differences = moving::carry(from, into, self.bench.now()).await;
            same("tally", differences, Vec::<String>::new())?;
            same("carried", everything(into, exact).await, everything(&self.model, exact).await)?;
        }
        Ok(())
    }
}

/// All that a store can be asked, as text.
async fn everything(store: &dyn Store, exact: bool) -> Result<String, StoreError> {
    let mut text = format!("{:#?}\n", store.stats().await?);
    let all = EventFilter { limit: 10_000, ..EventFilter::default() };
    for row in store.events(&all).await? {
        let mut record = store.event(row.id).await?.expect("it was listed");
        assert_eq!(record.row, row);
        if !exact {
            record.row.erased_at = row.erased_at.map(|_| Timestamp::default());
        }
        for delivery in record.deliveries.iter_mut().filter(|_| !exact) {
            delivery.due_at = Timestamp::default();
        }
        writeln!(text, "{record:#?}").expect("a string takes all");
    }
    let all = DeliveryFilter { limit: 10_000, ..DeliveryFilter::default() };
    for mut delivery in store.deliveries(&all).await? {
        let mut attempts = store.attempts(delivery.id).await?;
        for attempt in attempts.iter_mut().filter(|_| !exact) {
            attempt.started_at = Timestamp::default();
        }
        if !exact {
            delivery.due_at = Timestamp::default();
        }
        writeln!(text, "{delivery:?}\n{attempts:#?}").expect("a string takes all");
    }
    Ok(text)
}

/// Fails, and shows both, when the store's answer is not the model's.
pub(crate) fn same(verb: &str, told: impl Debug, wanted: impl Debug) -> Result<(), TestCaseError> {
    let (told, wanted) = (format!("{told:#?}"), format!("{wanted:#?}"));
    if told == wanted {
        return Ok(());
    }
    let first = told.lines().zip(wanted.lines()).position(|(told, wanted)| told != wanted);
    Err(TestCaseError::fail(format!(
        "{verb}: line {first:?} differs\n--- the store says\n{told}\n--- the model says\n{wanted}"
    )))
}

/// One of a list, by a number that may be larger than the list.
fn pick<T: Clone>(list: &[T], number: usize) -> Option<T> {
    list.get(number.checked_rem(list.len())?).cloned()
}
