//! What was last seen of a store, kept outside of it: so that a store that was emptied, or put back to
//! an older state, is noticed before what it has forgotten is done a second time.
//!
//! A store, or each bucket of one, has a generation: an id made once, and a counter that rises while the
//! store is in use. Another id, or a lower counter, is not the store that was left. The last ones seen
//! stand in a file in the data folder, one file per store, named by a hash of its address.

use std::{
    collections::BTreeMap,
    fmt,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::StoreError;
use crate::private;

/// How often a risen counter is written down. What rose since is only noticed less exactly.
const WRITE_INTERVAL: Duration = Duration::from_secs(5);

/// One state of the store that nothing was taken from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Made at random when the store was new, and anew whenever a person accepts a loss.
    pub id: String,
    /// Rises while the store is in use: the store's time in milliseconds, and never less than before.
    pub counter: i64,
}

/// The generations last seen of one store, by the name of the bucket; a store without buckets has one
/// part, with an empty name.
#[derive(Debug)]
pub struct Seen {
    file: Option<PathBuf>,
    parts: Mutex<Parts>,
    steps_back: AtomicU64,
}

#[derive(Debug, Default)]
struct Parts {
    last: BTreeMap<String, Generation>,
    written_at: Option<Duration>,
}

impl Seen {
    /// Remembers as long as this process lives.
    pub fn in_memory() -> Arc<Self> {
        Arc::new(Self { file: None, parts: Mutex::default(), steps_back: AtomicU64::default() })
    }

    /// Remembers in a file in `folder`, which is made where it is missing. `address` names the store,
    /// and has no secret in it.
    ///
    /// # Errors
    /// When there is a file that cannot be read: what it said is not known to be nothing.
    pub fn in_folder(folder: &Path, address: &str) -> Result<Arc<Self>, StoreError> {
        let hash = hex::encode(Sha256::digest(address));
        let name = hash.get(..16).unwrap_or(&hash);
        let file = folder.join(format!("generation-{name}.json"));
        let unreadable = |why: &dyn fmt::Display| {
            let file = file.display();
            StoreError::Failed(format!(
                "{file}, which says what was last seen of the store, cannot be read: {why}"
            ))
        };
        private::make_folder(folder).map_err(|error| {
            let folder = folder.display();
            StoreError::Failed(format!("`data_dir`, {folder}, cannot be written: {error}"))
        })?;
        let last = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| unreadable(&error))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(unreadable(&error)),
        };
        let parts = Mutex::new(Parts { last, written_at: None });
        Ok(Arc::new(Self { file: Some(file), parts, steps_back: AtomicU64::default() }))
    }

    /// What was last seen of a part.
    pub fn of(&self, part: &str) -> Option<Generation> {
        self.lock().last.get(part).cloned()
    }

    /// Remembers what is seen now. Says whether it is time to [`save`](Self::save) it: at once with a
    /// new id, and else now and then. `now` is monotonic.
    pub fn note(&self, part: &str, generation: Generation, now: Duration) -> bool {
        let mut parts = self.lock();
        let before = parts.last.get(part).map(|before| before.id.clone());
        let is_new = before.as_ref() != Some(&generation.id);
        parts.last.insert(part.to_owned(), generation);
        let is_old = |written_at| now.saturating_sub(written_at) >= WRITE_INTERVAL;
        let is_due = self.file.is_some() && (is_new || parts.written_at.is_none_or(is_old));
        if is_due {
            parts.written_at = Some(now);
        }
        is_due
    }

    /// The store went back by less than its durability may lose.
    pub fn stepped_back(&self) {
        self.steps_back.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it did so, as this process saw it.
    pub fn steps_back(&self) -> u64 {
        self.steps_back.load(Ordering::Relaxed)
    }

    /// Forgets what was seen, so that whatever is there next is taken as it is. Says whether anything was
    /// known.
    pub fn forget(&self) -> bool {
        let was_known = !std::mem::take(&mut self.lock().last).is_empty();
        self.save();
        was_known
    }

    /// Writes the file, whole or not at all. It blocks.
    ///
    /// A file that cannot be written is no reason to refuse events: it is logged, and an older one says
    /// less.
    pub fn save(&self) {
        let Some(file) = &self.file else { return };
        // Held while writing, so that of two that write the later one's state is the one that stays.
        let parts = self.lock();
        if let Err(error) = write(file, &parts.last) {
            let file = file.display();
            tracing::warn!(%error, "cannot write {file}: a loss in the store may go unnoticed after a restart");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(file: &Path, last: &BTreeMap<String, Generation>) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut beside = tempfile::NamedTempFile::new_in(folder)?;
    beside.write_all(&serde_json::to_vec_pretty(last)?)?;
    beside.as_file().sync_all()?;
    beside.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(id: &str, counter: i64) -> Generation {
        Generation { id: id.to_owned(), counter }
    }

    #[test]
    fn what_was_saved_is_known_to_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let seen = Seen::in_folder(folder.path(), "redis://a").unwrap();
        assert_eq!(seen.of("h00"), None);
        assert!(seen.note("h00", generation("first", 7), Duration::ZERO));
        seen.save();
        let next = Seen::in_folder(folder.path(), "redis://a").unwrap();
        assert_eq!(next.of("h00"), Some(generation("first", 7)));
        let elsewhere = Seen::in_folder(folder.path(), "redis://b").unwrap();
        assert_eq!(elsewhere.of("h00"), None, "another store has its own file");
    }

    #[test]
    fn a_counter_is_written_now_and_then_and_a_new_id_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let seen = Seen::in_folder(folder.path(), "redis://a").unwrap();
        assert!(seen.note("", generation("first", 1), Duration::ZERO));
        assert!(!seen.note("", generation("first", 2), Duration::from_secs(1)));
        assert!(seen.note("", generation("first", 3), WRITE_INTERVAL));
        assert!(seen.note("", generation("second", 4), WRITE_INTERVAL));
    }

    #[test]
    fn a_broken_file_is_no_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let seen = Seen::in_folder(folder.path(), "redis://a").unwrap();
        seen.note("", generation("first", 1), Duration::ZERO);
        seen.save();
        let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        std::fs::write(&file, "{").unwrap();
        let refused = Seen::in_folder(folder.path(), "redis://a").unwrap_err().to_string();
        assert!(refused.contains("cannot be read"), "{refused}");
    }
}
