//! The store is copied while it is in use, and a copy takes its place.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hookonce::store::snapshot;
use tokio::task::JoinSet;

use crate::support::{
    program::{Program, Setup},
    sender::{Connection, SECRET, Sender},
    sink::Sink,
    until,
};

const PATIENCE: Duration = Duration::from_secs(60);

fn config(rest: &str) -> String {
    format!(
        "[store]\nurl = \"sqlite:hookonce.db\"\n[sources.stripe]\nsecrets = [\"{SECRET}\"]\n{rest}"
    )
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Providers that send one event after the other, and what was answered 200.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    senders: JoinSet<()>,
}

impl Load {
    fn start(port: u16) -> Self {
        let mut load =
            Self { stop: Arc::default(), acknowledged: Arc::default(), senders: JoinSet::new() };
        for sender in 0..4 {
            let (stop, acknowledged) = (Arc::clone(&load.stop), Arc::clone(&load.acknowledged));
            load.senders.spawn(async move {
                let mut to = Connection::to(port);
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let id = format!("evt_load_{sender}_{number}");
                    let answer = to.send(&Sender::new().request(&id)).await.unwrap();
                    assert_eq!(answer.status, 200);
                    acknowledged.lock().unwrap().insert(id);
                }
            });
        }
        load
    }

    fn acknowledged(&self) -> BTreeSet<String> {
        self.acknowledged.lock().unwrap().clone()
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.senders.join_all().await;
    }
}

