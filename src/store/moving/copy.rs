//! A whole move, as one function that can be run again until it is through.

use std::time::Duration;

use serde::Serialize;
use uuid::Uuid;

use super::{Cursor, Move, Standing, Step, Tally};
use crate::{
    clock::{Clock, Timestamp},
    store::{Store, StoreError},
};

/// How often it is looked whether something still runs.
const LIVE_POLL: Duration = Duration::from_millis(250);

/// How far ahead a mark must reach to be compared: longer than a comparison takes, as a rule. Where it
/// is not, the comparison is made once more.
const COMPARED_AHEAD: Duration = Duration::from_mins(10);

/// How often two stores are compared before they are said to differ.
const COMPARISONS_MAX: u32 = 3;

/// How often a page is asked for, or written, again when the store does not answer, and how long after.
const TRIES_MAX: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// A store, and what a person calls it.
#[derive(Clone, Copy, Debug)]
pub struct House<'a> {
    /// The store, open.
    pub store: &'a dyn Store,
    /// Its [name](name_of): the other store remembers it.
    pub name: &'a str,
}

/// What a person calls the store at this URL: without user and password, and of what follows a `?` only what
/// tells two stores apart.
pub fn name_of(url: &str) -> String {
    const TELLING: [&str; 2] = ["namespace=", "schema="];
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    if scheme.is_empty() {
        return url.to_owned(); // a file, or none
    }
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    let (place, query) = place.split_once('?').unwrap_or((place, ""));
    let telling = |part: &&str| TELLING.iter().any(|name| part.starts_with(name));
    let query: Vec<&str> = query.split('&').filter(telling).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{scheme}://{place}{mark}{}", query.join("&"))
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many leases are live in the source: it waits for their end.
    Ending(u64),
    /// So many records are copied, of about so many.
    Copied(u64, u64),
    /// So many records are compared, of about so many.
    Compared(u64, u64),
}

/// What a copy did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The id of the copy.
    pub copy: Uuid,
    /// What is in both stores; `None` where that was compared by a run before this one.
    pub copied: Option<Tally>,
}

/// Why a copy did not come to its end. Run again, it goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// The source is not one to copy from, or failed.
    #[error("the source: {0}")]
    Source(StoreError),
    /// The target is not one to copy into, or failed.
    #[error("the target: {0}")]
    Target(StoreError),
    /// Somebody began to copy that source into another store.
    #[error(
        "the source is on its way to {0}: finish that copy, or call it off with `--to {0} --call-off`"
    )]
    OnItsWay(String),
    /// The target is in use.
    #[error("the target has events in it already: name an empty store")]
    NotEmpty,
    /// Not a word of what was copied is trusted.
    #[error(
        "source and target do not hold the same ({0}): nothing is lost, the source has everything. Call the \
         copy off, empty the target, and report this"
    )]
    Differ(String),
}

/// Moves everything from one store into another, which serves from then on.
///
/// It may be killed at any instant, and goes on when it is run again with the same two stores. `new` is
/// the id of the copy, if there is none yet.
///
/// # Errors
/// See [`CopyError`]. Where the source is not [`Opened`](Standing::Opened), the copy can be called off.
pub async fn copy(
    from: House<'_>,
    to: House<'_>,
    new: Uuid,
    clock: &dyn Clock,
    tell: &(dyn Fn(Progress) + Sync),
) -> Result<Report, CopyError> {
    let id = begin(from, to, new).await?;
    let opened = matches!(standing(from).await?, Standing::Opened(_));
    let copied = if opened {
        None // a run before this one has come so far, and compared them
    } else {
        wait_until_nothing_runs(from, tell).await?;
        from.store.step(&Step::Seal(id)).await.map_err(CopyError::Source)?;
        fill(from, to, id, tell).await?;
        Some(compare(from, to, clock, tell).await?)
    };
    // The point of no return, at the source first: were it the other way round, a copy called off in
    // between would leave two stores that serve.
    from.store.step(&Step::Open(id)).await.map_err(CopyError::Source)?;
    to.store.step(&Step::Finish(id)).await.map_err(CopyError::Target)?;
    Ok(Report { copy: id, copied })
}

/// Gives the source back: it serves again. What was copied into the target stays there, is never served,
/// and has to be emptied before the target can be used. Says which copy it was, if there was one.
///
/// # Errors
/// When the target has opened: there is no way back then.
pub async fn call_off(from: House<'_>) -> Result<Option<Uuid>, CopyError> {
    let before = standing(from).await?;
    let Some(Move { id, .. }) = before.copy() else { return Ok(None) };
    let after = from.store.step(&Step::CallOff(*id)).await.map_err(CopyError::Source)?;
    Ok((after != before).then_some(*id))
}

