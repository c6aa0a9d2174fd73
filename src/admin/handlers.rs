//! Handlers: how they run now, and what a person may change about that.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Admin, AdminError};
use crate::{
    control::{Control, Limits, Setting},
    controls,
    handler::Configured,
    limits,
    rate::Rate,
    store::Counts,
};

/// Every handler that is configured, by name.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HandlerList {
    /// Them.
    pub handlers: Vec<HandlerView>,
}

/// How one handler runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HandlerView {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it is paused: its events are accepted and kept, and no attempt begins.
    pub paused: bool,
    /// Attempts at once in each process, as it is now.
    pub concurrency: usize,
    /// How often attempts begin in each process, as it is now. None: as often as they can.
    pub rate: Option<Rate>,
    /// What a person has set in the place of the configuration.
    pub limits: Limits,
    /// Deliveries that wait.
    pub queued: u64,
    /// Deliveries that are being tried, in any process.
    pub leased: u64,
    /// Dead letters.
    pub dead_now: u64,
}

impl Admin {
    /// How every handler runs.
    pub async fn handlers(&self) -> Result<HandlerList, AdminError> {
        controls::read(&self.app).await?;
        let (setup, stats) = (self.app.setup(), self.app.store.stats().await?);
        let view = |handler: &Configured| {
            let counts = stats.handlers.get(&*handler.name).copied().unwrap_or_default();
            view(handler, setup.control(&handler.name), &counts)
        };
        Ok(HandlerList { handlers: setup.handlers.values().map(view).collect() })
    }

    /// Begins no attempt of this handler any more, in any process. Those that run go on to their end.
    pub async fn pause(&self, name: &str) -> Result<HandlerView, AdminError> {
        self.set(name, Setting::Paused(true)).await
    }

    /// Goes on with what waits.
    pub async fn resume(&self, name: &str) -> Result<HandlerView, AdminError> {
        self.set(name, Setting::Paused(false)).await
    }

    /// Sets the limits of this handler, in every process; what is left out is as configured again.
    pub async fn limit(&self, name: &str, limits: Limits) -> Result<HandlerView, AdminError> {
        let most = limits::CONCURRENCY_MAX;
        if limits.concurrency.is_some_and(|concurrency| !(1..=most).contains(&concurrency)) {
            let why = format!("`concurrency` is out of bounds: give 1 to {most}, or pause instead");
            return Err(AdminError::Invalid(why));
        }
        self.set(name, Setting::Limits(limits)).await
    }

    async fn set(&self, name: &str, setting: Setting) -> Result<HandlerView, AdminError> {
        let unknown = || AdminError::NotFound(format!("there is no handler `{name}`"));
        if !self.app.setup().handlers.contains_key(name) {
            return Err(unknown());
        }
        self.app.store.control(name, setting).await?;
        tracing::info!(handler.name = name, ?setting, "a person has changed how a handler runs");
        let handlers = self.handlers().await?.handlers;
        handlers.into_iter().find(|handler| *handler.name == *name).ok_or_else(unknown)
    }
}

fn view(handler: &Configured, control: Control, counts: &Counts) -> HandlerView {
    let now = handler.under(control.limits);
    HandlerView {
        name: Arc::clone(&handler.name),
        paused: control.paused,
        concurrency: now.concurrency,
        rate: now.rate,
        limits: control.limits,
        queued: counts.queued,
        leased: counts.leased,
        dead_now: counts.dead_now,
    }
}
