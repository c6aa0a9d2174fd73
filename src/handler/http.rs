//! The handler that is a URL.
//!
//! It is called with the original bytes, so that a handler written for the provider itself works
//! behind hookonce as it is, and with what it needs to act once: the same `Idempotency-Key` on
//! every attempt and a lease token that only rises.

use std::{error::Error, fmt, io, sync::Arc, time::Duration};

use async_trait::async_trait;
use reqwest::{
    Client, ClientBuilder, Response, StatusCode,
    header::{self, HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::{
    clock::{Clock, Timestamp},
    event::Event,
    handler::{
        Answer, Attempt, Handler, Outcome, SigningKey, excerpt::Excerpt, facts::facts,
        headers::forwarded,
    },
    limits,
};

/// Under these names the `svix` libraries look first, with their own secret in mind. Where we sign,
/// the provider's would hide ours.
const HIDE_OUR_SIGNATURE: [&str; 3] = ["svix-id", "svix-timestamp", "svix-signature"];

/// Posts each event to a URL.
///
/// 2xx is done, 410 is rejected, and anything else fails; `Retry-After` is passed on. Redirects are
/// not followed.
pub struct HttpHandler {
    client: Client,
    url: Url,
    signing_key: Option<SigningKey>,
    clock: Arc<dyn Clock>,
}

/// A URL that no handler can be called by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a handler's URL begins with `http://` or `https://`, not with `{scheme}:`")]
pub struct UnusableUrl {
    /// What it begins with.
    pub scheme: String,
}

impl HttpHandler {
    /// The handler at `url`. What is sent is signed if there is a key.
    ///
    /// A user and a password in the URL are sent as Basic credentials.
    ///
    /// # Errors
    /// When the URL is not one of HTTP.
    pub fn new(
        client: Client,
        mut url: Url,
        signing_key: Option<SigningKey>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, UnusableUrl> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(UnusableUrl { scheme: url.scheme().to_owned() });
        }
        url.set_fragment(None);
        Ok(Self { client, url, signing_key, clock })
    }
}

/// The one client for all handlers: connections are kept and used again.
///
/// Certificates are checked against the system's authorities; on a machine that has none, only `http://`
/// URLs work.
pub fn http_client() -> Client {
    http_client_builder().build().unwrap_or_else(|error| {
        tracing::warn!(
            "handlers at https:// URLs cannot be called: {}; install `ca-certificates`",
            cause(&error)
        );
        let trusting_nobody = http_client_builder().tls_certs_only([]).build();
        trusting_nobody.expect("a client without authorities reads nothing from the machine")
    })
}

/// What all our clients are made of. They follow no redirects, keep no cookies, unpack nothing, and use
/// no proxy, whatever the environment says: what a handler's URL says is where an event goes.
pub fn http_client_builder() -> ClientBuilder {
    use rustls::crypto::{CryptoProvider, ring};

    if CryptoProvider::get_default().is_none() {
        // It fails only if another thread was faster, and then there is one.
        ring::default_provider().install_default().ok();
    }
    Client::builder()
        .user_agent(concat!("hookonce/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .tcp_nodelay(true)
        .connect_timeout(limits::HANDLER_CONNECT_TIMEOUT)
        .pool_idle_timeout(limits::HANDLER_IDLE_TIMEOUT)
}

#[async_trait]
impl Handler for HttpHandler {
    async fn handle(&self, event: Arc<Event>, attempt: Attempt) -> Outcome {
        let deadline = Instant::now() + attempt.patience();
        let request = self
            .client
            .post(self.url_with(&event.query))
            .headers(self.headers(&event, &attempt))
            .body(event.body.clone());

        let response = match timeout_at(deadline, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Outcome::failed(self.no_answer(&error)),
            Err(_) => {
                let waited = humantime::format_duration(attempt.timeout);
                return Outcome::failed(format_args!(
                    "no answer from {} within {waited}",
                    self.origin()
                ));
            }
        };
        let status = response.status();
        let retry_after = retry_after(response.headers(), self.clock.now());
        let excerpt = excerpt(response, deadline).await;
        outcome(status, retry_after, excerpt)
    }
}

impl HttpHandler {
    /// The handler's URL with the original query after its own.
    fn url_with(&self, query: &str) -> Url {
        let mut url = self.url.clone();
        if !query.is_empty() {
            let joined =
                url.query().map_or_else(|| query.to_owned(), |own| format!("{own}&{query}"));
            url.set_query(Some(&joined));
        }
        url
    }

    fn headers(&self, event: &Event, attempt: &Attempt) -> HeaderMap {
        let mut headers = forwarded(&event.headers);
        for fact in facts(event, attempt) {
            set(&mut headers, &fact.header(), fact.value.as_deref());
        }
        let key = attempt.delivery.to_string();
        let now = self.clock.now();
        set(&mut headers, "idempotency-key", Some(&key));
        set(&mut headers, "webhook-id", Some(&key));
        set(&mut headers, "webhook-timestamp", Some(&now.as_seconds().to_string()));
        set(&mut headers, "traceparent", attempt.traceparent.as_deref());
        if let Some(signing_key) = &self.signing_key {
            for name in HIDE_OUR_SIGNATURE {
                headers.remove(name);
            }
            let signature = signing_key.sign(&key, now, &event.body);
            set(&mut headers, "webhook-signature", Some(&signature));
        }
        headers
    }

    /// Why there is no answer, in words that name the handler but nothing secret of its URL.
    fn no_answer(&self, error: &reqwest::Error) -> String {
        let origin = self.origin();
        if error.is_connect() && error.is_timeout() {
            let waited = humantime::format_duration(limits::HANDLER_CONNECT_TIMEOUT);
            format!("could not connect to {origin} within {waited}")
        } else if error.is_connect() {
            format!("could not connect to {origin}: {}", cause(error))
        } else {
            format!("{origin} broke off before it answered: {}", cause(error))
        }
    }

    /// Scheme, host and port: a user, a path or a query may be somebody's secret.
    fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

impl fmt::Debug for HttpHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpHandler").field("origin", &self.origin()).finish_non_exhaustive()
    }
}

/// Sets a header, if it has a value that can be one: a type or an id may hold what a header cannot.
fn set(headers: &mut HeaderMap, name: &str, value: Option<&str>) {
    let name = HeaderName::from_bytes(name.as_bytes());
    let value = value.map(|value| HeaderValue::from_bytes(value.as_bytes()));
    if let (Ok(name), Some(Ok(value))) = (name, value) {
        headers.insert(name, value);
    }
}

/// What the handler asks to wait, as seconds or as a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Timestamp::from_millis(date.as_millisecond()).since(now))
}

/// Reads the answer's body, mostly so that its connection can be used again, and keeps its
/// beginning.
///
/// However it ends, the status has been said: a body that breaks off or drips changes nothing.
async fn excerpt(mut response: Response, deadline: Instant) -> Option<String> {
    let mut excerpt = Excerpt::default();
    let mut bytes_read = 0;
    let reading = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            excerpt.add(&chunk);
            bytes_read += chunk.len();
            if bytes_read > limits::ANSWER_BYTES_READ_MAX {
                break;
            }
        }
    };
    let patience = Instant::now() + limits::ANSWER_BODY_TIMEOUT;
    timeout_at(deadline.min(patience), reading).await.ok();
    excerpt.into_text()
}