async fn nothing_waits(program: &Program) -> bool {
    let total = program.stats().await.total;
    (total.queued, total.leased) == (0, 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_has_all_that_was_acknowledged_and_serves_after_a_restore() {
    let (folder, sink) = (tempfile::tempdir().unwrap(), Sink::start());
    let handler = format!("[handlers.billing]\nsources = [\"stripe\"]\nurl = \"{}\"\n", sink.url());
    let setup = Arc::new(Setup::new(folder.path(), &config(&handler)));
    let program = Arc::new(setup.start().await);
    let mut to = Connection::to(setup.port);
    for number in 0..100 {
        let answer = to.send(&Sender::new().request(&format!("evt_done_{number}"))).await.unwrap();
        assert_eq!(answer.status, 200);
    }
    until("all is done", PATIENCE, || async { nothing_waits(&program).await }).await;

    let load = Load::start(setup.port);
    until("there is load", PATIENCE, || async { load.acknowledged().len() > 200 }).await;
    let before = load.acknowledged();
    let file = folder.path().join("backup.db");
    let backup = {
        let (setup, program, file) = (Arc::clone(&setup), Arc::clone(&program), file.clone());
        let run = move || setup.command(&program, &["store", "backup", file.to_str().unwrap()]);
        tokio::task::spawn_blocking(run).await.unwrap()
    };
    assert!(backup.status.success(), "{}", said(&backup));
    load.stop().await;
    until("all is done", PATIENCE, || async { nothing_waits(&program).await }).await;
    let again = setup.command(&program, &["store", "backup", file.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(64), "nothing is overwritten: {}", said(&again));
    let restore = ["store", "restore", file.to_str().unwrap(), "--replace"];
    let in_use = setup.command(&program, &restore);
    assert!(said(&in_use).contains("stop the server"), "{}", said(&in_use));
    let runs_before = sink.per_event();
    let first = Arc::into_inner(program).unwrap();
    first.kill();

    let not_free = setup.command_alone(&restore[..3]);
    assert!(said(&not_free).contains("--replace"), "{}", said(&not_free));
    let restored = setup.command_alone(&restore);
    assert!(restored.status.success(), "{}", said(&restored));
    assert!(said(&restored).contains("hookonce store accept"), "{}", said(&restored));
    assert!(setup.data_dir().join("hookonce.db.replaced").exists());
    let program = setup.spawn();
    let waits = || async { program.log().contains("is another one than") };
    until("it waits for a person", PATIENCE, waits).await;
    let accepted = setup.command(&program, &["store", "accept"]);
    assert!(accepted.status.success(), "{}", said(&accepted));
    program.ready_within(PATIENCE).await;
    for id in &before {
        let answer = Connection::to(setup.port).send(&Sender::new().request(id)).await.unwrap();
        assert_eq!(answer.word, "duplicate", "{id} was acknowledged before the backup");
    }
    until("all is done", PATIENCE, || async { nothing_waits(&program).await }).await;
    let runs = sink.per_event();
    for number in 0..100 {
        let id = format!("evt_done_{number}");
        assert_eq!((runs_before[&id], runs[&id]), (1, 1), "{id} ran a second time");
    }
    assert!(before.iter().all(|id| runs[id] >= 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_cut_off_leaves_no_file_that_looks_whole() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(folder.path(), &config(""));
    let program = setup.start().await;
    let filler = "x".repeat(900_000);
    for number in 0..40 {
        let body = format!(r#"{{"id":"evt_{number}","type":"a","filler":"{filler}"}}"#);
        let request = Sender::new().signed(&body, &[]);
        assert_eq!(Connection::to(setup.port).send(&request).await.unwrap().status, 200);
    }
    let file = folder.path().join("backup.db");
    let begin = || {
        Command::new(env!("CARGO_BIN_EXE_hookonce"))
            .args(["store", "backup", file.to_str().unwrap(), "--config"])
            .arg(setup.config_file())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    for delay_ms in [0, 50, 100, 200, 400] {
        let (known, mut backup) = (partials(folder.path()), begin());
        let has_begun = || async { partials(folder.path()) > known };
        until("it has begun", PATIENCE, has_begun).await;
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        backup.kill().unwrap();
        backup.wait().unwrap();
        assert!(!file.exists() || snapshot::check(&file).is_ok(), "cut off after {delay_ms} ms");
        drop(fs::remove_file(&file));
    }
    let snapshot = setup.data_dir().join("hookonce.db.snapshot");
    until("the server has cleaned up", PATIENCE, || async { !snapshot.exists() }).await;
    let whole = setup.command(&program, &["store", "backup", file.to_str().unwrap()]);
    assert!(whole.status.success(), "{}", said(&whole));
    fs::remove_file(&file).unwrap();

    // The server goes, and the command lives on.
    let (known, mut backup) = (partials(folder.path()), begin());
    until("it has begun", PATIENCE, || async { partials(folder.path()) > known }).await;
    program.kill();
    let has_all = backup.wait().unwrap().success(); // it may have had everything by then
    assert_eq!(file.exists(), has_all);
    assert_eq!(partials(folder.path()), known);
    drop(fs::remove_file(&file));

    // Where no server runs the command takes it by itself.
    let alone = setup.command_alone(&["store", "backup", file.to_str().unwrap()]);
    assert!(alone.status.success(), "{}", said(&alone));
    assert!(!snapshot.exists(), "what the killed server left is gone");
}

fn partials(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".partial")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_whole_backup_is_restored_and_only_who_may_do_all_takes_one() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = "admin_token = \"all\"\nadmin_token_readonly = \"look\"\n";
    let setup = Setup::new(folder.path(), &format!("{tokens}{}", config("")));
    let program = setup.start().await;
    let answer = Connection::to(setup.port).send(&Sender::new().request("evt_1")).await.unwrap();
    assert_eq!(answer.status, 200);
    let url = format!("http://127.0.0.1:{}/api/v1/store/backup", setup.admin_port);
    for (token, status) in [("look", 403), ("neither", 401), ("all", 200)] {
        let asked = hookonce::handler::http_client().post(&url).bearer_auth(token);
        assert_eq!(asked.send().await.unwrap().status(), status, "{token}");
    }
    let file = folder.path().join("backup.db");
    let backup = setup.command(&program, &["store", "backup", file.to_str().unwrap()]);
    assert!(backup.status.success(), "{}", said(&backup));
    program.kill();

    let restore = |file: &Path| {
        let output =
            setup.command_alone(&["store", "restore", file.to_str().unwrap(), "--replace"]);
        assert!(!output.status.success());
        assert!(setup.data_dir().join("hookonce.db").exists(), "the store is where it was");
        said(&output)
    };
    let whole = fs::read(&file).unwrap();
    let bad = folder.path().join("bad.db");
    fs::write(&bad, &whole[..whole.len() / 2]).unwrap();
    assert!(restore(&bad).contains("malformed"), "half of it");
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle..middle + 4096].fill(0xff);
    fs::write(&bad, &flipped).unwrap();
    restore(&bad);
    fs::write(&bad, "not a database, but long enough to be read as one".repeat(100)).unwrap();
    restore(&bad);
    fs::write(&bad, "").unwrap();
    assert!(restore(&bad).contains("no store that has been used"));
    restore(&folder.path().join("nowhere.db"));
    fs::write(folder.path().join("backup.db-wal"), "a log").unwrap();
    assert!(restore(&file).contains("has a log beside it"));
}
