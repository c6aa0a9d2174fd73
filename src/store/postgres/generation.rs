//! Whether the database is what it was when it was last seen: an old dump or snapshot put back, or an
//! empty one in its place, is noticed.
//!
//! Every connection looks when it is opened and every few seconds after that. The counter rises by the
//! server's clock, in commits as durable as any other, so a crash or a power cut takes none of it back.

use std::sync::Arc;

use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::{codes::get, connection::Way, error::Trouble, schema};
use crate::store::{StoreError, generation::Generation};

/// Ours and those it replaces, the last one first.
const FOUND: &str = "SELECT id, counter FROM generations ORDER BY number DESC";

/// Lets the counter rise where nobody has for five seconds: each process would, and each rise leaves a
/// dead row behind. One that is under way is not waited for: it may wait for a standby that is away.
const RISE: &str = "UPDATE generations SET counter = greatest(counter + 1, now_ms())
    WHERE id IN (SELECT id FROM generations
        WHERE id = $1 AND counter + 5000 <= now_ms() FOR UPDATE SKIP LOCKED)
    RETURNING counter";

const BEGIN_ANOTHER: &str = "INSERT INTO generations (id, counter) VALUES ($1, $2)
    ON CONFLICT (id) DO NOTHING";

/// What a database is to whoever meets it.
#[derive(Debug, PartialEq, Eq)]
enum Met {
    New,
    Known,
    /// A person has accepted what was lost.
    Follows,
}

/// Whether a database without our tables may be given them: not if it had them before.
pub(super) fn may_be_new(way: &Way) -> Result<(), Trouble> {
    match way.seen.of("") {
        None => Ok(()),
        Some(_) => Err(forgotten("is empty, and was not when it was last seen")),
    }
}

/// Looks at the database, and remembers what was seen. Where `begin` says how a durable transaction
/// begins, it also lets the counter rise.
pub(super) async fn meet(way: &Way, client: &Client, begin: Option<&str>) -> Result<(), Trouble> {
    // Before the database is asked: what another connection sees meanwhile may be newer than its answer.
    let last = way.seen.of("");
    let found: Vec<Generation> =
        client.query(FOUND, &[]).await?.iter().map(generation).collect::<Result<_, _>>()?;
    let (met, mut current) = compare(&found, last.as_ref())?;
    match met {
        Met::New => tracing::warn!(
            "the store was empty, and this process has never seen it: it is used from now on. If it held \
             events before, they are lost"
        ),
        Met::Follows => tracing::warn!(
            "somebody has accepted that the store has lost what it held; it is used as it is"
        ),
        Met::Known => {}
    }
    if let Some(begin) = begin
        && let Some(counter) = rise(client, begin, &current.id).await?
    {
        current.counter = counter;
    }
    if way.seen.note("", current, way.clock.monotonic()) {
        let seen = Arc::clone(&way.seen);
        drop(tokio::task::spawn_blocking(move || seen.save()));
    }
    Ok(())
}

/// Begins a new generation, and remembers it: for whoever has accepted what was lost. It stands before
/// the one that was last seen, so that the other processes follow.
pub(super) async fn accept(way: &Way, client: &Client, begin: &str) -> Result<(), Trouble> {
    schema::make_if_new(client).await?;
    let id = Uuid::now_v7().simple().to_string();
    let last = way.seen.of("").unwrap_or(Generation { id: id.clone(), counter: 0 });
    client.batch_execute(begin).await?;
    client.execute(BEGIN_ANOTHER, &[&last.id, &last.counter]).await?;
    client.execute(BEGIN_ANOTHER, &[&id, &0_i64]).await?;
    client.batch_execute("COMMIT").await?;
    if way.seen.note("", Generation { id, counter: 0 }, way.clock.monotonic()) {
        way.seen.save();
    }
    Ok(())
}

/// The counter, if it has risen. A store that is full is told by whoever writes.
async fn rise(client: &Client, begin: &str, id: &str) -> Result<Option<i64>, Trouble> {
    client.batch_execute(begin).await?;
    match client.query_opt(RISE, &[&id]).await {
        Ok(row) => {
            client.batch_execute("COMMIT").await?;
            row.map(|row| get(&row, "counter")).transpose()
        }
        Err(error) => {
            client.batch_execute("ROLLBACK").await?;
            tracing::warn!(%error, "cannot write to the store that it has come further");
            Ok(None)
        }
    }
}

fn compare(found: &[Generation], last: Option<&Generation>) -> Result<(Met, Generation), Trouble> {
    let Some(current) = found.first() else {
        return Err(forgotten("does not say any more which one it is"));
    };
    let met = match last {
        None if current.counter == 0 => Met::New,
        None => Met::Known,
        Some(last) if last.id == current.id => {
            let back = last.counter.saturating_sub(current.counter);
            if back > 0 {
                return Err(forgotten(&format!("is {back} ms older than when it was last seen")));
            }
            Met::Known
        }
        Some(last) if found.iter().any(|one| one.id == last.id) => Met::Follows,
        Some(_) => return Err(forgotten("is another one than when it was last seen")),
    };
    Ok((met, current.clone()))
}

fn generation(row: &Row) -> Result<Generation, Trouble> {
    Ok(Generation { id: get(row, "id")?, counter: get(row, "counter")? })
}

fn forgotten(what: &str) -> Trouble {
    let error = StoreError::Forgotten(format!("the database {what}"));
    Trouble { error, is_of_one: false, is_connected: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_back_or_is_another_one_is_refused_and_what_was_accepted_is_not() {
        let at = |id: &str, counter| Generation { id: id.to_owned(), counter };
        let met = |found: &[Generation], last: Option<Generation>| {
            compare(found, last.as_ref()).ok().map(|(met, _)| met)
        };
        assert_eq!(met(&[at("a", 0)], None), Some(Met::New));
        assert_eq!(met(&[at("a", 7)], None), Some(Met::Known));
        assert_eq!(met(&[at("a", 7)], Some(at("a", 7))), Some(Met::Known));
        assert_eq!(met(&[at("a", 6)], Some(at("a", 7))), None);
        assert_eq!(met(&[at("b", 0), at("a", 6)], Some(at("a", 7))), Some(Met::Follows));
        assert_eq!(met(&[at("a", 9)], Some(at("b", 1))), None);
        assert_eq!(met(&[], Some(at("a", 7))), None);
    }
}
