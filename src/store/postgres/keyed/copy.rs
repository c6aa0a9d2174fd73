//! Keys on their way from one store to another.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Row, types::ToSql};

use super::{
    super::{
        codes::{self, get, number},
        connection::Turn,
        delivery::column,
        error::Trouble,
        export::{Page, that_fit},
    },
    batch,
    kept::{self, Kept, Stage},
};
use crate::{
    key::{KeyId, SavedResponse},
    limits,
    store::moving::{Cursor, KeyCopy, KeyStage, Record},
};

/// The statements of this file.
pub(in crate::store::postgres) const MOVING_STATEMENTS: &[&str] = &[SIZES, KEYS, KNOWN];

const SIZES: &str = "SELECT id, (coalesce(octet_length(headers), 0)
        + coalesce(octet_length(body), 0))::bigint AS bytes
    FROM keyed LEFT JOIN saved_responses USING (id)
    WHERE id > $1 AND (expires_at IS NULL OR expires_at > (SELECT now_ms()))
    ORDER BY id LIMIT $2";

const KEYS: &str = "SELECT * FROM keyed WHERE id = ANY($1) ORDER BY id";

const KNOWN: &str = "SELECT id FROM keyed WHERE id = ANY($1)";

/// A page of keys that are not over, and where the next one begins.
pub(in crate::store::postgres) async fn export(
    turn: &Turn<'_>,
    from: &Cursor,
) -> Result<Page, Trouble> {
    let rows = turn.query(SIZES, &[&from.after, &codes::of_number(limits::EXPORT_ROWS)]).await?;
    let sizes = rows.iter().map(|row| Ok((get::<Vec<u8>>(row, "id")?, number(row, "bytes")?)));
    let ids = that_fit(sizes.collect::<Result<_, Trouble>>()?);
    let Some(last) = ids.last() else { return Ok((Vec::new(), None)) };
    let next = from.behind(last.as_slice());
    let those = [&ids as &(dyn ToSql + Sync)];
    let (rows, responses) =
        tokio::try_join!(biased; turn.query(KEYS, &those), turn.query(batch::RESPONSES, &those))?;
    let mut responses: BTreeMap<KeyId, SavedResponse> =
        responses.iter().map(kept::response).collect::<Result<_, _>>()?;
    let mut record = |row: &Row| {
        let key = Kept::read(row)?;
        let response = responses.remove(&key.id);
        Ok(Record::Key(Box::new(copy(turn, Kept { response, ..key })?)))
    };
    Ok((rows.iter().map(&mut record).collect::<Result<_, Trouble>>()?, Some(next)))
}

/// Writes keys that another store has given away. One that is there came whole.
pub(in crate::store::postgres) async fn import(
    turn: &Turn<'_>,
    copies: &[&KeyCopy],
) -> Result<(), Trouble> {
    let ids = column(copies, |copy| copy.scope.id().as_bytes().to_vec());
    let rows = turn.query(KNOWN, &[&ids as &(dyn ToSql + Sync)]).await?;
    let known = rows.iter().map(|row| get(row, "id"));
    let known = known.collect::<Result<BTreeSet<Vec<u8>>, Trouble>>()?;
    let new = copies.iter().zip(&ids).filter(|(_, id)| !known.contains(*id));
    let new: Vec<Kept> = new.map(|(copy, _)| key(turn, copy)).collect();
    let rows: Vec<&Kept> = new.iter().collect();
    let saved: Vec<_> =
        new.iter().filter_map(|kept| Some((kept, kept.response.as_ref()?))).collect();
    batch::insert(turn, &rows).await?;
    batch::save(turn, &saved).await
}

/// A key as it goes out, in our own time.
fn copy(turn: &Turn<'_>, kept: Kept) -> Result<KeyCopy, Trouble> {
    let stage = match kept.stage {
        Stage::Begun => KeyStage::Begun,
        Stage::MarkedUnknown => KeyStage::MarkedUnknown,
        Stage::Completed => {
            let (Some(response), Some(completed_at), Some(expires_at)) =
                (kept.response, kept.completed_at, kept.expires_at)
            else {
                return Err(Trouble::odd("a completed key has no answer"));
            };
            KeyStage::Completed {
                response,
                completed_at: turn.to_ours(completed_at),
                expires_at: turn.to_ours(expires_at),
            }
        }
    };
    Ok(KeyCopy {
        scope: kept.scope,
        fingerprint: kept.fingerprint,
        owner: kept.owner,
        begun_at: turn.to_ours(kept.begun_at),
        lease_until: turn.to_ours(kept.lease_until),
        stage,
        note: kept.note,
        replays: kept.replays,
    })
}

/// A key as it is kept here, in the server's time.
fn key(turn: &Turn<'_>, copy: &KeyCopy) -> Kept {
    let (stage, completed_at) = match &copy.stage {
        KeyStage::Begun => (Stage::Begun, None),
        KeyStage::MarkedUnknown => (Stage::MarkedUnknown, None),
        KeyStage::Completed { completed_at, .. } => (Stage::Completed, Some(*completed_at)),
    };
    Kept {
        id: copy.scope.id(),
        scope: copy.scope.clone(),
        fingerprint: copy.fingerprint,
        owner: copy.owner,
        stage,
        begun_at: turn.to_server(copy.begun_at),
        lease_until: turn.to_server(copy.lease_until),
        completed_at: completed_at.map(|time| turn.to_server(time)),
        expires_at: copy.expires_at().map(|time| turn.to_server(time)),
        replays: copy.replays,
        note: copy.note.clone(),
        response: copy.response().cloned(),
    }
}
