//! The handler that only writes a line: to see what comes in, or to begin with.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    event::Event,
    handler::{Attempt, Handler, Outcome},
};

/// Writes one line per event, with its ids and never its body, and is done. Those of the attempt are on
/// every line of its worker.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogHandler;

#[async_trait]
impl Handler for LogHandler {
    async fn handle(&self, event: Arc<Event>, _: Attempt) -> Outcome {
        tracing::info!(
            "source.name" = &*event.source,
            "event.provider_id" = event.event_id.as_deref(),
            "event.type" = event.event_type.as_deref(),
            "event.shadow" = event.shadow.then_some(true),
            "event {} came from {}",
            event.id,
            event.source,
        );
        Outcome::done()
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Mutex};

    use super::*;
    use crate::handler::tests::{attempt, event};

    /// What was logged, as text.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn one_line_holds_the_ids_and_not_the_body() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber =
            tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        let logging = tracing::subscriber::set_default(subscriber);
        let event = event();
        let outcome = LogHandler.handle(Arc::clone(&event), attempt()).await;
        drop(logging);

        assert_eq!(outcome, Outcome::done());
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert!(!text.contains("whole body"), "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        let fields = &line["fields"];
        assert_eq!(fields["source.name"], "stripe");
        assert_eq!(fields["message"], format!("event {} came from stripe", event.id));
        assert_eq!(fields["event.provider_id"], "evt_1");
        assert_eq!(fields["event.type"], "invoice.paid");
    }
}
