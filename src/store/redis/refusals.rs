//! Refused requests: kept by a script, the oldest giving way.

use super::{
    admit::{json, unexpected},
    bucket::Served,
    connection::Session,
    scripts::{self, Call},
};
use crate::{
    clock::Timestamp,
    limits,
    refusal::RefusalId,
    request::Headers,
    store::{Readmission, RefusalFilter, RefusalRow, Refused, StoreError},
};

/// How many rows one round trip reads: without their bodies, they are short.
const PAGE: usize = 200;

/// How many old ones one prune takes away.
const PRUNE_LOT: usize = 200;

/// See [`Refusals::keep_refusals`](crate::store::Refusals::keep_refusals).
pub(super) async fn keep(served: &Served, refused: &[Refused]) -> Result<(), StoreError> {
    let session = served.connection.session().await?;
    let mut call = Call::of(&scripts::KEEP_REFUSALS, &session);
    call.arg(limits::REFUSALS_KEPT_MAX).arg(limits::REFUSALS_KEPT_BYTES_MAX);
    for one in refused {
        let row = &one.row;
        call.arg(row.id.as_bytes().as_slice())
            .arg(&*row.source)
            .arg(row.step.name())
            .arg(one.bytes())
            .arg(json(row)?)
            .arg(one.headers.to_lines())
            .arg(one.sealed.as_slice())
            .arg(one.body.as_deref().unwrap_or_default())
            .arg(u8::from(one.body.is_some()));
    }
    session.call(&call).await
}

/// See [`Refusals::refusals`](crate::store::Refusals::refusals).
pub(super) async fn page(
    served: &Served,
    filter: &RefusalFilter,
) -> Result<Vec<RefusalRow>, StoreError> {
    let key = match &filter.source {
        Some(source) => served.bucket.key("N", source.as_bytes()),
        None => served.bucket.key("P", b""),
    };
    let mut before = filter.before.map(|id| *id.as_bytes());
    let mut rows = Vec::new();
    while rows.len() < filter.limit {
        let session = served.connection.session().await?;
        let ids = ids_before(&session, &key, before).await?;
        rows.extend(rows_of(&session, &ids).await?.into_iter().filter(|row| filter.takes(row)));
        before = ids.last().copied();
        if ids.len() < PAGE {
            break;
        }
    }
    rows.truncate(filter.limit);
    Ok(rows)
}

/// See [`Refusals::refusal`](crate::store::Refusals::refusal).
pub(super) async fn one(served: &Served, id: RefusalId) -> Result<Option<Refused>, StoreError> {
    type Fields =
        (Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>);
    let session = served.connection.session().await?;
    let mut command = redis::cmd("HMGET");
    command.arg(served.bucket.key("n", id.as_bytes())).arg(&["m", "ra", "h", "z", "b"]);
    let (line, readmitted, headers, sealed, body): Fields = session.query(&command).await?;
    let (Some(line), Some(headers), Some(sealed)) = (line, headers, sealed) else {
        return Ok(None);
    };
    Ok(Some(Refused {
        row: row(&line, readmitted.as_deref())?,
        headers: Headers::from_lines(&headers),
        sealed,
        body: body.map(Into::into),
    }))
}

/// See [`Refusals::note_readmitted`](crate::store::Refusals::note_readmitted).
pub(super) async fn note_readmitted(
    served: &Served,
    id: RefusalId,
    readmission: &Readmission,
) -> Result<(), StoreError> {
    let session = served.connection.session().await?;
    let mut call = Call::of(&scripts::NOTE_READMITTED, &session);
    call.arg(id.as_bytes().as_slice()).arg(json(readmission)?);
    session.call(&call).await
}

/// Takes those away that were received before `before`: their ids say when that was.
pub(super) async fn prune(session: &Session, before: Timestamp) -> Result<(), StoreError> {
    let mut call = Call::of(&scripts::PRUNE_REFUSALS, session);
    call.arg(RefusalId::first_at(before).as_bytes().as_slice()).arg(PRUNE_LOT);
    session.call(&call).await
}

async fn ids_before(
    session: &Session,
    key: &[u8],
    before: Option<[u8; 16]>,
) -> Result<Vec<[u8; 16]>, StoreError> {
    let newest = before.map_or_else(|| b"+".to_vec(), |id| [b"(".as_slice(), &id].concat());
    let mut command = redis::cmd("ZREVRANGEBYLEX");
    command.arg(key).arg(newest).arg("-").arg("LIMIT").arg(0).arg(PAGE);
    let ids: Vec<Vec<u8>> = session.query(&command).await?;
    Ok(ids.iter().filter_map(|id| <[u8; 16]>::try_from(id.as_slice()).ok()).collect())
}

async fn rows_of(session: &Session, ids: &[[u8; 16]]) -> Result<Vec<RefusalRow>, StoreError> {
    type Lines = Vec<(Option<Vec<u8>>, Option<Vec<u8>>)>;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut commands = redis::pipe();
    for id in ids {
        commands.cmd("HMGET").arg(session.bucket().key("n", id)).arg(&["m", "ra"]);
    }
    let found: Lines = session.pipeline(&commands).await?;
    let there = found.iter().filter_map(|(line, readmitted)| {
        line.as_deref().map(|line| row(line, readmitted.as_deref())) // else it went in between
    });
    there.collect()
}

fn row(line: &[u8], readmitted: Option<&[u8]>) -> Result<RefusalRow, StoreError> {
    let mut row: RefusalRow = serde_json::from_slice(line).map_err(|_| unexpected())?;
    let note = readmitted.map(serde_json::from_slice).transpose();
    row.readmitted = note.map_err(|_| unexpected())?;
    Ok(row)
}
