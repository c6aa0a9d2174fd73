//! `hookonce serve`: receive webhooks and run their handlers, until told to stop.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use hookonce::{
    Hookonce,
    api::UpstreamUrl,
    config::{Config, LogFormat},
    http::{self, Listener},
    limits,
    reload::Reloader,
    setup::Reload,
    shutdown::Tasks,
    telemetry::log::{self, Format},
    tls::{Certificate, Pair},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Everywhere, Misused, trust};

/// Receive webhooks and run their handlers.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Where webhooks come in [default: the configured address, or 0.0.0.0:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where the admin API and the metrics are [default: the configured address, or 127.0.0.1:8081]
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
}

impl Serve {
    pub(crate) async fn run(self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let everywhere = everywhere.settled();
        let config = self.load_config(&everywhere)?;
        start_log(&config);
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let public = listen(config.server.listen, config.server.tls.as_ref())?;
        let admin = listen(config.server.admin_listen, config.server.admin_tls.as_ref())?;
        let certificates: Vec<_> =
            [&public, &admin].into_iter().flat_map(|of| of.tls.clone()).collect();
        let (shown, data_dir) = (admin.tls.clone(), config.server.data_dir.clone());
        let (grace, base) = (config.server.shutdown_within, public_base(&config));
        let until_restart = config.until_restart();
        let mut hangup = signal(SignalKind::hangup())?; // before anybody can know us: it would end us
        let hookonce = Hookonce::open(config).await?;
        let load = move || self.load_config(&everywhere).map_err(|error| error.to_string());
        let reloader = Reloader::new(&hookonce, until_restart, load);
        let reloader = Arc::new(reloader.with_certificates(certificates.clone()));
        announce(&hookonce, &base, &admin).await;

        let workers = hookonce.spawn_workers();
        let public = http::serve_public(Arc::clone(hookonce.app()), public)?;
        let admin =
            http::serve_admin(hookonce.admin_that_reloads(Arc::clone(&reloader) as _), admin)?;
        let (stop_public, stop_admin) = (public.handle(), admin.handle());
        let listeners = Tasks::default();
        let mut public = listeners.spawn(public);
        let mut admin = listeners.spawn(admin);
        tokio::select! {
            ended = &mut public => ended?.context("the public listener ended")?,
            ended = &mut admin => ended?.context("the admin listener ended")?,
            never = reload_at_every(&mut hangup, &*reloader) => match never {},
            never = look_at(&certificates, shown.as_deref(), &data_dir) => match never {},
            signal = stop_signal() => {
                tracing::info!("{}: stopping; running attempts have {grace:?} to end", signal?);
            }
        }
        // No new request, then no new claim: what is accepted meanwhile stays queued.
        stop_public.stop(true).await;
        let all_ended = workers.shut_down(grace).await;
        stop_admin.stop(false).await;
        if !all_ended {
            tracing::warn!(
                "some attempts did not end in time: they fall due again when their leases end"
            );
        }
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    }

    fn load_config(&self, everywhere: &Everywhere) -> anyhow::Result<Config> {
        let mut config = everywhere.load_config()?;
        self.override_addresses(&mut config)?;
        Ok(config)
    }

    /// What the command line says stands before the configuration, under the same rule: the admin
    /// address is loopback, or it asks for a token.
    fn override_addresses(&self, config: &mut Config) -> Result<(), Misused> {
        let server = &mut config.server;
        server.listen = self.listen.unwrap_or(server.listen);
        server.admin_listen = self.admin_listen.unwrap_or(server.admin_listen);
        if !server.admin_listen.ip().is_loopback() && server.admin_token.is_none() {
            let message = "--admin-listen is not a loopback address, and no `admin_token` is \
                           configured: write one under `[server]`, or listen on 127.0.0.1";
            return Err(Misused(message.to_owned()));
        }
        Ok(())
    }
}

/// Says where to send webhooks and what a yes means here.
async fn announce(hookonce: &Hookonce, base: &str, admin: &Listener) {
    let readiness = hookonce.admin().readiness().await;
    tracing::info!("a yes survives: {}", readiness.survives);
    for source in hookonce.app().setup().sources.values() {
        tracing::debug!(source.name = %source.name, "receives at {base}{}", source.path);
    }
    for warning in &readiness.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(error) = &readiness.error {
        tracing::error!(%error, "the store is not ready: every request is answered 503 until it is");
    }
    let sources = hookonce.app().setup().sources.len();
    tracing::info!("{sources} sources at {base}/webhooks/…");
    for api in hookonce.app().setup().apis.values() {
        let upstream = api.upstream.as_ref().map(UpstreamUrl::origin);
        tracing::info!(api.name = %api.name, "keys are honoured at {base}{}, in front of {}", api.path, upstream.unwrap_or_default());
    }
    if let Ok(address) = admin.socket.local_addr() {
        let scheme = scheme(admin.tls.is_some());
        tracing::info!("admin API and metrics at {scheme}://{address}");
    }
}

/// Sends the logs where the configuration says.
pub(crate) fn start_log(config: &Config) {
    let format = match config.log.format {
        LogFormat::Pretty => Format::Pretty,
        LogFormat::Json => Format::Json,
    };
    log::start(format, config.log.level.as_deref().unwrap_or("info"));
}

fn listen(address: SocketAddr, pair: Option<&Pair>) -> anyhow::Result<Listener> {
    let tls = pair.map(|pair| Certificate::load(pair.clone())).transpose();
    let tls = tls.with_context(|| format!("cannot speak TLS on {address}"))?;
    let socket = TcpListener::bind(address).map_err(|error| {
        anyhow::anyhow!("cannot listen on {address}: {}", why_not_bound(&error))
    })?;
    socket.set_nonblocking(true)?;
    Ok(Listener { socket, tls })
}

fn why_not_bound(error: &io::Error) -> String {
    let instead = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "is another hookonce running, or does the configuration name another address?"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 take a right of their own: listen on a higher one, or give it CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address",
        _ => "see the reason",
    };
    format!("{error}: {instead}")
}

fn public_base(config: &Config) -> String {
    let listen = config.server.listen;
    let scheme = scheme(config.server.tls.is_some());
    config.server.public_url.clone().unwrap_or_else(|| format!("{scheme}://{listen}"))
}

/// The scheme of a listener's URLs.
pub(super) fn scheme(speaks_tls: bool) -> &'static str {
    if speaks_tls { "https" } else { "http" }
}

/// Reloads whenever the process is told to, for as long as this is polled.
async fn reload_at_every(hangup: &mut Signal, reloader: &dyn Reload) -> Infallible {
    while hangup.recv().await.is_some() {
        drop(reloader.reload()); // it tells the log by itself, and there is nobody else to tell
    }
    std::future::pending().await
}

/// Looks every so often whether certificates were renewed, for as long as this is polled. Commands are told
/// which one is `shown` on the admin address.
async fn look_at(
    certificates: &[Arc<Certificate>],
    shown: Option<&Certificate>,
    data_dir: &Path,
) -> Infallible {
    loop {
        if let Some(Err(error)) = shown.map(|shown| trust::tell_commands(data_dir, &shown.leaf())) {
            let folder = data_dir.display();
            tracing::warn!(%error, "cannot write into {folder}: commands believe only the certificate in its file");
        }
        tokio::time::sleep(limits::TLS_LOOK_INTERVAL).await;
        for certificate in certificates {
            certificate.look_and_tell();
        }
    }
}

/// Waits for the first SIGTERM or SIGINT and says which it was.
async fn stop_signal() -> io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
