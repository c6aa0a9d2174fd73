//! From what is configured to what runs.

use std::sync::Arc;

use url::Url;

use crate::{
    clock::Clock,
    config::{self, HandlerConfig, HandlerKind, Telemetry},
    handler::{CommandHandler, Configured, Handler, HttpHandler, LogHandler, SigningKey},
    notice::{Channel, Notices},
    secret::Secret,
    telemetry::trace::Traces,
};
#[cfg(feature = "otlp")]
use crate::{handler::http_client, telemetry::otlp::Otlp};

/// The handlers of a configuration, ready to run.
pub(crate) fn handlers(
    handlers: &[HandlerConfig],
    client: &reqwest::Client,
    clock: &Arc<dyn Clock>,
) -> Vec<Configured> {
    let configured = |handler: &HandlerConfig| Configured {
        name: Arc::clone(&handler.name),
        handler: runs(&handler.kind, client, clock),
        timeout: handler.timeout,
        concurrency: handler.concurrency,
        rate: handler.rate,
        retry: handler.retry,
    };
    handlers.iter().map(configured).collect()
}

/// The traces of a configuration. Where the environment says something wrong about a collector, there are
/// none: events are not refused because nobody can be told of them.
#[cfg(feature = "otlp")]
pub(crate) fn traces(telemetry: &Telemetry) -> Traces {
    let Some(endpoint) = &telemetry.otlp else { return Traces::default() };
    match Otlp::to(endpoint, http_client()) {
        Ok(otlp) => Traces::to(Arc::new(otlp), telemetry.traces_one_in),
        Err(error) => {
            tracing::error!(%error, "nothing is traced");
            Traces::default()
        }
    }
}

/// None: this program cannot send any, as `config` has warned.
#[cfg(not(feature = "otlp"))]
pub(crate) fn traces(_: &Telemetry) -> Traces {
    Traces::default()
}

fn runs(kind: &HandlerKind, client: &reqwest::Client, clock: &Arc<dyn Clock>) -> Arc<dyn Handler> {
    match kind {
        HandlerKind::Log => Arc::new(LogHandler),
        HandlerKind::Command(words) => Arc::new(command(words)),
        HandlerKind::Url { url, signing_secret } => {
            Arc::new(posting(url, signing_secret.as_ref(), client, clock))
        }
    }
}

/// Who is told what happens, ready to be told.
pub(crate) fn notices(
    notices: &config::Notices,
    client: &reqwest::Client,
    clock: &Arc<dyn Clock>,
) -> Arc<Notices> {
    let channel = |kind: &HandlerKind| match kind {
        HandlerKind::Command(words) => Some(Channel::Command(command(words))),
        HandlerKind::Url { url, signing_secret } => {
            let handler = posting(url, signing_secret.as_ref(), client, clock);
            Some(Channel::Url(Arc::new(handler)))
        }
        HandlerKind::Log => None, // every notice is in the log as it is
    };
    Arc::new(Notices {
        channels: notices.channels.iter().filter_map(channel).collect(),
        every: notices.every,
        silence_min: notices.silence_min,
    })
}

fn command(words: &[String]) -> CommandHandler {
    let (program, arguments) = words.split_first().expect("config refuses an empty one");
    CommandHandler::new(program, arguments)
}

fn posting(
    url: &Url,
    signing_secret: Option<&Secret>,
    client: &reqwest::Client,
    clock: &Arc<dyn Clock>,
) -> HttpHandler {
    let key = signing_secret.map(SigningKey::parse);
    let key = key.transpose().expect("config refuses a malformed one");
    let handler = HttpHandler::new(client.clone(), url.clone(), key, Arc::clone(clock));
    handler.expect("config refuses what cannot be called")
}
