//! What the paths share: the sources, the handlers, the APIs, the store, the clock.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ipnet::IpNet;
use tokio::sync::{Notify, Semaphore};

use crate::{
    api::Api,
    clock::Clock,
    handler::Configured,
    limits,
    secret::Secret,
    shutdown::Tasks,
    source::Source,
    store::Store,
    telemetry::{history::History, log::Throttle, metrics::Metrics},
};

/// One configured hookonce. It holds no state that it cannot lose: that is all in the store.
#[derive(Debug)]
pub struct App {
    /// The sources by name.
    pub sources: BTreeMap<Arc<str>, Arc<Source>>,
    /// The handlers by name.
    pub handlers: BTreeMap<Arc<str>, Configured>,
    /// The APIs by name.
    pub apis: BTreeMap<Arc<str>, Arc<Api>>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The metrics.
    pub metrics: Metrics,
    /// How they went over the last day.
    pub history: History,
    /// How the outside sees us, and how long things may take.
    pub server: Server,
    /// From the last byte of a body to its answer.
    pub answer_within: Duration,
    /// How long a claimed delivery is leased.
    pub lease: Duration,
    /// Holds back log lines that a sender could multiply.
    pub refusal_lines: Throttle,
    /// What runs in the background, and what must outlive the client that asked for it.
    pub tasks: Tasks,
    /// Places for requests with a key: each holds its body and its answer in memory.
    pub calls: Arc<Semaphore>,
    wakers: BTreeMap<Arc<str>, Arc<Notify>>,
}

/// How the outside sees this server.
#[derive(Clone, Debug)]
pub struct Server {
    /// The public base URL, as providers call it.
    pub public_url: Option<String>,
    /// Who may say with `X-Forwarded-*` how it was called.
    pub trusted_proxies: Vec<IpNet>,
    /// How long a body may take to arrive.
    pub body_within: Duration,
    /// The token of the admin listener.
    pub admin_token: Option<Secret>,
    /// A token that only lets its owner look.
    pub admin_token_readonly: Option<Secret>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            public_url: None,
            trusted_proxies: Vec::new(),
            body_within: limits::BODY_DEADLINE,
            admin_token: None,
            admin_token_readonly: None,
        }
    }
}

impl App {
    /// An app of these parts, with the default deadlines.
    pub fn new(
        sources: Vec<Source>,
        handlers: Vec<Configured>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let named = |handler: Configured| (Arc::clone(&handler.name), handler);
        let handlers: BTreeMap<_, _> = handlers.into_iter().map(named).collect();
        let metrics = Metrics::default();
        for source in sources.iter().filter(|source| source.is_in_shadow_mode()) {
            metrics.in_shadow_mode(&source.name);
        }
        Self {
            wakers: handlers.keys().map(|name| (Arc::clone(name), Arc::default())).collect(),
            sources: sources
                .into_iter()
                .map(|source| (Arc::clone(&source.name), Arc::new(source)))
                .collect(),
            handlers,
            apis: BTreeMap::new(),
            store,
            clock,
            metrics,
            history: History::default(),
            server: Server::default(),
            answer_within: limits::ANSWER_DEADLINE,
            lease: limits::LEASE,
            refusal_lines: Throttle::every(Duration::from_secs(1)),
            tasks: Tasks::default(),
            calls: Arc::new(Semaphore::new(limits::CALLS_MAX)),
        }
    }

    /// The same app with these APIs.
    #[must_use]
    pub fn with_apis(mut self, apis: Vec<Api>) -> Self {
        self.apis = apis.into_iter().map(|api| (Arc::clone(&api.name), Arc::new(api))).collect();
        self
    }

    /// Wakes the workers of the handlers that a source feeds: something may be due.
    pub fn wake(&self, source: &Source) {
        for route in &source.routes {
            self.wake_handler(&route.handler);
        }
    }

    /// Wakes the worker of one handler. One notice is kept if it is not waiting just now.
    pub fn wake_handler(&self, handler: &str) {
        if let Some(waker) = self.wakers.get(handler) {
            waker.notify_one();
        }
    }

    /// What wakes the worker of this handler.
    pub fn waker(&self, handler: &str) -> Arc<Notify> {
        self.wakers.get(handler).cloned().unwrap_or_default()
    }
}
