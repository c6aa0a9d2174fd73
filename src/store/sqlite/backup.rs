//! Copies of the file: taken while it is written to, checked, and put back.
//!
//! A copy is a database in one file, without a log beside it. It gets the name it is asked for only
//! when it is whole and on the disk.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use rusqlite::{
    Connection, OpenFlags, OptionalExtension as _,
    backup::{Backup, StepResult},
};

use super::{generation, lock, make_folder, schema};
use crate::{
    clock::Timestamp,
    store::{StoreError, generation::Seen, snapshot::Restored},
};

/// How many pages are copied between two looks whether the copy is still wanted.
const PAGES_PER_STEP: i32 = 1024;

/// How much of a file is copied at once.
const CHUNK_BYTES: usize = 1 << 20;

/// What SQLite keeps beside a database.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Copies the database at `path` as it is now, and gives the copy and its length. It blocks, and ends
/// early once it is not wanted any more.
///
/// Its pages are those of one read transaction, so writing goes on meanwhile: what is written waits in
/// the log, which grows until the copy is made.
pub(super) fn take(path: &Path, is_wanted: &AtomicBool) -> Result<(File, u64), StoreError> {
    remove_leftovers(path)?;
    let copy = snapshot_of(path);
    let taken = copy_pages(path, &copy, is_wanted).and_then(|()| {
        let file = File::open(&copy).map_err(|error| unusable(&copy, &error))?;
        let bytes = file.metadata().map_err(|error| unusable(&copy, &error))?.len();
        Ok((file, bytes))
    });
    remove(&copy)?;
    taken
}

/// Takes away the snapshot that a process left when it was killed. Nobody else holds the store now.
pub(super) fn remove_leftovers(path: &Path) -> Result<(), StoreError> {
    remove(&snapshot_of(path))
}

/// Makes sure that a file is a whole store that this version can use, and says when it was last written to.
pub(super) fn check(path: &Path) -> Result<Timestamp, StoreError> {
    if !path.is_file() {
        return Err(StoreError::Failed(format!("there is no file {}", path.display())));
    }
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let wrong = |what: String| StoreError::Failed(format!("{}: {what}", path.display()));
    schema::refuse_newer(&connection)?;
    let verdict: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(wrong(format!("the database is damaged: {verdict}")));
    }
    let is_there = "SELECT count(*) FROM sqlite_schema WHERE name = 'generation'";
    let counter = match connection.query_row(is_there, [], |row| row.get(0))? {
        0 => None,
        1.. => connection
            .query_row("SELECT counter FROM generation", [], |row| row.get(0))
            .optional()?,
        i64::MIN..0 => None,
    };
    counter
        .map(Timestamp::from_millis)
        .ok_or_else(|| wrong("it is no store that has been used".to_owned()))
}

/// Puts a copy of the file `from` in the place of the store at `to`, and tells how much of it is there
/// yet. It blocks.
///
/// What is in the place is set aside if `replaces` says so. Killed at any moment, it leaves the old store,
/// the new one, or none, and goes on when it is called again.
pub(super) fn restore(
    from: &Path,
    to: &Path,
    seen: &Seen,
    replaces: bool,
    tell: &dyn Fn(u64, u64),
) -> Result<Restored, StoreError> {
    make_folder(to)?;
    let _lock = lock(to)?;
    if is_there(&with_suffix(from, "-wal")) {
        return Err(StoreError::Failed(format!(
            "{0} has a log beside it, {0}-wal: it is no backup but files of a store; put them in place together, by hand",
            from.display()
        )));
    }
    let old: Vec<_> =
        [""].iter().chain(&COMPANIONS).filter(|end| is_there(&with_suffix(to, end))).collect();
    if !old.is_empty() && !replaces {
        return Err(StoreError::Failed(format!(
            "there is a store at {} already: say --replace to set it aside",
            to.display()
        )));
    }
    let aside = with_suffix(to, ".replaced");
    if let Some(taken) = old.iter().map(|end| with_suffix(&aside, end)).find(|name| is_there(name))
    {
        return Err(StoreError::Failed(format!(
            "a store that was set aside is still at {}: move it away first",
            taken.display()
        )));
    }
    let new = with_suffix(to, ".restoring");
    let taken_at = bring(from, &new, tell).inspect_err(|_| drop(remove(&new)))?;
    for end in &old {
        let (from, to) = (with_suffix(to, end), with_suffix(&aside, end));
        fs::rename(&from, to).map_err(|error| unusable(&from, &error))?;
    }
    let placed = fs::rename(&new, to).and_then(|()| sync_folder(to));
    placed.map_err(|error| unusable(to, &error))?;
    let set_aside = is_there(&aside).then_some(aside);
    Ok(Restored { taken_at, set_aside, is_to_be_accepted: seen.of("").is_some() })
}

/// Makes a checked copy of `from` at `new`, on the disk and ready to take the place of a store.
fn bring(from: &Path, new: &Path, tell: &dyn Fn(u64, u64)) -> Result<Timestamp, StoreError> {
    remove(new)?;
    copy_file(from, new, tell).map_err(|error| unusable(from, &error))?;
    let taken_at = check(new)?;
    let connection = Connection::open(new)?;
    connection.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;")?;
    // It is another store from now on: what a cache in front of it or anybody else remembers of the one
    // that it was is not known to this one.
    generation::renew(&connection)?;
    drop(connection);
    Ok(taken_at)
}

