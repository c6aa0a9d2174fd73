//! A cluster that changes under load: primaries that are killed, a slot that moves. What was answered yes
//! is there afterwards, and was triggered once.

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
    store::{Durability, redis::RedisStore},
};

use super::bench::{Bench, LONG};
use crate::{
    redis_cluster::{RedisCluster, said},
    redis_server::RedisServer,
};

const NODE_TIMEOUT: Duration = Duration::from_secs(2);
const KILLS: usize = 10;

/// How long a provider may be turned away after a kill: until the others agree that the node is gone, and
/// a while for the vote, the new connections, and a test machine that does other things too.
const TURNED_AWAY_MAX: Duration = Duration::from_secs(7);

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

/// Waits until this node, or its replica, serves the slot and has a replica again.
fn kill_and_replace(cluster: &mut RedisCluster, at: usize) {
    let before = cluster.nodes[at].port;
    cluster.nodes[at].kill();
    for _ in 0..1000 {
        let primaries = cluster.nodes.iter().filter(|node| node.port != before);
        if primaries
            .filter(|node| said(node, "INFO", "replication").contains("role:master"))
            .count()
            == 3
        {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    cluster.nodes[at].restart();
    cluster.wait_until_it_is_whole();
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody has panicked with it")
}

fn is_primary(node: &RedisServer) -> bool {
    said(node, "INFO", "replication").contains("role:master")
}

#[tokio::test(flavor = "multi_thread")]
async fn primaries_that_are_killed_under_load_lose_nothing() {
    let timeout_ms = u32::try_from(NODE_TIMEOUT.as_millis()).unwrap();
    let cluster =
        tokio::task::spawn_blocking(move || RedisCluster::start(timeout_ms)).await.unwrap();
    let load = Load::on(&cluster).await;
    let senders = futures_util::future::join_all((0..8).map(|_| load.send()));
    let killing = async {
        let mut cluster = cluster;
        for kill in 0..KILLS {
            tokio::time::sleep(Duration::from_millis(500)).await;
            cluster = tokio::task::spawn_blocking(move || {
                let primaries: Vec<usize> =
                    (0..6).filter(|at| is_primary(&cluster.nodes[*at])).collect();
                kill_and_replace(&mut cluster, primaries[kill % primaries.len()]);
                cluster
            })
            .await
            .unwrap();
        }
        load.is_over.store(true, Ordering::Relaxed);
        cluster
    };
    let (_cluster, _, ()) = tokio::join!(killing, senders, load.work());
    load.nothing_was_lost_or_triggered_twice().await;
    let second_runs: u32 = locked(&load.runs).values().map(|runs| runs - 1).sum();
    let waited = *locked(&load.longest_wait);
    let sent = locked(&load.answered).len();
    println!("{sent} events, {KILLS} kills, {second_runs} second runs, longest wait {waited:?}");
    assert!(second_runs <= u32::try_from(16 * KILLS).unwrap(), "{second_runs} second runs");
    assert!(waited <= TURNED_AWAY_MAX, "a sender was turned away for {waited:?}");
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
