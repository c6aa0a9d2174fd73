//! Sends a request the way a provider does, and tells what it was answered.

use std::{fmt, sync::Arc, time::Duration};

use hookonce::{clock::Clock, request::Unverified, source::Source};
use reqwest::{
    Method, Response,
    header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
};
use serde::Serialize;
use url::Url;

/// Longer than any provider waits for its answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends requests to one address, over connections that are used again.
#[derive(Clone)]
pub(crate) struct Sender {
    client: reqwest::Client,
    to: Url,
    clock: Arc<dyn Clock>,
}

/// Signs requests as the provider of a source would, and sends them.
pub(crate) struct SigningSender {
    pub(crate) source: Source,
    pub(crate) sender: Sender,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What became of one sending.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) became: Became,
    /// The HTTP status, if there was an answer at all.
    pub(crate) status: Option<u16>,
    /// How long the receiver asked to wait before the next try.
    pub(crate) retry_after: Option<Duration>,
    /// From the first byte sent to the whole answer.
    pub(crate) took: Duration,
    /// Why there was no answer.
    pub(crate) error: Option<String>,
}

/// The word for what became of a request: the receiver's own, or `failed` if it gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Became {
    Accepted,
    Duplicate,
    Held,
    Handshake,
    Refused,
    Unavailable,
    Failed,
}

impl Sender {
    pub(crate) fn new(to: Url, client: reqwest::Client, clock: Arc<dyn Clock>) -> Self {
        Self { client, to, clock }
    }

    /// The address.
    pub(crate) fn url(&self) -> &str {
        self.to.as_str()
    }

    /// Sends a request as it is, to this sender's address with the request's own query.
    pub(crate) async fn send(&self, request: &Unverified) -> Answer {
        let begun = self.clock.monotonic();
        let answered = self.exchange(request).await;
        let took = self.clock.monotonic().saturating_sub(begun);
        match answered {
            Ok(response) => Answer {
                became: Became::of(&response),
                status: Some(response.status().as_u16()),
                retry_after: retry_after(&response),
                took,
                error: None,
            },
            Err(error) => Answer {
                became: Became::Failed,
                status: None,
                retry_after: None,
                took,
                error: Some(innermost(&error)),
            },
        }
    }

    async fn exchange(&self, request: &Unverified) -> reqwest::Result<Response> {
        let method = Method::from_bytes(request.method.as_bytes()).unwrap_or(Method::POST);
        let mut url = self.to.clone();
        url.set_query(Some(request.query()).filter(|query| !query.is_empty()));
        let mut response = self
            .client
            .request(method, url)
            .headers(headers(request))
            .body(request.body.clone())
            .timeout(PATIENCE)
            .send()
            .await?;
        while response.chunk().await?.is_some() {} // so that the connection can be used again
        Ok(response)
    }
}

impl SigningSender {
    /// Signs a draft as of now and sends it.
    pub(crate) async fn send(&self, draft: &Unverified) -> Answer {
        self.sender.send(&self.signed(draft)).await
    }

    /// The draft with the signature that the provider would give it now.
    pub(crate) fn signed(&self, draft: &Unverified) -> Unverified {
        let mut request = draft.clone();
        let signed = self.source.scheme.sign(&mut request, self.clock.now());
        signed.expect("its template has been signed before");
        request
    }
}

impl Answer {
    /// Whether the provider would be content: nothing needs to be sent again.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

impl Became {
    /// What the receiver says in its header, or what the status says if it is another program.
    fn of(response: &Response) -> Self {
        let word = response.headers().get("hookonce-status").and_then(|word| word.to_str().ok());
        match (word, response.status().as_u16()) {
            (Some("duplicate"), _) => Self::Duplicate,
            (Some("held"), _) => Self::Held,
            (Some("handshake"), _) => Self::Handshake,
            (Some("accepted"), _) | (_, 200..300) => Self::Accepted,
            (Some("unavailable"), _) | (_, 500..) => Self::Unavailable,
            _ => Self::Refused,
        }
    }
}

impl fmt::Display for Became {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Held => "held",
            Self::Handshake => "handshake",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
        })
    }
}

/// The request's headers, less those about the connection it was captured on.
fn headers(request: &Unverified) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in request.headers.iter() {
        if matches!(name, "connection" | "transfer-encoding" | "keep-alive" | "expect") {
            continue;
        }
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    headers
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The cause at the bottom: the others only say that sending failed.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    match error.source() {
        Some(cause) => innermost(cause),
        None => error.to_string(),
    }
}
