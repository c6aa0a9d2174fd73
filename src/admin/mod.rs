//! What a person may see and ask for. The admin API answers with this, and so do the commands that
//! open the store themselves when no server runs: one shape, whoever asks.

mod erase;
mod handlers;
pub mod keys;
mod order;
mod overview;
mod redrives;
mod refusals;
mod store;
mod wishes;

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::redrives::Redrives;
use crate::{
    app::App,
    clock::Timestamp,
    delivery::{Attempt, Delivery, DeliveryId, State},
    event::{Duplicate, EventId, EventState, RequestId},
    handler::is_credential,
    limits,
    request::Headers,
    setup::{NotReloaded, Reload, Reloaded},
    store::{
        Counts, DeliveryFilter, EventFilter, EventRecord, EventRow, Stats, StoreError,
        encrypted::newest_unreadable,
    },
};

pub use self::erase::EraseRequest;
pub use self::handlers::{HandlerList, HandlerView};
pub use self::overview::{Overview, note_history};
pub use self::redrives::{RedriveProgress, RedriveState, SlowRedrive};
pub use self::refusals::{
    Readmitted, ReadmittedStatus, RefusalPage, RefusalQuery, RefusalRecord, RefusalView,
};
pub use self::store::Accepted;
pub use self::wishes::{Changed, MoveRequest, RedriveRequest, ReplayRequest, Selection};

/// Answers a person's questions about one app, and does what they wish.
#[derive(Debug)]
pub struct Admin {
    /// The app.
    pub app: Arc<App>,
    redrives: Redrives,
    /// Loads its configuration again, where it runs by a file.
    pub reload: Option<Arc<dyn Reload>>,
}

/// Why a person did not get what they asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// There is nothing of that name, or it is not in a state that allows it.
    #[error("{0}")]
    NotFound(String),
    /// There is, and as it stands just now it does not allow that.
    #[error("{0}")]
    Conflict(String),
    /// The question makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// There is a mistake in the configuration.
    #[error(transparent)]
    NotReloaded(#[from] NotReloaded),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which events to list.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// Only of this source.
    pub source: Option<String>,
    /// Only of this type; with a `*` at the end, of types that begin so.
    pub r#type: Option<String>,
    /// Only in this state.
    pub state: Option<EventState>,
    /// Only with this id of the provider's.
    pub event_id: Option<String>,
    /// Only received at this time or later.
    pub since: Option<Timestamp>,
    /// Only received before this time.
    pub until: Option<Timestamp>,
    /// The page after the one that ended with this id.
    pub before: Option<EventId>,
    /// Rows on a page.
    pub limit: Option<usize>,
}

/// Which deliveries to list.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliveryQuery {
    /// Only of this handler.
    pub handler: Option<String>,
    /// Only in this state.
    pub state: Option<State>,
    /// The page after the one that ended with this id.
    pub before: Option<DeliveryId>,
    /// Rows on a page.
    pub limit: Option<usize>,
}

/// A page of events.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EventPage {
    /// The rows, newest first.
    pub events: Vec<EventRow>,
    /// What to give as `before` for the next page. None: this was the last.
    pub next: Option<EventId>,
}

/// A page of deliveries.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryPage {
    /// The rows, newest first.
    pub deliveries: Vec<Delivery>,
    /// What to give as `before` for the next page. None: this was the last.
    pub next: Option<DeliveryId>,
}

/// Everything about one event.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EventView {
    /// Its line in the list.
    #[serde(flatten)]
    pub row: EventRow,
    /// What makes a further request the same event. None: nothing does, and nothing is deduplicated.
    pub identity: Option<String>,
    /// Until when a further request is known as a duplicate, at least.
    pub mark_until: Option<Timestamp>,
    /// What the provider said about its being a retry.
    pub retry_marker: Option<String>,
    /// The query of the request.
    pub query: String,
    /// The headers of the request; the values of credentials are left out.
    pub headers: Vec<(String, String)>,
    /// The request it came in, where that held more than this body: other events, say.
    #[serde(default)]
    pub request_id: Option<RequestId>,
    /// The body, where it is text.
    pub body: Option<String>,
    /// The body in base64, where it is not.
    pub body_base64: Option<String>,
    /// Its duplicates, newest first.
    pub duplicates_seen: Vec<Duplicate>,
    /// Its deliveries, oldest first, with their attempts.
    pub deliveries: Vec<DeliveryView>,
}

