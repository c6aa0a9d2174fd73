//! Checking captured requests away from the network: what the receive path would say, without a
//! store.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    event::NewEvent,
    provider::{self, Provider, Settings},
    receipt::Reply,
    receive::{Examined, examine},
    refusal::{Refusal, SignatureProblem},
    request::{Headers, Unverified},
    secret::Secret,
    source::Source,
};

/// What the receive path would do with a request, up to the store.
#[derive(Clone, Debug)]
pub enum Checked {
    /// It would admit these events and answer with this, or with our JSON.
    Accepted(Vec<NewEvent>, Option<Reply>),
    /// It would give this answer to a test of the URL.
    Handshake(Reply),
    /// It would refuse.
    Refused(Refusal),
}

/// Checks a request as the receive path does, as of `now`.
pub fn check(source: &Source, request: Unverified, now: Timestamp) -> Checked {
    try_check(source, request, now).unwrap_or_else(Checked::Refused)
}

fn try_check(source: &Source, request: Unverified, now: Timestamp) -> Result<Checked, Refusal> {
    Ok(match examine(source, request, now)? {
        Examined::Handshake { reply, .. } => Checked::Handshake(reply),
        // Nothing is fetched for a check, so its word on the key is final.
        Examined::KeyNotKnown(_) => return Err(SignatureProblem::UnknownKey.into()),
        Examined::Events { events, .. } => Checked::Accepted(events, source.reply()),
        // The question here is whether the signature holds, not whether a server would look away.
        Examined::Shadow(_, problem) => Checked::Refused(problem.into()),
    })
}

impl Checked {
    /// Whether the provider would be told yes.
    pub fn is_accepted(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }

    /// `accept` or `reject`.
    pub fn verdict(&self) -> &'static str {
        if self.is_accepted() { "accept" } else { "reject" }
    }

    /// The stable word for what became of it: `accepted`, `handshake`, or the refusal's code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Accepted(..) => "accepted",
            Self::Handshake(_) => "handshake",
            Self::Refused(refusal) => refusal.code(),
        }
    }

    /// Everything that counts in one line, in the form of a fixture's `expect`: `accepted id=…
    /// type=…` (a batch: one after the other, with `; ` in between), `handshake`, `refused CODE`.
    pub fn summary(&self) -> String {
        match self {
            Self::Accepted(events, _) => {
                let events: Vec<_> = events.iter().map(summary).collect();
                format!("accepted{}", events.join(";"))
            }
            Self::Handshake(_) => "handshake".to_owned(),
            Self::Refused(refusal) => format!("refused {}", refusal.code()),
        }
    }

    /// The answer that would be given.
    pub fn response(&self) -> Response {
        match self {
            Self::Accepted(_, Some(reply)) | Self::Handshake(reply) => Response::of(reply),
            Self::Accepted(_, None) => Response::ours(200, "application/json"),
            Self::Refused(refusal) => Response::ours(refusal.status(), "application/problem+json"),
        }
    }
}

fn summary(event: &NewEvent) -> String {
    let mut text = String::new();
    for (name, value) in [("id", &event.named.event_id), ("type", &event.named.event_type)] {
        if let Some(value) = value {
            text.push_str(&format!(" {name}={value}"));
        }
    }
    text
}

/// An answer, as far as it is known without a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The content type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Further headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body as text. `None`: it holds ids that only a store gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

impl Response {
    fn of(reply: &Reply) -> Self {
        Self {
            status: Some(reply.status),
            content_type: reply.content_type.clone(),
            headers: reply.headers.iter().cloned().collect(),
            body: Some(String::from_utf8_lossy(&reply.body).into_owned()),
        }
    }

    fn ours(status: u16, content_type: &str) -> Self {
        Self {
            status: Some(status),
            content_type: Some(content_type.to_owned()),
            headers: BTreeMap::new(),
            body: None,
        }
    }

