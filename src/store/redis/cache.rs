//! Redis as a cache of marks, in front of another store. Whatever goes wrong here is a miss.
//!
//! It needs no durability and no memory policy: a mark that is gone is asked of the store again.

use std::{fmt, time::Duration};

use redis::{
    Client,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::time::timeout;

use super::keys;
use crate::{
    clock::Timestamp,
    event::{EventId, Identity},
    limits,
    store::StoreError,
};

/// The marks that some Redis remembers for us. Clones share the connection.
#[derive(Clone)]
pub(in crate::store) struct MarkCache {
    manager: ConnectionManager,
    /// In front of every key: another store has another.
    namespace: String,
}

/// Where a mark is kept.
#[derive(Clone, Debug)]
pub(in crate::store) struct MarkKey(Vec<u8>);

/// A mark whose event is in the store for sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Mark {
    /// The event.
    pub(in crate::store) event: EventId,
    /// When its window ends.
    pub(in crate::store) until: Timestamp,
}

impl MarkCache {
    /// The cache at `url`. Nothing is sent yet: one that is away is slow, and no error.
    ///
    /// # Errors
    /// When `url` is none.
    pub(in crate::store) fn at(url: &str, namespace: String) -> Result<Self, StoreError> {
        // The error of the client may quote the URL, and with it the password.
        let no_url =
            |_| StoreError::Failed("the url of the cache is not a redis:// url".to_owned());
        let client = Client::open(url).map_err(no_url)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(limits::STORE_CALL_TIMEOUT))
            .set_response_timeout(Some(limits::CACHE_TIMEOUT))
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_millis(100));
        let manager = ConnectionManager::new_lazy_with_config(client, config).map_err(no_url)?;
        Ok(Self { manager, namespace })
    }

    /// The key of the mark of this identity, in this generation of the store.
    pub(in crate::store) fn key(
        &self,
        generation: &str,
        source: &str,
        identity: &Identity,
    ) -> MarkKey {
        let mut key = format!("hookonce-cache:{}:{generation}:", self.namespace).into_bytes();
        key.extend(keys::mark(source, identity));
        MarkKey(key)
    }

    /// What is known under these keys, in order. `None`: it did not say in time.
    pub(in crate::store) async fn marks(&self, keys: &[MarkKey]) -> Option<Vec<Option<Mark>>> {
        let mut command = redis::cmd("MGET");
        for key in keys {
            command.arg(&key.0);
        }
        let mut connection = self.manager.clone();
        let asked = command.query_async::<Vec<Option<Vec<u8>>>>(&mut connection);
        let known = timeout(limits::CACHE_TIMEOUT, asked).await.ok()?.ok()?;
        Some(known.into_iter().map(|value| value.as_deref().and_then(Mark::from_bytes)).collect())
    }

    /// Remembers these marks, each until its window ends. What fails is not remembered.
    pub(in crate::store) async fn remember(&self, marks: &[(MarkKey, Mark)], now: Timestamp) {
        let mut commands = redis::pipe();
        for (key, mark) in marks {
            let life = mark.until.since(now).min(limits::CACHE_LIFE_MAX);
            let life_ms = u64::try_from(life.as_millis()).unwrap_or(u64::MAX).max(1);
            commands
                .cmd("SET")
                .arg(&key.0)
                .arg(&mark.to_bytes()[..])
                .arg("PX")
                .arg(life_ms)
                .ignore();
        }
        let mut connection = self.manager.clone();
        let asked = commands.query_async::<()>(&mut connection);
        if !matches!(timeout(limits::CACHE_TIMEOUT, asked).await, Ok(Ok(()))) {
            tracing::debug!("marks were not cached");
        }
    }
}

impl Mark {
    fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        let (event, until) = bytes.split_at_mut(16);
        event.copy_from_slice(self.event.as_bytes());
        until.copy_from_slice(&self.until.as_millis().to_be_bytes());
        bytes
    }

    /// The mark in these bytes, if nobody else wrote them.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (event, until) = bytes.split_at_checked(16)?;
        Some(Self {
            event: EventId::from_bytes(event.try_into().ok()?),
            until: Timestamp::from_millis(i64::from_be_bytes(until.try_into().ok()?)),
        })
    }
}

/// Without the password in its URL.
impl fmt::Debug for MarkCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MarkCache").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_as_it_was_and_anything_else_is_none() {
        let mark =
            Mark { event: EventId::from_bytes([7; 16]), until: Timestamp::from_millis(1 << 40) };
        assert_eq!(Mark::from_bytes(&mark.to_bytes()), Some(mark));
        for strange in [&b""[..], b"1", &[0; 23], &[0; 25]] {
            assert_eq!(Mark::from_bytes(strange), None);
        }
    }
}
