//! A cache of marks in front of a store: duplicates are told without asking it.
//!
//! **It may say duplicate, and never new.** A mark is cached only after the store has committed its
//! event, and under the store's generation. So a cache that is down, flushed, evicting or out of date
//! makes duplicates slower, and nothing else. While the store itself is in trouble the cache is not
//! asked: it must not say yes for a store that has lost what it held.
//!
//! The store is told of each such duplicate all the same, behind the answer: it notes its time and
//! counts it. A crash may lose such notes, but never a yes.

mod through;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{
    Store, StoreError,
    redis::{
        cache::{Mark, MarkCache, MarkKey},
        spawn,
    },
};
use crate::{
    clock::{Clock, Timestamp},
    event::{Digest, EventId, NewEvent},
    limits,
    receipt::Admission,
};

/// A store with a cache of marks in front of it.
#[derive(Debug)]
pub struct CachedStore {
    store: Arc<dyn Store>,
    cache: MarkCache,
    clock: Arc<dyn Clock>,
    notes: Notes,
    counts: Counts,
    /// Whether the store failed when it was last asked, or was not asked yet.
    is_doubted: Arc<AtomicBool>,
    /// Until when the cache is not asked, on the monotonic clock: it did not answer just now.
    passed_over_until_ms: AtomicU64,
}

#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    failures: AtomicU64,
}

impl CachedStore {
    /// Puts the Redis at `cache` in front of `store`, whose URL tells its marks from those of others.
    /// The cache need not be there.
    ///
    /// # Errors
    /// When `cache` is no `redis://` url.
    pub fn new(
        store: Arc<dyn Store>,
        url: &str,
        cache: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let cache = MarkCache::at(cache, Digest::of([url.as_bytes()]).short())?;
        let is_doubted = Arc::new(AtomicBool::new(true));
        let notes = Notes::to(Arc::clone(&store), Arc::clone(&is_doubted));
        let passed_over_until_ms = AtomicU64::default();
        let counts = Counts::default();
        Ok(Self { store, cache, clock, notes, counts, is_doubted, passed_over_until_ms })
    }

    /// What the cache knows of these events. None of it where it does not answer.
    async fn known(&self, events: &[NewEvent]) -> HashMap<EventId, Mark> {
        let now_ms = self.monotonic_ms();
        let asked: Vec<(&NewEvent, MarkKey)> =
            events.iter().filter_map(|event| Some((event, self.key(event)?))).collect();
        let is_passed_over = self.is_doubted.load(Ordering::Relaxed)
            || now_ms < self.passed_over_until_ms.load(Ordering::Relaxed);
        if asked.is_empty() || is_passed_over {
            return HashMap::new();
        }
        let (events, keys): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        let Some(marks) = self.cache.marks(&keys).await else {
            self.counts.failures.fetch_add(1, Ordering::Relaxed);
            let pause_ms = u64::try_from(limits::CACHE_PAUSE.as_millis()).unwrap_or(u64::MAX);
            self.passed_over_until_ms.store(now_ms + pause_ms, Ordering::Relaxed);
            return HashMap::new();
        };
        let now = self.clock.now();
        let live = |(event, mark): (&NewEvent, Option<Mark>)| {
            // Its own event under its own id: the store knows what it answered the first time.
            let mark = mark.filter(|mark| mark.event != event.id && now < mark.until)?;
            Some((event.id, mark))
        };
        let known: HashMap<_, _> = events.into_iter().zip(marks).filter_map(live).collect();
        let hits = known.len() as u64;
        self.counts.hits.fetch_add(hits, Ordering::Relaxed);
        self.counts.misses.fetch_add(keys.len() as u64 - hits, Ordering::Relaxed);
        known
    }

    fn key(&self, event: &NewEvent) -> Option<MarkKey> {
        let identity = event.named.identity.as_ref()?;
        let generation = self.store.generation().unwrap_or_default();
        Some(self.cache.key(&generation, &event.source, identity))
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
    }

    /// Asks the store, and remembers what it has taken as new.
    async fn admit_new(
        &self,
        events: Vec<NewEvent>,
        not_after: Timestamp,
    ) -> Vec<Result<(EventId, Admission), StoreError>> {
        let marks: Vec<_> = events
            .iter()
            .map(|event| {
                let until = event.received_at.plus(event.window);
                self.key(event).map(|key| (key, Mark { event: event.id, until }))
            })
            .collect();
        let answers = self.store.admit(events, not_after).await;
        self.is_doubted.store(answers.iter().any(Result::is_err), Ordering::Relaxed);
        let fresh: Vec<_> = marks
            .into_iter()
            .zip(&answers)
            .filter(|(_, answer)| matches!(answer, Ok((_, Admission::Fresh))))
            .filter_map(|(mark, _)| mark)
            .collect();
        if !fresh.is_empty()
            && self.monotonic_ms() >= self.passed_over_until_ms.load(Ordering::Relaxed)
        {
            let (cache, now) = (self.cache.clone(), self.clock.now());
            spawn(async move { cache.remember(&fresh, now).await });
        }
        answers
    }

