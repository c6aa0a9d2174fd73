//! A no, with its reason: what the sender of a request did wrong.
//!
//! The reason goes to the operator (logs, metrics, the list of refusals). The sender gets the
//! status and the stable code only, and every bad signature of a source looks the same to it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{id::id, request::HeaderProblem};

id! {
    /// Our id of a refused request that was kept.
    RefusalId
}

/// Why a request was refused. It is the sender's fault, and sending it again as it is will not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No source has this path.
    #[error("no source answers at this path")]
    UnknownSource,
    /// The method is not one this source answers to.
    #[error("the method is not allowed here")]
    Method,
    /// The body is longer than the source allows.
    #[error("the body is longer than the {body_bytes_max} bytes this source allows")]
    TooLarge {
        /// The limit of the source.
        body_bytes_max: usize,
    },
    /// The body did not arrive in time.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// The connection ended, or its framing broke, before the body was whole.
    #[error("the body could not be read to its end")]
    BrokenBody,
    /// The body is compressed. Signatures cover the bytes as sent, so nothing is unpacked here.
    #[error("the body has a content encoding other than identity")]
    Encoded,
    /// The signature holds but the request does not say what the provider promises it says.
    #[error("the request is malformed: {0}")]
    Malformed(String),
    /// It is a test of the URL that does not show what the provider was told to show.
    #[error("the test of the URL does not hold: {0}")]
    Handshake(String),
    /// The signature does not hold.
    #[error("the signature does not hold: {0}")]
    Signature(#[from] SignatureProblem),
}

/// The step at which a signature failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureProblem {
    /// A header that the scheme needs is missing, doubled or malformed.
    Header(String, HeaderProblem),
    /// A header is there but does not have the scheme's form.
    Form(String),
    /// The signed time is off by more than the tolerance: seconds in the past, or if negative in the future.
    Stale(i64),
    /// No signature in the request was made with any of the secrets.
    NoMatch,
    /// It names a key that is not known, or there is no key at all.
    UnknownKey,
}

/// The step at which a request was refused: what a kept refusal is filed under. A closed set.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Finding the source.
    UnknownSource,
    /// The method.
    MethodNotAllowed,
    /// The size of the body.
    BodyTooLarge,
    /// The time the body took.
    BodyTooSlow,
    /// Reading the body to its end.
    BodyIncomplete,
    /// The encoding of the body.
    ContentEncoding,
    /// What a signed request must say.
    Malformed,
    /// A test of the URL.
    HandshakeRefused,
    /// A header that the scheme needs is not there.
    HeaderMissing,
    /// It is there more than once.
    HeaderDoubled,
    /// It is empty, too long or not text.
    HeaderMalformed,
    /// The signature, or what it says of itself, does not have the scheme's form.
    Form,
    /// The signed time.
    Stale,
    /// The signature itself.
    NoMatch,
    /// Finding the key that the request names.
    UnknownKey,
}

impl fmt::Display for SignatureProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name, HeaderProblem::Missing) => write!(f, "header `{name}` is missing"),
            Self::Header(name, HeaderProblem::Doubled) => {
                write!(f, "header `{name}` is there more than once")
            }
            Self::Header(name, HeaderProblem::Malformed) => {
                write!(f, "header `{name}` is empty, too long or not text")
            }
            Self::Form(what) => f.write_str(what),
            Self::Stale(seconds) if *seconds >= 0 => {
                write!(f, "the signed time is {seconds} s old")
            }
            Self::Stale(seconds) => {
                write!(f, "the signed time is {} s in the future", seconds.unsigned_abs())
            }
            Self::NoMatch => f.write_str("no configured secret made any of its signatures"),
            Self::UnknownKey => f.write_str("the key that it names is not known"),
        }
    }
}

impl std::error::Error for SignatureProblem {}

impl Step {
    /// Every step, in the order a request goes through them.
    pub const ALL: [Self; 15] = [
        Self::UnknownSource,
        Self::MethodNotAllowed,
        Self::BodyTooLarge,
        Self::BodyTooSlow,
        Self::BodyIncomplete,
        Self::ContentEncoding,
        Self::HandshakeRefused,
        Self::HeaderMissing,
        Self::HeaderDoubled,
        Self::HeaderMalformed,
        Self::Form,
        Self::Stale,
        Self::NoMatch,
        Self::UnknownKey,
        Self::Malformed,
    ];

    /// Its stable word.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownSource => "unknown_source",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTooSlow => "body_too_slow",
            Self::BodyIncomplete => "body_incomplete",
            Self::ContentEncoding => "content_encoding",
            Self::Malformed => "malformed",
            Self::HandshakeRefused => "handshake_refused",
            Self::HeaderMissing => "header_missing",
            Self::HeaderDoubled => "header_doubled",
            Self::HeaderMalformed => "header_malformed",
            Self::Form => "form",
            Self::Stale => "stale",
            Self::NoMatch => "no_match",
            Self::UnknownKey => "unknown_key",
        }
    }
}

impl Refusal {
    /// The step at which it was refused.
    pub fn step(&self) -> Step {
        match self {
            Self::UnknownSource => Step::UnknownSource,
            Self::Method => Step::MethodNotAllowed,
            Self::TooLarge { .. } => Step::BodyTooLarge,
            Self::TooSlow => Step::BodyTooSlow,
            Self::BrokenBody => Step::BodyIncomplete,
            Self::Encoded => Step::ContentEncoding,
            Self::Malformed(_) => Step::Malformed,
            Self::Handshake(_) => Step::HandshakeRefused,
            Self::Signature(problem) => match problem {
                SignatureProblem::Header(_, HeaderProblem::Missing) => Step::HeaderMissing,
                SignatureProblem::Header(_, HeaderProblem::Doubled) => Step::HeaderDoubled,
                SignatureProblem::Header(_, HeaderProblem::Malformed) => Step::HeaderMalformed,
                SignatureProblem::Form(_) => Step::Form,
                SignatureProblem::Stale(_) => Step::Stale,
                SignatureProblem::NoMatch => Step::NoMatch,
                SignatureProblem::UnknownKey => Step::UnknownKey,
            },
        }
    }

    /// The stable code in answers, logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownSource => "unknown_source",
            Self::Method => "method_not_allowed",
            Self::TooLarge { .. } => "body_too_large",
            Self::TooSlow => "body_too_slow",
            Self::BrokenBody => "body_incomplete",
            Self::Encoded => "content_encoding",
            Self::Malformed(_) => "malformed",
            Self::Handshake(_) => "handshake_refused",
            Self::Signature(_) => "signature",
        }
    }

    /// The status it is answered with.
    pub fn status(&self) -> u16 {
        match self {
            Self::UnknownSource => 404,
            Self::Method => 405,
            Self::TooLarge { .. } => 413,
            Self::TooSlow => 408,
            Self::Encoded => 415,
            Self::BrokenBody | Self::Malformed(_) => 400,
            Self::Signature(_) => 401,
            Self::Handshake(_) => 403,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_step_is_the_one_it_is_written_as() {
        for step in Step::ALL {
            assert_eq!(serde_json::to_value(step).unwrap(), step.name());
        }
    }
}
