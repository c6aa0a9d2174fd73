//! What an event is handed to: a URL, a program, the log, or Rust code.
//!
//! A handler may run again for the same delivery after a crash or a lost lease, never because a
//! provider sent again. It is given what it needs to notice: the same key on every attempt, and a
//! token that only rises.

mod command;
mod function;
mod http;
mod log;

mod excerpt;
mod facts;
mod headers;
mod signing;
mod spawner;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

pub(crate) use self::http::cause;
pub use self::{
    command::CommandHandler,
    function::{FunctionHandler, IntoOutcome},
    headers::is_credential,
    http::{HttpHandler, UnusableUrl, http_client, http_client_builder},
    log::LogHandler,
    signing::{MalformedSigningKey, SigningKey},
};
use crate::{
    control::Limits, delivery::DeliveryId, event::Event, limits, order::OrderRule, rate::Rate,
    retry::Retry,
};

/// Does what is to be done about an event.
#[async_trait]
pub trait Handler: fmt::Debug + Send + Sync {
    /// Handles one attempt.
    ///
    /// The future is dropped when the attempt's time is up or its lease is lost; a panic counts as
    /// [`Outcome::Failed`].
    async fn handle(&self, event: Arc<Event>, attempt: Attempt) -> Outcome;
}

/// What a handler is told about the attempt it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The delivery, the same for all its attempts: the key by which effects are made once.
    pub delivery: DeliveryId,
    /// Counted from 1.
    pub number: u32,
    /// Rises with every claim of this delivery: refuse anything lower than you have seen.
    pub token: u64,
    /// The delivery that this one replays, if a person asked for it.
    pub replay_of: Option<DeliveryId>,
    /// How long this attempt may take.
    pub timeout: Duration,
    /// The span of this attempt, as <https://www.w3.org/TR/trace-context/> writes it: the parent of what the
    /// handler does. `None`: nothing is traced.
    pub traceparent: Option<String>,
}

impl Attempt {
    /// How long a handler that can tell what it waits for should wait: a hair less than the worker,
    /// which would drop it unheard.
    fn patience(&self) -> Duration {
        let margin = limits::ATTEMPT_MARGIN.min(self.timeout / 10);
        self.timeout.saturating_sub(margin).min(limits::ATTEMPT_TIMEOUT_MAX)
    }
}

/// How an attempt ended, with what the handler said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done, for good.
    Done(Answer),
    /// It failed: try again, not before `retry_after` if there is one.
    Failed {
        /// What the handler asked to wait.
        retry_after: Option<Duration>,
        /// What it said.
        answer: Answer,
    },
    /// It will never work: a dead letter at once.
    Rejected(Answer),
}

/// What a handler said. All of it is optional; it is kept with the attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status of the answer, or the exit code.
    pub status: Option<i32>,
    /// What went wrong.
    pub error: Option<String>,
    /// The beginning of the answer.
    pub excerpt: Option<String>,
}

impl Outcome {
    /// Done, with nothing to say about it.
    pub fn done() -> Self {
        Self::Done(Answer::default())
    }

    /// Failed because of `error`; try again.
    pub fn failed(error: impl fmt::Display) -> Self {
        Self::Failed {
            retry_after: None,
            answer: Answer { error: Some(error.to_string()), ..Answer::default() },
        }
    }

    /// Will never work, because of `error`.
    pub fn rejected(error: impl fmt::Display) -> Self {
        Self::Rejected(Answer { error: Some(error.to_string()), ..Answer::default() })
    }
}

/// A configured handler: its rules, and what it runs.
#[derive(Clone, Debug)]
pub struct Configured {
    /// Its name, as in the configuration.
    pub name: Arc<str>,
    /// What it runs.
    pub handler: Arc<dyn Handler>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How many attempts may run at once in this process.
    pub concurrency: usize,
    /// How often attempts may begin in this process. `None`: as often as they can.
    pub rate: Option<Rate>,
    /// How often and when it is tried again.
    pub retry: Retry,
    /// The order its deliveries run in. `None`: none.
    pub order: Option<Arc<OrderRule>>,
}

impl Configured {
    /// The same under limits that a person has set.
    #[must_use]
    pub fn under(&self, limits: Limits) -> Self {
        Self {
            concurrency: limits.concurrency.unwrap_or(self.concurrency),
            rate: limits.rate.or(self.rate),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{clock::Timestamp, event::EventId, request::Headers};

    pub(super) const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    pub(super) fn event() -> Arc<Event> {
        Arc::new(Event {
            id: EventId::from_bytes([1; 16]),
            source: "stripe".into(),
            event_id: Some("evt_1".to_owned()),
            event_type: Some("invoice.paid".to_owned()),
            received_at: NOW,
            shadow: false,
            resent_under_new_id: false,
            retry_marker: None,
            query: "a=1".to_owned(),
            headers: Headers::default(),
            body: Bytes::from_static(br#"{"whole body": true}"#),
        })
    }

    pub(super) fn attempt() -> Attempt {
        Attempt {
            delivery: DeliveryId::from_bytes([2; 16]),
            number: 2,
            token: 7,
            replay_of: None,
            timeout: Duration::from_secs(30),
            traceparent: None,
        }
    }

    #[test]
    fn a_handler_gives_up_before_its_worker_does() {
        for timeout in [Duration::from_millis(1), Duration::from_secs(30)] {
            let patience = Attempt { timeout, ..attempt() }.patience();
            assert!(patience < timeout && patience > timeout / 2, "{patience:?}");
        }
        let endless = Attempt { timeout: Duration::MAX, ..attempt() };
        assert_eq!(endless.patience(), limits::ATTEMPT_TIMEOUT_MAX);
    }
}