    async fn admit_through(
        &self,
        events: Vec<NewEvent>,
        not_after: Timestamp,
    ) -> Vec<Result<(EventId, Admission), StoreError>> {
        if self.clock.now() > not_after {
            return self.store.admit(events, not_after).await;
        }
        let known = self.known(&events).await;
        let (again, new): (Vec<_>, Vec<_>) =
            events.into_iter().enumerate().partition(|(_, event)| known.contains_key(&event.id));
        let mut answers = Vec::with_capacity(again.len() + new.len());
        for (at, event) in again {
            if let Some(mark) = known.get(&event.id) {
                answers.push((at, Ok((mark.event, Admission::Duplicate))));
            }
            self.notes.note(event);
        }
        let (places, new): (Vec<_>, Vec<_>) = new.into_iter().unzip();
        if !new.is_empty() {
            answers.extend(places.into_iter().zip(self.admit_new(new, not_after).await));
        }
        answers.sort_by_key(|(at, _)| *at);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }
}

/// Duplicates that were answered and that the store has not heard of yet.
///
/// It hears of them by being asked to admit them: it finds them to be duplicates, and should it not
/// (it was restored from before they came), it takes them in.
#[derive(Debug)]
struct Notes {
    queue: mpsc::Sender<Note>,
    bytes_free: Arc<Semaphore>,
    lost: AtomicU64,
}

#[derive(Debug)]
enum Note {
    Duplicate(Box<NewEvent>, OwnedSemaphorePermit),
    Flush(oneshot::Sender<()>),
}

impl Notes {
    fn to(store: Arc<dyn Store>, is_doubted: Arc<AtomicBool>) -> Self {
        let (queue, waiting) = mpsc::channel(limits::CACHE_NOTES_MAX);
        spawn(write_down(store, is_doubted, waiting));
        let bytes_free = Arc::new(Semaphore::new(limits::CACHE_NOTES_BYTES_MAX));
        Self { queue, bytes_free, lost: AtomicU64::default() }
    }

    /// Hands a duplicate over. When too many wait it is forgotten: its answer stands without it.
    fn note(&self, event: NewEvent) {
        let taken = u32::try_from(event.named.body.len() + 256)
            .ok()
            .and_then(|bytes| Arc::clone(&self.bytes_free).try_acquire_many_owned(bytes).ok())
            .and_then(|bytes| self.queue.try_send(Note::Duplicate(Box::new(event), bytes)).ok());
        if taken.is_none() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits, but not for long, until the store has heard of what was handed over before: so that
    /// who reads sees what this process has answered.
    async fn flush(&self) {
        let (written_down, heard) = oneshot::channel();
        let flushed = async {
            if self.queue.send(Note::Flush(written_down)).await.is_ok() {
                drop(heard.await);
            }
        };
        drop(tokio::time::timeout(limits::CACHE_FLUSH_TIMEOUT, flushed).await);
    }
}

/// Writes notes down in lots, in the order they came, until nobody can hand over any more.
async fn write_down(
    store: Arc<dyn Store>,
    is_doubted: Arc<AtomicBool>,
    mut waiting: mpsc::Receiver<Note>,
) {
    let mut notes = Vec::new();
    while waiting.recv_many(&mut notes, limits::BATCH_ITEMS_MAX).await > 0 {
        let (mut events, mut permits, mut flushed) = (Vec::new(), Vec::new(), Vec::new());
        for note in notes.drain(..) {
            match note {
                Note::Duplicate(event, permit) => {
                    events.push(*event);
                    permits.push(permit);
                }
                Note::Flush(written_down) => flushed.push(written_down),
            }
        }
        if !events.is_empty() {
            let answers = store.admit(events, Timestamp::from_millis(i64::MAX)).await;
            for error in answers.into_iter().filter_map(Result::err) {
                tracing::debug!(%error, "a duplicate was answered and could not be noted");
                is_doubted.store(true, Ordering::Relaxed);
            }
        }
        drop(flushed); // whoever waits for these sees them go
    }
}
