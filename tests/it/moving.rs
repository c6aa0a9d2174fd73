//! Moving house under a provider that keeps retrying, with a copy that is killed again and again: what
//! was acknowledged is handled once, whichever store it was acknowledged by.

use std::{
    collections::HashSet,
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    exactly_once::config,
    postgres_server::PostgresServer,
    redis_server::RedisServer,
    support::{
        alone,
        program::{Program, Setup},
        sender::{Connection, Sender},
        sink::{Behaviour, Sink},
        until,
    },
};

const KILLS: usize = 5;
const CONNECTIONS: usize = 8;
/// So many of the provider's events are sent again at the end.
const SENT_AGAIN: usize = 500;

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_moves_to_redis_under_retries_and_kills_and_nothing_runs_twice() {
    let _alone = alone().await;
    let redis = RedisServer::start();
    move_under_retries("sqlite:hookonce.db", &redis.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_moves_to_sqlite_under_retries_and_kills_and_nothing_runs_twice() {
    let _alone = alone().await;
    let redis = RedisServer::start();
    move_under_retries(&redis.url(), "sqlite:hookonce.db").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_moves_to_postgres_under_retries_and_kills_and_nothing_runs_twice() {
    let _alone = alone().await;
    let postgres = PostgresServer::start(&[]);
    move_under_retries("sqlite:hookonce.db", &postgres.database()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_moves_to_sqlite_under_retries_and_kills_and_nothing_runs_twice() {
    let _alone = alone().await;
    let postgres = PostgresServer::start(&[]);
    move_under_retries(&postgres.database(), "sqlite:hookonce.db").await;
}

async fn move_under_retries(from: &str, to: &str) {
    let folder = tempfile::tempdir().unwrap();
    // Every fifth event fails at first, and waits for its retry while the house is moved.
    let sink = Sink::behaving(|call| match (call.attempt, call.event_id.ends_with('5')) {
        (1, true) => Behaviour::Status(500, None),
        _ => Behaviour::Status(200, None),
    });
    let before = Setup::new(folder.path(), &slow_retries(from, &sink));
    let program = before.start().await;
    let provider = Provider::start(before.port);
    until("many are acknowledged", Duration::from_secs(60), || async {
        provider.acknowledged().len() >= 2000
    })
    .await;

    // A server holds its SQLite file, and has to stop. One on a shared store runs on, and says 503.
    let runs_on = !from.starts_with("sqlite:");
    let program = if runs_on {
        Some(program)
    } else {
        let refused = copy(&before, from, to, &[]).wait_with_output().unwrap();
        assert_eq!(refused.status.code(), Some(69), "{refused:?}");
        assert!(said(&refused).contains("stop the server"), "{refused:?}");
        assert!(program.terminate().success());
        None
    };
    kill_copies(&before, from, to).await;
    if let Some(program) = &program {
        check_it_answers_503(&before, program).await;
    }
    let copied = copy(&before, from, to, &["--json"]).wait_with_output().unwrap();
    assert!(copied.status.success(), "{}", said(&copied));
    let report: serde_json::Value = serde_json::from_slice(&copied.stdout).unwrap();
    let events = report["copied"]["events"]["records"].as_u64().unwrap();
    let acknowledged_before = provider.acknowledged().len();
    assert!(events >= acknowledged_before as u64, "{events} of {acknowledged_before}");

    if let Some(program) = program {
        check_it_answers_503(&before, &program).await;
        program.kill();
    }
    let (status, log) = before.spawn().wait();
    assert_eq!(status.code(), Some(69), "the source is not served any more");
    assert!(log.contains("was handed over to"), "{log}");
    let refused = copy(&before, from, to, &["--call-off"]).wait_with_output().unwrap();
    assert_eq!(refused.status.code(), Some(69), "there is no way back: {refused:?}");

    let after = Setup { config: slow_retries(to, &sink), ..before };
    let program = after.start().await;
    let acknowledged = provider.stop(&program).await;
    check_each_was_handled_once(&program, &sink, &acknowledged).await;
}

/// A handler whose retries wait longer than a copy takes.
fn slow_retries(store: &str, sink: &Sink) -> String {
    format!("{}retry = {{ attempts = 9, first = \"5s\", max = \"5s\" }}\n", config(store, sink))
}

/// Begins to copy and is killed, at a random moment, again and again.
async fn kill_copies(setup: &Setup, from: &str, to: &str) {
    for _ in 0..KILLS {
        let mut copy = copy(setup, from, to, &[]);
        tokio::time::sleep(Duration::from_millis(rand::random_range(20..400))).await;
        copy.kill().unwrap();
        copy.wait().unwrap();
    }
}

/// A provider that sends event after event, and each until it is acknowledged.
struct Provider {
    acknowledged: Arc<Mutex<HashSet<String>>>,
    stop: Arc<AtomicBool>,
    senders: Vec<tokio::task::JoinHandle<()>>,
}

impl Provider {
    fn start(port: u16) -> Self {
        let (acknowledged, stop, next) = (
            Arc::<Mutex<HashSet<String>>>::default(),
            Arc::<AtomicBool>::default(),
            Arc::<AtomicUsize>::default(),
        );
        let send = |_| {
            let (acknowledged, stop, next) =
                (Arc::clone(&acknowledged), Arc::clone(&stop), Arc::clone(&next));
            tokio::spawn(async move {
                let (sender, mut connection) = (Sender::new(), Connection::to(port));
                while !stop.load(Ordering::Relaxed) {
                    let id = format!("evt_{}", next.fetch_add(1, Ordering::Relaxed));
                    loop {
                        let answer = connection.send(&sender.request(&id)).await;
                        match answer.map(|answer| answer.status) {
                            Some(200) => break,
                            Some(503) | None => tokio::time::sleep(Duration::from_millis(20)).await,
                            Some(status) => panic!("{id} was answered {status}"),
                        }
                    }
                    acknowledged.lock().unwrap().insert(id);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
        };
        let senders = (0..CONNECTIONS).map(send).collect();
        Self { acknowledged, stop, senders }
    }

    fn acknowledged(&self) -> HashSet<String> {
        self.acknowledged.lock().unwrap().clone()
    }

    /// Sends a little longer to the program that runs now, then some of everything once more.
    async fn stop(self, program: &Program) -> HashSet<String> {
        let so_far = self.acknowledged().len();
        until("more are acknowledged", Duration::from_secs(60), || async {
            self.acknowledged().len() >= so_far + 500
        })
        .await;
        self.stop.store(true, Ordering::Relaxed);
        for sender in self.senders {
            sender.await.unwrap();
        }
        let acknowledged = self.acknowledged.lock().unwrap().clone();
        let (sender, mut connection) = (Sender::new(), Connection::to(program.port));
        for id in acknowledged.iter().take(SENT_AGAIN) {
            let answer = connection.send(&sender.request(id)).await.unwrap();
            assert_eq!((answer.status, answer.word.as_str()), (200, "duplicate"), "{id}");
        }
        acknowledged
    }
}

async fn check_it_answers_503(setup: &Setup, program: &Program) {
    let mut connection = Connection::to(setup.port);
    let answer = connection.send(&Sender::new().request("evt_0")).await.unwrap();
    assert_eq!((answer.status, answer.word.as_str()), (503, "unavailable"), "{answer:?}");
    let (status, ready) = program.ask("GET", "/readyz", None).await.unwrap();
    assert_eq!(status, 503);
    assert!(ready.contains("handed over"), "{ready}");
}

async fn check_each_was_handled_once(
    program: &Program,
    sink: &Sink,
    acknowledged: &HashSet<String>,
) {
    until("nothing is queued or leased", Duration::from_secs(60), || async {
        let total = program.stats().await.total;
        total.queued + total.leased == 0
    })
    .await;
    let calls = sink.calls();
    let handled: HashSet<&String> = calls.iter().map(|call| &call.event_id).collect();
    let lost: Vec<_> = acknowledged.iter().filter(|id| !handled.contains(id)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let mut seen = HashSet::new();
    for call in &calls {
        let number =
            if call.event_id.ends_with('5') { call.attempt <= 2 } else { call.attempt == 1 };
        assert!(number, "{} had attempt {}", call.event_id, call.attempt);
        assert!(seen.insert((&call.event_id, call.attempt)), "{} ran twice", call.event_id);
    }
    let stats = program.stats().await.total;
    assert_eq!(stats.events, handled.len() as u64, "one event for each id, counted on");
    assert_eq!((stats.done, stats.dead), (handled.len() as u64, 0));
    let keys: HashSet<_> = calls.iter().map(|call| (&call.key, &call.event_id)).collect();
    assert_eq!(keys.len(), handled.len(), "and one key for each, before and after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_called_off_gives_the_source_back_and_it_serves_on() {
    let folder = tempfile::tempdir().unwrap();
    let (redis, sink) = (RedisServer::start(), Sink::behaving(|_| Behaviour::Hang));
    let (url, target) = (redis.url(), "sqlite:target.db");
    let setup = Setup::new(folder.path(), &config(&url, &sink));
    let program = setup.start().await;
    let mut connection = Connection::to(setup.port);
    let mut send = async |id: &str| {
        let answer = connection.send(&Sender::new().request(id)).await.unwrap();
        (answer.status, answer.word)
    };
    assert_eq!(send("evt_1").await, (200, "accepted".to_owned()));
    until("it runs", Duration::from_secs(10), || async { sink.count() == 1 }).await;

    // An attempt runs and does not end: so far the copy comes, and no further.
    let mut begun = copy(&setup, &url, target, &[]);
    until("the source hands over", Duration::from_secs(10), || async {
        program.ask("GET", "/readyz", None).await.is_some_and(|(status, _)| status == 503)
    })
    .await;
    assert_eq!(send("evt_1").await, (503, "unavailable".to_owned()));
    assert_eq!(begun.try_wait().unwrap(), None, "it waits for the attempt");
    until("the target is marked", Duration::from_secs(10), || async {
        let file = rusqlite::Connection::open(setup.data_dir().join("target.db")).unwrap();
        let standing = "SELECT standing FROM moving";
        file.query_row(standing, [], |row| row.get::<_, String>(0)).is_ok()
    })
    .await;
    begun.kill().unwrap();
    begun.wait().unwrap();

    let called_off = copy(&setup, &url, target, &["--call-off"]).wait_with_output().unwrap();
    assert!(said(&called_off).contains("serves again"), "{called_off:?}");
    assert_eq!(send("evt_1").await, (200, "duplicate".to_owned()));
    assert_eq!(send("evt_2").await, (200, "accepted".to_owned()));
    until("it runs too", Duration::from_secs(10), || async { sink.count() == 2 }).await;
    let again = copy(&setup, &url, target, &["--call-off"]).wait_with_output().unwrap();
    assert!(said(&again).contains("nothing to call off"), "{again:?}");

    // What the copy has begun to fill serves nobody.
    let other = Setup::new(folder.path(), &config(target, &sink));
    let (status, log) = other.spawn().wait();
    assert_eq!(status.code(), Some(69));
    assert!(log.contains("is being filled from"), "{log}");
}

/// Runs `hookonce store copy` between two stores.
fn copy(setup: &Setup, from: &str, to: &str, more: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_hookonce"))
        .args(["store", "copy", "--from", from, "--to", to])
        .args(more)
        .arg("--config")
        .arg(setup.config_file())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Both of what it printed.
fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}
