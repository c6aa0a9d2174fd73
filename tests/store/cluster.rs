//! A cluster whose slots move under load: what was answered yes is there afterwards, and was triggered
//! once. What becomes of it when primaries die is in `tests/it/failover.rs`.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use hookonce::{
    clock::SystemClock,
    delivery::Verdict,
    event::{EventId, EventState},
    receipt::Admission,
    store::{Durability, Hold, redis::RedisStore},
};

use super::bench::{Bench, LONG};
use crate::redis_cluster::{RedisCluster, said};

/// Senders and a worker on a cluster, until they are told to stop.
struct Load {
    bench: Bench,
    is_over: AtomicBool,
    sent: AtomicU64,
    /// The yes to each identity.
    answered: Mutex<HashMap<String, EventId>>,
    /// How often each event was run.
    runs: Mutex<HashMap<EventId, u32>>,
    longest_wait: Mutex<Duration>,
}

impl Load {
    async fn on(cluster: &RedisCluster) -> Arc<Self> {
        let clock = SystemClock::start();
        let store =
            RedisStore::connect(&cluster.url(), Durability::Replicated, None, clock.clone()).await;
        Arc::new(Self {
            bench: Bench::own(Arc::new(store.expect("the cluster is there")), clock, ()),
            is_over: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            answered: Mutex::default(),
            runs: Mutex::default(),
            longest_wait: Mutex::default(),
        })
    }

    /// Sends new events, each until it is answered yes, as a provider does.
    async fn send(&self) {
        let clock = self.bench.clock();
        while !self.is_over.load(Ordering::Relaxed) {
            let identity = format!("evt_{}", self.sent.fetch_add(1, Ordering::Relaxed));
            let began = clock.monotonic();
            let yes = loop {
                let event = self.bench.routed(&identity);
                let not_after = self.bench.now().plus(Duration::from_millis(700));
                match self.bench.try_admit(&event, not_after).await {
                    Ok((id, _)) => break id,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            };
            let waited = clock.monotonic().saturating_sub(began);
            {
                let mut longest = locked(&self.longest_wait);
                *longest = waited.max(*longest);
            }
            locked(&self.answered).insert(identity, yes);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Runs what is due, until all is over and nothing is left.
    async fn work(&self) {
        loop {
            let mut claim = self.bench.claim_for("billing", Duration::from_secs(2));
            claim.deliveries_max = 16;
            let is_over = self.is_over.load(Ordering::Relaxed);
            let claimed = self.bench.store.claim(&claim, self.bench.in_time()).await;
            let Ok(claimed) = claimed else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            if claimed.deliveries.is_empty() {
                if is_over
                    && self
                        .bench
                        .store
                        .stats()
                        .await
                        .is_ok_and(|stats| stats.total.queued + stats.total.leased == 0)
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            for leased in claimed.deliveries {
                *locked(&self.runs).entry(leased.event.id).or_default() += 1;
                let settlement = self.bench.settlement(&leased, Verdict::Done);
                while self.bench.store.settle(vec![settlement.clone()]).await.remove(0).is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// What was answered yes is there, was triggered once, and its copy is a duplicate.
    async fn nothing_was_lost_or_triggered_twice(&self) {
        let answered = locked(&self.answered).clone();
        assert!(answered.len() > 100, "only {} were sent", answered.len());
        for (identity, id) in &answered {
            let copy = self.bench.admit(&self.bench.routed(identity)).await;
            assert_eq!(copy, (*id, Admission::Duplicate), "{identity} was lost");
            let record = self.bench.record(*id).await;
            assert_eq!(record.deliveries.len(), 1, "{identity} was triggered twice");
            assert_eq!(record.row.state, EventState::Done, "{identity} was not run");
        }
        assert!(self.bench.take(LONG).await.is_empty());
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody has panicked with it")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_under_load_loses_nothing() {
    let cluster = tokio::task::spawn_blocking(|| RedisCluster::start(15_000)).await.unwrap();
    let load = Load::on(&cluster).await;
    let senders = futures_util::future::join_all((0..4).map(|_| load.send()));
    let moving = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (from, to) = (cluster.primary_of(268), cluster.primary_of(16_000)); // 268 is that of {h00}
        let moved = tokio::process::Command::new("redis-cli")
            .args(["--cluster", "reshard", &format!("127.0.0.1:{}", from.port)])
            .args(["--cluster-from", said(from, "CLUSTER", "MYID").trim()])
            .args(["--cluster-to", said(to, "CLUSTER", "MYID").trim()])
            .args(["--cluster-slots", "300", "--cluster-yes"])
            .output()
            .await
            .expect("redis-cli is installed");
        assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stdout));
        assert_eq!(cluster.primary_of(268).port, to.port, "it has moved");
        tokio::time::sleep(Duration::from_millis(500)).await;
        load.is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(moving, senders, load.work());
    load.nothing_was_lost_or_triggered_twice().await;
    let waited = *locked(&load.longest_wait);
    println!("{} events, longest wait {waited:?}", locked(&load.answered).len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_hangs_ends_no_lease_in_the_others() {
    let cluster = tokio::task::spawn_blocking(|| RedisCluster::start(15_000)).await.unwrap();
    let clock = SystemClock::start();
    let store = RedisStore::connect(&cluster.url(), Durability::Always, None, clock.clone()).await;
    let bench = Bench::own(Arc::new(store.expect("the cluster is there")), clock, ());
    for number in 0..48 {
        bench.queue(&format!("evt_{number}")).await;
    }
    let mut leases = Vec::new();
    while leases.len() < 48 {
        leases.extend(bench.take(LONG).await.iter().map(|leased| leased.lease));
    }
    let shard = cluster.primary_of(268);
    shard.freeze();
    let answers = bench.store.extend(&leases, LONG).await;
    shard.thaw();
    let (kept, failed): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.is_ok());
    assert!(kept.iter().all(|answer| **answer == Ok(Hold::Kept)), "{kept:?}");
    assert!(!failed.is_empty() && kept.len() > failed.len(), "{failed:?}");
}
