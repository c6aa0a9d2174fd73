//! The power fails under load: what was acknowledged is on the disk (P1).
//!
//! Each test has its twin, in which the store is told to sync less. It loses what was acknowledged,
//! or these tests could not find out whether anything was.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    postgres_server::PostgresServer,
    redis_server::RedisServer,
    support::{
        alone,
        disk::Disk,
        program::{Program, Setup},
        sender::{Connection, SECRET, Sender},
    },
};

const CUTS: usize = 50;
/// A store that syncs too little shows it soon.
const CUTS_OF_A_WEAK_STORE: usize = 5;
const CONNECTIONS: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_power_cuts_lose_nothing_acknowledged_on_sqlite() {
    let _alone = alone().await;
    let Some(mut disk) = Disk::new() else { return };
    let setup = Setup::new(&disk.path(), &config("sqlite:hookonce.db", "always"));
    let mut seen = Seen::default();
    for _ in 0..CUTS {
        let program = setup.start().await;
        seen.check(&program).await;
        let load = Load::start(&program, &mut seen);
        pause().await;
        program.freeze();
        disk.cut(|| program.kill());
        load.stop(&mut seen).await;
    }
    seen.check(&setup.start().await).await;
    seen.nothing_is_lost();
}

#[tokio::test]
async fn power_cuts_do_lose_what_sqlite_did_not_sync() {
    let _alone = alone().await;
    let Some(mut disk) = Disk::new() else { return };
    let file = disk.path().join("weak.db");
    let mut lost = 0;
    for cut in (0_i64..).take(CUTS_OF_A_WEAK_STORE) {
        let open = rusqlite::Connection::open(&file).unwrap();
        open.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
             CREATE TABLE IF NOT EXISTS events (cut INTEGER NOT NULL, body BLOB NOT NULL);",
        )
        .unwrap();
        for _ in 0..300 {
            open.execute("INSERT INTO events VALUES (?1, zeroblob(1500))", [cut]).unwrap();
        }
        disk.cut(|| drop(open));
        let count = "SELECT count(*) FROM events WHERE cut = ?1";
        let kept = rusqlite::Connection::open(&file)
            .and_then(|open| open.query_row(count, [cut], |row| row.get::<_, i64>(0)));
        lost += 300 - kept.unwrap_or(0);
    }
    assert!(lost > 0, "the harness finds no loss where there must be one");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_power_cuts_lose_nothing_acknowledged_on_redis() {
    let _alone = alone().await;
    let Some(seen) = cut_power_of_redis("always", "always", CUTS).await else { return };
    seen.nothing_is_lost();
}

#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_do_lose_what_redis_did_not_sync() {
    let _alone = alone().await;
    let weak = cut_power_of_redis("everysec", "relaxed", CUTS_OF_A_WEAK_STORE).await;
    let Some(seen) = weak else { return };
    assert!(seen.lost > 0, "the harness finds no loss where there must be one");
}

