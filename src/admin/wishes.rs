//! What a person wishes of events and deliveries. Each wish is one verb of the store; what it makes has
//! ids that follow from the wish, so that a form handed in twice is one wish.

use std::{fmt::Display, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::{Uuid, Version};

use super::{
    Admin, AdminError,
    erase::{self, reason},
    no_event,
};
use crate::{
    delivery::{DeliveryId, State},
    event::EventId,
    limits,
    source::Source,
    store::{Counts, EventRecord, Granted, Which, Wish},
};

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

/// Which dead deliveries to queue again: exactly one of `ids` and `handler`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedriveRequest {
    /// These.
    #[serde(default)]
    pub ids: Vec<DeliveryId>,
    /// All of this handler.
    pub handler: Option<String>,
    /// A UUID of version 7, made for this wish. Sent again with it, the wish is done once and answered alike.
    #[serde(default)]
    pub wish: Option<Uuid>,
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
    /// A UUID of version 7, made for this wish. Sent again with it, the wish is done once and answered alike.
    #[serde(default)]
    pub wish: Option<Uuid>,
}

/// The deliveries a wish made or changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// Their ids.
    pub deliveries: Vec<DeliveryId>,
    /// Whether the handler has more than one wish changes: ask again for the rest.
    #[serde(default)]
    pub more: bool,
}

impl Admin {
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
        let (reason, wish) = (reason(ask.reason)?, wish_id(ask.wish)?);
        let deliveries = self.new_deliveries(&record, handlers, wish);
        let changed = self.grant(Wish::Replay { event: id, deliveries }, id).await?;
        let count = changed.deliveries.len();
        tracing::info!(event.id = %id, count, reason, "a person replayed an event");
        Ok(changed)
    }

    /// Routes a held event. That is wished once of each, so the event's id is that of the wish.
    pub async fn admit(&self, id: EventId) -> Result<Changed, AdminError> {
        let record = self.app.store.event(id).await?.ok_or_else(|| no_event(id))?;
        let (handlers, wish) = (self.handlers_wanting(&record), Uuid::from_bytes(*id.as_bytes()));
        let deliveries = self.new_deliveries(&record, handlers, wish);
        self.grant(Wish::AdmitHeld { event: id, deliveries }, id).await
    }

    /// Queues dead deliveries again, each with a fresh budget.
    pub async fn redrive(&self, ask: RedriveRequest) -> Result<Changed, AdminError> {
        let (which, id) = (which(ask.ids, ask.handler)?, wish_id(ask.wish)?);
        let wish = Wish::Redrive { id, which: which.clone() };
        self.grant_to(wish, which, &[State::Dead]).await
    }

    /// Gives queued and dead deliveries to another handler.
    pub async fn move_to(&self, ask: MoveRequest) -> Result<Changed, AdminError> {
        let to = self.known_handler(&ask.to)?;
        let which = which(ask.ids, ask.handler)?;
        if which == Which::Handler(Arc::clone(&to)) {
            return Err(AdminError::Invalid(format!(
                "handler `{to}` has its own deliveries already"
            )));
        }
        let wish = Wish::Move { which: which.clone(), to };
        self.grant_to(wish, which, &[State::Queued, State::Dead]).await
    }

    /// Makes queued deliveries dead letters.
    pub async fn kill(&self, selection: Selection) -> Result<Changed, AdminError> {
        let which = which(selection.ids, selection.handler)?;
        let wish = Wish::Kill { which: which.clone() };
        self.grant_to(wish, which, &[State::Queued]).await
    }

    /// Grants a wish about deliveries in these states. Where none that was named is in one of them, that is
    /// a no, as it is where nobody knows the handler: a yes would say that something was done.
    async fn grant_to(
        &self,
        wish: Wish,
        which: Which,
        states: &[State],
    ) -> Result<Changed, AdminError> {
        let more = match &which {
            Which::Handler(handler) => self.are_more(handler, states).await?,
            Which::Ids(_) => false,
        };
        let changed = self.grant(wish, "these deliveries").await?;
        match &which {
            Which::Ids(ids) if changed.deliveries.is_empty() => {
                Err(self.why_none(ids, states).await?)
            }
            _ => Ok(Changed { more, ..changed }),
        }
    }

    /// Whether a handler has more deliveries in these states than one wish changes.
    async fn are_more(&self, handler: &str, states: &[State]) -> Result<bool, AdminError> {
        let counts = self.counts_of(handler).await?;
        let there = states.iter().map(|state| match state {
            State::Queued => counts.queued,
            State::Leased => counts.leased,
            State::Done => counts.done,
            State::Dead => counts.dead_now,
        });
        Ok(usize::try_from(there.sum::<u64>()).is_ok_and(|there| there > limits::WISH_ROWS_MAX))
    }

    /// What is counted of a handler that is configured, or was.
    pub(super) async fn counts_of(&self, handler: &str) -> Result<Counts, AdminError> {
        let counts = self.stats().await?.handlers.get(handler).copied();
        let is_configured = self.app.setup().handlers.contains_key(handler);
        let counts = counts.or_else(|| is_configured.then(Counts::default));
        counts.ok_or_else(|| AdminError::NotFound(format!("there is no handler `{handler}`")))
    }

    /// Why a wish changed none of the deliveries that were named: by the first of them.
    async fn why_none(
        &self,
        ids: &[DeliveryId],
        states: &[State],
    ) -> Result<AdminError, AdminError> {
        let Some(id) = ids.first().copied() else { return Err(which_one()) };
        let delivery = self.delivery(id).await?;
        let states = states.iter().map(|state| state.name()).collect::<Vec<_>>().join(" or ");
        let state = delivery.state.name();
        let why = format!("nothing was changed: delivery {id} is {state}, and not {states}");
        Ok(AdminError::Conflict(why))
    }

    pub(super) async fn grant(
        &self,
        wish: Wish,
        about: impl Display,
    ) -> Result<Changed, AdminError> {
        let not_after = self.app.clock.now().plus(WISH_DEADLINE);
        match self.app.store.wish(&wish, not_after).await? {
            Granted::Deliveries(deliveries) => {
                for handler in self.app.setup().handlers.keys() {
                    self.app.wake_handler(handler);
                }
                Ok(Changed { deliveries, more: false })
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
pub(super) const WISH_DEADLINE: Duration = Duration::from_secs(10);

pub(super) fn which(ids: Vec<DeliveryId>, handler: Option<String>) -> Result<Which, AdminError> {
    if ids.len() > limits::WISH_ROWS_MAX {
        let max = limits::WISH_ROWS_MAX;
        return Err(AdminError::Invalid(format!("name at most {max} `ids` at once")));
    }
    match (ids.is_empty(), handler) {
        (false, None) => Ok(Which::Ids(ids)),
        (true, Some(handler)) => Ok(Which::Handler(Arc::from(handler))),
        _ => Err(which_one()),
    }
}

fn which_one() -> AdminError {
    AdminError::Invalid("name either `ids` or a `handler`".to_owned())
}

/// The id of a wish: the one it came with, or a new one. The ids of what it makes begin with its time, and
/// have their place in the lists by that, so it must have one.
fn wish_id(given: Option<Uuid>) -> Result<Uuid, AdminError> {
    match given {
        None => Ok(Uuid::now_v7()),
        Some(wish) if wish.get_version() == Some(Version::SortRand) => Ok(wish),
        Some(wish) => Err(AdminError::Invalid(format!(
            "`wish` is {wish}, which is no UUID of version 7: make a new one for each wish"
        ))),
    }
}
