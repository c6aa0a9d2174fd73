//! Redriving all dead letters of a handler at a rate, so that what comes in meanwhile is not drowned.
//!
//! It is a task of this process and remembers nothing: after a restart what it has not reached is still
//! dead, and can be begun again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Admin, AdminError, RedriveRequest};
use crate::{
    clock::Timestamp,
    delivery::{DeliveryId, State},
    limits,
    store::DeliveryFilter,
};

/// What to redrive, and how fast.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlowRedrive {
    /// All dead letters of this handler.
    pub handler: String,
    /// How many in a second.
    pub per_second: u32,
}

/// How far one has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RedriveProgress {
    /// Its id: one that is begun after it was stopped is another.
    pub id: Uuid,
    /// The handler whose dead letters it is about.
    pub handler: String,
    /// How many in a second.
    pub per_second: u32,
    /// When it began.
    pub begun_at: Timestamp,
    /// How many there were then.
    pub total: u64,
    /// How many are queued again.
    pub redriven: u64,
    /// How it stands.
    pub state: RedriveState,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// How a redrive at a rate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedriveState {
    /// It goes on.
    Running,
    /// All are queued again.
    Done,
    /// A person stopped it.
    Stopped,
    /// The store did not answer. What is left is still dead.
    Failed,
}

/// The last one of each handler.
#[derive(Debug, Default)]
pub(super) struct Redrives(Mutex<BTreeMap<String, RedriveProgress>>);

impl Admin {
    /// Begins to redrive the dead letters of a handler. There is one at a time for each handler.
    pub async fn begin_redrive(
        self: &Arc<Self>,
        ask: SlowRedrive,
    ) -> Result<RedriveProgress, AdminError> {
        let (handler, per_second) = (ask.handler, ask.per_second);
        if !(1..=limits::REDRIVES_PER_SECOND_MAX).contains(&per_second) {
            let max = limits::REDRIVES_PER_SECOND_MAX;
            return Err(AdminError::Invalid(format!("write a rate from 1 to {max} a second")));
        }
        let stats = self.stats().await?;
        let total = stats.handlers.get(&handler).map_or(0, |counts| counts.dead_now);
        let Some(newest) = self.newest_dead(&handler).await? else {
            return Err(AdminError::NotFound(format!("handler `{handler}` has no dead letters")));
        };
        let (begun_at, state) = (self.app.clock.now(), RedriveState::Running);
        let (id, name) = (Uuid::now_v7(), handler.clone());
        let progress = RedriveProgress {
            id,
            handler,
            per_second,
            begun_at,
            total,
            redriven: 0,
            state,
            error: None,
        };
        {
            let mut redrives = self.redrives.lock();
            if redrives.get(&name).is_some_and(|known| known.state == RedriveState::Running) {
                let why =
                    format!("the dead letters of handler `{name}` are being redriven already");
                return Err(AdminError::Invalid(why));
            }
            redrives.insert(name.clone(), progress.clone());
        }
        let admin = Arc::clone(self);
        let begun = progress.clone();
        self.app.tasks.spawn(async move { admin.redrive_slowly(&begun, newest).await });
        Ok(progress)
    }

    /// The last one of each handler, as far as this process knows.
    pub fn redrives(&self) -> Vec<RedriveProgress> {
        self.redrives.lock().values().cloned().collect()
    }

    /// Stops the one of this handler. What is queued again stays queued.
    pub fn stop_redrive(&self, handler: &str) -> Result<RedriveProgress, AdminError> {
        match self.redrives.lock().get_mut(handler) {
            Some(progress) if progress.state == RedriveState::Running => {
                progress.state = RedriveState::Stopped;
                Ok(progress.clone())
            }
            _ => {
                Err(AdminError::NotFound(format!("nothing of handler `{handler}` is redriven now")))
            }
        }
    }

    /// A lot every second, from the oldest to the newest there is at the beginning: what goes last in its
    /// line when it is redriven then stands there as it was admitted. Each delivery is met once, so one
    /// that dies again is left for a person to look at.
    async fn redrive_slowly(&self, begun: &RedriveProgress, newest: DeliveryId) {
        let (handler, redrives) = (&*begun.handler, &self.redrives);
        let mut after = DeliveryId::first_at(Timestamp::default());
        while redrives.is_running(begun) {
            match self.redrive_lot(handler, begun.per_second, (after, newest)).await {
                Ok(None) => return redrives.end(begun, RedriveState::Done, None),
                Ok(Some((redriven, last))) => {
                    redrives.count(begun, redriven);
                    after = last;
                }
                Err(error) => {
                    tracing::warn!(handler.name = handler, %error, "redriving dead letters failed");
                    let why = Some(error.to_string());
                    return redrives.end(begun, RedriveState::Failed, why);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = self.app.tasks.stopping() => return,
            }
        }
    }

    /// How many were redriven, and the last that was looked at. None: there was none left.
    async fn redrive_lot(
        &self,
        handler: &str,
        per_second: u32,
        (after, newest): (DeliveryId, DeliveryId),
    ) -> Result<Option<(usize, DeliveryId)>, AdminError> {
        let limit = usize::try_from(per_second).unwrap_or(1);
        let dead = DeliveryFilter { after: Some(after), limit, ..dead_of(handler) };
        let lot = self.app.store.deliveries(&dead).await?;
        let ids = lot.iter().map(|delivery| delivery.id).filter(|id| *id <= newest);
        let ids: Vec<_> = ids.collect();
        let Some(last) = ids.last().copied() else { return Ok(None) };
        match self.redrive(RedriveRequest { ids, ..RedriveRequest::default() }).await {
            Ok(changed) => Ok(Some((changed.deliveries.len(), last))),
            // All of this lot was erased, or redriven by somebody else: that says nothing about the next.
            Err(AdminError::Conflict(_) | AdminError::NotFound(_)) => Ok(Some((0, last))),
            Err(error) => Err(error),
        }
    }

    async fn newest_dead(&self, handler: &str) -> Result<Option<DeliveryId>, AdminError> {
        let newest = DeliveryFilter { limit: 1, ..dead_of(handler) };
        Ok(self.app.store.deliveries(&newest).await?.first().map(|delivery| delivery.id))
    }
}

/// The dead letters of a handler.
pub(super) fn dead_of(handler: &str) -> DeliveryFilter {
    let (handler, state) = (Some(handler.to_owned()), Some(State::Dead));
    DeliveryFilter { handler, state, ..DeliveryFilter::default() }
}

impl Redrives {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, RedriveProgress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_running(&self, begun: &RedriveProgress) -> bool {
        self.of(begun, |progress| progress.state == RedriveState::Running).unwrap_or(false)
    }

    fn count(&self, begun: &RedriveProgress, redriven: usize) {
        let redriven = u64::try_from(redriven).unwrap_or(u64::MAX);
        self.of(begun, |progress| progress.redriven += redriven);
    }

    fn end(&self, begun: &RedriveProgress, state: RedriveState, error: Option<String>) {
        self.of(begun, |progress| (progress.state, progress.error) = (state, error));
    }

    /// Looks at how this very one stands. None: it was stopped, and another one of its handler begun.
    fn of<T>(
        &self,
        begun: &RedriveProgress,
        look: impl FnOnce(&mut RedriveProgress) -> T,
    ) -> Option<T> {
        self.lock().get_mut(&begun.handler).filter(|known| known.id == begun.id).map(look)
    }
}
