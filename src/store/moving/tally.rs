//! Whether two stores hold the same: counted and summed up in any order, in little memory.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{EventCopy, KeyStage, MarkCopy, Record, record::KINDS};
use crate::{
    clock::Timestamp,
    control::Control,
    request::Headers,
    store::{Counts, StoreError},
};

/// How far the times of two stores may be apart on average: each may count them by a clock of its own,
/// and how far that one is from ours is only measured.
const CLOCKS_APART_MS_MAX: u128 = 1000;

/// What a store holds, kind by kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Tally(BTreeMap<&'static str, KindTally>);

/// What a store holds of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KindTally {
    /// How many records.
    pub records: u64,
    /// The sum of a hash of each, less the times that a store's clock has set.
    #[serde(skip)]
    digest: u128,
    /// How many such times there are.
    #[serde(skip)]
    times: u64,
    /// Their sum.
    #[serde(skip)]
    times_ms: i128,
}

impl Tally {
    /// What an empty store holds: none of every kind.
    pub(super) fn of_nothing() -> Self {
        Self(KINDS.into_iter().map(|kind| (kind, KindTally::default())).collect())
    }

    /// Adds a record. Marks and keys that end before `marks_until` are left out: they may end at any moment, in
    /// one store a little earlier than in the other.
    pub(super) fn add(
        &mut self,
        mut record: Record,
        marks_until: Timestamp,
    ) -> Result<(), StoreError> {
        // A store may have a row where nothing was counted or said, and another none.
        match &record {
            Record::Counts { counts, .. } if *counts == Counts::default() => return Ok(()),
            Record::Control { control, .. } if *control == Control::default() => return Ok(()),
            _ => {}
        }
        let ends_at = match &record {
            Record::Mark(mark) | Record::Digest(mark) => Some(mark.expires_at),
            Record::Key(key) => key.expires_at(),
            Record::Counts { .. } | Record::Control { .. } | Record::Event(_) => None,
        };
        if ends_at.is_some_and(|ends_at| ends_at < marks_until) {
            return Ok(());
        }
        let tally = self.0.entry(record.kind()).or_default();
        let mut take = |time: &mut Timestamp| {
            tally.times += 1;
            tally.times_ms += i128::from(std::mem::take(time).as_millis());
        };
        take_times(&mut record, &mut take);
        let hash = hash(&record)?;
        tally.records += 1;
        tally.digest = tally.digest.wrapping_add(hash);
        Ok(())
    }

    /// The kinds of which the two do not hold the same, told for people.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let kinds: BTreeSet<&'static str> = self.0.keys().chain(other.0.keys()).copied().collect();
        let mut differences = Vec::new();
        for kind in kinds {
            let of = |tally: &Self| tally.0.get(kind).copied().unwrap_or_default();
            let (ours, theirs) = (of(self), of(other));
            if !ours.agrees_with(&theirs) {
                let (ours, theirs) = (ours.records, theirs.records);
                differences.push(format!("{kind}: {ours} in the source, {theirs} in the target"));
            }
        }
        differences
    }

    /// What there is of each kind, also where that is nothing.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, KindTally)> {
        self.0.iter().map(|(kind, tally)| (*kind, *tally))
    }
}

impl KindTally {
    fn agrees_with(&self, other: &Self) -> bool {
        let apart = (self.times_ms - other.times_ms).unsigned_abs();
        self.records == other.records
            && self.digest == other.digest
            && self.times == other.times
            && apart <= u128::from(self.times) * CLOCKS_APART_MS_MAX
    }
}

/// Takes out every time that a store's clock may have set.
fn take_times(record: &mut Record, take: &mut impl FnMut(&mut Timestamp)) {
    match record {
        Record::Counts { .. } | Record::Control { .. } => {}
        Record::Mark(MarkCopy { expires_at, .. }) | Record::Digest(MarkCopy { expires_at, .. }) => {
            take(expires_at);
        }
        Record::Key(copy) => {
            take(&mut copy.begun_at);
            take(&mut copy.lease_until);
            if let KeyStage::Completed { completed_at, expires_at, .. } = &mut copy.stage {
                take(completed_at);
                take(expires_at);
            }
        }
        Record::Event(copy) => {
            let EventCopy { mark_until, ended_at, erased_at, deliveries, .. } = &mut **copy;
            take(mark_until);
            ended_at.iter_mut().chain(erased_at).for_each(&mut *take);
            for delivery in deliveries {
                take(&mut delivery.due_at);
                delivery.leased_at.iter_mut().for_each(&mut *take);
                delivery.attempts_kept.iter_mut().for_each(|attempt| take(&mut attempt.started_at));
            }
        }
    }
}

fn hash(record: &Record) -> Result<u128, StoreError> {
    let text = serde_json::to_vec(record)
        .map_err(|error| StoreError::Failed(format!("cannot compare a record: {error}")))?;
    let mut hash = Sha256::new();
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text);
    // What is not serialized: headers and bodies.
    let mut content = |headers: &Headers, body: &[u8]| {
        let headers = headers.to_lines();
        for part in [headers.as_slice(), body] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    };
    match record {
        Record::Event(copy) => {
            content(&copy.event.headers, &copy.event.body);
            if let Some(request) = &copy.request {
                content(&Headers::default(), &[request.id.as_bytes(), &request.body[..]].concat());
            }
        }
        Record::Key(copy) => {
            if let Some(response) = copy.response() {
                content(&response.headers, &response.body);
                content(&Headers::default(), &response.status.to_be_bytes());
            }
        }
        Record::Counts { .. } | Record::Control { .. } | Record::Mark(_) | Record::Digest(_) => {}
    }
    let hash: [u8; 32] = hash.finalize().into();
    let (head, _) = hash.split_first_chunk().expect("32 bytes begin with 16");
    Ok(u128::from_be_bytes(*head))
}
