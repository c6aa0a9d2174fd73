//! What an event is handed to: a URL, a program, the log, or Rust code.
//!
//! A handler may run again for the same delivery after a crash or a lost lease, never because a
//! provider sent again. It is given what it needs to notice: the same key on every attempt, and a
//! token that only rises.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{delivery::DeliveryId, event::Event, retry::Retry};

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
    /// How often and when it is tried again.
    pub retry: Retry,
}