async fn cut_power_of_redis(appendfsync: &str, durability: &str, cuts: usize) -> Option<Seen> {
    let mut disk = Disk::new()?;
    let folder = tempfile::tempdir().unwrap();
    let on_disk = disk.path();
    let mut redis = RedisServer::start_with(&[
        "--appendonly",
        "yes",
        "--appendfsync",
        appendfsync,
        "--dir",
        on_disk.to_str().unwrap(),
    ]);
    let program = Setup::new(folder.path(), &config(&redis.url(), durability)).start().await;
    // A store that has lost all it ever was is refused, and not asked what it has lost.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut seen = Seen::default();
    for _ in 0..cuts {
        seen.check(&program).await;
        let load = Load::start(&program, &mut seen);
        pause().await;
        redis.freeze();
        disk.cut(|| redis.kill());
        load.stop(&mut seen).await;
        redis.restart();
        program.ready_within(Duration::from_secs(20)).await;
    }
    seen.check(&program).await;
    Some(seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_power_cuts_lose_nothing_acknowledged_on_postgres() {
    let _alone = alone().await;
    let Some(mut disk) = Disk::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let postgres = PostgresServer::start_on(&disk.path(), &[]);
    let config = config(&postgres.database(), "always");
    let program = Setup::new(folder.path(), &config).start().await;
    let mut seen = Seen::default();
    for _ in 0..CUTS {
        seen.check(&program).await;
        let load = Load::start(&program, &mut seen);
        pause().await;
        postgres.freeze();
        disk.cut(|| postgres.kill());
        load.stop(&mut seen).await;
        postgres.restart();
        program.ready_within(Duration::from_secs(20)).await;
    }
    seen.check(&program).await;
    seen.nothing_is_lost();
}

#[tokio::test]
async fn power_cuts_do_lose_what_postgres_did_not_sync() {
    let _alone = alone().await;
    let Some(mut disk) = Disk::new() else { return };
    let postgres = PostgresServer::start_on(&disk.path(), &["synchronous_commit=off"]);
    let url = postgres.database();
    let mut lost = 0;
    for cut in (0..).take(CUTS_OF_A_WEAK_STORE) {
        postgres.run(&url, "CREATE TABLE IF NOT EXISTS events (cut bigint, body text)");
        let one_by_one = format!(
            "DO $$ BEGIN FOR event IN 1..300 LOOP
                 INSERT INTO events VALUES ({cut}, repeat('x', 1500));
                 COMMIT;
             END LOOP; END $$"
        );
        postgres.run(&url, &one_by_one);
        postgres.freeze();
        disk.cut(|| postgres.kill());
        postgres.restart();
        let count = format!("SELECT count(*) FROM events WHERE cut = {cut}");
        let kept = postgres.try_run(&url, &count).ok().and_then(|count| count.parse().ok());
        lost += 300 - kept.unwrap_or(0);
    }
    assert!(lost > 0, "the harness finds no loss where there must be one");
}

fn config(store: &str, durability: &str) -> String {
    let store = format!("[store]\nurl = \"{store}\"\ndurability = \"{durability}\"\n");
    format!("{store}[sources.stripe]\nsecrets = [\"{SECRET}\"]\n")
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(rand::random_range(100..400))).await;
}

/// What was acknowledged, and what of it was gone after a cut.
#[derive(Default)]
struct Seen {
    next: Arc<AtomicUsize>,
    unchecked: HashSet<String>,
    checked: usize,
    lost: usize,
}

impl Seen {
    /// Sends everything acknowledged before the cut again: what is new to the store was lost by it.
    async fn check(&mut self, program: &Program) {
        let ids: Arc<Mutex<Vec<String>>> = Arc::new(Mutex::new(self.unchecked.drain().collect()));
        self.checked += ids.lock().unwrap().len();
        let ask = |_| {
            let (ids, sender, port) = (Arc::clone(&ids), Sender::new(), program.port);
            tokio::spawn(async move {
                let (mut connection, mut lost) = (Connection::to(port), 0);
                loop {
                    let Some(id) = ids.lock().unwrap().pop() else { return lost };
                    let answer = connection.send(&sender.request(&id)).await.expect("it answers");
                    assert_eq!(answer.status, 200, "{answer:?}");
                    lost += usize::from(answer.word != "duplicate");
                }
            })
        };
        for asked in (0..CONNECTIONS).map(ask).collect::<Vec<_>>() {
            self.lost += asked.await.unwrap();
        }
    }

    #[expect(clippy::print_stdout, reason = "a zero means little without its count")]
    fn nothing_is_lost(&self) {
        println!("{} acknowledged, {} lost in {CUTS} power cuts", self.checked, self.lost);
        assert_eq!(self.lost, 0, "of {} acknowledged events", self.checked);
        assert!(self.checked > CUTS * CONNECTIONS, "only {} were acknowledged", self.checked);
    }
}

/// Senders that go on until they are told to stop, and remember what was acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    senders: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(program: &Program, seen: &mut Seen) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let send = |_| {
            let (stop, next) = (Arc::clone(&stop), Arc::clone(&seen.next));
            let (sender, port) = (Sender::new(), program.port);
            tokio::spawn(async move {
                let (mut connection, mut acknowledged) = (Connection::to(port), Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let id = format!("evt_{}", next.fetch_add(1, Ordering::Relaxed));
                    match connection.send(&sender.request(&id)).await {
                        Some(answer) if answer.status == 200 => acknowledged.push(id),
                        _ => tokio::time::sleep(Duration::from_millis(5)).await,
                    }
                }
                acknowledged
            })
        };
        Self { senders: (0..CONNECTIONS).map(send).collect(), stop }
    }

    async fn stop(self, seen: &mut Seen) {
        self.stop.store(true, Ordering::Relaxed);
        for sender in self.senders {
            seen.unchecked.extend(sender.await.unwrap());
        }
    }
}
