//! The receiver of the demo: it can be stopped, and started again on the same store and port.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use hookonce::{
    Hookonce, Workers,
    api::{Api, UpstreamUrl},
    clock::{Clock, SystemClock},
    from,
    handler::{HttpHandler, http_client},
    http, on,
    provider::{Provider, Settings},
    retry::Retry,
    secret::Secret,
    shutdown::Tasks,
    source::Source,
    store::{Counts, StoreError},
};
use url::Url;

use crate::cli::sender::{Sender, SigningSender};

/// How soon a failed attempt is tried again: a demo does not wait for seconds.
const RETRY: Retry =
    Retry { attempts: 5, first: Duration::from_millis(50), max: Duration::from_millis(100) };

/// How long stopping, and opening the same store again, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The API that payments are made at, under a name that nobody else has who uses the same Redis.
const PAYMENTS: &str = "hookonce-demo-payments";

/// A receiver with a source and a handler for each provider.
pub(super) struct Stage {
    store_url: String,
    cast: Vec<(&'static dyn Provider, Secret)>,
    handler_url: Url,
    address: SocketAddr,
    clock: Arc<dyn Clock>,
    running: Option<Running>,
}

struct Running {
    hookonce: Hookonce,
    workers: Workers,
    listener: Tasks,
}

impl Stage {
    /// Starts the receiver on a free port. Its secrets are made up.
    pub(super) async fn set(
        store_url: &str,
        providers: &[&'static dyn Provider],
        handler_url: Url,
    ) -> anyhow::Result<Self> {
        let secret = |provider: &dyn Provider| provider.development_secret(rand::random());
        let mut stage = Self {
            store_url: store_url.to_owned(),
            cast: providers.iter().map(|provider| (*provider, secret(*provider))).collect(),
            handler_url,
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            clock: SystemClock::start(),
            running: None,
        };
        stage.start().await?;
        Ok(stage)
    }

    pub(super) fn providers(&self) -> Vec<&'static dyn Provider> {
        self.cast.iter().map(|(provider, _)| *provider).collect()
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub(super) fn store_url(&self) -> &str {
        &self.store_url
    }

    /// Whether what it has stored outlives the receiver.
    pub(super) fn can_restart(&self) -> bool {
        self.store_url != "memory:"
    }

    /// Stops the receiver and starts it again. It must be given a new sender then.
    pub(super) async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await;
        self.start().await.context("cannot start the receiver again")
    }

    pub(super) async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.listener.shut_down(PATIENCE).await;
            running.workers.shut_down(PATIENCE).await;
        }
    }

    async fn start(&mut self) -> anyhow::Result<()> {
        let hookonce = self.open().await?;
        let listener = TcpListener::bind(self.address)?;
        listener.set_nonblocking(true)?;
        self.address = listener.local_addr()?;
        let server = http::serve_public(Arc::clone(hookonce.app()), listener)?;
        let (handle, listener) = (server.handle(), Tasks::default());
        let told = listener.clone();
        listener.spawn(server);
        listener.spawn(async move {
            told.stopping().await;
            handle.stop(false).await;
        });
        let workers = hookonce.spawn_workers();
        self.running = Some(Running { hookonce, workers, listener });
        Ok(())
    }

    /// Opens the store. The receiver before this one may need a moment to let go of it.
    async fn open(&self) -> anyhow::Result<Hookonce> {
        let begun = self.clock.monotonic();
        loop {
            match self.build().await {
                Ok(hookonce) => return Ok(hookonce),
                Err(error) if self.clock.monotonic() - begun > PATIENCE => return Err(error),
                Err(_) if self.address.port() != 0 => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn build(&self) -> anyhow::Result<Hookonce> {
        let client = http_client();
        let mut builder = Hookonce::builder().store(&self.store_url);
        for (provider, secret) in &self.cast {
            let (name, url) = (name_of(*provider), self.handler_url.clone());
            let handler = HttpHandler::new(client.clone(), url, None, Arc::clone(&self.clock))?;
            let source = from(provider.name()).secret(secret.expose());
            let interest = on(&name, ["*"]).retry(RETRY);
            builder = builder.source(&name, source).handle(&name, interest, Arc::new(handler));
        }
        let upstream = Some(UpstreamUrl(self.handler_url.clone()));
        Ok(builder.api(Api { upstream, ..Api::new(PAYMENTS) }).build().await?)
    }

    /// Where clients pay.
    pub(super) fn payments_url(&self) -> anyhow::Result<Url> {
        Ok(Url::parse(&format!("http://{}/{PAYMENTS}", self.address))?)
    }

    /// Somebody who signs and sends as this provider.
    pub(super) fn sender(&self, provider: &'static dyn Provider) -> anyhow::Result<SigningSender> {
        let secrets = self.cast.iter().filter(|(known, _)| known.name() == provider.name());
        let settings = Settings {
            secrets: secrets.map(|(_, secret)| secret.clone()).collect(),
            ..Settings::default()
        };
        let source = Source::new(&name_of(provider), provider, settings)
            .map_err(|wrong| anyhow::anyhow!("{}: {}", provider.name(), wrong.join("; ")))?;
        let to = Url::parse(&format!("http://{}{}", self.address, source.path))?;
        let clock = Arc::clone(&self.clock);
        Ok(SigningSender {
            source,
            sender: Sender::new(to, http_client(), Arc::clone(&clock)),
            clock,
        })
    }

    /// What was counted about the sources and the handlers of this stage, together.
    pub(super) async fn counts(&self) -> Result<Counts, StoreError> {
        let Some(running) = &self.running else { return Ok(Counts::default()) };
        let stats = running.hookonce.app().store.stats().await?;
        let mut total = Counts::default();
        for (provider, _) in &self.cast {
            let name = name_of(*provider);
            let source = stats.sources.get(&name).copied().unwrap_or_default();
            let handler = stats.handlers.get(&name).copied().unwrap_or_default();
            total.events += source.events;
            total.duplicates += source.duplicates;
            total.done += handler.done;
            total.dead += handler.dead;
            total.queued += handler.queued;
            total.leased += handler.leased;
        }
        Ok(total)
    }

    /// Waits until nothing is queued or leased any more; gives up in the end, which the counters then
    /// show.
    pub(super) async fn settled(&self) -> Result<(), StoreError> {
        let begun = self.clock.monotonic();
        loop {
            let counts = self.counts().await?;
            if counts.queued + counts.leased == 0 || self.clock.monotonic() - begun > PATIENCE {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The name of a provider's source and handler: one that nobody else's have who use the same Redis,
/// since a handler's deliveries are claimed by whoever runs one of its name.
fn name_of(provider: &dyn Provider) -> String {
    format!("hookonce-demo-{}", provider.name())
}
