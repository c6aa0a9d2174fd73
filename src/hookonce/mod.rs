//! The library's front door: build it, mount its routes, start its workers.

mod spec;

use std::{collections::BTreeSet, fmt, path::PathBuf, sync::Arc, time::Duration};

use actix_web::{
    Error,
    body::MessageBody,
    dev::{Service, ServiceRequest, ServiceResponse, Transform},
    web,
};

pub use self::spec::{Interest, SourceSpec, from, on};
use crate::{
    admin::{self, Admin},
    api::Api,
    app::{self, App},
    clock::{Clock, SystemClock},
    config::Config,
    configured, controls,
    handed_over::Keeper,
    handler::{Configured, FunctionHandler, Handler, IntoOutcome, http_client},
    http, limits, notifier, outbound, provider, prune,
    seal::Seal,
    secret::Secret,
    setup::Reload,
    shutdown::Tasks,
    source::{Route, Source},
    store::{
        self, Durability, Store, StoreError,
        encrypted::{EncryptedStore, EncryptionKeys},
    },
    telemetry::trace::Traces,
    work::{self, Worker},
};

/// A receiver that is ready to use. Clones share everything.
#[derive(Clone, Debug)]
pub struct Hookonce {
    app: Arc<App>,
    admin: Arc<Admin>,
    tasks: Tasks,
    retention: prune::Retention,
}

impl Hookonce {
    /// Begins with nothing configured.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A receiver around an app that was put together elsewhere.
    pub fn new(app: App, retention: prune::Retention) -> Self {
        let (tasks, app) = (app.tasks.clone(), Arc::new(app));
        let admin = Arc::new(Admin::new(Arc::clone(&app), None));
        Self { app, admin, tasks, retention }
    }

    /// A receiver as the configuration describes it, its store open.
    ///
    /// # Errors
    /// When the store cannot be opened: it is in use, newer than this program, too weak for the
    /// promise asked for, or handed over to another one. One that cannot be reached just now is no error.
    pub async fn open(config: Config) -> Result<Self, StoreError> {
        let clock = SystemClock::start();
        let (url, durability) = (&config.store.url, config.store.durability);
        let data_dir = Some(config.server.data_dir.as_path());
        let mut store = store::connect(url.expose(), durability, data_dir, &clock).await?;
        refuse_moving(&*store).await?;
        store = Arc::new(EncryptedStore::new(store, config.store.encryption_keys));
        if let Some(cache) = &config.store.cache {
            store = store::with_cache(store, url.expose(), cache.expose(), &clock)?;
        }
        let client = http_client();
        let handlers = configured::handlers(&config.handlers, &client, &clock);
        let notices = configured::notices(&config.notices, &client, &clock);
        let app = App::new(config.sources, handlers, store, clock).with_apis(config.apis);
        let mut app = app.with_notices(notices);
        app.server = app::Server {
            public_url: config.server.public_url,
            speaks_tls: config.server.tls.is_some(),
            trusted_proxies: config.server.trusted_proxies,
            body_within: config.server.body_within,
            admin_token: config.server.admin_token,
            admin_token_readonly: config.server.admin_token_readonly,
        };
        app.handed_over = Keeper::below(Some(config.server.data_dir.clone()));
        app.refusals = app.refusals.sealed_by(Seal::kept_in(&config.server.data_dir));
        app.traces = configured::traces(&config.telemetry);
        app.answer_within = config.server.answer_within;
        app.lease = config.workers.lease;
        let retention = prune::Retention {
            done: config.store.retention,
            dead: config.store.retention_dead,
            held: config.store.retention_held,
        };
        Ok(Self::new(app, retention))
    }

    /// The app behind it.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// The endpoints that providers call, for `App::configure` of actix-web.
    pub fn routes(&self) -> impl FnOnce(&mut web::ServiceConfig) + Clone + use<> {
        http::public_routes(Arc::clone(&self.app))
    }

    /// A middleware for your own service: honours the `Idempotency-Key` of requests to the path of the
    /// API of this name, as it was given to [`Builder::api`]; without that, of requests below `/{name}`,
    /// under the rules of [`Api::new`].
    ///
    /// What the service does under a key runs to its end though the client hang up, but not longer than
    /// the thread of the server that it runs in.
    pub fn idempotency<S, B>(
        &self,
        name: &str,
    ) -> impl Transform<S, ServiceRequest, Response = ServiceResponse, Error = Error, InitError = ()>
    + use<S, B>
    where
        S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
        B: MessageBody + 'static,
    {
        let api =
            self.app.setup().apis.get(name).cloned().unwrap_or_else(|| Arc::new(Api::new(name)));
        http::middleware(Arc::clone(&self.app), api)
    }

    /// The admin API and the metrics, for an App of their own: they are not for the public.
    pub fn admin_routes(&self) -> impl FnOnce(&mut web::ServiceConfig) + Clone + use<> {
        http::admin_routes(self.admin())
    }

    /// What a person may see and ask for.
    pub fn admin(&self) -> Arc<Admin> {
        Arc::clone(&self.admin)
    }

