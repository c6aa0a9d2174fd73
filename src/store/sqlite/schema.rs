//! The database itself: opening it so that it keeps its promise, and its tables.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::{private, store::StoreError};

/// What makes each version of the schema out of the one before, from an empty file on. Each only adds,
/// and nobody else has the file: so bringing it up needs no command of its own.
const STEPS: &[&str] =
    &[include_str!("schema.sql"), include_str!("schema_2.sql"), include_str!("schema_3.sql")];

/// The version this program writes and reads.
const VERSION: i64 = 3;

/// What marks a database file as ours: `hook` in ASCII.
const APPLICATION_ID: i64 = 0x686f_6f6b;

/// The first SQLite without the race that could reset the write-ahead log under a second connection.
const LIBRARY_VERSION_MIN: i32 = 3_051_003;

/// How long the writer waits when a tool from outside has locked the file: less than a request has.
const LOCKED_MAX: Duration = Duration::from_millis(250);

/// Opens the connection that writes, and makes the tables where there are none.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    if rusqlite::version_number() < LIBRARY_VERSION_MIN {
        let found = rusqlite::version();
        return Err(StoreError::Weak(format!("SQLite {found} is linked, and 3.51.3 is needed")));
    }
    // SQLite gives the files it makes beside this one the same mode.
    private::open_or_make(path).map_err(|error| {
        StoreError::Unavailable(format!("cannot open {}: {error}", path.display()))
    })?;
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(LOCKED_MAX)?;
    refuse_newer(&connection)?;
    make_durable(&connection)?;
    connection.execute_batch(
        "PRAGMA foreign_keys = OFF;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -8192;
         PRAGMA wal_autocheckpoint = 4000;
         PRAGMA journal_size_limit = 67108864;",
    )?;
    make_tables(&mut connection)?;
    // Their workers died with the process that wrote them.
    connection.execute("DELETE FROM claims", [])?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

/// Opens a connection that reads, and cannot write.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -2048;")?;
    Ok(connection)
}

/// Refuses what this program does not know, before anything is written to it.
pub(super) fn refuse_newer(connection: &Connection) -> Result<(), StoreError> {
    let found = pragma(connection, "user_version")?;
    if found > VERSION {
        return Err(StoreError::Newer { found, known: VERSION });
    }
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables > 0 && pragma(connection, "application_id")? != APPLICATION_ID {
        let why = "the file is a database, but not one of hookonce: name another file";
        return Err(StoreError::Failed(why.to_owned()));
    }
    Ok(())
}

/// Sees to it that a committed transaction survives a power cut, and believes nothing it did not
/// read back.
fn make_durable(connection: &Connection) -> Result<(), StoreError> {
    let journal_mode: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if journal_mode != "wal" {
        let why = format!("the journal mode is {journal_mode}, and cannot be made wal here");
        return Err(StoreError::Weak(why));
    }
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;",
    )?;
    let synchronous = pragma(connection, "synchronous")?;
    if synchronous != 2 {
        let why = format!("synchronous reads {synchronous} after it was set to FULL (2)");
        return Err(StoreError::Weak(why));
    }
    Ok(())
}

fn make_tables(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = pragma(&transaction, "user_version")?;
    for step in STEPS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step)?;
    }
    if found < VERSION {
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    // No version of its own: an older program keeps these up too, without knowing what they are for.
    transaction.execute_batch(include_str!("search.sql"))?;
    transaction.commit()?;
    Ok(())
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_synced() {
        let folder = tempfile::tempdir().expect("a folder is made");
        let connection = open_writer(&folder.path().join("store.db")).expect("it opens");
        let journal_mode: String = connection
            .pragma_query_value(None, "journal_mode", |row| row.get(0))
            .expect("it is told");
        assert_eq!(journal_mode, "wal");
        assert_eq!(pragma(&connection, "synchronous"), Ok(2));
    }

    #[test]
    fn an_older_file_gets_what_it_lacks() {
        for version in 1..STEPS.len() {
            let folder = tempfile::tempdir().expect("a folder is made");
            let path = folder.path().join("store.db");
            let old = Connection::open(&path).expect("it opens");
            for step in STEPS.iter().take(version) {
                old.execute_batch(step).expect("the first tables are made");
            }
            old.pragma_update(None, "application_id", APPLICATION_ID).expect("it is signed");
            old.pragma_update(None, "user_version", version).expect("it is dated");
            drop(old);
            for _ in 0..2 {
                let connection = open_writer(&path).expect("it opens");
                assert_eq!(pragma(&connection, "user_version"), Ok(VERSION));
                connection.prepare("SELECT place FROM deliveries").expect("it has all columns");
                connection.prepare("SELECT * FROM refusals").expect("it has all tables");
            }
        }
        assert_eq!(i64::try_from(STEPS.len()), Ok(VERSION));
    }

    #[test]
    fn a_reader_cannot_write() {
        let folder = tempfile::tempdir().expect("a folder is made");
        let path = folder.path().join("store.db");
        let _writer = open_writer(&path).expect("it opens");
        let reader = open_reader(&path).expect("it opens");
        assert!(reader.execute("DELETE FROM probe", []).is_err());
    }

    #[test]
    fn the_numbers_of_states_are_those_the_indexes_are_made_for() {
        use crate::{delivery::State, event::EventState, store::sqlite::codes};
        let sql = include_str!("schema.sql");
        for (state, index) in [
            (State::Queued, "deliveries_queued ON deliveries (handler, due_at, id)"),
            (State::Leased, "deliveries_leased ON deliveries (handler, due_at, id)"),
            (State::Dead, "deliveries_dead ON deliveries (id, handler)"),
        ] {
            let line = format!("{index} WHERE state = {};", codes::of_state(state));
            assert!(sql.contains(&line), "{line}");
        }
        let few = [EventState::Open, EventState::Dead, EventState::Held].map(codes::of_event_state);
        assert_eq!(few, [0, 2, 4]);
    }
}
