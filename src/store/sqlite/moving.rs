//! Moving house: how the file stands, and the marks that came from another store.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::{
    CALL_BYTES, SqliteStore, codes,
    count::Counted,
    delivery, export, mixed_up,
    writer::{Answer, Call, Work},
};
use crate::{
    clock::{Clock, Timestamp},
    event::EventId,
    store::{
        StoreError,
        mark::MarkKey,
        moving::{Cursor, Moving, Record, Standing, Step},
    },
};

#[async_trait]
impl Moving for SqliteStore {
    async fn standing(&self) -> Result<Standing, StoreError> {
        self.readers.read(standing).await?
    }

    async fn step(&self, step: &Step) -> Result<Standing, StoreError> {
        // Once it hands over nothing is leased any more, so what is not live now is not live later.
        if matches!(step, Step::Seal(_)) && self.live().await? > 0 {
            return Err(StoreError::Moving("something in it still runs".to_owned()));
        }
        match self.writer.call(Call::Step(step.clone()), CALL_BYTES).await? {
            Answer::Standing(standing) => Ok(standing),
            _ => Err(mixed_up()),
        }
    }

    async fn live(&self) -> Result<u64, StoreError> {
        // A lease from before this process has no holder that could still end it.
        let (now, orphans) = (self.clock.now(), self.orphans.clone());
        let live = move |connection: &Connection| {
            let sql = "SELECT count(*) FROM deliveries INDEXED BY deliveries_leased
                 WHERE state = 1 AND due_at > ?1";
            let leased: u64 = connection.query_row(sql, [now.as_millis()], |row| row.get(0))?;
            let mut without_holder = 0;
            for lease in &orphans {
                let kept = delivery::find(connection, lease.delivery)?;
                let is_live = kept.is_some_and(|kept| kept.is_held_by(lease) && kept.due_at > now);
                without_holder += u64::from(is_live);
            }
            let sql = "SELECT count(*) FROM keyed INDEXED BY keyed_open
                 WHERE stage < 2 AND stage = 0 AND lease_until > ?1";
            let keys: u64 = connection.query_row(sql, [now.as_millis()], |row| row.get(0))?;
            Ok(leased - without_holder + keys)
        };
        self.readers.read(live).await
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        self.readers.read(is_empty).await
    }

    async fn size(&self) -> Result<u64, StoreError> {
        let size = |connection: &Connection| {
            let sql = "SELECT (SELECT count(*) FROM events)
                 + (SELECT count(*) FROM marks WHERE expires_at IS NOT NULL)
                 + (SELECT count(*) FROM digests WHERE expires_at IS NOT NULL)
                 + (SELECT count(*) FROM carried_marks) + (SELECT count(*) FROM keyed)";
            connection.query_row(sql, [], |row| row.get(0))
        };
        self.readers.read(size).await
    }

    async fn export(&self, from: &Cursor) -> Result<(Vec<Record>, Option<Cursor>), StoreError> {
        let (from, now) = (from.clone(), self.clock.now());
        self.readers.read(move |connection| export::page(connection, &from, now)).await
    }

    async fn import(&self, copy: Uuid, records: Vec<Record>) -> Result<(), StoreError> {
        let bytes = CALL_BYTES + records.iter().map(Record::bytes).sum::<usize>();
        self.writer.call(Call::Import(copy, records), bytes).await.map(drop)
    }
}

impl<'a> Work<'a> {
    /// Begins to work in a transaction that is open.
    pub(super) fn of(connection: &'a Connection, clock: &'a dyn Clock) -> rusqlite::Result<Self> {
        let has_carried_marks =
            connection.prepare_cached("SELECT 1 FROM carried_marks LIMIT 1")?.exists([])?;
        let standing = standing(connection)?;
        // What nobody can read serves nobody.
        let standing =
            standing.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        Ok(Self {
            connection,
            clock,
            counted: Counted::default(),
            standing,
            has_carried_marks,
            has_erased: false,
        })
    }
}

impl Work<'_> {
    /// See [`Moving::step`].
    pub(super) fn step(&mut self, step: &Step) -> rusqlite::Result<Result<Standing, StoreError>> {
        let after = match self.standing.after(step) {
            Ok(after) => after,
            Err(refused) => return Ok(Err(refused)),
        };
        if after == self.standing {
            return Ok(Ok(after));
        }
        if matches!(step, Step::Fill(_)) {
            if !is_empty(self.connection)? {
                return Ok(Err(StoreError::Moving("there are events in it already".to_owned())));
            }
            // What was said about handlers is not looked at there, and must not mix with what comes.
            self.connection.execute("DELETE FROM controls", [])?;
        }
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO moving VALUES (1, ?1)")?
            .execute([after.to_string()])?;
        self.standing = after.clone();
        Ok(Ok(after))
    }

    /// The event of a mark that came from another store. Its key is only made where there are any.
    pub(super) fn carried(
        &self,
        kind: i64,
        key: impl FnOnce() -> MarkKey,
    ) -> rusqlite::Result<Option<EventId>> {
        if !self.has_carried_marks {
            return Ok(None);
        }
        let sql = "SELECT event FROM carried_marks WHERE kind = ?1 AND key = ?2";
        self.connection
            .prepare_cached(sql)?
            .query_row(params![kind, key().as_bytes()], |row| codes::event_id(row, 0))
            .optional()
    }

    /// Takes carried marks away whose window is over. Says how many identities went.
    pub(super) fn forget_carried_marks(
        &self,
        now: Timestamp,
        lot: usize,
    ) -> rusqlite::Result<usize> {
        if !self.has_carried_marks {
            return Ok(0);
        }
        let sql = "DELETE FROM carried_marks WHERE (kind, key) IN (
                 SELECT kind, key FROM carried_marks INDEXED BY carried_marks_expiring
                 WHERE expires_at < ?1 LIMIT ?2) RETURNING kind";
        let mut forget = self.connection.prepare_cached(sql)?;
        let gone = forget.query_map(params![now.as_millis(), lot], |row| row.get::<_, i64>(0))?;
        let kinds: Vec<i64> = gone.collect::<Result<_, _>>()?;
        Ok(kinds.into_iter().filter(|kind| *kind == codes::MARK).count())
    }
}

fn standing(connection: &Connection) -> rusqlite::Result<Result<Standing, StoreError>> {
    let mut select = connection.prepare_cached("SELECT standing FROM moving")?;
    let kept: Option<String> = select.query_row([], |row| row.get(0)).optional()?;
    Ok(kept.map_or(Ok(Standing::Serving), |text| text.parse()))
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT NOT (EXISTS (SELECT 1 FROM events) OR EXISTS (SELECT 1 FROM marks)
         OR EXISTS (SELECT 1 FROM counts) OR EXISTS (SELECT 1 FROM keyed) OR EXISTS (SELECT 1 FROM carried_marks))";
    connection.query_row(sql, [], |row| row.get(0))
}
