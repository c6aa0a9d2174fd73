//! A no, with its reason: what the sender of a request did wrong.
//!
//! The reason goes to the operator (logs, metrics, the list of refusals). The sender gets the
//! status and the stable code only, and every bad signature of a source looks the same to it.

use std::fmt;

use crate::request::HeaderProblem;

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

impl Refusal {
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
