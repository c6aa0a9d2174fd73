//! Keys on their way from one store to another.

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::{stage, verbs};
use crate::{
    clock::Timestamp,
    key::{Fingerprint, KeyScope},
    limits,
    store::{
        moving::{Cursor, KeyCopy, KeyStage, Record},
        sqlite::{codes, writer::Work},
    },
};

/// A page of keys that are not over, and where the next one begins.
pub(in crate::store::sqlite) fn export(
    connection: &Connection,
    from: &Cursor,
    now: Timestamp,
) -> rusqlite::Result<(Vec<Record>, Option<Cursor>)> {
    let mut select = connection.prepare_cached(
        "SELECT number, api, method, path, principal, key, fingerprint, owner, stage, begun_at,
             lease_until, completed_at, expires_at, replays, note
         FROM keyed WHERE number > ?1 AND (expires_at IS NULL OR expires_at > ?2)
         ORDER BY number LIMIT ?3",
    )?;
    let after = from.after.as_slice().try_into().map_or(0, i64::from_be_bytes);
    let mut rows = select.query(params![after, now.as_millis(), limits::EXPORT_ROWS])?;
    let (mut records, mut next, mut bytes) = (Vec::new(), None, 0);
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        let stage = match row.get(8)? {
            stage::COMPLETED => KeyStage::Completed {
                response: verbs::response(connection, number)?,
                completed_at: codes::time(row, 11)?,
                expires_at: codes::time(row, 12)?,
            },
            stage::MARKED_UNKNOWN => KeyStage::MarkedUnknown,
            _ => KeyStage::Begun,
        };
        let record = Record::Key(Box::new(KeyCopy {
            scope: KeyScope {
                api: row.get(1)?,
                method: row.get(2)?,
                path: row.get(3)?,
                principal: row.get(4)?,
                key: row.get(5)?,
            },
            fingerprint: Fingerprint::from_bytes(row.get(6)?),
            owner: codes::some_uuid(row, 7)?,
            stage,
            begun_at: codes::time(row, 9)?,
            lease_until: codes::time(row, 10)?,
            replays: row.get(13)?,
            note: row.get(14)?,
        }));
        bytes += record.bytes();
        records.push(record);
        next = Some(from.behind(number.to_be_bytes()));
        if bytes >= limits::BATCH_BYTES_MAX {
            break;
        }
    }
    Ok((records, next))
}

impl Work<'_> {
    /// Writes a key that another store has given away. One that is there came whole.
    pub(in crate::store::sqlite) fn import_key(&self, copy: &KeyCopy) -> rusqlite::Result<()> {
        let (stage, completed_at) = match &copy.stage {
            KeyStage::Begun => (stage::BEGUN, None),
            KeyStage::MarkedUnknown => (stage::MARKED_UNKNOWN, None),
            KeyStage::Completed { completed_at, .. } => (stage::COMPLETED, Some(completed_at)),
        };
        let scope = &copy.scope;
        let inserted = self
            .connection
            .prepare_cached(
                "INSERT OR IGNORE INTO keyed VALUES
                 (NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            )?
            .execute(params![
                scope.id().as_bytes(),
                scope.api,
                scope.method,
                scope.path,
                scope.principal,
                scope.key,
                copy.fingerprint.as_bytes(),
                copy.owner.as_ref().map(Uuid::as_bytes),
                stage,
                copy.begun_at.as_millis(),
                copy.lease_until.as_millis(),
                completed_at.map(|at| at.as_millis()),
                copy.expires_at().map(Timestamp::as_millis),
                copy.replays,
                copy.note,
            ])?;
        match copy.response().filter(|_| inserted > 0) {
            Some(response) => self.save_response(self.connection.last_insert_rowid(), response),
            None => Ok(()),
        }
    }
}
