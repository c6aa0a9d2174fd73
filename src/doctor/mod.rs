//! Why a request was refused: the likely cause, and what to do about it.
//!
//! It finds out by trying. The provider's own check is run again on the request as another source, another
//! URL, another spelling of the secret or of the body would have it, and what then holds is the cause. It
//! is pure, it shows no secret, and it says `likely` where nothing proves it. None of it reaches a sender.

mod bodies;
mod headers;
mod secrets;
mod signature;
mod time;
mod urls;

use std::{collections::BTreeMap, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::time::tell_skew;

use crate::{
    app::{Place, Server},
    clock::Timestamp,
    receive::{Examined, examine},
    refusal::{Refusal, Step},
    refusal_log::Opened,
    request::Unverified,
    seal::NotOpened,
    source::{Proof, Source},
    store::RefusalRow,
};

/// What was found out about a refused request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The step at which it was refused.
    pub step: Step,
    /// What kind of cause it is.
    pub kind: Kind,
    /// Whether trying has proved it; otherwise it is only likely.
    pub proved: bool,
    /// The cause, in a sentence.
    pub cause: String,
    /// What to do, in a sentence.
    pub fix: String,
    /// What it rests on.
    pub evidence: Vec<String>,
    /// How old the signed time was, in seconds, where that was the trouble.
    pub stale_seconds: Option<i64>,
}

/// The kinds of causes. A closed set: scripts may rely on the words.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "FindingKind")]
pub enum Kind {
    /// With today's configuration it is accepted.
    Mended,
    /// Another source accepts it.
    WrongSource,
    /// The secret is right but for how it is written.
    SecretSpelling,
    /// It is of the provider's test mode, and no secret matched.
    TestMode,
    /// The body is not the one that was signed.
    BodyAltered,
    /// The body is not there.
    BodyEmpty,
    /// The URL is not the one that was signed.
    UrlMismatch,
    /// It looks like another provider's.
    OtherProvider,
    /// A header is missing.
    HeaderMissing,
    /// A header is there twice.
    HeaderDoubled,
    /// A header is not as it should be.
    HeaderMalformed,
    /// The signed time is too far off.
    Stale,
    /// Every signed time is off by the same.
    ClockSkew,
    /// No secret matched, and nothing that was tried did.
    NoMatch,
    /// It is signed, and does not say what it must.
    Malformed,
    /// A test of the URL failed.
    Handshake,
    /// It was refused before its signature was looked at.
    Unread,
    /// It cannot be looked into here.
    Unknown,
}

/// What a request is held against: the configuration as it is today.
#[derive(Clone, Copy, Debug)]
pub struct Today<'a> {
    /// The sources.
    pub sources: &'a BTreeMap<Arc<str>, Arc<Source>>,
    /// How the outside sees us.
    pub server: &'a Server,
}

/// A refused request beside the source that refused it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case<'a> {
    pub(super) today: Today<'a>,
    pub(super) source: &'a Source,
    pub(super) row: &'a RefusalRow,
    pub(super) opened: &'a Opened,
    /// The request with the URL that today's configuration gives it.
    pub(super) request: &'a Unverified,
    /// The time to verify it as of.
    pub(super) as_of: Timestamp,
}

/// Looks into one refused request.
pub fn diagnose(today: Today<'_>, row: &RefusalRow, opened: &Result<Opened, NotOpened>) -> Finding {
    let found = |kind, cause: String, fix: &str| finding(row.step, kind, cause, fix.to_owned());
    let Some(source) = today.sources.get(&row.source) else {
        let cause = format!("source `{}` is not configured any more", row.source);
        return found(Kind::Unknown, cause, "configure it again to have it looked into");
    };
    let opened = match opened {
        Ok(opened) => opened,
        Err(problem) => return found(Kind::Unknown, problem.to_string(), "look into it there"),
    };
    let request = &today.request(source, row, opened);
    let as_of = row.received_at;
    let case = Case { today, source, row, opened, request, as_of };
    let accepted = || match examine(source, request.clone(), as_of) {
        Ok(Examined::Events { .. } | Examined::Handshake { .. }) => true,
        Ok(Examined::Shadow(..) | Examined::KeyNotKnown(_)) | Err(_) => false,
    };
    if opened.has_body && accepted() {
        let cause = "with today's configuration it is accepted".to_owned();
        let fix = "admit it with `hookonce refusals readmit ID`";
        return Finding { proved: true, ..found(Kind::Mended, cause, fix) };
    }
    case.finding()
}