/// A delivery with its attempts.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryView {
    /// Its line in the list.
    #[serde(flatten)]
    pub delivery: Delivery,
    /// Its attempts, oldest first.
    pub attempts_made: Vec<Attempt>,
}

/// Whether all is well, and what to look at.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Readiness {
    /// Whether requests can be accepted now.
    pub ready: bool,
    /// What a yes survives, on this store with these settings.
    pub survives: String,
    /// Why it is not ready.
    pub error: Option<String>,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

impl Admin {
    /// Somebody who answers about this app.
    pub fn new(app: Arc<App>, reload: Option<Arc<dyn Reload>>) -> Self {
        Self { app, redrives: Redrives::default(), reload }
    }

    /// The counters and gauges.
    pub async fn stats(&self) -> Result<Stats, AdminError> {
        Ok(self.app.store.stats().await?)
    }

    /// One page of events.
    pub async fn events(&self, query: EventQuery) -> Result<EventPage, AdminError> {
        let limit = page_rows(query.limit);
        let filter = EventFilter {
            source: query.source,
            event_type: query.r#type,
            state: query.state,
            event_id: query.event_id,
            before: earlier(query.before, query.until.map(EventId::first_at)),
            limit,
        };
        let mut events = self.app.store.events(&filter).await?;
        let mut next = events.get(limit - 1).map(|last| last.id);
        if let Some(since) = query.since
            && let Some(end) = events.iter().position(|row| row.received_at < since)
        {
            events.truncate(end); // the newest come first, so all that follows is older still
            next = None;
        }
        Ok(EventPage { events, next })
    }

    /// Everything about one event.
    pub async fn event(&self, id: EventId) -> Result<EventView, AdminError> {
        let record = self.app.store.event(id).await?.ok_or_else(|| no_event(id))?;
        let mut deliveries = Vec::new();
        for delivery in record.deliveries.clone() {
            let attempts_made = self.app.store.attempts(delivery.id).await?;
            deliveries.push(DeliveryView { delivery, attempts_made });
        }
        Ok(view(record, deliveries))
    }

    /// The body of the request an event came in, byte for byte as it was received.
    pub async fn request(&self, id: EventId) -> Result<Bytes, AdminError> {
        let record = self.app.store.event(id).await?.ok_or_else(|| no_event(id))?;
        Ok(record.request_body().clone())
    }

    /// One page of deliveries.
    pub async fn deliveries(&self, query: DeliveryQuery) -> Result<DeliveryPage, AdminError> {
        let limit = page_rows(query.limit);
        let filter = DeliveryFilter {
            handler: query.handler,
            state: query.state,
            before: query.before,
            after: None,
            limit,
        };
        let deliveries = self.app.store.deliveries(&filter).await?;
        let next = deliveries.get(limit - 1).map(|last| last.id);
        Ok(DeliveryPage { deliveries, next })
    }

    /// The attempts of a delivery, oldest first.
    pub async fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>, AdminError> {
        let attempts = self.app.store.attempts(id).await?;
        if attempts.is_empty() {
            self.delivery(id).await?;
        }
        Ok(attempts)
    }

    /// One delivery: the first of those that come after the id before its own.
    pub async fn delivery(&self, id: DeliveryId) -> Result<Delivery, AdminError> {
        let before = u128::from_be_bytes(*id.as_bytes()).saturating_sub(1);
        let after = Some(DeliveryId::from_bytes(before.to_be_bytes()));
        let filter = DeliveryFilter { after, limit: 1, ..DeliveryFilter::default() };
        let found = self.app.store.deliveries(&filter).await?.into_iter().find(|row| row.id == id);
        found.ok_or_else(|| AdminError::NotFound(format!("there is no delivery {id}")))
    }

