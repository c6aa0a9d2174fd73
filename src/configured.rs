//! From what is configured to what runs.

use std::sync::Arc;

use crate::{
    clock::Clock,
    config::{HandlerConfig, HandlerKind},
    handler::{CommandHandler, Configured, Handler, HttpHandler, LogHandler, SigningKey},
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
        order: handler.order.clone(),
    };
    handlers.iter().map(configured).collect()
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
