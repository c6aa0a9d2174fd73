//! Counting: a transaction sums up what it changed and adds one row for each source and handler.
//!
//! No row is ever changed. One that every transaction changes would make them wait for each other, and
//! would grow a chain of old versions while somebody else keeps a transaction open.

use std::{collections::BTreeMap, sync::Arc};

use tokio_postgres::{Row, types::ToSql};

use super::{
    codes::{get, number},
    connection::Turn,
    error::Trouble,
};
use crate::{
    delivery::State,
    store::{Counts, Stats},
};

/// What a transaction has changed so far, by source and handler. No handler: it is about events only.
#[derive(Debug, Default)]
pub(super) struct Counted(BTreeMap<(Arc<str>, Option<Arc<str>>), Change>);

/// How far each counter and gauge has moved. The names are those of [`Counts`].
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) events: i64,
    pub(super) duplicates: i64,
    pub(super) held: i64,
    pub(super) unrouted: i64,
    pub(super) done: i64,
    pub(super) dead: i64,
    pub(super) queued: i64,
    pub(super) leased: i64,
    pub(super) dead_now: i64,
    pub(super) held_now: i64,
    pub(super) shadow: i64,
}

/// The statements of this file that a lane which writes needs.
pub(super) const STATEMENTS: &[&str] = &[ADD];

/// What a lane needs beside them that takes over what another store has counted.
pub(super) const MOVING_STATEMENTS: &[&str] = &[FORGET];

const ADD: &str = "INSERT INTO counts SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[],
    $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
    $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[])";

const FORGET: &str =
    "DELETE FROM counts USING unnest($1::text[], $2::text[]) AS again(source, handler)
    WHERE counts.source = again.source AND counts.handler = again.handler";

/// Puts one row in the place of all of a source and handler. What is added at the same time stays.
pub(super) const SUM_UP: &str = "WITH gone AS (DELETE FROM counts RETURNING *)
    INSERT INTO counts
    SELECT source, handler, sum(events), sum(duplicates), sum(held), sum(unrouted), sum(done),
        sum(dead), sum(queued), sum(leased), sum(dead_now), sum(held_now), sum(shadow)
    FROM gone GROUP BY source, handler";

/// The sums as they are committed.
pub(super) const STATS: &str = "SELECT source, handler, sum(events)::bigint AS events,
        sum(duplicates)::bigint AS duplicates, sum(held)::bigint AS held,
        sum(unrouted)::bigint AS unrouted, sum(done)::bigint AS done, sum(dead)::bigint AS dead,
        sum(queued)::bigint AS queued, sum(leased)::bigint AS leased,
        sum(dead_now)::bigint AS dead_now, sum(held_now)::bigint AS held_now,
        sum(shadow)::bigint AS shadow
    FROM counts GROUP BY source, handler";

impl Counted {
    /// What is about the events of a source.
    pub(super) fn of_events(&mut self, source: &Arc<str>) -> &mut Change {
        self.0.entry((Arc::clone(source), None)).or_default()
    }

    /// What is about the deliveries of a source to a handler.
    pub(super) fn of_deliveries(&mut self, source: &Arc<str>, handler: &Arc<str>) -> &mut Change {
        self.0.entry((Arc::clone(source), Some(Arc::clone(handler)))).or_default()
    }

    /// What another store has counted of a source and a handler, which is empty for events.
    pub(super) fn take_over(&mut self, source: &str, handler: &str, counts: &Counts) {
        let handler = (!handler.is_empty()).then(|| handler.into());
        let of = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let change = Change {
            events: of(counts.events),
            duplicates: of(counts.duplicates),
            held: of(counts.held),
            unrouted: of(counts.unrouted),
            done: of(counts.done),
            dead: of(counts.dead),
            queued: of(counts.queued),
            leased: of(counts.leased),
            dead_now: of(counts.dead_now),
            held_now: of(counts.held_now),
            shadow: of(counts.shadow),
        };
        self.0.insert((source.into(), handler), change);
    }

    /// Puts this in the place of what the table has for the same sources and handlers.
    pub(super) async fn replace(&self, turn: &Turn<'_>) -> Result<(), Trouble> {
        if self.0.is_empty() {
            return Ok(());
        }
        let sources: Vec<&str> = self.0.keys().map(|(source, _)| &**source).collect();
        let handlers: Vec<&str> =
            self.0.keys().map(|(_, handler)| handler.as_deref().unwrap_or("")).collect();
        turn.execute(FORGET, &[&sources, &handlers]).await?;
        self.add(turn).await
    }

    /// Adds what moved to the table.
    pub(super) async fn add(&self, turn: &Turn<'_>) -> Result<(), Trouble> {
        let changed: Vec<_> =
            self.0.iter().filter(|(_, change)| change.numbers() != [0; 11]).collect();
        if changed.is_empty() {
            return Ok(());
        }
        let sources: Vec<&str> = changed.iter().map(|((source, _), _)| &**source).collect();
        let handlers: Vec<&str> =
            changed.iter().map(|((_, handler), _)| handler.as_deref().unwrap_or("")).collect();
        let mut columns: [Vec<i64>; 11] = Default::default();
        for (_, change) in &changed {
            for (column, number) in columns.iter_mut().zip(change.numbers()) {
                column.push(number);
            }
        }
        let [c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11] = &columns;
        let values: [&(dyn ToSql + Sync); 13] =
            [&sources, &handlers, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11];
        turn.execute(ADD, &values).await.map(drop)
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

    /// In the order of the table's columns.
    fn numbers(&self) -> [i64; 11] {
        [
            self.events,
            self.duplicates,
            self.held,
            self.unrouted,
            self.done,
            self.dead,
            self.queued,
            self.leased,
            self.dead_now,
            self.held_now,
            self.shadow,
        ]
    }
}

/// What [`STATS`] says.
pub(super) fn stats(rows: &[Row]) -> Result<Stats, Trouble> {
    let counted =
        rows.iter().map(|row| Ok(((get(row, "source")?, get(row, "handler")?), counts(row)?)));
    Ok(Stats::summed(counted.collect::<Result<Vec<_>, Trouble>>()?))
}

/// The sums of one source and handler.
pub(super) fn counts(row: &Row) -> Result<Counts, Trouble> {
    Ok(Counts {
        events: number(row, "events")?,
        duplicates: number(row, "duplicates")?,
        held: number(row, "held")?,
        unrouted: number(row, "unrouted")?,
        done: number(row, "done")?,
        dead: number(row, "dead")?,
        queued: number(row, "queued")?,
        leased: number(row, "leased")?,
        dead_now: number(row, "dead_now")?,
        held_now: number(row, "held_now")?,
        shadow: number(row, "shadow")?,
    })
}