/// What an answer means.
fn outcome(status: StatusCode, retry_after: Option<Duration>, excerpt: Option<String>) -> Outcome {
    let code = status.as_u16();
    let answer = |error| Answer { status: Some(i32::from(code)), error, excerpt };
    if status.is_success() {
        return Outcome::Done(answer(None));
    }
    let error = match status {
        StatusCode::GONE => return Outcome::Rejected(answer(Some("answered 410".to_owned()))),
        _ if status.is_redirection() => format!("answered {code}, and redirects are not followed"),
        _ => format!("answered {code}"),
    };
    Outcome::Failed { retry_after, answer: answer(Some(error)) }
}

/// The last of an error's causes, which is the one that says what happened, in words that name nothing
/// secret.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let mut last: &dyn Error = error;
    while let Some(next) = last.source() {
        last = next;
    }
    match last.downcast_ref::<io::Error>() {
        Some(error) if error.raw_os_error().is_some() => error.kind().to_string(),
        Some(_) | None => last.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::ManualClock,
        handler::tests::{NOW, attempt, event},
    };

    fn handler(url: &str) -> HttpHandler {
        let url = Url::parse(url).unwrap();
        HttpHandler::new(http_client(), url, None, ManualClock::at(NOW)).unwrap()
    }

    #[test]
    fn the_original_query_follows_the_handlers_own() {
        let urls = [
            ("http://h/p", "", "http://h/p"),
            ("http://h/p", "a=%20b", "http://h/p?a=%20b"),
            ("http://h/p?own=1#part", "a=1", "http://h/p?own=1&a=1"),
        ];
        for (url, query, expected) in urls {
            assert_eq!(handler(url).url_with(query).as_str(), expected);
        }
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let read = |text: &'static str| {
            let headers = [(header::RETRY_AFTER, HeaderValue::from_static(text))];
            retry_after(&HeaderMap::from_iter(headers), NOW)
        };
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Thu, 01 Jan 2026 00:01:30 GMT"), Some(Duration::from_secs(90)));
        assert_eq!(read("Thu, 01 Jan 2015 00:00:00 GMT"), Some(Duration::ZERO));
        for text in ["", "soon", "-1", "1.5", "99999999999999999999"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_type_that_cannot_be_a_header_is_left_out() {
        let event = Event { event_type: Some("a\nb".to_owned()), ..(*event()).clone() };
        let headers = handler("http://h/").headers(&event, &attempt());
        assert!(!headers.contains_key("hookonce-event-type"));
        assert_eq!(headers["hookonce-source"], "stripe");
    }

    #[test]
    fn nothing_secret_of_the_url_is_shown() {
        let handler = handler("https://user:pass@example.com:8443/path/secret?key=secret");
        assert_eq!(
            format!("{handler:?}"),
            r#"HttpHandler { origin: "https://example.com:8443", .. }"#
        );
    }

    #[test]
    fn a_url_of_another_scheme_is_refused() {
        let url = Url::parse("ftp://h/").unwrap();
        let refused = HttpHandler::new(http_client(), url, None, ManualClock::at(NOW));
        assert_eq!(refused.err(), Some(UnusableUrl { scheme: "ftp".to_owned() }));
    }
}
