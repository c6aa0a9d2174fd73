//! The embedded store: one SQLite file, one process, no server to run.
//!
//! One thread writes (`writer`): whatever waits for it goes into one transaction and one fsync.
//! Readers have connections of their own beside it and see what is committed. A held file lock keeps
//! a second process out, so when this one begins, every lease in the file belonged to a process that
//! is dead.

mod admit;
mod backup;
mod claim;
mod codes;
mod control;
mod count;
mod delivery;
mod erase;
mod error;
mod export;
mod generation;
mod import;
mod jump;
mod keyed;
mod line;
mod moving;
mod prune;
mod read;
mod refusals;
mod schema;
mod search;
mod settle;
mod wish;
mod writer;

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::Semaphore;

use self::{
    generation::Riser,
    read::Readers,
    writer::{Answer, Call, Writer},
};
use super::{
    Claimed, DeliveryFilter, EventFilter, EventRecord, EventRow, Granted, Hold, Prune, Readmission,
    RefusalFilter, RefusalRow, Refusals, Refused, Release, Stats, Store, StoreError, Wish,
    batch::{self, each},
    generation::Seen,
    snapshot::{Restored, Snapshot},
};
use crate::{
    clock::{Clock, Timestamp},
    control::{Controls, Setting},
    delivery::{Attempt, Claim, Delivery, DeliveryId, Lease, Leased, Settlement},
    event::{EventId, NewEvent},
    private,
    receipt::Admission,
    refusal::RefusalId,
};

/// About how many bytes a call takes in the queue, beside what it carries.
const CALL_BYTES: usize = 512;

/// A store in one SQLite file.
///
/// Dropping it waits until the writer has finished what waits, closed the file and let go of its lock.
#[derive(Debug)]
pub struct SqliteStore {
    clock: Arc<dyn Clock>,
    // Dropped in this order: the writer finishes what waits, and only then is the lock free.
    readers: Arc<Readers>,
    writer: Writer,
    orphans: Vec<Lease>,
    seen: Arc<Seen>,
    /// Lets one snapshot be there at a time: each takes as much of the disk as the store.
    snapshots: Arc<Semaphore>,
    _lock: File,
}

