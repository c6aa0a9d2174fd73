//! Admitting: many events, one transaction.
//!
//! The marks decide. They are inserted first, in the order of their keys, so that of two transactions
//! that want the same mark one waits for the other's end and neither for ever; whoever finds a mark that
//! is not its own has a duplicate, and by then the first one is committed. The rest is decided here, in
//! the order of the calls, and written in a few statements that are sent together with the commit.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    admit_rows::{Admitted, Rows},
    codes::{self, get},
    connection::{Purpose, Turn},
    error::Trouble,
    serve::{Answer, Call},
};
use crate::{
    clock::Timestamp,
    event::{EventId, EventState, NewEvent, ReplayGuard},
    limits,
    receipt::Admission,
    store::{StoreError, mark::MarkKey},
};

/// The statements of this file.
pub(super) const STATEMENTS: &[&str] = &[ADMITTED_BEFORE, MARK, MARKED_BEFORE, DIGEST, HELD_NOW];

const ADMITTED_BEFORE: &str = "SELECT id, state FROM events WHERE id = ANY($1)";

const MARK: &str = "INSERT INTO marks (key, event)
    SELECT key, event FROM unnest($1::bytea[], $2::uuid[]) AS new(key, event) ORDER BY key
    ON CONFLICT DO NOTHING RETURNING key";

const MARKED_BEFORE: &str = "SELECT key, event FROM marks WHERE key = ANY($1)";

/// The first one stays: it is what every later copy is a copy of.
const DIGEST: &str = "INSERT INTO digests (key, event)
    SELECT key, event FROM unnest($1::bytea[], $2::uuid[]) AS new(key, event) ORDER BY key
    ON CONFLICT DO NOTHING RETURNING key";

const HELD_NOW: &str = "SELECT source, sum(held_now)::bigint AS held_now FROM counts
    WHERE source = ANY($1) AND handler = '' GROUP BY source";

/// An event to admit.
#[derive(Debug)]
pub(super) struct Asked {
    event: NewEvent,
    not_after: Timestamp,
    mark: Option<Vec<u8>>,
    digest: Option<Vec<u8>>,
}

impl Asked {
    /// An event to admit by `not_after`.
    pub(super) fn new(event: NewEvent, not_after: Timestamp) -> Self {
        let identity = event.named.identity.as_ref();
        let digest = event.named.digest.as_ref();
        Self {
            mark: identity
                .map(|identity| MarkKey::of_identity(&event.source, identity).as_bytes().to_vec()),
            digest: digest
                .map(|digest| MarkKey::of_digest(&event.source, digest).as_bytes().to_vec()),
            event,
            not_after,
        }
    }
}

impl Call for Asked {
    type Answer = (EventId, Admission);

    /// See [`Store::admit`](crate::store::Store::admit).
    async fn run(turn: &Turn<'_>, calls: &[Self]) -> Result<Vec<Answer<Self>>, Trouble> {
        let ((), now, before) = tokio::try_join!(biased; turn.begin(Purpose::Serve), turn.now(), admitted_before(turn, calls))?;
        let is_new = |asked: &Asked| !before.contains_key(&asked.event.id);
        let in_time = |asked: &Asked| now <= turn.to_server(asked.not_after);
        let new: Vec<&Self> =
            calls.iter().filter(|asked| is_new(asked) && in_time(asked)).collect();
        let marks = marks(turn, &new).await?;
        let fresh: Vec<&Self> = new.iter().copied().filter(|asked| marks.are_of(asked)).collect();
        let digests = first_of_their_content(turn, &fresh).await?;
        let held_now = held_now(turn, &fresh, &digests).await?;

        let mut rows = Rows::default();
        let mut deciding = Deciding { now, marks, digests, held_now, decided: before };
        let mut answers = Vec::with_capacity(calls.len());
        for asked in calls {
            answers.push(match deciding.decided.get(&asked.event.id) {
                Some(admission) => Ok((asked.event.id, *admission)),
                None if !in_time(asked) => Err(StoreError::Late),
                None => deciding.decide(turn, asked, &mut rows),
            });
        }
        if rows.is_empty() {
            turn.roll_back().await?;
        } else {
            let not_after = new.iter().map(|asked| asked.not_after).min().unwrap_or_default();
            tokio::try_join!(biased; rows.write(turn), turn.in_time(not_after), turn.commit())?;
        }
        Ok(answers)
    }
}

