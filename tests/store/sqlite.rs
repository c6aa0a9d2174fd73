//! What only the embedded store promises: its file, its lock, its batches and what a failed write
//! leaves behind.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::join_all;
use hookonce::{
    clock::{ManualClock, SystemClock},
    delivery::{Attempt, Settlement, Verdict},
    event::{EventId, EventState},
    receipt::Admission,
    store::{
        Hold, StoreError,
        keys::{Begun, Resolution, Resolved},
        sqlite::SqliteStore,
    },
};
use rusqlite::Connection;
use tempfile::TempDir;

use super::{
    bench::{Bench, LONG, SHORT, manual_clock},
    keys,
};

/// A folder with a store in it that can be closed and opened again.
struct Folder {
    folder: Arc<TempDir>,
    clock: Arc<ManualClock>,
}

impl Folder {
    fn new() -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("a folder is made"));
        Self { folder, clock: manual_clock() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    fn try_open(&self) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(&self.path(), self.clock.clone())
    }

    fn open(&self) -> Bench {
        let store = self.try_open().expect("the store opens");
        Bench::manual(Arc::new(store), self.clock.clone(), Arc::clone(&self.folder))
    }

    /// A connection that goes behind the store's back.
    fn meddle(&self, sql: &str) {
        let connection = Connection::open(self.path()).expect("the file opens");
        connection.execute_batch(sql).expect("the statement runs");
    }

    fn number(&self, sql: &str) -> i64 {
        let connection = Connection::open(self.path()).expect("the file opens");
        connection.query_row(sql, [], |row| row.get(0)).expect("the query runs")
    }
}

#[tokio::test]
async fn a_second_one_is_refused_while_the_first_is_open() {
    let folder = Folder::new();
    let first = folder.try_open().expect("the store opens");
    let second = folder.try_open();
    assert!(matches!(second, Err(StoreError::InUse(_))), "{second:?}");
    drop(first);
    assert!(folder.try_open().is_ok());
}

#[tokio::test]
async fn nobody_loses_a_lease_because_the_clock_was_set() {
    let folder = Folder::new();
    let bench = folder.open();
    bench.queue("evt_1").await;
    let leased = bench.take_one(LONG).await;
    let begin = keys::start(&bench, "key").await;
    folder.clock.set_on(LONG * 100);
    assert!(bench.take(LONG).await.is_empty(), "somebody is at work on it");
    let other = keys::begin(&bench, &keys::begin_of(&bench, "key")).await;
    assert!(matches!(other, Begun::InFlight { .. }), "{other:?}");
    keys::complete(&bench, &begin, "body", LONG).await;
    folder.clock.advance(LONG);
    assert_eq!(bench.take(LONG).await.len(), 1, "and a lease that ran out has run out");
    assert_eq!(bench.settle(&leased, Verdict::Done).await, Hold::Lost);
}

#[tokio::test]
async fn one_that_goes_by_a_link_is_refused_too() {
    let folder = Folder::new();
    let first = folder.try_open().expect("the store opens");
    let link = folder.folder.path().join("link.db");
    std::os::unix::fs::symlink(folder.path(), &link).expect("a link is made");
    let second = SqliteStore::open(&link, folder.clock.clone());
    assert!(matches!(second, Err(StoreError::InUse(_))), "{second:?}");
    drop(first);
}

#[tokio::test]
async fn nobody_else_reads_what_it_keeps() {
    use std::os::unix::fs::PermissionsExt as _;
    let outside = tempfile::tempdir().expect("a folder is made");
    let data_dir = outside.path().join("data");
    let path = data_dir.join("store.db");
    let store = SqliteStore::open_in(&path, &data_dir, manual_clock()).expect("the store opens");
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    };
    assert_eq!(mode(&data_dir), 0o700);
    for file in std::fs::read_dir(&data_dir).expect("it is a folder") {
        let file = file.expect("it reads").path();
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    drop(store);
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let folder = Folder::new();
    drop(folder.open());
    folder.meddle("PRAGMA user_version = 99");
    let refused = folder.try_open().expect_err("it is newer");
    assert_eq!(refused, StoreError::Newer { found: 99, known: 3 });
    assert_eq!(folder.number("PRAGMA user_version"), 99);
}

