//! Counting: a batch sums up what it changed, and adds it to the table once, before its COMMIT.

use std::{collections::BTreeMap, sync::Arc};

use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    delivery::State,
    store::{Counts, Stats},
};

/// What a batch has changed so far, by source and handler. No handler: it is about events only.
#[derive(Debug, Default)]
pub(super) struct Counted(BTreeMap<(Arc<str>, Option<Arc<str>>), Change>);

/// How far each counter and gauge has moved. The names are those of [`Counts`].
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) events: i64,
    pub(super) duplicates: i64,
    pub(super) held: i64,
    pub(super) shadow: i64,
    pub(super) unrouted: i64,
    pub(super) done: i64,
    pub(super) dead: i64,
    pub(super) queued: i64,
    pub(super) leased: i64,
    pub(super) dead_now: i64,
    pub(super) held_now: i64,
}

impl Counted {
    /// What is about the events of a source.
    pub(super) fn of_events(&mut self, source: &Arc<str>) -> &mut Change {
        self.0.entry((Arc::clone(source), None)).or_default()
    }

    /// What is about the deliveries of a source to a handler.
    pub(super) fn of_deliveries(&mut self, source: &Arc<str>, handler: &Arc<str>) -> &mut Change {
        self.0.entry((Arc::clone(source), Some(Arc::clone(handler)))).or_default()
    }

    /// How many events a source holds, with what this batch did.
    pub(super) fn held_now(
        &mut self,
        connection: &Connection,
        source: &Arc<str>,
    ) -> rusqlite::Result<u64> {
        let sql = "SELECT held_now FROM counts WHERE source = ?1 AND handler = ''";
        let before: Option<i64> =
            connection.prepare_cached(sql)?.query_row([source], |row| row.get(0)).optional()?;
        let now = before.unwrap_or(0) + self.of_events(source).held_now;
        Ok(u64::try_from(now).unwrap_or(0))
    }

    /// Adds the sums to the table.
    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut add = connection.prepare_cached(
            "INSERT INTO counts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
             ON CONFLICT DO UPDATE SET
                 events = events + ?3, duplicates = duplicates + ?4, held = held + ?5,
                 unrouted = unrouted + ?6, done = done + ?7, dead = dead + ?8,
                 queued = queued + ?9, leased = leased + ?10,
                 dead_now = dead_now + ?11, held_now = held_now + ?12,
                 shadow = shadow + ?13",
        )?;
        for ((source, handler), change) in &self.0 {
            add.execute(params![
                source,
                handler.as_deref().unwrap_or_default(),
                change.events,
                change.duplicates,
                change.held,
                change.unrouted,
                change.done,
                change.dead,
                change.queued,
                change.leased,
                change.dead_now,
                change.held_now,
                change.shadow,
            ])?;
        }
        Ok(())
    }
}

impl Change {
    /// The gauge or counter of deliveries that are in this state.
    pub(super) fn gauge(&mut self, state: State) -> &mut i64 {
        match state {
            State::Queued => &mut self.queued,
            State::Leased => &mut self.leased,
            State::Done => &mut self.done,
            State::Dead => &mut self.dead_now,
        }
    }
}

/// The counters and gauges as they are committed.
pub(super) fn stats(connection: &Connection) -> rusqlite::Result<Stats> {
    Ok(Stats::summed(all(connection)?))
}

/// The same, one by one: by source and handler.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<((String, String), Counts)>> {
    let mut select = connection.prepare_cached("SELECT * FROM counts")?;
    let rows = select.query_map([], |row| {
        let counts = Counts {
            events: row.get("events")?,
            duplicates: row.get("duplicates")?,
            held: row.get("held")?,
            shadow: row.get("shadow")?,
            unrouted: row.get("unrouted")?,
            done: row.get("done")?,
            dead: row.get("dead")?,
            queued: row.get("queued")?,
            leased: row.get("leased")?,
            dead_now: row.get("dead_now")?,
            held_now: row.get("held_now")?,
        };
        Ok(((row.get("source")?, row.get("handler")?), counts))
    })?;
    rows.collect()
}
