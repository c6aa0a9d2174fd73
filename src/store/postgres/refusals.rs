//! Refused requests: kept in batches, the oldest giving way.

use serde::{Serialize, de::DeserializeOwned};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    codes::{self, get},
    connection::{Purpose, Turn},
    delivery::column,
    error::Trouble,
};
use crate::{
    limits,
    refusal::{RefusalId, Step},
    request::Headers,
    store::{Readmission, RefusalFilter, RefusalRow, Refused},
};

/// The statements of this file that write.
pub(super) const STATEMENTS: &[&str] = &[ONE_AT_A_TIME, KEEP, MAKE_ROOM, NOTE];

/// Those that read.
pub(super) const READING_STATEMENTS: &[&str] = &[ONE];

/// Takes those away that were received before a time. It waits for nobody: what somebody else takes away
/// at this moment is gone anyway.
pub(super) const FORGET_OLD: &str = "DELETE FROM refusals WHERE id IN (
    SELECT id FROM refusals WHERE received_at < $1 FOR UPDATE SKIP LOCKED)";

/// One process makes room at a time: two would each count without what the other adds.
const ONE_AT_A_TIME: &str = "SELECT pg_advisory_xact_lock(7526466502050573926)";

const KEEP: &str = "INSERT INTO refusals
        (id, received_at, bytes, source, step, kept, headers, sealed, body)
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[],
        $7::bytea[], $8::bytea[], $9::bytea[])
    ON CONFLICT DO NOTHING";

const MAKE_ROOM: &str = "WITH numbered AS (
        SELECT id, source, bytes,
            row_number() OVER (PARTITION BY source, step ORDER BY id DESC) AS number
        FROM refusals WHERE source = ANY($1)),
    summed AS (
        SELECT id, sum(bytes) OVER (PARTITION BY source ORDER BY id DESC) AS together
        FROM numbered WHERE number <= $2)
    DELETE FROM refusals WHERE source = ANY($1)
        AND id NOT IN (SELECT id FROM summed WHERE together <= $3::bigint)";

const NOTE: &str = "UPDATE refusals SET readmitted = $2 WHERE id = $1 AND readmitted IS NULL";

const ONE: &str = "SELECT kept, readmitted, headers, sealed, body FROM refusals WHERE id = $1";

/// See [`Refusals::keep_refusals`](crate::store::Refusals::keep_refusals).
pub(super) async fn keep(turn: &Turn<'_>, refused: &[Refused]) -> Result<(), Trouble> {
    if refused.is_empty() {
        return Ok(());
    }
    let kept: Vec<String> = refused.iter().map(|one| json(&one.row)).collect::<Result<_, _>>()?;
    let ids = column(refused, |one| of_refusal(one.row.id));
    let received_at = column(refused, |one| one.row.received_at.as_millis());
    let bytes = column(refused, |one| codes::of_number(one.bytes()));
    let sources = column(refused, |one| &*one.row.source);
    let steps = column(refused, |one| one.row.step.name());
    let headers = column(refused, |one| one.headers.to_lines());
    let sealed = column(refused, |one| one.sealed.as_slice());
    let bodies = column(refused, |one| one.body.as_deref());
    let rows: [&(dyn ToSql + Sync); 9] =
        [&ids, &received_at, &bytes, &sources, &steps, &kept, &headers, &sealed, &bodies];
    let of_step_max = codes::of_number(limits::REFUSALS_KEPT_MAX);
    let bytes_max = codes::of_number(limits::REFUSALS_KEPT_BYTES_MAX);
    let room: [&(dyn ToSql + Sync); 3] = [&sources, &of_step_max, &bytes_max];
    tokio::try_join!(
        biased;
        turn.begin(Purpose::Serve),
        turn.query(ONE_AT_A_TIME, &[]),
        turn.execute(KEEP, &rows),
        turn.execute(MAKE_ROOM, &room),
        turn.commit(),
    )
    .map(drop)
}

/// See [`Refusals::note_readmitted`](crate::store::Refusals::note_readmitted).
pub(super) async fn note_readmitted(
    turn: &Turn<'_>,
    id: RefusalId,
    readmission: &Readmission,
) -> Result<(), Trouble> {
    let (id, readmission) = (of_refusal(id), json(readmission)?);
    let values: [&(dyn ToSql + Sync); 2] = [&id, &readmission];
    tokio::try_join!(biased; turn.begin(Purpose::Serve), turn.execute(NOTE, &values), turn.commit())
        .map(drop)
}

/// One page, newest first.
pub(super) async fn page(
    turn: &Turn<'_>,
    filter: &RefusalFilter,
) -> Result<Vec<RefusalRow>, Trouble> {
    let sql = "SELECT kept, readmitted FROM refusals
        WHERE ($1::uuid IS NULL OR id < $1) AND ($2::text IS NULL OR source = $2)
            AND ($3::text IS NULL OR step = $3)
        ORDER BY id DESC LIMIT $4";
    let before = filter.before.map(of_refusal);
    let step = filter.step.map(Step::name);
    let limit = codes::of_number(filter.limit);
    let rows = turn.query_text(sql, &[&before, &filter.source, &step, &limit]).await?;
    rows.iter().map(line).collect()
}

/// One, whole.
pub(super) async fn one(turn: &Turn<'_>, id: RefusalId) -> Result<Option<Refused>, Trouble> {
    let rows = turn.query(ONE, &[&of_refusal(id)]).await?;
    let whole = |row: &Row| {
        Ok(Refused {
            row: line(row)?,
            headers: Headers::from_lines(get(row, "headers")?),
            sealed: get(row, "sealed")?,
            body: get::<Option<Vec<u8>>>(row, "body")?.map(Into::into),
        })
    };
    rows.first().map(whole).transpose()
}

fn line(row: &Row) -> Result<RefusalRow, Trouble> {
    let mut line: RefusalRow = read(get(row, "kept")?)?;
    line.readmitted = get::<Option<&str>>(row, "readmitted")?.map(read).transpose()?;
    Ok(line)
}

fn of_refusal(id: RefusalId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

fn json(data: &impl Serialize) -> Result<String, Trouble> {
    serde_json::to_string(data).map_err(|error| Trouble::odd(&format!("a refusal: {error}")))
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, Trouble> {
    serde_json::from_str(text).map_err(|error| Trouble::odd(&format!("a refusal: {error}")))
}
