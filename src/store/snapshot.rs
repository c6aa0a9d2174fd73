//! A copy of a whole store at one instant, and what became of putting one back.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use tokio::sync::OwnedSemaphorePermit;

use super::StoreError;
use crate::clock::Timestamp;

/// A copy of a whole store at one instant: everything that was acknowledged before it was asked for.
///
/// Its file has no name, so that it is gone with this process, however that ends. There is one at a time.
#[derive(Debug)]
pub struct Snapshot {
    /// The copy, from its beginning.
    pub file: File,
    /// Its length.
    pub bytes: u64,
    /// Held for as long as the copy is there.
    pub turn: OwnedSemaphorePermit,
}

/// A copy was put in the place of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// When the copy was taken, within a few seconds.
    pub taken_at: Timestamp,
    /// Where the store is that was there before.
    pub set_aside: Option<PathBuf>,
    /// Whether a person must accept it before it serves: another state of it has been seen here.
    pub is_to_be_accepted: bool,
}

/// Puts the backup `from` in the place of the SQLite store at `url`, and tells how many bytes of how many
/// are there yet. What is in the place is set aside if `replaces` says so. It blocks.
///
/// # Errors
/// When the store is open, the backup is damaged or newer than this program, or the place is not free.
/// `None`: this kind of store is restored with its own tools.
pub fn restore(
    from: &Path,
    url: &str,
    data_dir: &Path,
    replaces: bool,
    tell: &dyn Fn(u64, u64),
) -> Result<Option<Restored>, StoreError> {
    match url.split_once(':') {
        #[cfg(feature = "sqlite")]
        Some(("sqlite", file)) => {
            super::sqlite::SqliteStore::restore(from, file.as_ref(), data_dir, replaces, tell)
                .map(Some)
        }
        _ => Ok(None),
    }
}

/// Makes sure that a file is a backup that can be restored, and says when it was taken.
///
/// # Errors
/// When it is not. `None`: this program knows no kind of store that is backed up in a file.
pub fn check(file: &Path) -> Result<Option<Timestamp>, StoreError> {
    #[cfg(feature = "sqlite")]
    return super::sqlite::SqliteStore::check_backup(file).map(Some);
    #[cfg(not(feature = "sqlite"))]
    Ok(None)
}
