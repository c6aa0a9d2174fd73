//! Refused requests: the newest few of each source and step, for whoever has to find out why.
//!
//! Nothing hangs on them: they are written off the request's path, sampled under a flood, and the
//! oldest give way. What is a credential in them is sealed before it comes here, so that no copy of a
//! store shows one.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::{
    clock::Timestamp,
    event::EventId,
    limits,
    refusal::{RefusalId, Step},
    request::Headers,
};

/// What may be asked of a store about refused requests.
#[async_trait]
pub trait Refusals {
    /// Keeps these. One that is kept already stays as it is. Of each source and step the newest
    /// [`REFUSALS_KEPT_MAX`](limits::REFUSALS_KEPT_MAX) stay, and of each source the newest that
    /// together hold no more than [`REFUSALS_KEPT_BYTES_MAX`](limits::REFUSALS_KEPT_BYTES_MAX).
    async fn keep_refusals(&self, refused: Vec<Refused>) -> Result<(), StoreError>;

    /// One page of refused requests, newest first.
    async fn refusals(&self, filter: &RefusalFilter) -> Result<Vec<RefusalRow>, StoreError>;

    /// One refused request, whole.
    async fn refusal(&self, id: RefusalId) -> Result<Option<Refused>, StoreError>;

    /// Notes that a refused request was admitted after all. What was noted first stays: the same note
    /// twice changes nothing, nor does one about a request that is gone.
    async fn note_readmitted(
        &self,
        id: RefusalId,
        readmission: &Readmission,
    ) -> Result<(), StoreError>;
}

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its line in the list.
    pub row: RefusalRow,
    /// Its headers, less those that are credentials.
    pub headers: Headers,
    /// What is a credential in it, sealed; empty if nothing is.
    pub sealed: Vec<u8>,
    /// Its body, where it was read and is not too long to be kept.
    pub body: Option<Bytes>,
}

/// A line in the list of refused requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusalRow {
    /// Our id.
    pub id: RefusalId,
    /// The source that refused it.
    pub source: Arc<str>,
    /// At which step.
    pub step: Step,
    /// What was wrong, in our words.
    pub problem: String,
    /// When its last byte was there.
    pub received_at: Timestamp,
    /// Its method.
    pub method: String,
    /// The URL that was taken for the one the provider called; credentials in it read `…`.
    pub url: String,
    /// The path and the query that it was sent to here; credentials in it read `…`.
    pub target: String,
    /// The address that sent it: the provider's, or that of a proxy.
    pub peer: Option<IpAddr>,
    /// How long its body was; `None` if it was not read.
    pub body_bytes: Option<usize>,
    /// Whether its body is kept.
    pub body_kept: bool,
    /// How many others of this source and step were refused and not kept since the one before.
    pub left_out: u64,
    /// Whether it was admitted after all.
    pub readmitted: Option<Readmission>,
}

/// What became of a refused request that was admitted after all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Readmission {
    /// When.
    pub at: Timestamp,
    /// Its events.
    pub events: Vec<EventId>,
}

/// Which refused requests to list.
#[derive(Clone, Debug, Default)]
pub struct RefusalFilter {
    /// Only of this source.
    pub source: Option<String>,
    /// Only those refused at this step.
    pub step: Option<Step>,
    /// Only older than this one: the last id of the page before.
    pub before: Option<RefusalId>,
    /// How many rows, at most.
    pub limit: usize,
}

impl RefusalFilter {
    /// Whether `row` belongs on the page.
    pub fn takes(&self, row: &RefusalRow) -> bool {
        self.before.is_none_or(|before| row.id < before)
            && self.source.as_deref().is_none_or(|source| *row.source == *source)
            && self.step.is_none_or(|step| row.step == step)
    }
}

impl Refused {
    /// About how many bytes it takes in a store.
    pub fn bytes(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.len() + 3).sum();
        let body = self.body.as_ref().map_or(0, Bytes::len);
        self.row.url.len() + self.row.target.len() + headers + self.sealed.len() + body + 512
    }
}

/// The model: refused requests in memory.
#[derive(Debug, Default)]
pub(super) struct Table(BTreeMap<RefusalId, Refused>);

impl Table {
    /// See [`Refusals::keep_refusals`].
    pub(super) fn keep(&mut self, refused: Vec<Refused>) {
        for one in refused {
            self.0.entry(one.row.id).or_insert(one);
        }
        let mut kept: HashMap<(Arc<str>, Step), usize> = HashMap::new();
        let mut bytes: HashMap<Arc<str>, usize> = HashMap::new();
        let mut over = Vec::new();
        for (id, one) in self.0.iter().rev() {
            let of_step = kept.entry((Arc::clone(&one.row.source), one.row.step)).or_default();
            *of_step += 1;
            if *of_step > limits::REFUSALS_KEPT_MAX {
                over.push(*id);
                continue;
            }
            let of_source = bytes.entry(Arc::clone(&one.row.source)).or_default();
            *of_source += one.bytes();
            if *of_source > limits::REFUSALS_KEPT_BYTES_MAX {
                over.push(*id);
            }
        }
        for id in over {
            self.0.remove(&id);
        }
    }

    /// See [`Refusals::refusals`].
    pub(super) fn page(&self, filter: &RefusalFilter) -> Vec<RefusalRow> {
        let rows = self.0.values().rev().map(|one| &one.row);
        rows.filter(|row| filter.takes(row)).take(filter.limit).cloned().collect()
    }

    /// See [`Refusals::refusal`].
    pub(super) fn one(&self, id: RefusalId) -> Option<Refused> {
        self.0.get(&id).cloned()
    }

    /// See [`Refusals::note_readmitted`].
    pub(super) fn note(&mut self, id: RefusalId, readmission: &Readmission) {
        if let Some(one) = self.0.get_mut(&id) {
            one.row.readmitted.get_or_insert_with(|| readmission.clone());
        }
    }

    /// Takes away those received before `before`.
    pub(super) fn prune(&mut self, before: Timestamp) {
        self.0.retain(|_, one| one.row.received_at >= before);
    }
}
