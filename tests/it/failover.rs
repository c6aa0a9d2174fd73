//! Primaries of a Redis cluster die under load: no yes is taken back, no event is triggered twice, and the
//! senders are turned away no longer than the cluster takes to find another (P1 to P4).

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    exactly_once::config,
    redis_cluster::{RedisCluster, said},
    redis_server::RedisServer,
    support::{
        alone,
        program::Setup,
        sender::{Answer, Connection, Sender},
        sink::Sink,
        until,
    },
};

const KILLS: usize = 10;
const CONNECTIONS: usize = 16;
const NODE_TIMEOUT: Duration = Duration::from_secs(2);
/// As configured: so many attempts may be unsettled when a primary dies.
const CONCURRENCY: usize = 64;

/// How long after a kill the last 503 may come: until the others agree that the node is gone, the replica
/// is elected, and has a replica of its own again.
const TURNED_AWAY_MAX: Duration = Duration::from_secs(NODE_TIMEOUT.as_secs() + 3);

/// How much of that may be ours, should the cluster itself need longer on a machine that has other work.
const OUR_SHARE_MAX: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Load {
    is_over: AtomicBool,
    next: AtomicUsize,
    /// Every answer: when it came, and to which event.
    answers: Mutex<Vec<(Instant, String, Answer)>>,
}

impl Load {
    /// Sends new events without a pause, each until it is acknowledged.
    async fn send(&self, port: u16) {
        let (sender, mut connection) = (Sender::new(), Connection::to(port));
        while !self.is_over.load(Ordering::Relaxed) {
            let id = format!("evt_{}", self.next.fetch_add(1, Ordering::Relaxed));
            loop {
                let answer = connection.send(&sender.request(&id)).await.expect("it answers");
                let status = answer.status;
                self.answers.lock().unwrap().push((Instant::now(), id.clone(), answer));
                if status == 200 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    fn acknowledged(&self) -> Vec<String> {
        let answers = self.answers.lock().unwrap();
        let yes = answers.iter().filter(|(_, _, answer)| answer.status == 200);
        yes.map(|(_, id, _)| id.clone()).collect()
    }

    /// Every answer is a yes or says that it is our fault, and in time. How long the last 503 came after
    /// each kill.
    fn turned_away(&self, kills: &[(Instant, Duration)]) -> Vec<Duration> {
        let mut turned_away = vec![Duration::ZERO; kills.len()];
        for (at, _, answer) in self.answers.lock().unwrap().iter() {
            assert!(answer.took < Duration::from_millis(1100), "answered after {:?}", answer.took);
            if answer.status == 200 {
                continue;
            }
            assert_eq!((answer.status, answer.word.as_str()), (503, "unavailable"), "{answer:?}");
            let before = |(killed_at, _): &(Instant, Duration)| killed_at < at;
            let kill = kills.iter().rposition(before).expect("all is well before a kill");
            turned_away[kill] = turned_away[kill].max(*at - kills[kill].0);
        }
        turned_away
    }
}

/// Kills a primary, which one by turns, and starts it again when another has taken its place. Says, when all
/// is as before, when the kill was and how long the cluster took to mend.
fn kill_a_primary(cluster: &mut RedisCluster, turn: usize) -> (Instant, Duration) {
    let primaries: Vec<usize> = (0..6).filter(|at| is_primary(&cluster.nodes[*at])).collect();
    let at = primaries[turn % primaries.len()];
    let killed_at = Instant::now();
    cluster.nodes[at].kill();
    for _ in 0..1000 {
        let others = cluster.nodes.iter().enumerate().filter(|(other, _)| *other != at);
        if others.filter(|(_, node)| is_primary(node)).count() == 3 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    cluster.nodes[at].restart();
    cluster.wait_until_it_is_whole();
    (killed_at, killed_at.elapsed())
}

fn is_primary(node: &RedisServer) -> bool {
    said(node, "INFO", "replication").contains("role:master")
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_primaries_that_die_under_load_lose_nothing_and_nothing_is_triggered_twice() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let timeout_ms = u32::try_from(NODE_TIMEOUT.as_millis()).unwrap();
    let starting = tokio::task::spawn_blocking(move || RedisCluster::start(timeout_ms));
    let (mut cluster, sink) = (starting.await.unwrap(), Sink::start());
    let config = config(&cluster.url(), &sink)
        .replace("[store]", "[workers]\nlease = \"3s\"\n[store]\ndurability = \"replicated\"");
    let setup = Setup::new(folder.path(), &config);
    let program = setup.start().await;
    let load = Arc::new(Load::default());
    let send = |_| {
        let (load, port) = (Arc::clone(&load), setup.port);
        tokio::spawn(async move { load.send(port).await })
    };
    let senders: Vec<_> = (0..CONNECTIONS).map(send).collect();

    let mut kills = Vec::new();
    for kill in 0..KILLS {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let replaced = tokio::task::spawn_blocking(move || {
            let kill = kill_a_primary(&mut cluster, kill);
            (cluster, kill)
        });
        let kill;
        (cluster, kill) = replaced.await.unwrap();
        kills.push(kill);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    load.is_over.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await.unwrap();
    }
    until("nothing is queued or leased", Duration::from_secs(30), || async {
        let total = program.stats().await.total;
        total.queued + total.leased == 0
    })
    .await;

    let (acknowledged, handled) = (load.acknowledged(), sink.per_event());
    let lost: Vec<_> = acknowledged.iter().filter(|id| !handled.contains_key(*id)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert_eq!(acknowledged.len(), handled.len(), "handled, and never acknowledged");
    let stats = program.stats().await.total;
    assert_eq!(stats.events, handled.len() as u64, "one event for each id");
    assert_eq!(stats.done, handled.len() as u64, "one delivery for each event");
    let second_runs = sink.count() - handled.len();
    assert!(second_runs <= KILLS * CONCURRENCY, "{second_runs} second runs");
    let (sender, mut connection) = (Sender::new(), Connection::to(setup.port));
    for id in acknowledged.iter().step_by(10) {
        let copy = connection.send(&sender.request(id)).await.expect("it answers");
        assert_eq!((copy.status, copy.word.as_str()), (200, "duplicate"), "{id}: {copy:?}");
    }
    let turned_away = load.turned_away(&kills);
    println!(
        "{} events, {KILLS} kills, {second_runs} second runs, the last 503 after {turned_away:?}",
        handled.len()
    );
    for (last_503, (_, mended)) in turned_away.iter().zip(&kills) {
        let allowed = TURNED_AWAY_MAX.max(*mended + OUR_SHARE_MAX);
        assert!(*last_503 <= allowed, "503 for {last_503:?}; the cluster was whole in {mended:?}");
        assert!(*last_503 >= NODE_TIMEOUT, "a kill that nobody felt: {turned_away:?}");
    }
}
