//! A real Redis Cluster on loopback: three primaries, each with a replica.

use std::{
    process::Command,
    sync::{Arc, OnceLock, mpsc},
    time::Duration,
};

use crate::redis_server::{RedisServer, free_port};

/// Six running nodes.
pub(crate) struct RedisCluster {
    /// The nodes, in no order.
    pub(crate) nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// A cluster that keeps every promise, and notices within `node_timeout_ms` that a node is away.
    pub(crate) fn start(node_timeout_ms: u32) -> Self {
        Self::start_program(&["redis-server"], node_timeout_ms)
    }

    fn start_program(program: &[&str], node_timeout_ms: u32) -> Self {
        let node_timeout = node_timeout_ms.to_string();
        let node = |_| {
            RedisServer::start_program(
                program,
                &[
                    &["--appendonly", "yes", "--appendfsync", "always"][..],
                    &["--cluster-enabled", "yes", "--cluster-node-timeout", &node_timeout],
                    &["--cluster-port", &free_port().to_string()],
                    &["--repl-diskless-sync-delay", "0", "--min-replicas-to-write", "1"],
                ]
                .concat(),
            )
        };
        let cluster = Self { nodes: (0..6).map(node).collect() };
        let created = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(cluster.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)))
            .args(["--cluster-replicas", "1", "--cluster-yes"])
            .output()
            .expect("redis-cli is installed");
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
        cluster.wait_until_it_is_whole();
        cluster
    }

    /// One for all tests of a binary, for as long as it runs.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Arc<RedisCluster>> = OnceLock::new();
        SHARED.get_or_init(|| {
            let (started, starting) = mpsc::channel();
            // Nobody ends what many share: the nodes die with the thread that started them, and this one
            // lives as long as the tests.
            std::thread::spawn(move || {
                let program = ["setpriv", "--pdeathsig", "KILL", "redis-server"];
                started
                    .send(Arc::new(Self::start_program(&program, 15_000)))
                    .expect("somebody waits for it");
                loop {
                    std::thread::park();
                }
            });
            starting.recv().expect("the cluster starts")
        })
    }

    /// Its URL: two of its nodes, which know the rest.
    pub(crate) fn url(&self) -> String {
        let [one, two, ..] = self.nodes.as_slice() else { panic!("there are six nodes") };
        format!("redis-cluster://127.0.0.1:{},127.0.0.1:{}", one.port, two.port)
    }

    /// Waits until every slot is served and every replica has its primary's data.
    pub(crate) fn wait_until_it_is_whole(&self) {
        for _ in 0..1500 {
            if self.nodes.iter().all(is_whole) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the cluster is not whole");
    }

    /// A primary that has slots, and which of them.
    pub(crate) fn primary_of(&self, slot: u16) -> &RedisServer {
        let owner = |node: &&RedisServer| {
            let nodes = said(node, "CLUSTER", "NODES");
            let Some(own) = nodes.lines().find(|line| line.contains("myself,master")) else {
                return false;
            };
            own.split(' ').skip(8).any(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let bounds = first.parse::<u16>().ok().zip(last.parse::<u16>().ok());
                bounds.is_some_and(|(first, last)| (first..=last).contains(&slot))
            })
        };
        self.nodes.iter().find(owner).expect("a primary serves the slot")
    }
}

/// What a node answers to two words; nothing where it is away.
pub(crate) fn said(node: &RedisServer, command: &str, argument: &str) -> String {
    let asked = node
        .try_connection()
        .and_then(|mut open| redis::cmd(command).arg(argument).query::<String>(&mut open));
    asked.unwrap_or_default()
}

fn is_whole(node: &RedisServer) -> bool {
    let cluster = said(node, "CLUSTER", "INFO");
    let replication = said(node, "INFO", "replication");
    let is_linked = replication.contains("master_link_status:up")
        || replication.contains("role:master") && replication.contains("state=online");
    is_linked && cluster.contains("cluster_state:ok") && cluster.contains("cluster_known_nodes:6")
}