/// A batch at work.
struct Deciding {
    now: Timestamp,
    marks: Marks,
    /// The events whose content is not known under another id.
    digests: BTreeSet<EventId>,
    held_now: BTreeMap<String, u64>,
    /// What was admitted, before or in this batch.
    decided: BTreeMap<EventId, Admission>,
}

impl Deciding {
    /// Decides one event whose mark is inserted or known.
    fn decide<'a>(
        &mut self,
        turn: &Turn<'_>,
        asked: &'a Asked,
        rows: &mut Rows<'a>,
    ) -> Result<(EventId, Admission), StoreError> {
        let event = &asked.event;
        match self.marks.owner(asked) {
            Some(Owner::Known(known)) => {
                rows.note_duplicate(known, event);
                return Ok((known, Admission::Duplicate));
            }
            // Refused, and its mark taken back: what is true of it is true of its copies.
            Some(Owner::Refused) => return Err(holds_enough(event)),
            Some(Owner::InBatch(first)) if first != event.id => {
                rows.note_duplicate(first, event);
                return Ok((first, Admission::Duplicate));
            }
            Some(Owner::InBatch(_)) | None => {}
        }
        let resent = asked.digest.is_some() && !self.digests.contains(&event.id);
        let held = resent && event.replay_guard == ReplayGuard::Hold;
        if held {
            let held_now = self.held_now.entry(event.source.to_string()).or_default();
            if *held_now >= limits::HELD_PER_SOURCE_MAX {
                if let Some(mark) = &asked.mark {
                    self.marks.refuse(mark);
                    rows.take_back_mark(mark);
                }
                return Err(holds_enough(event));
            }
            *held_now += 1;
        }
        let admission = if held { Admission::Held } else { Admission::Fresh };
        let (mark, digest) = (asked.mark.as_deref(), asked.digest.as_deref());
        rows.admit(turn, &Admitted { event, mark, digest, resent, held }, self.now);
        self.decided.insert(event.id, admission);
        Ok((event.id, admission))
    }
}

fn holds_enough(event: &NewEvent) -> StoreError {
    StoreError::Full(format!("source {} holds enough already", event.source))
}

/// What these very events were answered when they were admitted, if they were.
async fn admitted_before(
    turn: &Turn<'_>,
    calls: &[Asked],
) -> Result<BTreeMap<EventId, Admission>, Trouble> {
    let ids: Vec<_> = calls.iter().map(|asked| codes::of_event(asked.event.id)).collect();
    let rows = turn.query(ADMITTED_BEFORE, &[&ids]).await?;
    let before = rows.iter().map(|row| {
        let admission = match codes::event_state(row, "state")? {
            EventState::Held => Admission::Held,
            _ => Admission::Fresh,
        };
        Ok((codes::event_id(row, "id")?, admission))
    });
    before.collect()
}

/// Whose the marks of a batch are.
#[derive(Debug, Default)]
struct Marks(BTreeMap<Vec<u8>, Owner>);

#[derive(Clone, Copy, Debug)]
enum Owner {
    /// An event that was there before.
    Known(EventId),
    /// The first of this batch that has it.
    InBatch(EventId),
    /// Nobody: the first of this batch that had it was refused.
    Refused,
}

impl Marks {
    fn owner(&self, asked: &Asked) -> Option<Owner> {
        self.0.get(asked.mark.as_ref()?).copied()
    }

    /// Whether the event has its mark, or needs none.
    fn are_of(&self, asked: &Asked) -> bool {
        match self.owner(asked) {
            None => true,
            Some(Owner::InBatch(first)) => first == asked.event.id,
            Some(Owner::Known(_) | Owner::Refused) => false,
        }
    }