    /// The same, for people who may ask for a reload.
    pub fn admin_that_reloads(&self, reload: Arc<dyn Reload>) -> Arc<Admin> {
        Arc::new(Admin::new(Arc::clone(&self.app), Some(reload)))
    }

    /// Starts the workers of every handler, and what prunes and what keeps refused requests, as tasks
    /// of the runtime this is called in. The workers first take over what a process before this one
    /// has left, where the store can tell.
    pub fn spawn_workers(&self) -> Workers {
        let (app, tasks) = (Arc::clone(&self.app), self.tasks.clone());
        self.tasks.spawn(async move {
            take_over_orphans(&app, &tasks).await;
            serve_handlers(&app, &tasks).await;
        });
        self.tasks.spawn(admin::note_history(Arc::clone(&self.app), self.tasks.clone()));
        self.tasks.spawn(controls::follow(Arc::clone(&self.app), self.tasks.clone()));
        self.tasks.spawn(notifier::run(Arc::clone(&self.app), self.tasks.clone()));
        self.tasks.spawn(outbound::run(Arc::clone(&self.app), self.tasks.clone()));
        self.tasks.spawn(prune::run(Arc::clone(&self.app), self.retention, self.tasks.clone()));
        let (app, tasks) = (Arc::clone(&self.app), self.tasks.clone());
        self.tasks.spawn(async move {
            let (store, clock) = (Arc::clone(&app.store), Arc::clone(&app.clock));
            app.refusals.run(store, clock, tasks).await;
        });
        Workers { tasks: self.tasks.clone(), traces: self.app.traces.clone() }
    }
}

/// Starts a worker for every handler there is, and for every one that a reload brings. The worker of
/// one that is taken out is left waiting: it costs next to nothing, and its attempts may still run.
async fn serve_handlers(app: &Arc<App>, tasks: &Tasks) {
    let mut setups = app.setups();
    let mut served = BTreeSet::new();
    while !tasks.is_stopping() {
        let names: Vec<_> = setups.borrow_and_update().handlers.keys().cloned().collect();
        for name in names {
            if served.insert(Arc::clone(&name)) {
                tasks.spawn(Worker::new(Arc::clone(app), name, tasks.clone()).run());
            }
        }
        tokio::select! {
            _ = setups.changed() => {}
            () = tasks.stopping() => {}
        }
    }
}

async fn take_over_orphans(app: &App, tasks: &Tasks) {
    while !tasks.is_stopping() {
        match work::take_over_orphans(app).await {
            Ok(0) => return,
            Ok(count) => {
                tracing::warn!(count, "took over deliveries whose process had died in an attempt");
                return;
            }
            Err(error) => {
                tracing::error!(%error, "cannot take over what the last process left; trying again");
                tokio::time::sleep(limits::POLL_INTERVAL).await;
            }
        }
    }
}

/// The running workers.
#[derive(Clone, Debug)]
pub struct Workers {
    tasks: Tasks,
    traces: Traces,
}

impl Workers {
    /// Stops claiming, waits for running attempts at most for `grace`, then gives back what still
    /// runs. Says whether everything had ended in time. What was traced until then is sent.
    pub async fn shut_down(&self, grace: Duration) -> bool {
        let all_ended = self.tasks.shut_down(grace).await;
        let traces = self.traces.clone();
        let last = tokio::task::spawn_blocking(move || traces.shut_down(limits::SPANS_TIMEOUT));
        drop(last.await); // whatever it came to, it is over
        all_ended
    }
}

/// Puts a [`Hookonce`] together. Everything that can be wrong is told by [`Builder::build`], at once.
#[derive(Debug, Default)]
pub struct Builder {
    store: StoreChoice,
    sources: Vec<(String, SourceSpec)>,
    handlers: Vec<(Configured, Interest)>,
    apis: Vec<Api>,
    public_url: Option<String>,
    data_dir: Option<PathBuf>,
    encryption_keys: EncryptionKeys,
}

#[derive(Debug, Default)]
enum StoreChoice {
    #[default]
    Embedded,
    Url(Secret),
    Ready(Arc<dyn Store>),
}

impl Builder {
    /// Where events are kept: `sqlite:FILE` (the default is `sqlite:hookonce.db`), `redis://…` or `memory:`.
    #[must_use]
    pub fn store(mut self, url: impl Into<String>) -> Self {
        self.store = StoreChoice::Url(Secret::new(url));
        self
    }

