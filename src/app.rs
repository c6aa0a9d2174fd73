//! What the paths share: the setup, the store, the clock.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use tokio::sync::{Notify, Semaphore, watch};

use crate::{
    api::Api,
    clock::Clock,
    control::Controls,
    errands::Errands,
    handed_over::Keeper,
    handler::Configured,
    limits,
    notice::Notices,
    refusal_log::RefusalLog,
    request::Headers,
    secret::Secret,
    setup::Setup,
    shutdown::Tasks,
    source::Source,
    store::Store,
    telemetry::{
        history::{History, Silent},
        log::Throttle,
        metrics::Metrics,
        tail::Tail,
        trace::Traces,
    },
};

/// One configured hookonce. It holds no state that it cannot lose: that is all in the store.
#[derive(Debug)]
pub struct App {
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
    /// What became of each event, for a collector.
    pub traces: Traces,
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
    /// The same of attempts that fail: there may be as many as there are events.
    pub attempt_lines: Throttle,
    /// What runs in the background, and what must outlive the client that asked for it.
    pub tasks: Tasks,
    /// Places for requests with a key: each holds its body and its answer in memory.
    pub calls: Arc<Semaphore>,
    /// Places for what could not be written down about a key at once, and is tried again.
    pub late_writes: Arc<Semaphore>,
    setup: watch::Sender<Arc<Setup>>,
    wakers: Mutex<BTreeMap<Arc<str>, Arc<Notify>>>,
}

/// How the outside sees this server.
#[derive(Clone, Debug)]
pub struct Server {
    /// The public base URL, as providers call it.
    pub public_url: Option<String>,
    /// Whether its own listener speaks TLS.
    pub speaks_tls: bool,
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
        let scheme = forwarded("x-forwarded-proto").unwrap_or_else(|| self.scheme());
        let host = forwarded("x-forwarded-host").or_else(|| place.headers.first("host"));
        format!("{scheme}://{}{path}{query}", host.unwrap_or_default().trim())
    }

    /// How it is called where there is no proxy in between.
    pub fn scheme(&self) -> &'static str {
        if self.speaks_tls { "https" } else { "http" }
    }

    /// Whether this is the address of a proxy whose `X-Forwarded-*` count.
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        let is_in = |peer| self.trusted_proxies.iter().any(|proxies| proxies.contains(&peer));
        peer.is_some_and(is_in)
    }

    /// Who sent a request that came from `peer`, where `forwarded_for` is what `X-Forwarded-For` says, line by
    /// line. Each trusted proxy is believed about whom it had the request from, and nobody else about anything:
    /// a sender can begin the list with whatever it likes.
    pub fn sender(&self, peer: IpAddr, forwarded_for: &[&str]) -> IpAddr {
        let mut sender = peer;
        for said in forwarded_for.iter().flat_map(|line| line.split(',')).rev() {
            match address(said.trim()) {
                Some(address) if self.trusts(Some(sender)) => sender = address,
                _ => break,
            }
        }
        sender
    }
}

/// An address as proxies write it, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    text.parse().ok().or_else(with_port)
}

/// The first of several with commas in between: what the proxy nearest to the provider said.
pub fn first_item(values: &str) -> &str {
    values.split(',').next().unwrap_or_default().trim()
}

