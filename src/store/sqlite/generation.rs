//! Whether the file is the one that was left: an older copy, or another file in its place, is noticed.

use std::{path::Path, sync::Arc, time::Duration};

use rusqlite::{Connection, OptionalExtension as _};
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

/// Makes the file another one than it was: somebody accepted that it has forgotten something.
pub(super) fn renew(connection: &Connection) -> Result<(), StoreError> {
    connection.execute("UPDATE generation SET id = ?1", [Uuid::now_v7().simple().to_string()])?;
    Ok(())
}

/// Lets the counter of a file rise, and remembers it.
pub(super) struct Riser {
    seen: Arc<Seen>,
    generation: Generation,
    risen_at: Duration,
}

impl Riser {
    /// Looks whether the file is what it was when it was last seen.
    ///
    /// # Errors
    /// [`StoreError::Forgotten`] when it is not.
    pub(super) fn meet(
        connection: &Connection,
        seen: Arc<Seen>,
        clock: &dyn Clock,
    ) -> Result<Self, StoreError> {
        let read =
            |row: &rusqlite::Row<'_>| Ok(Generation { id: row.get(0)?, counter: row.get(1)? });
        let sql = "SELECT id, counter FROM generation";
        let found = connection.query_row(sql, [], read).optional()?;
        let forgotten = |what: &str| {
            Err(StoreError::Forgotten(format!("the file {what} when it was last seen")))
        };
        let generation = match (found, seen.of("")) {
            (None, Some(_)) => return forgotten("is new, and was not"),
            (Some(found), Some(last)) if found.id != last.id => {
                return forgotten("is another one than");
            }
            (Some(found), Some(last)) if found.counter < last.counter => {
                return forgotten("is older than");
            }
            (Some(found), _) => found,
            (None, None) => {
                let id = Uuid::now_v7().simple().to_string();
                connection.execute("INSERT INTO generation VALUES (?1, 0)", [&id])?;
                Generation { id, counter: 0 }
            }
        };
        let mut riser = Self { seen, generation, risen_at: clock.monotonic() };
        riser.rise_or_say(connection, clock); // a full disk is told by whoever writes
        Ok(riser)
    }

    /// Lets the counter rise where it is time to.
    pub(super) fn rise_in_time(&mut self, connection: &Connection, clock: &dyn Clock) {
        if clock.monotonic().saturating_sub(self.risen_at) < RISE_INTERVAL {
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