    /// A store that is open already.
    #[must_use]
    pub fn open_store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = StoreChoice::Ready(store);
        self
    }

    /// Receives at `/webhooks/{name}`.
    #[must_use]
    pub fn source(mut self, name: impl Into<String>, spec: SourceSpec) -> Self {
        self.sources.push((name.into(), spec));
        self
    }

    /// Runs an async function for the events of `interest`. It may return nothing, a `Result`, or an
    /// [`Outcome`](crate::handler::Outcome).
    #[must_use]
    pub fn handler<F, Fut>(self, name: &str, interest: Interest, function: F) -> Self
    where
        F: Fn(Arc<crate::event::Event>, crate::handler::Attempt) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoOutcome> + Send + 'static,
    {
        self.handle(name, interest, Arc::new(FunctionHandler::new(function)))
    }

    /// Runs any [`Handler`] for the events of `interest`.
    #[must_use]
    pub fn handle(mut self, name: &str, interest: Interest, handler: Arc<dyn Handler>) -> Self {
        let configured = Configured {
            name: Arc::from(name),
            handler,
            timeout: interest.timeout,
            concurrency: interest.concurrency,
            rate: interest.rate,
            retry: interest.retry,
            order: interest.order.clone(),
        };
        self.handlers.push((configured, interest));
        self
    }

    /// Honours the keys of this API: in [`Hookonce::routes`] where it has an upstream, or else where
    /// [`Hookonce::idempotency`] stands.
    #[must_use]
    pub fn api(mut self, api: Api) -> Self {
        self.apis.push(api);
        self
    }

    /// The public base URL, where signatures cover it (Twilio) and a proxy stands before us.
    #[must_use]
    pub fn public_url(mut self, url: impl Into<String>) -> Self {
        self.public_url = Some(url.into());
        self
    }

    /// The folder for secrets that providers hand over in tests of the URL: they are kept there for you to
    /// look at. Without one they are not kept.
    #[must_use]
    pub fn data_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(folder.into());
        self
    }

    /// Encrypts what senders and handlers have written before it goes into the store. Without keys it is
    /// kept in plain; what was sealed before needs its key all the same.
    #[must_use]
    pub fn encryption_keys(mut self, keys: EncryptionKeys) -> Self {
        self.encryption_keys = keys;
        self
    }

    /// Opens the store and puts everything together.
    ///
    /// # Errors
    /// Every mistake there is.
    pub async fn build(self) -> Result<Hookonce, BuildError> {
        let clock = SystemClock::start();
        let mut mistakes = Vec::new();
        let sources = self.resolve_sources(&mut mistakes);
        let handlers: Vec<_> = self.handlers.iter().map(|(handler, _)| handler.clone()).collect();
        if let StoreChoice::Url(url) = &self.store
            && !store::keeps_order(url.expose())
        {
            let ordered = handlers.iter().filter(|handler| handler.order.is_some());
            mistakes.extend(ordered.map(|handler| {
                format!(
                    "handler `{}` asks for order, which a store in several buckets cannot keep",
                    handler.name
                )
            }));
        }
        let store = match open(self.store, &clock).await {
            Ok(store) if mistakes.is_empty() => {
                Arc::new(EncryptedStore::new(store, self.encryption_keys))
            }
            Ok(_) => return Err(BuildError(mistakes)),
            Err(error) => {
                mistakes.push(error.to_string());
                return Err(BuildError(mistakes));
            }
        };
        let mut app = App::new(sources, handlers, store, clock).with_apis(self.apis);
        app.server.public_url = self.public_url;
        app.handed_over = Keeper::below(self.data_dir);
        Ok(Hookonce::new(app, prune::Retention::default()))
    }

    fn resolve_sources(&self, mistakes: &mut Vec<String>) -> Vec<Source> {
        let mut sources: Vec<Source> = Vec::new();
        for (name, spec) in &self.sources {
            let Some(provider) = provider::find(&spec.provider) else {
                mistakes.push(format!("source `{name}`: there is no provider `{}`", spec.provider));
                continue;
            };
            if sources.iter().any(|known| *known.name == **name) {
                mistakes.push(format!("source `{name}` is there twice"));
            }
            match Source::new(name, provider, spec.settings.clone()) {
                Ok(source) => {
                    sources.push(Source { on_bad_signature: spec.on_bad_signature, ..source });
                }
                Err(wrong) => {
                    mistakes
                        .extend(wrong.into_iter().map(|wrong| format!("source `{name}`: {wrong}")));
                }
            }
        }
        for (handler, interest) in &self.handlers {
            let from = interest.source.as_str();
            if !self.sources.iter().any(|(name, _)| name == from) {
                mistakes.push(format!("handler `{}`: there is no source `{from}`", handler.name));
            }
            for source in sources.iter_mut().filter(|source| *source.name == *from) {
                source.routes.push(Route {
                    handler: Arc::clone(&handler.name),
                    order: handler.order.clone(),
                    events: interest.events.clone(),
                });
            }
        }
        sources
    }
}

async fn open(choice: StoreChoice, clock: &Arc<dyn Clock>) -> Result<Arc<dyn Store>, StoreError> {
    let store = match choice {
        StoreChoice::Ready(store) => store,
        StoreChoice::Embedded => {
            store::connect("sqlite:hookonce.db", Durability::Always, None, clock).await?
        }
        StoreChoice::Url(url) => {
            store::connect(url.expose(), Durability::Always, None, clock).await?
        }
    };
    refuse_moving(&*store).await?;
    Ok(store)
}

/// Refuses a store that was handed over to another one, or is being filled. One that cannot be asked
/// just now refuses each call by itself.
async fn refuse_moving(store: &dyn Store) -> Result<(), StoreError> {
    match store.standing().await {
        Ok(standing) => standing.refusal().map_or(Ok(()), Err),
        Err(_) => Ok(()),
    }
}

/// Everything that was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError(pub Vec<String>);

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for BuildError {}