#[tokio::test]
async fn a_file_of_version_1_keeps_its_events() {
    let folder = Folder::new();
    let event = EventId::from_bytes([7; 16]);
    folder.meddle(include_str!("../../src/store/sqlite/schema.sql"));
    folder.meddle(
        "PRAGMA application_id = 1752133483;
         PRAGMA user_version = 1;
         INSERT INTO contents VALUES (1, 'a=1', x'783a20790a', x'7b7d');
         INSERT INTO marks VALUES ('stripe', 'evt_1', x'07070707070707070707070707070707', NULL);
         INSERT INTO counts VALUES ('stripe', '', 1, 0, 0, 1, 0, 0, 0, 0, 0, 0);
         INSERT INTO events VALUES (x'07070707070707070707070707070707', 'stripe', 'evt_1', 'paid',
             1, 3, 1, 0, 0, 0, NULL, 'evt_1', NULL, 2, 2, 1);",
    );
    let bench = folder.open();
    assert_eq!(folder.number("PRAGMA user_version"), 3);
    let record = bench.record(event).await;
    assert_eq!((record.row.shadow, &record.request), (false, &None));
    assert_eq!(record.event.headers.only("x"), Ok("y"));
    assert_eq!(bench.total().await.events, 1);
    assert_eq!(bench.admit(&bench.routed("evt_1")).await, (event, Admission::Duplicate));
    let new = bench.batch(&["evt_2"]).remove(0);
    assert_eq!(bench.admit(&new).await, (new.id, Admission::Fresh));
    assert_eq!(bench.record(new.id).await.request, new.request);
}

#[tokio::test]
async fn a_request_is_one_row_and_none_is_left_behind() {
    let folder = Folder::new();
    let bench = folder.open();
    let batch = bench.batch(&["evt_1", "evt_2", "evt_3"]);
    bench.store.admit(batch, bench.in_time()).await;
    assert_eq!(folder.number("SELECT count(*) FROM requests"), 1);
    assert_eq!(folder.number("SELECT sum(length(headers)) FROM contents"), 0);
    for leased in bench.take(LONG).await {
        bench.settle(&leased, Verdict::Done).await;
    }
    bench.pass(SHORT).await;
    assert_eq!(bench.prune().await, 3);
    assert_eq!(folder.number("SELECT count(*) FROM requests"), 0);
}

