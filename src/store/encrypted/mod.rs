//! Encryption in front of a store: what a sender, a handler or an upstream has written is in there as
//! ciphertext only.
//!
//! That is bodies, headers, queries and retry markers of events and refused requests, what attempts keep
//! of answers and errors, and saved answers of keyed requests. In plain stay what a person looks things
//! up by, and what the store decides by: sources, handlers, types, the provider's ids, identities, times,
//! states, `Idempotency-Key`s and their paths.
//!
//! It stands in front of every store, with keys or without: what was kept in plain before there was a key
//! can be read for ever, and what was sealed with a key that is not there is handed to nobody. Nothing
//! about such an event is lost: who claims it gives it back, uncounted, until the key is there again.

mod content;
mod keys;
mod through;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub(super) use self::content::plain_bytes;
pub use self::keys::{EncryptionKeys, KeyName, NotOpened};
use super::{Claimed, EventFilter, EventRecord, Release, Store, StoreError};
use crate::delivery::Leased;

/// How long a look at the newest event may take: it is for people who ask how it goes, and they wait.
const LOOK_WITHIN: Duration = Duration::from_secs(1);

/// A store whose contents are encrypted.
#[derive(Debug)]
pub struct EncryptedStore {
    store: Arc<dyn Store>,
    keys: EncryptionKeys,
    /// Whether the log was told that something claimed did not open: it would be told many times a second.
    is_told: AtomicBool,
}

/// Why the newest event in the store cannot be read, if it cannot: a key that is missing is better noticed
/// by who looks how it goes than by the handlers that get nothing.
pub async fn newest_unreadable(store: &dyn Store) -> Option<String> {
    let newest = EventFilter { limit: 1, ..EventFilter::default() };
    let look = async {
        let Some(row) = store.events(&newest).await?.pop() else { return Ok(()) };
        store.event(row.id).await.map(drop)
    };
    // Whatever else may be wrong with the store is told by whoever needs it.
    match tokio::time::timeout(LOOK_WITHIN, look).await {
        Ok(Err(StoreError::Failed(problem))) => {
            Some(format!("the newest event in the store cannot be read: {problem}"))
        }
        _ => None,
    }
}

impl EncryptedStore {
    /// Encrypts what goes into `store` with the first of `keys`, and decrypts with any of them.
    pub fn new(store: Arc<dyn Store>, keys: EncryptionKeys) -> Self {
        Self { store, keys, is_told: AtomicBool::new(false) }
    }

    fn open_leased(&self, leased: &mut Leased) -> Result<(), NotOpened> {
        if !content::is_sealed(&leased.event.headers) {
            return Ok(()); // before it is copied, where the store keeps it, too
        }
        self.keys.open_event(Arc::make_mut(&mut leased.event))
    }

    fn open_record(&self, record: &mut EventRecord) -> Result<(), StoreError> {
        let keys = &self.keys;
        let source = Arc::clone(&record.row.source);
        let is_sealed = content::is_sealed(&record.event.headers);
        keys.open_event(&mut record.event)?;
        if let Some(request) = record.request.as_mut().filter(|_| is_sealed) {
            request.body = keys.open_request(&request.body, &source)?;
        }
        for duplicate in &mut record.duplicates {
            keys.show_marker(&mut duplicate.retry_marker, &source);
        }
        record.deliveries.iter_mut().for_each(|delivery| keys.show_delivery(delivery));
        Ok(())
    }

    /// Opens what was claimed. What does not open is given back; what does goes to its handler.
    async fn open_claimed(&self, mut claimed: Claimed) -> Result<Claimed, StoreError> {
        let (mut opened, mut given_back, mut problem) = (Vec::new(), Vec::new(), None);
        for mut leased in claimed.deliveries {
            match self.open_leased(&mut leased) {
                Ok(()) => opened.push(leased),
                Err(error) => {
                    given_back.push(leased.lease);
                    problem = Some(error);
                }
            }
        }
        claimed.deliveries = opened;
        let Some(problem) = problem else { return Ok(claimed) };
        let count = given_back.len();
        // If it cannot be given back, its lease runs out. What opened is handed out all the same.
        if let Err(error) = self.store.release(&Release::Leases(given_back)).await {
            tracing::warn!(%error, count, "deliveries that cannot be read could not be given back");
        }
        if claimed.deliveries.is_empty() {
            return Err(problem.into());
        }
        if !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::error!(count, "deliveries wait because their event cannot be read: {problem}");
        }
        Ok(claimed)
    }
}
