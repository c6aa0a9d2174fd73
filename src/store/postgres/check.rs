//! What a server must be before it is trusted with events: looked at on every new connection.

use tokio_postgres::Client;

use super::error::Trouble;
use crate::store::StoreError;

/// The first Postgres this store is written for.
const VERSION_MIN: i32 = 130_000;

/// What a server was found to be that is strong enough.
#[derive(Debug)]
pub(super) struct Found {
    /// What a commit must wait for, at least.
    pub(super) synchronous_commit: &'static str,
    /// The standbys it waits for beside its own disk; empty if there are none.
    pub(super) standbys: String,
}

/// In one line, what a yes survives, with these standbys.
pub(super) fn survives(standbys: Option<&str>) -> String {
    let own =
        "a crash of postgres and a power cut: every commit is on its disk before it is answered";
    match standbys {
        None | Some("") => own.to_owned(),
        Some(names) => format!(
            "{own}, and on the standbys that synchronous_standby_names asks for ({names}), so it survives \
             the loss of the primary too"
        ),
    }
}

/// Refuses a server that does not keep a yes: every reason at once.
pub(super) async fn server(client: &Client) -> Result<Found, Trouble> {
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::integer, current_setting('fsync'),
                 pg_is_in_recovery(), current_setting('server_encoding'),
                 current_setting('synchronous_commit'), current_setting('synchronous_standby_names')",
            &[],
        )
        .await?;
    let is_standby: bool = row.try_get(2)?;
    let problems = problems(row.try_get(0)?, row.try_get(1)?, is_standby, row.try_get(3)?);
    if !problems.is_empty() {
        let error = StoreError::Weak(problems.join("; "));
        return Err(Trouble { error, is_of_one: false, is_connected: false });
    }
    // What the server's owner asks for beyond our need is kept.
    let synchronous_commit = match row.try_get(4)? {
        "remote_apply" => "remote_apply",
        _ => "on",
    };
    Ok(Found { synchronous_commit, standbys: row.try_get(5)? })
}

fn problems(version: i32, fsync: &str, is_standby: bool, encoding: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if version < VERSION_MIN {
        problems.push(format!("postgres {} is too old: run 13 or newer", version / 10_000));
    }
    if fsync != "on" {
        problems.push(format!(
            "fsync is {fsync}: a power cut would lose answered events; set it to on"
        ));
    }
    if is_standby {
        problems.push("it is a standby, which takes no writes: name the primary".to_owned());
    }
    if encoding != "UTF8" {
        problems.push(format!("the encoding of the database is {encoding}: make one with UTF8"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_told_at_once() {
        let found = problems(120_004, "off", true, "LATIN1");
        assert_eq!(found.len(), 4);
        assert!(found[0].starts_with("postgres 12 is too old"));
        assert!(problems(150_000, "on", false, "UTF8").is_empty());
    }
}
