//! The database itself: opening it so that it keeps its promise, and its tables.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::store::StoreError;

/// The schema this program writes and reads.
const VERSION: i64 = 1;

/// What marks a database file as ours: `hook` in ASCII.
const APPLICATION_ID: i64 = 0x686f_6f6b;

/// The first SQLite without the race that could reset the write-ahead log under a second connection.
const LIBRARY_VERSION_MIN: i32 = 3_051_003;

/// Opens the connection that writes, and makes the tables where there are none.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    if rusqlite::version_number() < LIBRARY_VERSION_MIN {
        let found = rusqlite::version();
        return Err(StoreError::Weak(format!("SQLite {found} is linked, and 3.51.3 is needed")));
    }
    let mut connection = Connection::open(path)?;
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
    connection.set_prepared_statement_cache_capacity(64);
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
fn refuse_newer(connection: &Connection) -> Result<(), StoreError> {
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
    if pragma(&transaction, "user_version")? == 0 {
        transaction.execute_batch(include_str!("schema.sql"))?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()?;
    Ok(())
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}
