//! A yes, and what the provider gets to read.

use bytes::Bytes;

use crate::event::EventId;

/// What became of a request that was not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It was about these events, each with what became of it. Never empty, except for a batch
    /// that the provider sent empty.
    Events(Vec<(EventId, Admission)>),
    /// The provider tested the URL, and this is the answer it expects.
    Handshake(Reply),
}

/// What became of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Admission {
    /// It is new: stored and queued, as durable as the store promises.
    Fresh,
    /// It was known already, under the id told. Nothing was queued.
    Duplicate,
    /// It is new, but waits for a person: the same content had come under another id.
    Held,
}

impl Admission {
    /// Its word, as in the header `Hookonce-Status`.
    pub fn status(self) -> &'static str {
        match self {
            Self::Fresh => "accepted",
            Self::Duplicate => "duplicate",
            Self::Held => "held",
        }
    }
}

impl Receipt {
    /// Its word in the header `Hookonce-Status`. A batch is accepted if anything in it was fresh.
    pub fn status(&self) -> &'static str {
        match self {
            Self::Handshake(_) => "handshake",
            Self::Events(events) => {
                let any = |admission| events.iter().any(|(_, was)| *was == admission);
                if any(Admission::Fresh) || events.is_empty() {
                    "accepted"
                } else if any(Admission::Held) {
                    "held"
                } else {
                    "duplicate"
                }
            }
        }
    }
}

/// An answer with a given content: for handshakes, and where a provider wants more than a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The content type; none for an empty body.
    pub content_type: Option<String>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// A 200 with this content.
    pub fn ok(content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status: 200,
            content_type: Some(content_type.to_owned()),
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// A 200 without content.
    pub fn empty() -> Self {
        Self { status: 200, content_type: None, headers: Vec::new(), body: Bytes::new() }
    }

    /// A 200 with a text that the caller chose, which no browser may take for anything but text.
    pub fn echo(text: String) -> Self {
        let nosniff = ("X-Content-Type-Options".to_owned(), "nosniff".to_owned());
        Self { headers: vec![nosniff], ..Self::ok("text/plain", text) }
    }
}
