//! Stands in for Stripe: signed events over connections that are used again, and retries.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hookonce::{
    clock::{SystemClock, Timestamp},
    provider::{self, Settings},
    request::{Headers, Unverified},
    secret::Secret,
    source::Source,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// The secret of the source `stripe` in every test that does not say otherwise.
pub(crate) const SECRET: &str = "whsec_a_secret_that_no_output_may_show";

/// Signs as Stripe does.
#[derive(Clone)]
pub(crate) struct Sender {
    source: Arc<Source>,
}

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The word in `Hookonce-Status`.
    pub(crate) word: String,
    pub(crate) head: String,
    pub(crate) body: String,
    pub(crate) took: Duration,
}

impl Sender {
    pub(crate) fn new() -> Self {
        Self::with(SECRET)
    }

    /// Signs with this secret.
    pub(crate) fn with(secret: &str) -> Self {
        let settings = Settings { secrets: vec![Secret::new(secret)], ..Settings::default() };
        let stripe = provider::find("stripe").unwrap();
        Self { source: Arc::new(Source::new("stripe", stripe, settings).unwrap()) }
    }

    /// The bytes of a request about the event `id`, about as long as Stripe's are.
    pub(crate) fn request(&self, id: &str) -> Vec<u8> {
        let filler = "x".repeat(1300);
        let body = format!(
            r#"{{"id":"{id}","object":"event","type":"invoice.paid","created":1767225600,"data":{{"object":{{"id":"in_1","description":"{filler}"}}}},"pending_webhooks":1}}"#
        );
        self.signed(&body, &[])
    }

    /// The bytes of a signed request with this body, and with these headers besides.
    pub(crate) fn signed(&self, body: &str, more: &[(&str, &str)]) -> Vec<u8> {
        let now = SystemClock::start().now();
        let mut draft = Unverified {
            method: "POST".to_owned(),
            url: "http://127.0.0.1/webhooks/stripe".to_owned(),
            headers: Headers::default(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            received_at: Timestamp::default(),
        };
        self.source.scheme.sign(&mut draft, now).unwrap();
        let signature = draft.headers.only("stripe-signature").unwrap();
        let more: String =
            more.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut bytes = format!(
            "POST /webhooks/stripe HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\nstripe-signature: {signature}\r\n{more}content-length: {}\r\n\r\n",
            draft.body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(&draft.body);
        bytes
    }
}

/// A connection to a server, opened when it is needed and used again.
pub(crate) struct Connection {
    port: u16,
    stream: Option<TcpStream>,
}

impl Connection {
    pub(crate) fn to(port: u16) -> Self {
        Self { port, stream: None }
    }

    /// Sends one request and reads its answer. `None`: no whole answer came, so the sender knows nothing.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Option<Answer> {
        let begun = std::time::Instant::now();
        let sent = tokio::time::timeout(Duration::from_secs(15), self.exchange(request)).await;
        let Ok(Some((head, body))) = sent else {
            self.stream = None;
            return None;
        };
        let header = |name: &str| {
            head.lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim().to_owned())
        };
        if header("connection").is_some_and(|value| value == "close") {
            self.stream = None;
        }
        Some(Answer {
            status: head.split(' ').nth(1)?.parse().ok()?,
            word: header("hookonce-status").unwrap_or_default(),
            took: begun.elapsed(),
            head,
            body,
        })
    }

    async fn exchange(&mut self, request: &[u8]) -> Option<(String, String)> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
            stream.set_nodelay(true).ok()?;
            self.stream = Some(stream);
        }
        let stream = self.stream.as_mut()?;
        stream.write_all(request).await.ok()?;
        let mut bytes = Vec::with_capacity(512);
        let head_end = loop {
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
        };
        let head = String::from_utf8(bytes[..head_end].to_vec()).ok()?;
        let length: usize = head
            .lines()
            .find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
            })
            .unwrap_or(0);
        while bytes.len() < head_end + 4 + length {
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
        let body = String::from_utf8(bytes[head_end + 4..].to_vec()).ok()?;
        Some((head, body))
    }
}