/// Both stores know of the copy after this, and the source hands over. Gives the copy's id.
async fn begin(from: House<'_>, to: House<'_>, new: Uuid) -> Result<Uuid, CopyError> {
    let (source, target) = (standing(from).await?, target_standing(to).await?);
    let (id, begun) = match &source {
        Standing::HandingOver(known) | Standing::Sealed(known) | Standing::Opened(known) => {
            if known.other != to.name {
                return Err(CopyError::OnItsWay(known.other.clone()));
            }
            (known.id, true)
        }
        Standing::Serving | Standing::Filled(_) => (new, false),
        Standing::CalledOff(_) | Standing::Filling(_) => {
            return Err(CopyError::Source(source.refusal_or("it cannot be copied")));
        }
    };
    let fill = Step::Fill(Move { id, other: from.name.to_owned() });
    let is_ours = target.copy().is_some_and(|copy| copy.id == id);
    let may_be_filled = target.after(&fill).map_err(CopyError::Target);
    if !is_ours {
        if matches!(source, Standing::Opened(_)) {
            // It was filled once, and is another one now: filled again, two stores would have served.
            return Err(CopyError::Target(StoreError::Moving(
                "it is not the store that the copy has filled, and the source has nothing new"
                    .to_owned(),
            )));
        }
        may_be_filled?;
        if !to.store.is_empty().await.map_err(CopyError::Target)? {
            return Err(CopyError::NotEmpty);
        }
    }
    if !begun || !matches!(source, Standing::Opened(_)) {
        let hand_over = Step::HandOver(Move { id, other: to.name.to_owned() });
        from.store.step(&hand_over).await.map_err(CopyError::Source)?;
        to.store.step(&fill).await.map_err(CopyError::Target)?;
    }
    Ok(id)
}

async fn wait_until_nothing_runs(
    from: House<'_>,
    tell: &(dyn Fn(Progress) + Sync),
) -> Result<(), CopyError> {
    loop {
        let live = from.store.live().await.map_err(CopyError::Source)?;
        if live == 0 {
            return Ok(());
        }
        tell(Progress::Ending(live));
        tokio::time::sleep(LIVE_POLL).await;
    }
}

/// Copies all records. What a run before this one has copied is copied again, which changes nothing.
async fn fill(
    from: House<'_>,
    to: House<'_>,
    id: Uuid,
    tell: &(dyn Fn(Progress) + Sync),
) -> Result<(), CopyError> {
    let total = from.store.size().await.map_err(CopyError::Source)?;
    let (mut copied, mut next) = (0, Some(Cursor::default()));
    while let Some(cursor) = next {
        let page = patiently(|| from.store.export(&cursor)).await;
        let (records, behind) = page.map_err(CopyError::Source)?;
        copied += records.len() as u64;
        if !records.is_empty() {
            let imported = patiently(|| to.store.import(id, records.clone())).await;
            imported.map_err(CopyError::Target)?;
        }
        tell(Progress::Copied(copied, total.max(copied)));
        next = behind;
    }
    Ok(())
}

/// Reads both stores from beginning to end, and gives what they both hold.
async fn compare(
    from: House<'_>,
    to: House<'_>,
    clock: &dyn Clock,
    tell: &(dyn Fn(Progress) + Sync),
) -> Result<Tally, CopyError> {
    let total = 2 * from.store.size().await.map_err(CopyError::Source)?;
    let mut compared = 0;
    let mut tell_more = |records: u64| {
        compared += records;
        tell(Progress::Compared(compared, total.max(compared)));
    };
    let mut differences = Vec::new();
    for _ in 0..COMPARISONS_MAX {
        let marks_until = clock.now().plus(COMPARED_AHEAD);
        let source = tally(from.store, marks_until, &mut tell_more).await;
        let source = source.map_err(CopyError::Source)?;
        let target = tally(to.store, marks_until, &mut tell_more).await;
        let target = target.map_err(CopyError::Target)?;
        differences = source.differences(&target);
        if differences.is_empty() {
            return Ok(source);
        }
    }
    Err(CopyError::Differ(differences.join("; ")))
}

/// Everything that a store holds, summed up; marks that end before `marks_until` left out. `tell` hears
/// of every page how many records it had.
///
/// # Errors
/// When the store cannot be read.
pub async fn tally(
    store: &dyn Store,
    marks_until: Timestamp,
    tell: &mut (dyn FnMut(u64) + Send),
) -> Result<Tally, StoreError> {
    let (mut tally, mut next) = (Tally::of_nothing(), Some(Cursor::default()));
    while let Some(cursor) = next {
        let (records, behind) = patiently(|| store.export(&cursor)).await?;
        tell(records.len() as u64);
        for record in records {
            tally.add(record, marks_until)?;
        }
        next = behind;
    }
    Ok(tally)
}

/// Asks again where the store does not answer: pages are large, and nobody waits.
async fn patiently<T, F>(ask: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    for _ in 1..TRIES_MAX {
        match ask().await {
            Err(StoreError::Unavailable(_)) => tokio::time::sleep(PAUSE).await,
            answered => return answered,
        }
    }
    ask().await
}

async fn standing(from: House<'_>) -> Result<Standing, CopyError> {
    from.store.standing().await.map_err(CopyError::Source)
}

async fn target_standing(to: House<'_>) -> Result<Standing, CopyError> {
    to.store.standing().await.map_err(CopyError::Target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_name_of() {
        for (url, shown) in [
            ("sqlite:/data/a@b.db", "sqlite:/data/a@b.db"),
            ("redis://u:p@ss@h:1/2?namespace=eu&x=secret", "redis://h:1/2?namespace=eu"),
            ("redis-cluster://:pw@a:1,b:2", "redis-cluster://a:1,b:2"),
            ("postgres://h/db?password=secret", "postgres://h/db"),
        ] {
            assert_eq!(name_of(url), shown);
        }
    }
}