fn copy_pages(path: &Path, copy: &Path, is_wanted: &AtomicBool) -> Result<(), StoreError> {
    private(copy).map_err(|error| unusable(copy, &error))?;
    let source = schema::open_reader(path)?;
    let mut target = Connection::open(copy)?;
    // It is thrown away if anything goes wrong, and so needs neither a journal nor the disk.
    target.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")?;
    source.execute_batch("BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1;")?;
    let backup = Backup::new(&source, &mut target)?;
    loop {
        match backup.step(PAGES_PER_STEP)? {
            StepResult::Done => break,
            StepResult::More if is_wanted.load(Ordering::Relaxed) => {}
            StepResult::More => {
                return Err(StoreError::Unavailable("the copy is not wanted any more".to_owned()));
            }
            other => {
                return Err(StoreError::Unavailable(format!("the copy was stopped: {other:?}")));
            }
        }
    }
    drop(backup);
    drop(target);
    // The log of the original is not part of the copy, and none must be looked for beside it.
    Connection::open(copy)?.execute_batch("PRAGMA journal_mode = DELETE;")?;
    Ok(())
}

fn copy_file(from: &Path, to: &Path, tell: &dyn Fn(u64, u64)) -> io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, private(to)?);
    let (mut done, total) = (0, from.metadata()?.len());
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk)?;
        let Some(read) = chunk.get(..read).filter(|read| !read.is_empty()) else { break };
        to.write_all(read)?;
        done += read.len() as u64;
        tell(done, total);
    }
    to.sync_all()
}

/// A new file that nobody else may read: payloads are nobody else's business.
fn private(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

/// Takes away a database, if it is there, with what is kept beside it.
fn remove(path: &Path) -> Result<(), StoreError> {
    for name in [""].iter().chain(&COMPANIONS).map(|end| with_suffix(path, end)) {
        match fs::remove_file(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(unusable(&name, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Makes the names in a file's folder as durable as what they stand for.
fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn snapshot_of(path: &Path) -> PathBuf {
    with_suffix(path, ".snapshot")
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn with_suffix(path: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn unusable(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: &dyn Fn(u64, u64) = &|_, _| {};

    /// A store in `folder` that has been used, at `name`.
    fn used(folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        let connection = schema::open_writer(&path).unwrap();
        connection.execute("INSERT INTO generation VALUES ('first', 7)", []).unwrap();
        path
    }

    fn id_of(path: &Path) -> String {
        let connection = schema::open_reader(path).unwrap();
        connection.query_row("SELECT id FROM generation", [], |row| row.get(0)).unwrap()
    }

    fn backup_of(path: &Path) -> PathBuf {
        let (mut copy, bytes) = take(path, &AtomicBool::new(true)).unwrap();
        let file = with_suffix(path, ".backup");
        assert_eq!(io::copy(&mut copy, &mut private(&file).unwrap()).unwrap(), bytes);
        assert_eq!(check(&file), Ok(Timestamp::from_millis(7)));
        file
    }

    #[test]
    fn a_copy_is_one_file_that_has_what_was_committed() {
        let folder = tempfile::tempdir().unwrap();
        let path = used(folder.path(), "store.db");
        let writer = schema::open_writer(&path).unwrap();
        writer.execute("UPDATE generation SET id = 'second'", []).unwrap();
        writer.execute_batch("BEGIN IMMEDIATE; UPDATE generation SET id = 'third'").unwrap();
        let file = backup_of(&path);
        writer.execute_batch("COMMIT").unwrap();
        assert_eq!(id_of(&file), "second");
        assert!(!is_there(&with_suffix(&file, "-wal")) && !is_there(&snapshot_of(&path)));
    }

    #[test]
    fn a_copy_that_nobody_waits_for_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = used(folder.path(), "store.db");
        let writer = schema::open_writer(&path).unwrap();
        writer
            .execute_batch("CREATE TABLE filler AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 9000) SELECT randomblob(1000) FROM n")
            .unwrap();
        let given_up = take(&path, &AtomicBool::new(false)).unwrap_err();
        assert!(given_up.to_string().contains("not wanted"), "{given_up}");
        assert!(!is_there(&snapshot_of(&path)));
    }

    #[test]
    fn a_restored_store_is_another_one_and_the_old_one_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = used(folder.path(), "store.db");
        let (file, seen) = (backup_of(&path), Seen::in_memory());
        assert!(restore(&file, &path, &seen, false, QUIET).is_err(), "the place is taken");
        let restored = restore(&file, &path, &seen, true, QUIET).unwrap();
        let aside = with_suffix(&path, ".replaced");
        let expected = Restored {
            taken_at: Timestamp::from_millis(7),
            set_aside: Some(aside.clone()),
            is_to_be_accepted: false,
        };
        assert_eq!(restored, expected);
        assert_ne!(id_of(&path), "first", "a cache in front of it must not know it");
        assert_eq!(id_of(&aside), "first");
        let again = restore(&file, &path, &seen, true, QUIET).unwrap_err();
        assert!(again.to_string().contains("move it away first"), "{again}");
    }

    #[test]
    fn a_restore_that_was_killed_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = used(folder.path(), "store.db");
        let (file, seen) = (backup_of(&path), Seen::in_memory());
        let aside = with_suffix(&path, ".replaced");
        // Half of the old store was set aside, and half of the new one was there.
        fs::write(with_suffix(&path, "-wal"), "a log").unwrap();
        fs::rename(&path, &aside).unwrap();
        fs::write(with_suffix(&path, ".restoring"), "half").unwrap();
        restore(&file, &path, &seen, true, QUIET).unwrap();
        assert!(check(&path).is_ok() && is_there(&with_suffix(&aside, "-wal")));
        assert!(!is_there(&with_suffix(&path, "-wal")));
    }
}
