//! The tables: a schema of our own in the database, and its versions.
//!
//! A program writes and reads one version of it. A database that has none gets it with the first
//! connection; a later version is only ever made by `hookonce migrate`, so that nothing changes under
//! the processes that still run.

use tokio_postgres::Client;

use super::error::Trouble;
use crate::store::StoreError;

/// What makes each version out of the one before, from an empty schema on.
const STEPS: &[&str] = &[include_str!("schema.sql"), include_str!("schema_2.sql")];

/// Whoever changes the schema holds this lock: `hookonce` in ASCII.
const LOCK: i64 = 0x686f_6f6b_6f6e_6365;

/// What a migration found and left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The version before; `None` where there was no schema.
    pub from: Option<i64>,
    /// The version now.
    pub to: i64,
}

/// Makes our schema where there is none, and refuses one of another version than ours.
pub(super) async fn make_if_new(client: &Client) -> Result<(), Trouble> {
    client.batch_execute("SET search_path = hookonce").await?;
    match found(client).await? {
        None => migrate(client).await.map(drop),
        Some(version) if version == known() => Ok(()),
        Some(version) if version > known() => Err(newer(version)),
        Some(version) => Err(refused(StoreError::Failed(format!(
            "its schema is version {version}, and this program writes {}: run `hookonce migrate`",
            known()
        )))),
    }
}

/// Brings the schema to our version, from whichever it is. Two at once wait for each other.
pub(super) async fn migrate(client: &Client) -> Result<Migrated, Trouble> {
    client.batch_execute("SET search_path = hookonce").await?;
    // Before the transaction begins: within one, a session may go on believing that there is no schema.
    client.query("SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
    client.batch_execute("BEGIN").await?;
    let from = found(client).await?;
    if from.is_none() {
        let make = "CREATE SCHEMA IF NOT EXISTS hookonce;
            CREATE TABLE schema_version (version bigint NOT NULL);
            INSERT INTO schema_version VALUES (0)";
        client.batch_execute(make).await?;
    }
    let done = from.unwrap_or(0);
    if done > known() {
        return Err(newer(done));
    }
    for step in STEPS.iter().skip(usize::try_from(done).unwrap_or(0)) {
        client.batch_execute(step).await?;
    }
    client.execute("UPDATE schema_version SET version = $1", &[&known()]).await?;
    client.batch_execute("COMMIT").await?;
    // After an error it is the end of the connection that lets go of it.
    client.query("SELECT pg_advisory_unlock($1)", &[&LOCK]).await?;
    Ok(Migrated { from, to: known() })
}

/// Whether our tables are there, of whichever version.
pub(super) async fn is_there(client: &Client) -> Result<bool, Trouble> {
    let is_there = "SELECT to_regclass('hookonce.schema_version') IS NOT NULL";
    Ok(client.query_one(is_there, &[]).await?.try_get(0)?)
}

async fn found(client: &Client) -> Result<Option<i64>, Trouble> {
    if !is_there(client).await? {
        return Ok(None);
    }
    let row = client.query_opt("SELECT version FROM schema_version", &[]).await?;
    let row = row.ok_or_else(|| Trouble::odd("its schema_version is empty"))?;
    Ok(Some(row.try_get(0)?))
}

/// The version this program writes and reads.
fn known() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

fn newer(found: i64) -> Trouble {
    refused(StoreError::Newer { found, known: known() })
}

fn refused(error: StoreError) -> Trouble {
    Trouble { error, is_of_one: false, is_connected: false }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_numbers_of_states_are_those_the_indexes_are_made_for() {
        use crate::{delivery::State, event::EventState, store::postgres::codes};
        let sql = include_str!("schema.sql");
        for (state, index) in [
            (State::Queued, "deliveries_queued ON deliveries (handler, due_at, id)"),
            (State::Leased, "deliveries_leased ON deliveries (handler, due_at, id)"),
            (State::Dead, "deliveries_dead ON deliveries (id, handler)"),
        ] {
            let line = format!("{index} WHERE state = {};", codes::of_state(state));
            assert!(sql.contains(&line), "{line}");
        }
        let few = [EventState::Open, EventState::Dead, EventState::Held].map(codes::of_event_state);
        assert_eq!(few, [0, 2, 4]);
    }
}
