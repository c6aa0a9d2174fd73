//! The no, and the "not yet", of this path: problem documents with types that stay.

use std::time::Duration;

use serde_json::json;

use super::{Answer, header::NoKey};
use crate::{limits, refusal::Refusal, request::Headers};

/// Why a client does not get an answer of the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// There is no usable key.
    NoKey(NoKey),
    /// The body was not taken.
    Body(Refusal),
    /// The path is not one that is sent on.
    NotFound,
    /// Another request with this key is being worked on.
    InProgress {
        /// When it is worth asking again.
        retry_in: Duration,
    },
    /// The key was used with another request.
    Reused,
    /// The work of this key may have been done or not; nothing was done now.
    OutcomeUnknown,
    /// The work was done, but its answer was too long to be kept.
    AnswerNotKept {
        /// The status it had.
        status: u16,
    },
    /// The store cannot be used, or we have too much to do: nothing was done.
    Unavailable,
    /// Nothing was sent: the upstream cannot be reached.
    UpstreamUnreachable,
    /// The request was sent, and the connection broke before its answer was whole.
    UpstreamBrokeOff,
    /// The request was sent, and no answer came in time.
    UpstreamTimedOut,
}

impl Problem {
    /// Its stable name, the end of its `type`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoKey(NoKey::Missing) => "key_missing",
            Self::NoKey(NoKey::Several | NoKey::Malformed) => "key_malformed",
            Self::Body(refusal) => refusal.code(),
            Self::NotFound => "not_found",
            Self::InProgress { .. } => "key_in_progress",
            Self::Reused => "key_reused",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::AnswerNotKept { .. } => "answer_not_kept",
            Self::Unavailable => "store_unavailable",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamBrokeOff => "upstream_broke_off",
            Self::UpstreamTimedOut => "upstream_timed_out",
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::NoKey(_) => 400,
            Self::Body(refusal) => refusal.status(),
            Self::NotFound => 404,
            Self::InProgress { .. } | Self::OutcomeUnknown | Self::AnswerNotKept { .. } => 409,
            Self::Reused => 422,
            Self::Unavailable => 503,
            Self::UpstreamUnreachable | Self::UpstreamBrokeOff => 502,
            Self::UpstreamTimedOut => 504,
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Self::NoKey(NoKey::Missing) => "Idempotency-Key is missing",
            Self::NoKey(NoKey::Several | NoKey::Malformed) => "Idempotency-Key is malformed",
            Self::Body(_) => "The body was not taken",
            Self::NotFound => "There is nothing at this path",
            Self::InProgress { .. } => "A request with this key is in progress",
            Self::Reused => "The key was used with another request",
            Self::OutcomeUnknown => "The outcome of this key is unknown",
            Self::AnswerNotKept { .. } => "The request was carried out; its answer was not kept",
            Self::Unavailable => "The request was not carried out",
            Self::UpstreamUnreachable => "The API cannot be reached",
            Self::UpstreamBrokeOff => "The API broke off",
            Self::UpstreamTimedOut => "The API did not answer in time",
        }
    }

    /// What the client may conclude, and what it should do next.
    fn detail(&self) -> String {
        let text = match self {
            Self::NoKey(why) => return why.to_string(),
            Self::Body(refusal) => return refusal.to_string(),
            Self::AnswerNotKept { status } => {
                return format!(
                    "it was answered with status {status}; the answer was too long to be kept, so ask the API what came of it"
                );
            }
            Self::NotFound => "a path with `.` or `..` in it is not sent on either",
            Self::InProgress { .. } => "send this request again later, to get its answer",
            Self::Reused => {
                "a key stands for one request: send that one unchanged, or use a new key for this one"
            }
            Self::OutcomeUnknown => {
                "an earlier request with this key was sent on and its answer is not known, so this one was not: it stays so until somebody finds out and resolves it"
            }
            Self::Unavailable => "send it again with the same key",
            Self::UpstreamUnreachable => {
                "nothing was sent: send the request again with the same key"
            }
            Self::UpstreamBrokeOff | Self::UpstreamTimedOut => {
                "the request was sent and may have been carried out: it is not sent a second time with this key"
            }
        };
        text.to_owned()
    }

    fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::InProgress { retry_in } => {
                let seconds = retry_in.as_secs().clamp(1, limits::KEY_RETRY_AFTER_SECONDS_MAX);
                Some(seconds)
            }
            Self::Unavailable => Some(rand::random_range(limits::RETRY_AFTER_SECONDS).into()),
            _ => None,
        }
    }

    /// The problem document, <https://www.rfc-editor.org/rfc/rfc9457>.
    pub fn answer(&self) -> Answer {
        let (status, code) = (self.status(), self.code());
        let document = json!({
            "type": format!("urn:hookonce:problem:{code}"),
            "title": self.title(),
            "status": status,
            "code": code,
            "detail": self.detail(),
        });
        let mut headers = Headers::default();
        headers.push("content-type", "application/problem+json");
        if let Some(seconds) = self.retry_after_seconds() {
            headers.push("retry-after", seconds.to_string());
        }
        Answer::whole(status, headers, document.to_string())
    }
}
