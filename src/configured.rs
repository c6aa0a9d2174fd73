//! From what is configured to what runs.

use std::sync::Arc;

use crate::{
    clock::Clock,
    config::{HandlerConfig, HandlerKind, Telemetry},
    handler::{CommandHandler, Configured, Handler, HttpHandler, LogHandler, SigningKey},
    telemetry::trace::Traces,
};

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

/// The traces of a configuration. Events are not refused because nobody can be told of them: what the
/// environment says wrong about a collector is logged.
pub(crate) fn traces(telemetry: &Telemetry) -> Traces {
    let Some(endpoint) = &telemetry.otlp else { return Traces::default() };
    #[cfg(feature = "otlp")]
    match crate::telemetry::otlp::Otlp::to(endpoint, crate::handler::http_client()) {
        Ok(otlp) => return Traces::to(Arc::new(otlp), telemetry.traces_one_in),
        Err(error) => tracing::error!(%error, "nothing is traced"),
    }
    #[cfg(not(feature = "otlp"))]
    tracing::error!(%endpoint, "nothing is traced: this program was built without `otlp`");
    Traces::default()
}

fn runs(kind: &HandlerKind, client: &reqwest::Client, clock: &Arc<dyn Clock>) -> Arc<dyn Handler> {
    match kind {
        HandlerKind::Log => Arc::new(LogHandler),
        HandlerKind::Command(command) => {
            let (program, arguments) = command.split_first().expect("config refuses an empty one");
            Arc::new(CommandHandler::new(program, arguments))
        }
        HandlerKind::Url { url, signing_secret } => {
            let key = signing_secret.as_ref().map(SigningKey::parse);
            let key = key.transpose().expect("config refuses a malformed one");
            let handler = HttpHandler::new(client.clone(), url.clone(), key, Arc::clone(clock));
            Arc::new(handler.expect("config refuses what cannot be called"))
        }
    }
}
