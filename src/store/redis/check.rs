//! What a server must be before it is trusted with events: looked at on every new connection.

use redis::{InfoDict, aio::MultiplexedConnection};

use super::{connection::store_error, keys::Bucket, scripts};
use crate::store::{Durability, StoreError};

/// In one line, what a yes survives.
pub(super) fn survives(durability: Durability, may_fail_over: bool) -> &'static str {
    match durability {
        Durability::Always if may_fail_over => {
            "a crash of redis and a power cut: every write is on its disk before it is answered; when a \
             replica takes over, what it had not got yet is lost"
        }
        Durability::Always => {
            "a crash of redis and a power cut: every write is on its disk before it is answered"
        }
        Durability::Replicated => {
            "a power cut, and the loss of the primary: every write is on its disk, and a replica has it, \
             before it is answered"
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
    let replication = info(connection, "replication").await?;
    if replication.get::<String>("role").as_deref() != Some("master") {
        // It may be about to become one, or the one that was named has just ceased to be one.
        return Err(StoreError::Unavailable("redis is a replica, and takes no writes".to_owned()));
    }
    let mut problems = problems(
        durability,
        &memory.get::<String>("maxmemory_policy").unwrap_or_default(),
        persistence.get::<u8>("aof_enabled") == Some(1),
        appendfsync(connection, durability).await?.as_deref(),
    );
    // It is only told where both settings about it are at least one, also where CONFIG is forbidden.
    let needs_replicas = replication.get::<u64>("min_slaves_good_slaves").is_some();
    if durability == Durability::Replicated && !needs_replicas {
        problems.push(
            "min-replicas-to-write is 0: a primary that is cut off would go on; set it to 1 or more"
                .to_owned(),
        );
    }
    if problems.is_empty() { Ok(()) } else { Err(StoreError::Weak(problems.join("; "))) }
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
    if durability != Durability::Relaxed {
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

/// Refuses a user who may not run what we run: every command at once. The scripts are loaded on the
/// way, so that one that this server does not understand is found now.
pub(super) async fn user(
    connection: &mut MultiplexedConnection,
    bucket: &Bucket,
) -> Result<(), StoreError> {
    for script in scripts::WORKING {
        script.load_async(connection).await.map_err(|error| store_error(&error))?;
    }
    let scratch = bucket.key("~", b"");
    let asked = scripts::PROBE.key(scratch).invoke_async(connection).await;
    let forbidden: Vec<String> = asked.map_err(|error| store_error(&error))?;
    if forbidden.is_empty() {
        return Ok(());
    }
    let commands = forbidden.join(", ");
    Err(StoreError::Failed(format!(
        "redis forbids our user {commands}: allow them with ACL SETUSER"
    )))
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
