//! What every handler outside this process is told about its attempt, besides the event's bytes.

use crate::{event::Event, handler::Attempt};

/// One fact: its name, and its value if there is one.
pub(super) struct Fact {
    name: &'static str,
    /// `None` is passed on too: whoever carries facts must make sure that no older value is
    /// mistaken for one.
    pub(super) value: Option<String>,
}

/// The facts of one attempt, the same ones for headers and for environment variables.
pub(super) fn facts(event: &Event, attempt: &Attempt) -> [Fact; 9] {
    let fact = |name, value| Fact { name, value };
    [
        fact("Source", Some(event.source.to_string())),
        fact("Event-Id", Some(event.id.to_string())),
        fact("Provider-Event-Id", event.event_id.clone()),
        fact("Event-Type", event.event_type.clone()),
        fact("Received-At", Some(event.received_at.to_string())),
        fact("Shadow", event.shadow.then(|| "true".to_owned())),
        fact("Attempt", Some(attempt.number.to_string())),
        fact("Lease-Token", Some(attempt.token.to_string())),
        fact("Replay-Of", attempt.replay_of.map(|delivery| delivery.to_string())),
    ]
}

impl Fact {
    /// Its name as a header: `Hookonce-Event-Id`.
    pub(super) fn header(&self) -> String {
        format!("Hookonce-{}", self.name)
    }

    /// Its name as an environment variable: `HOOKONCE_EVENT_ID`.
    pub(super) fn variable(&self) -> String {
        self.header().to_ascii_uppercase().replace('-', "_")
    }
}
