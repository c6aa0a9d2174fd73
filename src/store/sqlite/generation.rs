//! Whether the file is the one that was left: an older copy, or another file in its place, is noticed.

use std::{path::Path, sync::Arc, time::Duration};

use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use crate::{
    clock::Clock,
    store::{
        StoreError,
        generation::{Generation, Seen},
    },
};

/// How often the counter rises while the store is written to.
const RISE_INTERVAL: Duration = Duration::from_secs(5);

/// How a file is known in the data folder.
pub(super) fn address(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    format!("sqlite:{}", path.display())
}

/// Makes the file another one than it was.
pub(super) fn renew(connection: &Connection) -> rusqlite::Result<Generation> {
    let generation = new_generation();
    write(connection, &generation)?;
    Ok(generation)
}

/// Looks whether the file is what it was when it was last seen, and lets its counter rise.
#[derive(Debug)]
pub(super) struct Riser {
    seen: Arc<Seen>,
    generation: Generation,
    risen_at: Duration,
    forgotten: Option<StoreError>,
}

impl Riser {
    /// Looks at the file. One that nobody has seen yet is taken as it is.
    pub(super) fn meet(
        connection: &Connection,
        seen: Arc<Seen>,
        clock: &dyn Clock,
    ) -> Result<Self, StoreError> {
        let read =
            |row: &rusqlite::Row<'_>| Ok(Generation { id: row.get(0)?, counter: row.get(1)? });
        let sql = "SELECT id, counter FROM generation";
        let found = connection.query_row(sql, [], read).optional()?;
        let what = match (&found, seen.of("")) {
            (None, Some(_)) => Some("is new, and was not"),
            (Some(found), Some(last)) if found.id != last.id => Some("is another one than"),
            (Some(found), Some(last)) if found.counter < last.counter => Some("is older than"),
            _ => None,
        };
        let forgotten = what
            .map(|what| StoreError::Forgotten(format!("the file {what} when it was last seen")));
        let is_new = found.is_none();
        let generation = found.unwrap_or_else(new_generation);
        let mut riser = Self { seen, generation, risen_at: clock.monotonic(), forgotten };
        if riser.forgotten.is_none() {
            if is_new {
                write(connection, &riser.generation)?;
            }
            riser.rise_or_say(connection, clock); // a full disk is told by whoever writes
        }
        Ok(riser)
    }

    /// Why nothing may be asked of the file before a person has accepted what it is now.
    pub(super) fn forgotten(&self) -> Option<&StoreError> {
        self.forgotten.as_ref()
    }

    /// A person accepts what the file is now: it becomes another one than it was. Says whether there was
    /// anything to accept.
    pub(super) fn accept(
        &mut self,
        connection: &Connection,
        clock: &dyn Clock,
    ) -> Result<bool, StoreError> {
        if self.forgotten.is_none() {
            return Ok(false);
        }
        (self.generation, self.forgotten) = (renew(connection)?, None);
        self.rise_or_say(connection, clock);
        Ok(true)
    }

    /// Lets the counter rise where it is time to.
    pub(super) fn rise_in_time(&mut self, connection: &Connection, clock: &dyn Clock) {
        if self.forgotten.is_some()
            || clock.monotonic().saturating_sub(self.risen_at) < RISE_INTERVAL
        {
            return;
        }
        self.risen_at = clock.monotonic();
        self.rise_or_say(connection, clock);
    }

    fn rise_or_say(&mut self, connection: &Connection, clock: &dyn Clock) {
        if let Err(error) = self.rise(connection, clock) {
            tracing::warn!(%error, "cannot write to the store that it has come further");
        }
    }

    fn rise(&mut self, connection: &Connection, clock: &dyn Clock) -> rusqlite::Result<()> {
        let counter = (self.generation.counter + 1).max(clock.now().as_millis());
        connection.execute("UPDATE generation SET counter = ?1", [counter])?;
        self.generation.counter = counter;
        if self.seen.note("", self.generation.clone(), clock.monotonic()) {
            self.seen.save();
        }
        Ok(())
    }
}

fn new_generation() -> Generation {
    Generation { id: Uuid::now_v7().simple().to_string(), counter: 0 }
}

fn write(connection: &Connection, generation: &Generation) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute("DELETE FROM generation", [])?;
    let Generation { id, counter } = generation;
    transaction.execute("INSERT INTO generation VALUES (?1, ?2)", params![id, counter])?;
    transaction.commit()
}
