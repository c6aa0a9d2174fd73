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

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::{erase::reason, redrives::Redrives};
use crate::{
    app::App,
    clock::Timestamp,
    delivery::{Attempt, Delivery, DeliveryId, State},
    event::{Duplicate, EventId, EventState, RequestId},
    handler::is_credential,
    limits,
    request::Headers,
    setup::{NotReloaded, Reload, Reloaded},
    source::Source,
    store::{
        Counts, DeliveryFilter, EventFilter, EventRecord, EventRow, Granted, Stats, StoreError,
        Which, Wish, encrypted::newest_unreadable,
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

/// Which deliveries a wish is about: exactly one of the two.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// These.
    #[serde(default)]
    pub ids: Vec<DeliveryId>,
    /// All of this handler that the wish applies to.
    pub handler: Option<String>,
}

/// Which deliveries to move, and where to.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveRequest {
    /// These.
    #[serde(default)]
    pub ids: Vec<DeliveryId>,
    /// All of this handler that are queued or dead.
    pub handler: Option<String>,
    /// The handler that is to have them.
    pub to: String,
}

/// What to replay of an event.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// Only for this handler. None: for every handler that wants the event now.
    pub handler: Option<String>,
    /// Why, for the log.
    pub reason: Option<String>,
}

/// The deliveries a wish made or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// Their ids.
    pub deliveries: Vec<DeliveryId>,
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
            let attempts_made = self.attempts(delivery.id).await?;
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
            limit,
        };
        let deliveries = self.app.store.deliveries(&filter).await?;
        let next = deliveries.get(limit - 1).map(|last| last.id);
        Ok(DeliveryPage { deliveries, next })
    }

    /// The attempts of a delivery, oldest first.
    pub async fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>, AdminError> {
        Ok(self.app.store.attempts(id).await?)
    }

    /// Makes new deliveries of an event, marked as replays.
    pub async fn replay(&self, id: EventId, ask: ReplayRequest) -> Result<Changed, AdminError> {
        let record = self.app.store.event(id).await?.ok_or_else(|| no_event(id))?;
        let handlers = match ask.handler {
            Some(handler) => vec![self.known_handler(&handler)?],
            None => self.handlers_wanting(&record),
        };
        if handlers.is_empty() {
            return Err(AdminError::Invalid(format!(
                "no handler wants event {id} now: name one to replay it to"
            )));
        }
        let reason = reason(ask.reason)?;
        let deliveries = self.new_deliveries(&record, handlers);
        let changed = self.grant(Wish::Replay { event: id, deliveries }, id).await?;
        let count = changed.deliveries.len();
        tracing::info!(event.id = %id, count, reason, "a person replayed an event");
        Ok(changed)
    }

    /// Routes a held event.
    pub async fn admit(&self, id: EventId) -> Result<Changed, AdminError> {
        let record = self.app.store.event(id).await?.ok_or_else(|| no_event(id))?;
        let deliveries = self.new_deliveries(&record, self.handlers_wanting(&record));
        self.grant(Wish::AdmitHeld { event: id, deliveries }, id).await
    }

    /// Queues dead deliveries again, each with a fresh budget.
    pub async fn redrive(&self, selection: Selection) -> Result<Changed, AdminError> {
        let which = which(selection.ids, selection.handler)?;
        self.grant(Wish::Redrive { id: Uuid::now_v7(), which }, "these deliveries").await
    }

    /// Gives queued and dead deliveries to another handler.
    pub async fn move_to(&self, ask: MoveRequest) -> Result<Changed, AdminError> {
        let to = self.known_handler(&ask.to)?;
        let which = which(ask.ids, ask.handler)?;
        self.grant(Wish::Move { which, to }, "these deliveries").await
    }

    /// Makes queued deliveries dead letters.
    pub async fn kill(&self, selection: Selection) -> Result<Changed, AdminError> {
        let which = which(selection.ids, selection.handler)?;
        self.grant(Wish::Kill { which }, "these deliveries").await
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

    async fn grant(
        &self,
        wish: Wish,
        about: impl std::fmt::Display,
    ) -> Result<Changed, AdminError> {
        let not_after = self.app.clock.now().plus(WISH_DEADLINE);
        match self.app.store.wish(&wish, not_after).await? {
            Granted::Deliveries(deliveries) => {
                for handler in self.app.setup().handlers.keys() {
                    self.app.wake_handler(handler);
                }
                Ok(Changed { deliveries })
            }
            Granted::Running => Err(erase::running(about)),
            Granted::Erased => Err(erase::erased(about)),
            Granted::NotFound => Err(AdminError::NotFound(format!(
                "{about} cannot be found, or not in a state that allows this"
            ))),
        }
    }

    fn handlers_wanting(&self, record: &EventRecord) -> Vec<Arc<str>> {
        let setup = self.app.setup();
        let source: Option<&Arc<Source>> = setup.sources.get(&record.row.source);
        let routes = source.map(|source| source.routes.as_slice()).unwrap_or_default();
        routes
            .iter()
            .filter(|route| route.wants(record.row.event_type.as_deref()))
            .map(|route| Arc::clone(&route.handler))
            .collect()
    }

    fn known_handler(&self, name: &str) -> Result<Arc<str>, AdminError> {
        let setup = self.app.setup();
        let known = setup.handlers.get_key_value(name).map(|(known, _)| Arc::clone(known));
        known.ok_or_else(|| AdminError::Invalid(format!("there is no handler `{name}`")))
    }
}

/// A person waits longer than a provider does, but not for ever.
const WISH_DEADLINE: Duration = Duration::from_secs(10);

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

fn which(ids: Vec<DeliveryId>, handler: Option<String>) -> Result<Which, AdminError> {
    match (ids.is_empty(), handler) {
        (false, None) => Ok(Which::Ids(ids)),
        (true, Some(handler)) => Ok(Which::Handler(Arc::from(handler))),
        _ => Err(AdminError::Invalid("name either `ids` or a `handler`".to_owned())),
    }
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