impl Today<'_> {
    /// A refused request as it would be taken today: what depends on the configuration, its URL, is
    /// put together anew.
    pub fn request(&self, source: &Source, row: &RefusalRow, opened: &Opened) -> Unverified {
        let headers = &opened.request.headers;
        let place = Place { target: &opened.target, headers, peer: row.peer };
        let url = self.server.url(source, &place);
        Unverified { url, ..opened.request.clone() }
    }
}

impl Case<'_> {
    fn finding(&self) -> Finding {
        match self.row.step {
            Step::HeaderMissing | Step::HeaderDoubled | Step::HeaderMalformed => self.bad_header(),
            Step::Stale => self.stale(),
            Step::Form | Step::NoMatch => self.no_match(),
            Step::UnknownKey => self.found(
                Kind::NoMatch,
                self.row.problem.clone(),
                format!(
                    "if {} has a new key, write it into `sources.{}.public_keys`, or take `fetch_keys = false` out; otherwise somebody made it up",
                    self.title(),
                    self.source.name
                ),
            ),
            Step::Malformed => self.found(
                Kind::Malformed,
                format!("the signature holds, but {}", self.row.problem),
                format!("compare it with {}; if it is right, please report this", self.docs()),
            ),
            Step::HandshakeRefused => self.found(
                Kind::Handshake,
                format!("a test of the URL failed: {}", self.row.problem),
                format!(
                    "give `sources.{}` the token that {} was told, and test again there",
                    self.source.name,
                    self.title()
                ),
            ),
            Step::UnknownSource
            | Step::MethodNotAllowed
            | Step::BodyTooLarge
            | Step::BodyTooSlow
            | Step::BodyIncomplete
            | Step::ContentEncoding => self.unread(),
        }
    }

    /// What was refused before there was a whole request.
    fn unread(&self) -> Finding {
        let name = &self.source.name;
        let fix = match self.row.step {
            Step::BodyTooLarge => format!(
                "if {} sends so much, raise `sources.{name}.body_bytes_max`",
                self.title()
            ),
            Step::BodyTooSlow => {
                "look for a slow proxy or network in between, or raise `server.body_within`".to_owned()
            }
            Step::BodyIncomplete => {
                "look in the proxy's log why it hung up; the sender will try again".to_owned()
            }
            Step::ContentEncoding => {
                "turn off compression of requests in the proxy: the signature covers the bytes as sent"
                    .to_owned()
            }
            _ => format!("have {} call it with {}", self.title(), self.source.provider.methods().join(" or ")),
        };
        let mut finding = self.found(Kind::Unread, self.row.problem.clone(), fix);
        finding.evidence.push(format!("{} from {}", self.row.method, self.sender()));
        finding
    }

    /// Whether the source accepts this signature.
    fn holds(&self, request: &Unverified) -> bool {
        matches!(self.source.verify(request.clone(), self.as_of), Ok(Proof::Holds(_)))
    }

    /// Why the source does not, as it says now.
    fn problem(&self) -> Option<Refusal> {
        self.source.verify(self.request.clone(), self.as_of).err()
    }

    fn found(&self, kind: Kind, cause: String, fix: String) -> Finding {
        finding(self.row.step, kind, cause, fix)
    }

    fn proved(&self, kind: Kind, (cause, fix): (String, String), evidence: String) -> Finding {
        Finding { proved: true, evidence: vec![evidence], ..self.found(kind, cause, fix) }
    }

    fn title(&self) -> &'static str {
        self.source.provider.title()
    }

    fn docs(&self) -> &'static str {
        self.source.provider.docs()
    }

    fn sender(&self) -> String {
        self.row.peer.map_or_else(|| "an unknown address".to_owned(), |peer| peer.to_string())
    }
}

fn finding(step: Step, kind: Kind, cause: String, fix: String) -> Finding {
    Finding { step, kind, proved: false, cause, fix, evidence: Vec::new(), stale_seconds: None }
}