    fn refuse(&mut self, mark: &[u8]) {
        self.0.insert(mark.to_vec(), Owner::Refused);
    }
}

/// Inserts the marks of new events, and tells whose each of them is.
async fn marks(turn: &Turn<'_>, new: &[&Asked]) -> Result<Marks, Trouble> {
    let mut owners: BTreeMap<Vec<u8>, Owner> = BTreeMap::new();
    let wanted = first_of_each(new, |asked| asked.mark.as_ref());
    let missing = inserted(turn, MARK, &wanted, |key, event| {
        owners.insert(key, Owner::InBatch(event));
    })
    .await?;
    if !missing.is_empty() {
        let rows = turn.query(MARKED_BEFORE, &[&missing]).await?;
        for row in &rows {
            owners.insert(get(row, "key")?, Owner::Known(codes::event_id(row, "event")?));
        }
        if rows.len() < missing.len() {
            let gone = "a mark was pruned while it was looked at".to_owned();
            let error = StoreError::Unavailable(gone);
            return Err(Trouble { error, is_of_one: true, is_connected: true });
        }
    }
    Ok(Marks(owners))
}

/// Remembers the contents of fresh events, and tells whose are not known under another id.
async fn first_of_their_content(
    turn: &Turn<'_>,
    fresh: &[&Asked],
) -> Result<BTreeSet<EventId>, Trouble> {
    let mut first = BTreeSet::new();
    let wanted = first_of_each(fresh, |asked| asked.digest.as_ref());
    inserted(turn, DIGEST, &wanted, |_, event| {
        first.insert(event);
    })
    .await?;
    Ok(first)
}

/// For each key the first event of the batch that has it.
fn first_of_each<'a>(
    batch: &[&'a Asked],
    key: impl Fn(&'a Asked) -> Option<&'a Vec<u8>>,
) -> BTreeMap<&'a [u8], EventId> {
    let mut first = BTreeMap::new();
    for asked in batch {
        if let Some(key) = key(asked) {
            first.entry(key.as_slice()).or_insert(asked.event.id);
        }
    }
    first
}

/// Inserts keys with their events, tells which are new, and answers those that were there.
async fn inserted<'a>(
    turn: &Turn<'_>,
    sql: &'static str,
    wanted: &BTreeMap<&'a [u8], EventId>,
    mut tell: impl FnMut(Vec<u8>, EventId),
) -> Result<Vec<&'a [u8]>, Trouble> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<&[u8]> = wanted.keys().copied().collect();
    let events: Vec<_> = wanted.values().copied().map(codes::of_event).collect();
    let mut missing = wanted.clone();
    for row in turn.query(sql, &[&keys, &events]).await? {
        let key: &[u8] = get(&row, "key")?;
        if let Some(event) = missing.remove(key) {
            tell(key.to_vec(), event);
        }
    }
    Ok(missing.into_keys().collect())
}

/// How many events each source holds that may have to hold another. Two processes at once may each hold
/// one more than the cap.
async fn held_now(
    turn: &Turn<'_>,
    fresh: &[&Asked],
    digests: &BTreeSet<EventId>,
) -> Result<BTreeMap<String, u64>, Trouble> {
    let may_be_held = |asked: &&&Asked| {
        let is_copy = asked.digest.is_some() && !digests.contains(&asked.event.id);
        is_copy && asked.event.replay_guard == ReplayGuard::Hold
    };
    let sources: BTreeSet<&str> =
        fresh.iter().filter(may_be_held).map(|asked| &*asked.event.source).collect();
    if sources.is_empty() {
        return Ok(BTreeMap::new());
    }
    let sources: Vec<&str> = sources.into_iter().collect();
    let rows = turn.query(HELD_NOW, &[&sources]).await?;
    rows.iter().map(|row| Ok((get(row, "source")?, codes::number(row, "held_now")?))).collect()
}