    /// Loads the configuration again. A mistake in it leaves everything as it is.
    pub fn reload(&self) -> Result<Reloaded, AdminError> {
        let none = || AdminError::Invalid("this server does not run by a file".to_owned());
        Ok(self.reload.as_ref().ok_or_else(none)?.reload()?)
    }

    /// Whether requests can be accepted, and what a person should look at.
    pub async fn readiness(&self) -> Readiness {
        self.readiness_and_stats().await.0
    }

    /// The same, with the counters that it was found by. `None`: the store does not answer.
    async fn readiness_and_stats(&self) -> (Readiness, Option<Stats>) {
        let ready = tokio::time::timeout(limits::ANSWER_DEADLINE, self.app.store.ready()).await;
        let error = match ready {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the store does not answer".to_owned()),
        };
        let mut warnings = self.sources_in_shadow_mode();
        warnings.extend(self.app.silent_sources().iter().map(ToString::to_string));
        warnings.extend(self.paused_handlers());
        let stats = match &error {
            None => overview::stats_in_time(&self.app).await,
            Some(_) => None,
        };
        warnings.extend(stats.iter().flat_map(|stats| self.left_over(stats)));
        if error.is_none() {
            warnings.extend(newest_unreadable(&*self.app.store).await);
        }
        let survives = self.app.store.survives();
        (Readiness { ready: error.is_none(), survives, error, warnings }, stats)
    }

    /// Work that nobody does: its handler was renamed or taken out of the configuration.
    fn left_over(&self, stats: &Stats) -> Vec<String> {
        let setup = self.app.setup();
        let left = |(name, counts): (&String, &Counts)| {
            let waiting = counts.queued + counts.leased;
            let known = setup.handlers.contains_key(name.as_str());
            (waiting > 0 && !known).then(|| {
                format!(
                    "{waiting} deliveries wait for handler `{name}`, which is not configured: add it again, \
                     or `hookonce deliveries move --handler {name} --to OTHER`, or `hookonce deliveries kill --handler {name}`"
                )
            })
        };
        let handlers = stats.handlers.iter().filter_map(left);
        let gone = |(name, counts): (&String, &Counts)| {
            let known = setup.sources.contains_key(name.as_str());
            let waiting = counts.queued + counts.leased + counts.held_now;
            (waiting > 0 && !known).then(|| {
                format!("{waiting} deliveries or held events are of source `{name}`, which is not configured any more; they are handled all the same")
            })
        };
        handlers.chain(stats.sources.iter().filter_map(gone)).collect()
    }
}

/// The earlier of two ends, where there are any.
fn earlier<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn page_rows(asked: Option<usize>) -> usize {
    asked.unwrap_or(limits::PAGE_ROWS).clamp(1, limits::PAGE_ROWS_MAX)
}

fn no_event(id: EventId) -> AdminError {
    AdminError::NotFound(format!("there is no event {id}"))
}

/// The body as text, or else in base64.
fn shown_body(body: &[u8]) -> (Option<String>, Option<String>) {
    let text = std::str::from_utf8(body).ok().map(str::to_owned);
    let base64 = text.is_none().then(|| BASE64_STANDARD.encode(body));
    (text, base64)
}

/// The headers; the values of credentials are left out.
fn shown_headers(headers: &Headers) -> Vec<(String, String)> {
    let shown = |(name, value): (&str, &[u8])| {
        let value = if is_credential(name) {
            "…".to_owned()
        } else {
            String::from_utf8_lossy(value).into_owned()
        };
        (name.to_owned(), value)
    };
    headers.iter().map(shown).collect()
}

fn view(record: EventRecord, deliveries: Vec<DeliveryView>) -> EventView {
    let event = record.event;
    let (body, body_base64) = shown_body(&event.body);
    EventView {
        row: record.row,
        identity: record.identity,
        mark_until: record.mark_until,
        retry_marker: event.retry_marker,
        query: event.query,
        headers: shown_headers(&event.headers),
        request_id: record.request.map(|request| request.id),
        body,
        body_base64,
        duplicates_seen: record.duplicates,
        deliveries,
    }
}