#[tokio::test]
async fn a_file_of_somebody_else_is_refused_and_left_alone() {
    let folder = Folder::new();
    folder.meddle("CREATE TABLE theirs (x)");
    assert!(matches!(folder.try_open(), Err(StoreError::Failed(_))));
    assert_eq!(folder.number("SELECT count(*) FROM sqlite_schema"), 1);

    let folder = Folder::new();
    std::fs::write(folder.path(), "not a database at all".repeat(100)).expect("it is written");
    assert!(matches!(folder.try_open(), Err(StoreError::Unavailable(_))));
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_made_and_one_that_cannot_be_is_named() {
    let folder = Folder::new();
    let path = folder.folder.path().join("missing").join("store.db");
    SqliteStore::open(&path, folder.clock.clone()).expect("its folder is made");
    let path = path.join("a_file_is_no_folder").join("store.db");
    let refused = SqliteStore::open(&path, folder.clock.clone()).expect_err("no folder");
    assert!(refused.to_string().contains("a_file_is_no_folder"), "{refused}");
}

#[tokio::test]
async fn opening_again_finds_everything() {
    let folder = Folder::new();
    let bench = folder.open();
    let event = bench.routed("evt_1");
    bench.admit(&event).await;
    bench.admit(&bench.routed("evt_1")).await;
    let leased = bench.take_one(LONG).await;
    bench.settle(&leased, Verdict::Dead).await;
    bench.queue("evt_2").await;
    let stats = bench.store.stats().await.expect("the store counts");
    drop(bench);

    folder.clock.advance(SHORT); // so that new ids are later than the ones before
    let bench = folder.open();
    assert_eq!(bench.store.stats().await.expect("the store counts"), stats);
    let record = bench.record(event.id).await;
    assert_eq!((record.row.state, record.row.duplicates), (EventState::Dead, 1));
    assert_eq!(bench.admit(&bench.routed("evt_1")).await, (event.id, Admission::Duplicate));
    assert_eq!(bench.take(LONG).await.len(), 1);
}

#[tokio::test]
async fn leases_of_the_process_before_are_orphans_until_they_are_settled() {
    let folder = Folder::new();
    let bench = folder.open();
    bench.queue("evt_1").await;
    bench.queue("evt_2").await;
    let leased = bench.take(LONG).await;
    bench.settle(&leased[0], Verdict::Done).await;
    assert!(bench.store.orphans().await.expect("the store reads").is_empty());
    drop(bench);

    let bench = folder.open();
    let orphans = bench.store.orphans().await.expect("the store reads");
    assert_eq!(orphans.len(), 1);
    assert_eq!((orphans[0].lease, orphans[0].attempt), (leased[1].lease, 1));
    assert_eq!(orphans[0].event.id, leased[1].event.id);
    assert!(bench.take(LONG).await.is_empty(), "nobody else gets it meanwhile");

    let settlement = Settlement {
        lease: orphans[0].lease,
        verdict: Verdict::RetryAt(bench.now()),
        attempt: Attempt::died(1, bench.now()),
    };
    let settled = bench.store.settle(vec![settlement]).await;
    assert_eq!(settled, [Ok(Hold::Kept)]);
    let again = bench.take_one(LONG).await;
    assert_eq!((again.attempt, again.deaths_in_a_row), (2, 1));
    let orphans = bench.store.orphans().await.expect("the store reads");
    assert!(orphans.is_empty(), "its new holder is alive");
}

#[tokio::test]
async fn readers_see_what_is_committed_only() {
    let folder = Folder::new();
    let bench = folder.open();
    bench.queue("evt_1").await;
    let outside = Connection::open(folder.path()).expect("the file opens");
    outside.execute_batch("BEGIN IMMEDIATE; DELETE FROM events").expect("it runs");
    assert_eq!(bench.events().await.len(), 1);
    outside.execute_batch("ROLLBACK").expect("it runs");
}

#[tokio::test]
async fn one_bad_call_does_not_refuse_its_neighbours() {
    let folder = Folder::new();
    let bench = folder.open();
    folder.meddle(
        "CREATE TRIGGER broken BEFORE INSERT ON events WHEN NEW.identity = 'evt_7'
         BEGIN SELECT RAISE(ABORT, 'it broke'); END",
    );
    let events: Vec<_> = (0..20).map(|number| bench.routed(&format!("evt_{number}"))).collect();
    let answers = bench.store.admit(events.clone(), bench.in_time()).await;
    for (number, (event, answer)) in events.iter().zip(answers).enumerate() {
        if number == 7 {
            assert!(matches!(answer, Err(StoreError::Failed(_))), "{answer:?}");
        } else {
            assert_eq!(answer, Ok((event.id, Admission::Fresh)));
        }
    }
    assert_eq!(bench.total().await.events, 19);
    assert_eq!(bench.take(LONG).await.len(), 19);
}

/// The tables that an admission writes to.
const TABLES: [&str; 7] =
    ["marks", "digests", "requests", "contents", "events", "deliveries", "counts"];

#[tokio::test]
async fn a_write_that_fails_at_any_step_leaves_nothing_behind() {
    for table in TABLES {
        let folder = Folder::new();
        let bench = folder.open();
        folder.meddle(&format!(
            "CREATE TRIGGER broken BEFORE INSERT ON {table}
             BEGIN SELECT RAISE(ABORT, 'it broke'); END"
        ));
        let mut event = bench.guarded("evt_1", "content");
        event.request = bench.batch(&["evt_1"]).remove(0).request;
        let refused = bench.try_admit(&event, bench.in_time()).await;
        assert!(matches!(refused, Err(StoreError::Failed(_))), "{table}: {refused:?}");
        folder.meddle("DROP TRIGGER broken");
        for left in TABLES {
            let rows = folder.number(&format!("SELECT count(*) FROM {left}"));
            assert_eq!(rows, 0, "{left} after {table} failed");
        }
        let retry = bench.guarded("evt_1", "content");
        assert_eq!(bench.admit(&retry).await, (retry.id, Admission::Fresh), "{table}");
    }
}

#[tokio::test]
async fn a_settlement_that_fails_leaves_its_lease_as_it_was() {
    for table in ["attempts", "deliveries", "events"] {
        let folder = Folder::new();
        let bench = folder.open();
        bench.queue("evt_1").await;
        let leased = bench.take_one(LONG).await;
        let verb = if table == "attempts" { "INSERT" } else { "UPDATE" };
        folder.meddle(&format!(
            "CREATE TRIGGER broken BEFORE {verb} ON {table}
             BEGIN SELECT RAISE(ABORT, 'it broke'); END"
        ));
        let settlement = bench.settlement(&leased, Verdict::Done);
        let refused = bench.store.settle(vec![settlement]).await;
        assert!(matches!(refused[0], Err(StoreError::Failed(_))), "{table}: {refused:?}");
        assert_eq!(bench.total().await.leased, 1);
        folder.meddle("DROP TRIGGER broken");
        assert_eq!(bench.settle(&leased, Verdict::Done).await, Hold::Kept, "{table}");
        assert_eq!(bench.total().await.done, 1);
    }
}

#[tokio::test]
async fn a_locked_database_is_unavailable_and_heals() {
    let folder = Folder::new();
    let bench = folder.open();
    let outside = Connection::open(folder.path()).expect("the file opens");
    outside.execute_batch("BEGIN IMMEDIATE").expect("it runs");
    let event = bench.routed("evt_1");
    let refused = bench.try_admit(&event, bench.in_time()).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(matches!(bench.store.ready().await, Err(StoreError::Unavailable(_))));
    outside.execute_batch("ROLLBACK").expect("it runs");
    assert_eq!(bench.store.ready().await, Ok(()));
    assert_eq!(bench.admit(&event).await, (event.id, Admission::Fresh));
}

#[tokio::test]
async fn verbs_of_all_kinds_share_a_batch() {
    let folder = Folder::new();
    let bench = folder.open();
    for number in 0..8 {
        bench.queue(&format!("evt_{number}")).await;
    }
    let leased = bench.take(SHORT).await;
    bench.pass(Duration::ZERO).await;
    let admits = join_all((8..16).map(|number| {
        let event = bench.routed(&format!("evt_{number}"));
        let bench = &bench;
        async move { bench.admit(&event).await }
    }));
    let settles = join_all(leased.iter().map(|leased| bench.settle(leased, Verdict::Done)));
    let (admitted, settled, claimed) = tokio::join!(admits, settles, bench.take(LONG));
    assert!(admitted.iter().all(|(_, admission)| *admission == Admission::Fresh));
    assert!(settled.iter().all(|hold| *hold == Hold::Kept));
    let total = bench.total().await;
    let now_leased = u64::try_from(claimed.len()).expect("a small number");
    assert_eq!((total.events, total.done), (16, 8));
    assert_eq!((total.leased, total.queued), (now_leased, 8 - now_leased));
}

#[tokio::test]
async fn a_key_in_progress_when_the_process_ended_is_unknown_at_once() {
    let folder = Folder::new();
    let (begun, done) = {
        let bench = folder.open();
        let begun = keys::start(&bench, "k1").await;
        let done = keys::start(&bench, "k2").await;
        assert_eq!(keys::complete(&bench, &done, "done", LONG).await, Hold::Kept);
        (begun, done)
    };
    let bench = folder.open();
    let told = keys::begin(&bench, &keys::begin_of(&bench, "k1")).await;
    let Begun::Unknown { note: Some(note) } = told else { panic!("it is unknown: {told:?}") };
    assert!(note.contains("ended before it could say"), "{note}");
    let answer = keys::told(&bench, "k2").await;
    assert_eq!(answer.as_deref(), Some(b"done".as_slice()), "{:?}", done.scope);
    let freed = keys::resolve(&bench, begun.scope.id(), &Resolution::Free).await;
    assert_eq!(freed, Resolved::Done);
    keys::start(&bench, "k1").await;
}

#[tokio::test]
async fn a_file_of_version_1_keeps_its_marks_and_takes_keys() {
    let folder = Folder::new();
    folder.meddle(include_str!("../../src/store/sqlite/schema.sql"));
    folder.meddle("PRAGMA application_id = 1752133483; PRAGMA user_version = 1;");
    folder.meddle(
        "INSERT INTO marks VALUES ('stripe', 'evt_1', x'00000000000000000000000000000001', NULL)",
    );
    let bench = folder.open();
    let known = bench.admit(&bench.event("evt_1")).await;
    assert_eq!(known.1, Admission::Duplicate);
    keys::start(&bench, "k1").await;
    assert_eq!(folder.number("PRAGMA user_version"), 3);
}

#[tokio::test]
async fn an_older_copy_put_back_is_refused_until_a_person_accepts_it() {
    let (folder, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (file, copy) = (folder.path().join("store.db"), folder.path().join("copy.db"));
    let open = || {
        let clock = SystemClock::start();
        let store = SqliteStore::open_in(&file, data.path(), clock.clone()).expect("it opens");
        Bench::own(Arc::new(store), clock, ())
    };
    let is_forgotten = |ready| matches!(ready, Err(StoreError::Forgotten(_)));
    let before = open();
    before.admit(&before.event("before")).await;
    drop(before);
    std::fs::copy(&file, &copy).unwrap();
    let after = open();
    after.admit(&after.event("after")).await;
    drop(after);

    std::fs::copy(&copy, &file).unwrap();
    let old = open();
    let event = old.event("after");
    assert!(is_forgotten(old.store.ready().await));
    assert!(is_forgotten(old.try_admit(&event, old.in_time()).await.map(drop)));
    assert_eq!(
        old.store.stats().await.map(|stats| stats.total.events),
        Ok(1),
        "it can be looked at"
    );
    assert_eq!(old.store.accept().await, Ok(1));
    assert_eq!(old.store.accept().await, Ok(0), "there is nothing left to accept");
    assert_eq!(old.admit(&event).await.1, Admission::Fresh, "that is what was accepted");
    drop(old);
    assert_eq!(open().store.ready().await, Ok(()), "it is known again");

    std::fs::remove_file(&file).unwrap();
    assert!(is_forgotten(open().store.ready().await), "another file is in its place");
    assert!(is_forgotten(open().store.ready().await), "and is not taken for the known one later");
}