impl Default for Server {
    fn default() -> Self {
        Self {
            public_url: None,
            speaks_tls: false,
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
        let metrics = Metrics::default();
        let app = Self {
            setup: watch::Sender::default(),
            wakers: Mutex::default(),
            store,
            clock,
            refusals: RefusalLog::new(metrics.clone()),
            metrics,
            history: History::default(),
            tail: Tail::default(),
            traces: Traces::default(),
            server: Server::default(),
            answer_within: limits::ANSWER_DEADLINE,
            lease: limits::LEASE,
            errands: Errands::default(),
            handed_over: Keeper::below(None),
            refusal_lines: Throttle::every(Duration::from_secs(1)),
            attempt_lines: Throttle::of(limits::ATTEMPT_LINES_MAX, Duration::from_secs(1)),
            tasks: Tasks::default(),
            calls: Arc::new(Semaphore::new(limits::CALLS_MAX)),
            late_writes: Arc::new(Semaphore::new(limits::CALLS_MAX)),
        };
        app.replace_setup(Setup::new(sources, handlers, Vec::new()));
        app
    }

    /// The same app with these APIs.
    #[must_use]
    pub fn with_apis(self, apis: Vec<Api>) -> Self {
        let apis = Setup::new(Vec::new(), Vec::new(), apis).apis;
        self.show_open(apis.values());
        self.setup.send_modify(|setup| Arc::make_mut(setup).apis = apis);
        self
    }

    /// The same app that tells these people what happens.
    #[must_use]
    pub fn with_notices(self, notices: Arc<Notices>) -> Self {
        self.setup.send_modify(|setup| Arc::make_mut(setup).notices = notices);
        self
    }

    /// The sources, handlers and APIs as they are now. Who takes the value once and keeps it is not
    /// touched by a reload.
    pub fn setup(&self) -> Arc<Setup> {
        Arc::clone(&self.setup.borrow())
    }

    /// Sources that nothing was heard of for longer than usual. One that is configured no more is not missed.
    pub fn silent_sources(&self) -> Vec<Silent> {
        let setup = self.setup();
        let mut silent = self.history.silent(self.clock.now(), setup.notices.silence_min);
        silent.retain(|silent| setup.sources.contains_key(silent.source.as_str()));
        silent
    }

    /// The setup and every one that comes after it.
    pub fn setups(&self) -> watch::Receiver<Arc<Setup>> {
        self.setup.subscribe()
    }

    /// Puts another setup in the place of this one, in one step. Requests and attempts that have begun
    /// go on with what they began with.
    pub fn replace_setup(&self, setup: Setup) {
        for source in setup.sources.values().filter(|source| source.is_in_shadow_mode()) {
            self.metrics.in_shadow_mode(&source.name);
        }
        self.show_open(setup.apis.values());
        self.refusals.hide(setup.sources.values().flat_map(|source| &source.settings.secrets));
        self.setup.send_modify(|old| {
            let controls = old.controls.clone();
            *old = Arc::new(Setup { controls, ..setup });
        });
        self.wake_all();
    }

    fn show_open<'a>(&self, apis: impl Iterator<Item = &'a Arc<Api>>) {
        apis.filter(|api| api.fail_open).for_each(|api| self.metrics.may_fail_open(&api.name));
    }

    /// Has this hold from here on, beside the setup.
    pub fn set_controls(&self, controls: Controls) {
        self.metrics.handlers_paused(&controls);
        let changed = self.setup.send_if_modified(|setup| {
            let differs = setup.controls.as_ref() != Some(&controls);
            if differs {
                Arc::make_mut(setup).controls = Some(controls);
            }
            differs
        });
        if changed {
            self.wake_all();
        }
    }

    /// Whether a line about this, which a sender could multiply, may be written now, and if so how many were
    /// held back since the last one. What it is about must come from a closed set.
    pub fn may_say(&self, about: &str) -> Option<u64> {
        self.refusal_lines.let_through(about, self.clock.monotonic())
    }

    /// Wakes the worker of every handler: it may be asked to do something else.
    fn wake_all(&self) {
        for waker in self.lock_wakers().values() {
            waker.notify_one();
        }
    }

    /// Wakes the workers of the handlers that a source feeds: something may be due.
    pub fn wake(&self, source: &Source) {
        for route in &source.routes {
            self.wake_handler(&route.handler);
        }
    }

    /// Wakes the worker of one handler. One notice is kept if it is not waiting just now.
    pub fn wake_handler(&self, handler: &str) {
        if let Some(waker) = self.lock_wakers().get(handler) {
            waker.notify_one();
        }
    }

    /// What wakes the worker of this handler: the same for as long as the process lives, so that a
    /// handler that is taken out and put back is woken as before.
    pub fn waker(&self, handler: &Arc<str>) -> Arc<Notify> {
        Arc::clone(self.lock_wakers().entry(Arc::clone(handler)).or_default())
    }

    fn lock_wakers(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<Notify>>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_whom_the_last_trusted_proxy_names() {
        let trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        let server = Server { trusted_proxies, ..Server::default() };
        let sender =
            |peer: &str, lines: &[&str]| server.sender(peer.parse().unwrap(), lines).to_string();
        assert_eq!(sender("198.51.100.7", &["203.0.113.9"]), "198.51.100.7", "not trusted");
        assert_eq!(sender("10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(sender("10.0.0.1", &["192.0.2.1, 203.0.113.9, 10.0.0.2"]), "203.0.113.9");
        assert_eq!(sender("10.0.0.1", &["192.0.2.1", "203.0.113.9:4711"]), "203.0.113.9");
        assert_eq!(sender("10.0.0.1", &["192.0.2.1, unknown"]), "10.0.0.1");
        assert_eq!(sender("10.0.0.1", &[]), "10.0.0.1");
    }
}
