//! What the paths share: the sources, the handlers, the APIs, the store, the clock.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use tokio::sync::{Notify, Semaphore};

use crate::{
    api::Api,
    clock::Clock,
    errands::Errands,
    handed_over::Keeper,
    handler::Configured,
    limits,
    refusal_log::RefusalLog,
    request::Headers,
    secret::Secret,
    shutdown::Tasks,
    source::Source,
    store::Store,
    telemetry::{history::History, log::Throttle, metrics::Metrics, tail::Tail},
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
    /// What happens now, for those who watch.
    pub tail: Tail,
    /// How the outside sees us, and how long things may take.
    pub server: Server,
    /// From the last byte of a body to its answer.
    pub answer_within: Duration,
    /// How long a claimed delivery is leased.
    pub lease: Duration,
    /// What is left to be done after the answers.
    pub errands: Errands,
    /// Where secrets that are handed over are kept for a person to look at.
    pub handed_over: Keeper,
    /// Keeps refused requests.
    pub refusals: RefusalLog,
    /// Holds back log lines that a sender could multiply.
    pub refusal_lines: Throttle,
    /// What runs in the background, and what must outlive the client that asked for it.
    pub tasks: Tasks,
    /// Places for requests with a key: each holds its body and its answer in memory.
    pub calls: Arc<Semaphore>,
    /// Places for what could not be written down about a key at once, and is tried again.
    pub late_writes: Arc<Semaphore>,
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

/// Where a request came in, as far as its URL depends on that.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The path and the query that it was sent to.
    pub target: &'a str,
    /// Its headers.
    pub headers: &'a Headers,
    /// Who sent it: the provider, or a proxy.
    pub peer: Option<IpAddr>,
}

impl Server {
    /// The URL as the provider called it. What is configured stands before what a request says of itself,
    /// and `X-Forwarded-*` counts only from a proxy that is trusted.
    pub fn url(&self, source: &Source, place: &Place<'_>) -> String {
        let (path, query) = match place.target.split_once('?') {
            Some((path, query)) => (path, format!("?{query}")),
            None => (place.target, String::new()),
        };
        if let Some(url) = &source.url {
            let registered = url.split(['?', '#']).next().unwrap_or_default();
            return format!("{registered}{query}");
        }
        if let Some(base) = &self.public_url {
            return format!("{}{path}{query}", base.trim_end_matches('/'));
        }
        let trusted = self.trusts(place.peer);
        let forwarded = |name: &str| place.headers.first(name).filter(|_| trusted).map(first_item);
        let scheme = forwarded("x-forwarded-proto").unwrap_or("http");
        let host = forwarded("x-forwarded-host").or_else(|| place.headers.first("host"));
        format!("{scheme}://{}{path}{query}", host.unwrap_or_default().trim())
    }

    /// Whether this is the address of a proxy whose `X-Forwarded-*` count.
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        let is_in = |peer| self.trusted_proxies.iter().any(|proxies| proxies.contains(&peer));
        peer.is_some_and(is_in)
    }
}

/// The first of several with commas in between: what the proxy nearest to the provider said.
pub fn first_item(values: &str) -> &str {
    values.split(',').next().unwrap_or_default().trim()
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
        let secrets = sources.iter().flat_map(|source| source.settings.secrets.clone()).collect();
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
            refusals: RefusalLog::new(secrets, metrics.clone()),
            metrics,
            history: History::default(),
            tail: Tail::default(),
            server: Server::default(),
            answer_within: limits::ANSWER_DEADLINE,
            lease: limits::LEASE,
            errands: Errands::default(),
            handed_over: Keeper::below(None),
            refusal_lines: Throttle::every(Duration::from_secs(1)),
            tasks: Tasks::default(),
            calls: Arc::new(Semaphore::new(limits::CALLS_MAX)),
            late_writes: Arc::new(Semaphore::new(limits::CALLS_MAX)),
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
