//! Refused requests: kept by the writer, the oldest giving way, and read beside it.

use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};

use super::writer::Work;
use crate::{
    clock::Timestamp,
    limits,
    refusal::{RefusalId, Step},
    request::Headers,
    store::{Readmission, RefusalFilter, RefusalRow, Refused},
};

impl Work<'_> {
    /// See [`Refusals::keep_refusals`](crate::store::Refusals::keep_refusals).
    pub(super) fn keep_refusals(&self, refused: &[Refused]) -> rusqlite::Result<()> {
        for one in refused {
            self.keep_refusal(one)?;
            self.make_room(&one.row)?;
        }
        Ok(())
    }

    fn keep_refusal(&self, refused: &Refused) -> rusqlite::Result<()> {
        let row = &refused.row;
        self.connection
            .prepare_cached(
                "INSERT INTO refusals (id, source, step, received_at, bytes, kept, headers, sealed, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                row.id.as_bytes(),
                row.source,
                row.step.name(),
                row.received_at.as_millis(),
                refused.bytes(),
                json(row)?,
                refused.headers.to_lines(),
                refused.sealed,
                refused.body.as_deref(),
            ])?;
        Ok(())
    }

    fn make_room(&self, row: &RefusalRow) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "DELETE FROM refusals WHERE id IN (
                     SELECT id FROM refusals INDEXED BY refusals_of_source
                     WHERE source = ?1 AND step = ?2 ORDER BY id DESC LIMIT -1 OFFSET ?3)",
            )?
            .execute(params![row.source, row.step.name(), limits::REFUSALS_KEPT_MAX])?;
        self.connection
            .prepare_cached(
                "DELETE FROM refusals WHERE id IN (
                     SELECT id FROM (
                         SELECT id, sum(bytes) OVER (ORDER BY id DESC) AS together
                         FROM refusals INDEXED BY refusals_of_source WHERE source = ?1)
                     WHERE together > ?2)",
            )?
            .execute(params![row.source, limits::REFUSALS_KEPT_BYTES_MAX])?;
        Ok(())
    }

    /// See [`Refusals::note_readmitted`](crate::store::Refusals::note_readmitted).
    pub(super) fn note_readmitted(
        &self,
        id: RefusalId,
        readmission: &Readmission,
    ) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "UPDATE refusals SET readmitted = ?2 WHERE id = ?1 AND readmitted IS NULL",
            )?
            .execute(params![id.as_bytes(), json(readmission)?])?;
        Ok(())
    }

    /// Takes those away that were received before `before`. They are few: no lot is needed.
    pub(super) fn prune_refusals(&self, before: Timestamp) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("DELETE FROM refusals WHERE received_at < ?1")?
            .execute([before.as_millis()])?;
        Ok(())
    }
}

/// One page, newest first.
pub(super) fn page(
    connection: &Connection,
    filter: &RefusalFilter,
) -> rusqlite::Result<Vec<RefusalRow>> {
    let mut select = connection.prepare_cached(
        "SELECT kept, readmitted FROM refusals
         WHERE (?1 IS NULL OR id < ?1) AND (?2 IS NULL OR source = ?2) AND (?3 IS NULL OR step = ?3)
         ORDER BY id DESC LIMIT ?4",
    )?;
    let before = filter.before.map(|id| *id.as_bytes());
    let step = filter.step.map(Step::name);
    let rows = select.query_map(params![before, filter.source, step, filter.limit], row)?;
    rows.collect()
}

/// One, whole.
pub(super) fn one(connection: &Connection, id: RefusalId) -> rusqlite::Result<Option<Refused>> {
    connection
        .prepare_cached(
            "SELECT kept, readmitted, headers, sealed, body FROM refusals WHERE id = ?1",
        )?
        .query_row([id.as_bytes()], |columns| {
            Ok(Refused {
                row: row(columns)?,
                headers: Headers::from_lines(columns.get_ref(2)?.as_blob()?),
                sealed: columns.get(3)?,
                body: columns.get::<_, Option<Vec<u8>>>(4)?.map(Into::into),
            })
        })
        .optional()
}

fn row(columns: &Row<'_>) -> rusqlite::Result<RefusalRow> {
    let unread = |column, error: serde_json::Error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
    };
    let mut row: RefusalRow =
        serde_json::from_str(columns.get_ref(0)?.as_str()?).map_err(|error| unread(0, error))?;
    if let Some(text) = columns.get_ref(1)?.as_str_or_null()? {
        row.readmitted = Some(serde_json::from_str(text).map_err(|error| unread(1, error))?);
    }
    Ok(row)
}

fn json(data: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(data)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