    /// Whether this answer is as `expected`, whose absent fields are free. Of content types the
    /// parameters do not count, of header names the case.
    fn is_as(&self, expected: &Self) -> bool {
        let essence = |response: &Self| {
            let whole = response.content_type.as_deref()?;
            Some(whole.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
        };
        let has = |(name, value): (&String, &String)| {
            let mut headers = self.headers.iter();
            headers.any(|(known, given)| known.eq_ignore_ascii_case(name) && given == value)
        };
        (expected.status.is_none() || expected.status == self.status)
            && (expected.content_type.is_none() || essence(expected) == essence(self))
            && (expected.body.is_none() || expected.body == self.body)
            && expected.headers.iter().all(has)
    }
}

/// A request with its verdict, as one line of a file of vectors.
#[derive(Clone, Debug, Deserialize)]
pub struct Vector {
    /// The provider's name.
    pub provider: String,
    /// What the case is called.
    pub name: String,
    method: String,
    url: String,
    headers: BTreeMap<String, String>,
    body_base64: String,
    secret: Option<String>,
    public_key: Option<String>,
    #[serde(default)]
    config: BTreeMap<String, serde_json::Value>,
    now: i64,
    expect: Expectation,
    response: Option<Response>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expectation {
    Accept,
    Reject,
}

/// What came of a vector: what `hookonce verify --vectors` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VectorResult {
    /// The provider's name.
    pub provider: String,
    /// What the case is called.
    pub name: String,
    /// `accept`, `reject`, or `unsupported` for a provider we do not have.
    pub verdict: &'static str,
    /// The stable word for what became of it.
    pub code: &'static str,
    /// The answer, where the vector expects one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<Response>,
    /// Whether verdict and answer are the expected ones. What is unsupported is no failure.
    #[serde(skip)]
    pub as_expected: bool,
}

/// Checks one line of a file of vectors, at its own time.
///
/// # Errors
/// When the line is not a vector.
pub fn check_vector(line: &str) -> Result<VectorResult, serde_json::Error> {
    let vector: Vector = serde_json::from_str(line)?;
    let result = |verdict, code, response, as_expected| VectorResult {
        provider: vector.provider.clone(),
        name: vector.name.clone(),
        verdict,
        code,
        response,
        as_expected,
    };
    let Some(provider) = provider::find(&vector.provider) else {
        return Ok(result("unsupported", "unsupported", None, true));
    };
    // A source that would not start accepts nothing.
    let Ok(source) = Source::new(provider.name(), provider, vector.settings(provider)) else {
        let as_expected = vector.expect == Expectation::Reject && vector.response.is_none();
        return Ok(result("reject", "misconfigured", None, as_expected));
    };
    let checked = check(&source, vector.request()?, Timestamp::from_seconds(vector.now));
    let response = vector.response.as_ref().map(|_| checked.response());
    let answered = match (&vector.response, &response) {
        (Some(expected), Some(given)) => given.is_as(expected),
        _ => true,
    };
    let accepted = vector.expect == Expectation::Accept;
    let as_expected = answered && checked.is_accepted() == accepted;
    Ok(result(checked.verdict(), checked.code(), response, as_expected))
}

impl Vector {
    /// The settings of its source. What the provider has no setting for is a note to the reader.
    fn settings(&self, provider: &dyn Provider) -> Settings {
        let known = provider.settings();
        let settings = self.config.iter().filter_map(|(key, value)| {
            let is_known = known.iter().any(|(name, _)| name == key);
            is_known.then(|| {
                (key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            })
        });
        Settings {
            secrets: self.secret.iter().map(|secret| Secret::new(secret.as_str())).collect(),
            public_keys: self.public_key.iter().cloned().collect(),
            fetch_keys: false,
            tolerance: None,
            extra: settings.collect(),
        }
    }

    fn request(&self) -> Result<Unverified, serde_json::Error> {
        let body = STANDARD.decode(&self.body_base64).map_err(serde::de::Error::custom)?;
        Ok(Unverified {
            method: self.method.clone(),
            url: self.url.clone(),
            headers: self
                .headers
                .iter()
                .map(|(name, value)| (name, value.clone()))
                .collect::<Headers>(),
            body: body.into(),
            received_at: Timestamp::from_seconds(self.now),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(provider: &str, secret: &str) -> String {
        format!(
            r#"{{"provider":"{provider}","name":"n","method":"POST","url":"https://a.example/","headers":{{}},
            "body_base64":"e30=","secret":"{secret}","now":1,"expect":"reject","why":"","kind":"delivery"}}"#
        )
    }

    #[test]
    fn what_is_unsupported_or_misconfigured_is_told_apart() {
        let codes = [("nobody", "x", "unsupported"), ("stripe", "", "misconfigured")];
        for (provider, secret, code) in codes {
            let result = check_vector(&vector(provider, secret)).unwrap();
            assert_eq!((result.code, result.as_expected), (code, true));
        }
    }

    #[test]
    fn a_line_that_is_no_vector_is_an_error() {
        assert!(check_vector("{}").is_err());
        assert!(check_vector(&vector("stripe", "x").replace("e30=", "!")).is_err());
    }

    #[test]
    fn only_what_is_expected_of_an_answer_counts() {
        let reply = Reply::ok("text/plain; charset=utf-8", "challenge");
        let given = Response::of(&reply);
        let expected = |json| serde_json::from_str::<Response>(json).unwrap();
        assert!(given.is_as(&expected(r#"{"status":200,"content_type":"text/plain"}"#)));
        assert!(given.is_as(&expected("{}")));
        assert!(!given.is_as(&expected(r#"{"body":"other"}"#)));
        assert!(!given.is_as(&expected(r#"{"headers":{"x":"y"}}"#)));
    }
}
