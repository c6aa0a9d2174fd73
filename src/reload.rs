//! Reloading: the configuration is loaded again, and what may change is put in place in one step.
//!
//! `[sources]`, `[handlers]`, `[apis]` and `[notices]` may change, with the secrets in them. The rest is what a
//! server was started with; where the file says something else now, that is told and left alone.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    app::App,
    config::{Config, UntilRestart},
    configured,
    handler::http_client,
    hookonce::Hookonce,
    setup::{NotReloaded, Reload, Reloaded, Setup},
    tls::Certificate,
};

/// Loads a configuration, or says every mistake in it.
pub type Load = dyn Fn() -> Result<Config, String> + Send + Sync;

/// Reloads one hookonce.
pub struct Reloader {
    app: Arc<App>,
    until_restart: UntilRestart,
    load: Box<Load>,
    certificates: Vec<Arc<Certificate>>,
    /// One for all reloads, so that the connections to handlers outlive them.
    client: reqwest::Client,
    /// Two reloads at once could end with the older file.
    turn: Mutex<()>,
}

impl Reloader {
    /// A reloader of `hookonce`, which was opened with the configuration that had this part, and has
    /// its next one by `load`.
    pub fn new(
        hookonce: &Hookonce,
        until_restart: UntilRestart,
        load: impl Fn() -> Result<Config, String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            app: Arc::clone(hookonce.app()),
            until_restart,
            load: Box::new(load),
            certificates: Vec::new(),
            client: http_client(),
            turn: Mutex::default(),
        }
    }

    /// The same, and the files of these certificates are looked at in each reload.
    #[must_use]
    pub fn with_certificates(self, certificates: Vec<Arc<Certificate>>) -> Self {
        Self { certificates, ..self }
    }

    /// Everything is checked before anything changes, except that a certificate that was renewed stays so.
    fn put_in_place(&self) -> Result<Reloaded, NotReloaded> {
        let mut config = (self.load)().map_err(NotReloaded)?;
        for certificate in &self.certificates {
            certificate.look().map_err(|error| NotReloaded(error.to_string()))?;
        }
        let needs_restart = self.until_restart.changed_keys(&config);
        let warnings = config.warnings.iter().map(ToString::to_string).collect();
        let handlers = configured::handlers(&config.handlers, &self.client, &self.app.clock);
        let old = self.app.setup();
        for source in &mut config.sources {
            if let Some(old) = old.sources.get(&source.name) {
                source.keep_keys_of(old);
            }
        }
        let notices = configured::notices(&config.notices, &self.client, &self.app.clock);
        let new = Setup { notices, ..Setup::new(config.sources, handlers, config.apis) };
        let receives = |setup: &Setup| !setup.sources.is_empty() || !setup.apis.is_empty();
        if receives(&old) && !receives(&new) {
            // More likely the file is being written just now than that nobody is to be served.
            let why = "the file has no source and no API any more: restart to run like this";
            return Err(NotReloaded(why.to_owned()));
        }
        let changes = old.changes(&new);
        self.app.replace_setup(new);
        Ok(Reloaded { needs_restart, warnings, ..changes })
    }
}

impl Reload for Reloader {
    fn reload(&self) -> Result<Reloaded, NotReloaded> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let reloaded = self.put_in_place();
        self.app.metrics.reloaded(reloaded.is_ok());
        match &reloaded {
            Ok(reloaded) => tell(reloaded),
            Err(error) => tracing::error!("{error}"),
        }
        reloaded
    }
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

fn tell(Reloaded { sources, handlers, apis, needs_restart, warnings }: &Reloaded) {
    tracing::info!("reloaded: sources: {sources}; handlers: {handlers}; APIs: {apis}");
    for key in needs_restart {
        tracing::warn!("{key} has changed in the file, and stays as it was until a restart");
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}
