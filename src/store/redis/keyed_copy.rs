//! Keys on their way from one store to another.

use redis::Value;
use uuid::Uuid;

use super::{
    admit::{json, unexpected},
    connection::Session,
    export::{Fields, read_as},
    scripts::Call,
};
use crate::{
    clock::Timestamp,
    key::{Fingerprint, SavedResponse},
    request::Headers,
    store::{
        StoreError,
        moving::{Cursor, KeyCopy, KeyStage, Record},
    },
};

/// How many keys one page has: an answer may be large, and there is no telling before it is read.
const PAGE: usize = 100;

/// A page of the keys of a bucket that are not over, and where the next one begins.
pub(super) async fn page(
    session: &Session,
    from: &Cursor,
) -> Result<(Vec<Record>, Option<Cursor>), StoreError> {
    let bucket = session.bucket();
    let rank = from.after.as_slice().try_into().map_or(0, u64::from_be_bytes);
    let next = rank + PAGE as u64;
    let mut command = redis::cmd("ZRANGE");
    command.arg(bucket.key("K", b"")).arg(rank).arg(next - 1);
    let ids: Vec<Vec<u8>> = session.query(&command).await?;
    if ids.is_empty() {
        return Ok((Vec::new(), Some(from.next_stage())));
    }
    let mut commands = redis::pipe();
    for id in &ids {
        commands.cmd("GET").arg(bucket.key("k", id));
        commands.cmd("HGETALL").arg(bucket.key("i", id));
    }
    let answers: Vec<Value> = session.pipeline(&commands).await?;
    let mut records = Vec::new();
    for answers in answers.chunks_exact(2) {
        let [value, fields] = answers else { return Err(unexpected()) };
        let (value, fields): (Option<Vec<u8>>, Fields) = (read_as(value)?, read_as(fields)?);
        // Either is missing when the key is over.
        if let Some(value) = value.filter(|_| !fields.0.is_empty()) {
            let copy = copy(session, &value, &fields).ok_or_else(unexpected)?;
            records.push(Record::Key(Box::new(copy)));
        }
    }
    Ok((records, Some(from.behind(next.to_be_bytes()))))
}

/// A key from its value, which `keyed.lua` describes, and what is beside it.
fn copy(session: &Session, value: &[u8], fields: &Fields) -> Option<KeyCopy> {
    let (stage, rest) = value.split_first()?;
    let (owner, rest) = rest.split_first_chunk::<16>()?;
    let (fingerprint, ends) = rest.split_first_chunk::<32>()?;
    let ends: i64 = std::str::from_utf8(ends).ok()?.parse().ok()?;
    let owner = Uuid::from_bytes(*owner);
    let stage = match stage {
        b'c' => KeyStage::Completed {
            response: SavedResponse {
                status: fields.text("st")?.parse().ok()?,
                headers: Headers::from_lines(fields.bytes("h")?),
                body: fields.bytes("y")?.to_vec().into(),
            },
            completed_at: session.to_ours(fields.number("t")?),
            expires_at: session.to_ours(ends),
        },
        b'u' => KeyStage::MarkedUnknown,
        b'b' => KeyStage::Begun,
        _ => return None,
    };
    Some(KeyCopy {
        scope: serde_json::from_slice(fields.bytes("sc")?).ok()?,
        fingerprint: Fingerprint::from_bytes(*fingerprint),
        owner: (!owner.is_nil()).then_some(owner),
        begun_at: Timestamp::from_millis(fields.number("b")?),
        lease_until: session.to_ours(fields.number("l")?),
        stage,
        note: fields.text("no").map(str::to_owned),
        replays: fields.count("n"),
    })
}

/// Adds a key to a call, in the order `import.lua` reads.
pub(super) fn add(call: &mut Call, session: &Session, copy: &KeyCopy) -> Result<(), StoreError> {
    let lease_until = session.to_server(copy.lease_until);
    let (stage, ends) = match &copy.stage {
        KeyStage::Begun => ("b", lease_until),
        KeyStage::MarkedUnknown => ("u", lease_until),
        KeyStage::Completed { expires_at, .. } => ("c", session.to_server(*expires_at)),
    };
    let owner = copy.owner.unwrap_or_default();
    let value = [
        stage.as_bytes(),
        owner.as_bytes(),
        copy.fingerprint.as_bytes(),
        ends.to_string().as_bytes(),
    ]
    .concat();
    let begun_at = copy.begun_at.as_millis().to_string();
    let mut fields = vec![
        ("a", copy.scope.api.clone().into_bytes()),
        ("sc", json(&copy.scope)?),
        ("b", begun_at.clone().into_bytes()),
        ("l", lease_until.to_string().into_bytes()),
        ("n", copy.replays.to_string().into_bytes()),
    ];
    fields.extend(copy.note.as_ref().map(|note| ("no", note.clone().into_bytes())));
    if let KeyStage::Completed { response, completed_at, .. } = &copy.stage {
        fields.push(("t", session.to_server(*completed_at).to_string().into_bytes()));
        fields.push(("st", response.status.to_string().into_bytes()));
        fields.push(("h", response.headers.to_lines()));
        fields.push(("y", response.body.to_vec()));
    }
    call.arg("k").arg(copy.scope.id().as_bytes().as_slice()).arg(&copy.scope.api).arg(begun_at);
    call.arg(stage).arg(ends).arg(value).arg(fields.len());
    for (name, value) in fields {
        call.arg(name).arg(value);
    }
    Ok(())
}