impl SqliteStore {
    /// Opens the store in the file at `path`, which is made where there is none, with its folder, and
    /// tells the time by `clock`. It blocks for as long as the disk takes.
    ///
    /// # Errors
    /// [`InUse`](StoreError::InUse) when another process has it open, [`Newer`](StoreError::Newer)
    /// when a newer version wrote it, [`Weak`](StoreError::Weak) when SQLite cannot keep a yes
    /// through a power cut there, [`Failed`](StoreError::Failed) when the file is something else,
    /// and [`Unavailable`](StoreError::Unavailable) when it cannot be opened at all.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        Self::open_seen(path, Seen::in_memory(), clock)
    }

    /// The same, and looks whether the file is what it was: what was last seen of it is in `data_dir`.
    /// Where an older copy or another file is in its place, whatever would write is
    /// [`Forgotten`](StoreError::Forgotten) until a person [accepts](Store::accept) it.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub fn open_in(
        path: &Path,
        data_dir: &Path,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        Self::open_seen(path, Seen::in_folder(data_dir, &generation::address(path))?, clock)
    }

    /// Puts a copy of the file `from`, a backup, in the place of the store at `path`, and tells how much
    /// of it is there yet. What is in the place is set aside if `replaces` says so. It blocks.
    ///
    /// # Errors
    /// [`InUse`](StoreError::InUse) when a process has the store open; as [`SqliteStore::open`] for the
    /// backup; [`Failed`](StoreError::Failed) when it is damaged, or the place is not free.
    pub fn restore(
        from: &Path,
        path: &Path,
        data_dir: &Path,
        replaces: bool,
        tell: &dyn Fn(u64, u64),
    ) -> Result<Restored, StoreError> {
        let seen = Seen::in_folder(data_dir, &generation::address(path))?;
        backup::restore(from, &real(path), &seen, replaces, tell)
    }

    /// Makes sure that a file is a whole store that can be restored, and says when it was taken.
    ///
    /// # Errors
    /// When it is not.
    pub fn check_backup(file: &Path) -> Result<Timestamp, StoreError> {
        backup::check(file)
    }

    fn open_seen(path: &Path, seen: Arc<Seen>, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        make_folder(path)?;
        let path = &real(path);
        let lock = lock(path)?;
        if let Err(error) = backup::remove_leftovers(path) {
            tracing::warn!(%error, "what is left of a backup cannot be taken away");
        }
        let connection = schema::open_writer(path)?;
        let riser = Riser::meet(&connection, Arc::clone(&seen), clock.as_ref())?;
        let orphans = read::leases(&connection)?;
        match riser.forgotten() {
            Some(problem) => tracing::error!(%problem, "the store cannot be used"),
            None => keyed::void_leases(&connection)?,
        }
        let writer = Writer::start(connection, riser, Arc::clone(&clock))?;
        let readers = Readers::new(path.to_owned());
        let snapshots = Arc::new(Semaphore::new(1));
        Ok(Self { clock, readers, writer, orphans, seen, snapshots, _lock: lock })
    }

    async fn admit_one(
        &self,
        event: NewEvent,
        bytes: usize,
        not_after: Timestamp,
    ) -> Result<(EventId, Admission), StoreError> {
        match self.writer.call(Call::Admit(Box::new(event), not_after), bytes).await? {
            Answer::Admitted(admitted) => Ok(admitted),
            _ => Err(mixed_up()),
        }
    }

    async fn settle_one(&self, settlement: Settlement) -> Result<Hold, StoreError> {
        match self.writer.call(Call::Settle(settlement), CALL_BYTES).await? {
            Answer::Settled(hold) => Ok(hold),
            _ => Err(mixed_up()),
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn generation(&self) -> Option<String> {
        self.seen.of("").map(|seen| seen.id)
    }

    async fn accept(&self) -> Result<usize, StoreError> {
        match self.writer.call(Call::Accept, CALL_BYTES).await? {
            Answer::Accepted(had_forgotten) => Ok(usize::from(had_forgotten)),
            _ => Err(mixed_up()),
        }
    }

    fn survives(&self) -> String {
        "a crash of the process, a restart and a power cut (SQLite, synchronous=FULL)".to_owned()
    }

    async fn snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        let turn = Arc::clone(&self.snapshots).try_acquire_owned();
        let turn = turn.map_err(|_taken| {
            StoreError::Full("another backup of it is under way: wait for its end".to_owned())
        })?;
        let path = self.readers.path().to_owned();
        let wanted = Wanted(Arc::new(AtomicBool::new(true)));
        let is_wanted = Arc::clone(&wanted.0);
        let taking = tokio::task::spawn_blocking(move || {
            let (file, bytes) = backup::take(&path, &is_wanted)?;
            Ok(Some(Snapshot { file, bytes, turn }))
        });
        let taken = taking.await;
        drop(wanted);
        taken.map_err(|_| StoreError::Unavailable("it was shut down".to_owned()))?
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.writer.call(Call::Probe, CALL_BYTES).await.map(drop)
    }

    async fn admit(
        &self,
        events: Vec<NewEvent>,
        not_after: Timestamp,
    ) -> Vec<Result<(EventId, Admission), StoreError>> {
        let sizes = batch::sizes(&events);
        let admit_one = |(event, bytes)| self.admit_one(event, bytes, not_after);
        join_all(events.into_iter().zip(sizes).map(admit_one)).await
    }

    async fn claim(&self, claim: &Claim, not_after: Timestamp) -> Result<Claimed, StoreError> {
        match self.writer.call(Call::Claim(claim.clone(), not_after), CALL_BYTES).await? {
            Answer::Claimed(claimed) => Ok(claimed),
            _ => Err(mixed_up()),
        }
    }

    async fn extend(&self, leases: &[Lease], lease: Duration) -> Vec<Result<Hold, StoreError>> {
        let extended =
            match self.writer.call(Call::Extend(leases.to_vec(), lease), CALL_BYTES).await {
                Ok(Answer::Extended(holds)) => Ok(holds),
                Ok(_) => Err(mixed_up()),
                Err(error) => Err(error),
            };
        each(extended, leases.len())
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Vec<Result<Hold, StoreError>> {
        join_all(settlements.into_iter().map(|settlement| self.settle_one(settlement))).await
    }

    async fn release(&self, release: &Release) -> Result<(), StoreError> {
        self.writer.call(Call::Release(release.clone()), CALL_BYTES).await.map(drop)
    }

    async fn orphans(&self) -> Result<Vec<Leased>, StoreError> {
        // Remembered from when the store was opened: what was leased since has a living holder.
        let orphans = self.orphans.clone();
        self.readers.read(move |connection| read::still_leased(connection, &orphans)).await
    }

    async fn wish(&self, wish: &Wish, not_after: Timestamp) -> Result<Granted, StoreError> {
        match self.writer.call(Call::Wish(wish.clone(), not_after), CALL_BYTES).await? {
            Answer::Granted(granted) => Ok(granted),
            _ => Err(mixed_up()),
        }
    }

    async fn events(&self, filter: &EventFilter) -> Result<Vec<EventRow>, StoreError> {
        let filter = filter.clone();
        self.readers.read(move |connection| search::events(connection, &filter)).await
    }

    async fn event(&self, id: EventId) -> Result<Option<EventRecord>, StoreError> {
        self.readers.read(move |connection| read::record(connection, id)).await
    }

    async fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<Delivery>, StoreError> {
        let filter = filter.clone();
        self.readers.read(move |connection| read::deliveries(connection, &filter)).await
    }

    async fn attempts(&self, delivery: DeliveryId) -> Result<Vec<Attempt>, StoreError> {
        self.readers.read(move |connection| read::attempts(connection, delivery)).await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.readers.read(count::stats).await
    }

    async fn waiting_since(&self, handler: &str) -> Result<Option<Timestamp>, StoreError> {
        let handler = handler.to_owned();
        self.readers.read(move |connection| read::waiting_since(connection, &handler)).await
    }

    async fn prune(&self, prune: &Prune) -> Result<usize, StoreError> {
        match self.writer.call(Call::Prune(*prune), CALL_BYTES).await? {
            Answer::Pruned(pruned) => Ok(pruned),
            _ => Err(mixed_up()),
        }
    }

    async fn control(&self, handler: &str, setting: Setting) -> Result<(), StoreError> {
        self.writer.call(Call::Control(handler.to_owned(), setting), CALL_BYTES).await.map(drop)
    }

    async fn controls(&self) -> Result<Controls, StoreError> {
        self.readers.read(control::controls).await
    }
}

#[async_trait]
impl Refusals for SqliteStore {
    async fn keep_refusals(&self, refused: Vec<Refused>) -> Result<(), StoreError> {
        let bytes = refused.iter().map(Refused::bytes).sum();
        self.writer.call(Call::KeepRefusals(refused), bytes).await.map(drop)
    }

    async fn refusals(&self, filter: &RefusalFilter) -> Result<Vec<RefusalRow>, StoreError> {
        let filter = filter.clone();
        self.readers.read(move |connection| refusals::page(connection, &filter)).await
    }

    async fn refusal(&self, id: RefusalId) -> Result<Option<Refused>, StoreError> {
        self.readers.read(move |connection| refusals::one(connection, id)).await
    }

    async fn note_readmitted(
        &self,
        id: RefusalId,
        readmission: &Readmission,
    ) -> Result<(), StoreError> {
        let call = Call::NoteReadmitted(id, readmission.clone());
        self.writer.call(call, CALL_BYTES).await.map(drop)
    }
}

/// Somebody waits for a snapshot. Dropped, nobody does.
struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

fn make_folder(path: &Path) -> Result<(), StoreError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    private::make_folder(folder).map_err(|error| {
        StoreError::Unavailable(format!("cannot make the folder {}: {error}", folder.display()))
    })
}

/// The file itself, where the path is a link to it: whatever it is called by, there is one lock.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned()) // none is there yet
}

/// Holds a file beside the database for as long as this process lives. The kernel lets go of it
/// however the process ends, which it would not do for a file with a process id in it.
fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let cannot =
        |error| StoreError::Unavailable(format!("cannot lock {}: {error}", name.display()));
    let file = private::open_or_make(&name).map_err(cannot)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(StoreError::InUse(format!("{} is locked", name.display())))
        }
        Err(TryLockError::Error(error)) => Err(cannot(error)),
    }
}

fn mixed_up() -> StoreError {
    StoreError::Failed("its writer answered another question".to_owned())
}
