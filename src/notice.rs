//! A notice: what a person is told without having asked, and the channels that it goes out by.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use crate::{
    clock::Timestamp,
    event::{Event, EventId},
    handler::{Attempt, CommandHandler, Handler as _, HttpHandler, Outcome},
    limits,
    request::Headers,
};

/// One notice, as it is written in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// What it is about.
    pub kind: Kind,
    /// Whether that has begun or ended.
    pub state: State,
    /// The handler or the source that it is about.
    pub subject: String,
    /// How many there are, where it is about a number of things.
    pub count: Option<u64>,
    /// When it was noticed.
    pub at: Timestamp,
    /// All of it in a sentence.
    pub text: String,
}

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A handler has dead letters that it had not before.
    DeadLetters,
    /// A source is silent for longer than it usually is.
    SilentSource,
    /// A source refuses far more requests than it usually does.
    RefusalsJump,
}

/// Whether something has begun or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is so now.
    Begun,
    /// It was told, and is so no longer.
    Ended,
}

/// Who is told what, as it is configured. By default nobody is.
#[derive(Clone, Debug)]
pub struct Notices {
    /// Where each notice goes.
    pub channels: Vec<Channel>,
    /// How long after a notice there is no other of the same kind and subject.
    pub every: Duration,
    /// How long a source is silent at least before that is worth a word.
    pub silence_min: Duration,
}

/// A way by which notices go out: the same as that of deliveries, so what verifies one verifies the other.
#[derive(Clone, Debug)]
pub enum Channel {
    /// Posts each to a URL.
    Url(Arc<HttpHandler>),
    /// Runs a program for each.
    Command(CommandHandler),
}

impl Default for Notices {
    fn default() -> Self {
        Self {
            channels: Vec::new(),
            every: limits::NOTICES_EVERY,
            silence_min: limits::SILENCE_MIN,
        }
    }
}

impl Channel {
    /// Its word in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Url(_) => "url",
            Self::Command(_) => "command",
        }
    }

    /// Tries to tell somebody, once.
    pub async fn tell(&self, notice: &Notice, attempt: Attempt) -> Outcome {
        let event = notice.as_event();
        match self {
            Self::Url(handler) => handler.handle(event, attempt).await,
            Self::Command(handler) => {
                handler.with_variables(notice.variables()).handle(event, attempt).await
            }
        }
    }
}

impl Notice {
    fn as_event(&self) -> Arc<Event> {
        let body = serde_json::to_vec(self).expect("plain data is always JSON");
        Arc::new(Event {
            id: EventId::new(self.at),
            source: Arc::from("hookonce"),
            event_id: None,
            event_type: Some(format!("notice.{}", self.kind.name())),
            received_at: self.at,
            shadow: false,
            resent_under_new_id: false,
            retry_marker: None,
            query: String::new(),
            headers: [("content-type", "application/json")].into_iter().collect::<Headers>(),
            body: body.into(),
        })
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("HOOKONCE_NOTICE_KIND", self.kind.name().to_owned()),
            ("HOOKONCE_NOTICE_STATE", self.state.name().to_owned()),
            ("HOOKONCE_NOTICE_SUBJECT", self.subject.clone()),
            ("HOOKONCE_NOTICE_TEXT", self.text.clone()),
        ];
        variables.extend(self.count.map(|count| ("HOOKONCE_NOTICE_COUNT", count.to_string())));
        variables
    }
}

impl Kind {
    /// Its word in notices and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::DeadLetters => "dead_letters",
            Self::SilentSource => "silent_source",
            Self::RefusalsJump => "refusals_jump",
        }
    }
}

impl State {
    /// Its word in notices.
    pub fn name(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Ended => "ended",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_one_piece_of_json() {
        let notice = Notice {
            kind: Kind::DeadLetters,
            state: State::Begun,
            subject: "billing".to_owned(),
            count: Some(2),
            at: Timestamp::from_seconds(1_767_225_600),
            text: "handler `billing` has 2 dead letters".to_owned(),
        };
        let event = notice.as_event();
        assert_eq!(event.event_type.as_deref(), Some("notice.dead_letters"));
        assert_eq!(
            std::str::from_utf8(&event.body).unwrap(),
            r#"{"kind":"dead_letters","state":"begun","subject":"billing","count":2,"at":"2026-01-01T00:00:00.000Z","text":"handler `billing` has 2 dead letters"}"#
        );
    }
}
