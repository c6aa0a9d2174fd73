//! What a server must be before it is trusted with events: looked at on every new connection.

use redis::{InfoDict, aio::MultiplexedConnection};

use super::connection::store_error;
use crate::store::{Durability, StoreError};

/// The schema this program writes.
const SCHEMA: i64 = 1;

/// In one line, what a yes survives.
pub(super) fn survives(durability: Durability) -> &'static str {
    match durability {
        Durability::Always => {
            "a crash of redis and a power cut: every write is on its disk before it is answered"
        }
        Durability::Relaxed => {
            "a restart of this process; a crash of the redis machine may lose the last seconds, or all \
             since its last snapshot where redis keeps no append-only file"
        }
    }
}

/// Refuses a server that does not keep what `durability` promises: every reason at once.
pub(super) async fn server(
    connection: &mut MultiplexedConnection,
    durability: Durability,
) -> Result<(), StoreError> {
    let memory = info(connection, "memory").await?;
    let persistence = info(connection, "persistence").await?;
    let problems = problems(
        durability,
        &memory.get::<String>("maxmemory_policy").unwrap_or_default(),
        persistence.get::<u8>("aof_enabled") == Some(1),
        appendfsync(connection, durability).await?.as_deref(),
    );
    if !problems.is_empty() {
        return Err(StoreError::Weak(problems.join("; ")));
    }
    schema(connection).await
}

fn problems(
    durability: Durability,
    policy: &str,
    aof_enabled: bool,
    appendfsync: Option<&str>,
) -> Vec<String> {
    let mut problems = Vec::new();
    if policy != "noeviction" {
        problems.push(format!(
            "maxmemory-policy is {policy}: events would vanish when memory is full; set it to noeviction"
        ));
    }
    if durability == Durability::Always {
        if !aof_enabled {
            problems.push("appendonly is no: a crash would lose events; set it to yes".to_owned());
        }
        if let Some(policy) = appendfsync.filter(|policy| *policy != "always") {
            problems.push(format!(
                "appendfsync is {policy}: a power cut would lose answered events; set it to always, or \
                 durability to \"relaxed\""
            ));
        }
    }
    problems
}

async fn info(
    connection: &mut MultiplexedConnection,
    section: &str,
) -> Result<InfoDict, StoreError> {
    let asked = redis::cmd("INFO").arg(section).query_async(connection).await;
    asked.map_err(|error| store_error(&error))
}

/// How writes reach the disk, where that matters. `None` where CONFIG is forbidden: nothing else tells.
async fn appendfsync(
    connection: &mut MultiplexedConnection,
    durability: Durability,
) -> Result<Option<String>, StoreError> {
    if durability == Durability::Relaxed {
        return Ok(None);
    }
    let asked: Result<(String, String), _> =
        redis::cmd("CONFIG").arg("GET").arg("appendfsync").query_async(connection).await;
    match asked {
        Ok((_, policy)) => Ok(Some(policy)),
        Err(error) if error.is_io_error() => Err(store_error(&error)),
        Err(error) => {
            let error = store_error(&error).to_string();
            tracing::warn!(
                error,
                "redis does not say what appendfsync is; it is taken to be always, as durability asks for"
            );
            Ok(None)
        }
    }
}

/// Refuses a store that a newer program has written, and signs an empty one.
async fn schema(connection: &mut MultiplexedConnection) -> Result<(), StoreError> {
    const KEY: &str = "h:schema";
    let found: Option<i64> = redis::cmd("GET")
        .arg(KEY)
        .query_async(connection)
        .await
        .map_err(|error| store_error(&error))?;
    match found {
        Some(found) if found > SCHEMA => Err(StoreError::Newer { found, known: SCHEMA }),
        Some(_) => Ok(()),
        None => {
            let signed: Result<(), _> =
                redis::cmd("SET").arg(KEY).arg(SCHEMA).arg("NX").query_async(connection).await;
            // A server that is full cannot be signed now, and can still be drained.
            match signed.map_err(|error| store_error(&error)) {
                Err(StoreError::Full(_)) | Ok(()) => Ok(()),
                Err(error) => Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_told_at_once() {
        let found = problems(Durability::Always, "allkeys-lru", false, Some("everysec"));
        assert_eq!(found.len(), 3);
        assert!(found[0].starts_with("maxmemory-policy is allkeys-lru: events would vanish"));
    }

    #[test]
    fn relaxed_asks_for_no_file_but_never_evicts() {
        assert!(problems(Durability::Relaxed, "noeviction", false, Some("everysec")).is_empty());
        assert_eq!(problems(Durability::Relaxed, "volatile-ttl", true, None).len(), 1);
    }

    #[test]
    fn where_config_is_forbidden_the_append_only_file_must_still_be_on() {
        assert!(problems(Durability::Always, "noeviction", true, None).is_empty());
        assert_eq!(problems(Durability::Always, "noeviction", false, None).len(), 1);
    }
}
