//! What is encrypted of each noun, and under which names.
//!
//! A content is bound to its source and its field, and not to its event's id: in Redis the retry of an
//! admission that broke off may complete the first one's event with its own bytes, which are the same.
//! Attempts are bound to their delivery, saved answers to their key.

use std::{collections::HashMap, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;

use super::keys::{EncryptionKeys, NotOpened, SEALING_BYTES};
use crate::{
    delivery::{Attempt, Delivery, DeliveryId},
    event::{Event, NewEvent, RequestId},
    key::{KeyId, SavedResponse},
    request::Headers,
    store::{RefusalRow, Refused},
};

/// The one header that sealed ones are kept as. No request has a header with a space in its name, so no
/// sender can pass off what it sends as sealed.
const SEALED_HEADERS: &str = "sealed headers";

/// What a sealed text begins with. It is in no query, no header and no line that a person reads.
const SEALED_TEXT: char = '\u{1}';

/// What a content is of, and of whose.
#[derive(Clone, Copy)]
pub(super) struct Whose<'a>(&'a [u8]);

impl<'a> Whose<'a> {
    fn source(source: &'a str) -> Self {
        Self(source.as_bytes())
    }

    fn delivery(id: &'a DeliveryId) -> Self {
        Self(id.as_bytes())
    }

    fn key(id: &'a KeyId) -> Self {
        Self(id.as_bytes())
    }

    fn field(self, name: &str) -> Vec<u8> {
        [name.as_bytes(), b"\0", self.0].concat()
    }
}

/// Requests that were sealed for several events of one call: each is sealed once.
pub(super) type Requests = HashMap<RequestId, (Arc<Headers>, Bytes)>;

impl EncryptionKeys {
    pub(super) fn seal_event(&self, mut event: NewEvent, requests: &mut Requests) -> NewEvent {
        let source = Arc::clone(&event.source);
        let whose = Whose::source(&source);
        event.named.body = self.seal(&event.named.body, &whose.field("body"));
        if !event.query.is_empty() {
            event.query = self.seal_text(&event.query, &whose.field("query"));
        }
        let marker = event.retry_marker.take();
        event.retry_marker = marker.map(|text| self.seal_text(&text, &whose.field("retry marker")));
        let seal_headers = |headers: &Headers| Arc::new(self.seal_headers(headers, whose));
        match &mut event.request {
            None => event.headers = seal_headers(&event.headers),
            Some(request) => {
                let sealed = requests.entry(request.id).or_insert_with(|| {
                    let body = self.seal(&request.body, &whose.field("body"));
                    (seal_headers(&event.headers), body)
                });
                (event.headers, request.body) = sealed.clone();
            }
        }
        event
    }

    /// The event as it came. One that was never sealed is left as it is, whatever its bytes look like.
    pub(super) fn open_event(&self, event: &mut Event) -> Result<(), NotOpened> {
        if !is_sealed(&event.headers) {
            return Ok(());
        }
        let source = Arc::clone(&event.source);
        let whose = Whose::source(&source);
        event.headers = self.open_headers(&event.headers, whose)?;
        event.body = self.open(&event.body, &whose.field("body"))?;
        event.query = self.open_text(&event.query, &whose.field("query"))?;
        if let Some(marker) = &mut event.retry_marker {
            *marker = self.open_text(marker, &whose.field("retry marker"))?;
        }
        Ok(())
    }

    /// The body of the request an event came in.
    pub(super) fn open_request(&self, body: &Bytes, source: &str) -> Result<Bytes, NotOpened> {
        self.open(body, &Whose::source(source).field("body"))
    }

    /// What a duplicate's sender said about its being a retry, or why that cannot be read.
    pub(super) fn show_marker(&self, marker: &mut Option<String>, source: &str) {
        self.show_text(marker, &Whose::source(source).field("retry marker"));
    }

    pub(super) fn seal_attempt(&self, attempt: &mut Attempt, delivery: &DeliveryId) {
        let whose = Whose::delivery(delivery);
        for (name, text) in [("error", &mut attempt.error), ("excerpt", &mut attempt.excerpt)] {
            *text = text.take().map(|text| self.seal_text(&text, &whose.field(name)));
        }
    }

    /// What an attempt has noted, or why that cannot be read.
    pub(super) fn show_attempt(&self, attempt: &mut Attempt, delivery: &DeliveryId) {
        let whose = Whose::delivery(delivery);
        self.show_text(&mut attempt.error, &whose.field("error"));
        self.show_text(&mut attempt.excerpt, &whose.field("excerpt"));
    }

    /// The same for the error that is shown with a delivery.
    pub(super) fn show_delivery(&self, delivery: &mut Delivery) {
        let whose = Whose::delivery(&delivery.id);
        self.show_text(&mut delivery.last_error, &whose.field("error"));
    }

    /// Seals an answer. With the same key it always looks the same, because a store compares the answer that
    /// a person gives a second time with the first.
    pub(super) fn seal_response(&self, response: &SavedResponse, key: &KeyId) -> SavedResponse {
        if self.is_empty() {
            return response.clone();
        }
        let whose = Whose::key(key);
        let headers = self.seal_alike(&response.headers.to_lines(), &whose.field("headers"));
        SavedResponse {
            status: response.status,
            headers: sealed_headers(&headers),
            body: self.seal_alike(&response.body, &whose.field("body")),
        }
    }

    pub(super) fn open_response(
        &self,
        response: &SavedResponse,
        key: &KeyId,
    ) -> Result<SavedResponse, NotOpened> {
        if !is_sealed(&response.headers) {
            return Ok(response.clone());
        }
        let whose = Whose::key(key);
        Ok(SavedResponse {
            status: response.status,
            headers: self.open_headers(&response.headers, whose)?,
            body: self.open(&response.body, &whose.field("body"))?,
        })
    }

    pub(super) fn seal_refused(&self, mut refused: Refused) -> Refused {
        let source = Arc::clone(&refused.row.source);
        let whose = Whose::source(&source);
        refused.row.url = self.seal_text(&refused.row.url, &whose.field("url"));
        refused.row.target = self.seal_text(&refused.row.target, &whose.field("target"));
        refused.headers = self.seal_headers(&refused.headers, whose);
        refused.body = refused.body.map(|body| self.seal(&body, &whose.field("body")));
        refused
    }

    pub(super) fn open_refused(&self, refused: &mut Refused) -> Result<(), NotOpened> {
        self.show_refusal(&mut refused.row);
        if !is_sealed(&refused.headers) {
            return Ok(());
        }
        let whose = Whose::source(&refused.row.source);
        refused.headers = self.open_headers(&refused.headers, whose)?;
        if let Some(body) = &mut refused.body {
            *body = self.open(body, &whose.field("body"))?;
        }
        Ok(())
    }

    /// The line of a refused request in the list, or why it cannot be read.
    pub(super) fn show_refusal(&self, row: &mut RefusalRow) {
        let whose = Whose::source(&row.source);
        for (name, text) in [("url", &mut row.url), ("target", &mut row.target)] {
            *text = self.shown(text, &whose.field(name));
        }
    }

    fn seal_headers(&self, headers: &Headers, whose: Whose<'_>) -> Headers {
        if self.is_empty() {
            return headers.clone();
        }
        sealed_headers(&self.seal(&headers.to_lines(), &whose.field("headers")))
    }

    fn open_headers(&self, headers: &Headers, whose: Whose<'_>) -> Result<Headers, NotOpened> {
        let kept = headers.first(SEALED_HEADERS).unwrap_or_default();
        let sealed = BASE64_STANDARD.decode(kept).unwrap_or_default();
        Ok(Headers::from_lines(&self.open(&sealed.into(), &whose.field("headers"))?))
    }

    fn seal_text(&self, text: &str, about: &[u8]) -> String {
        if self.is_empty() {
            return text.to_owned();
        }
        format!("{SEALED_TEXT}{}", BASE64_STANDARD.encode(self.seal(text.as_bytes(), about)))
    }

    fn open_text(&self, text: &str, about: &[u8]) -> Result<String, NotOpened> {
        let sealed =
            text.strip_prefix(SEALED_TEXT).and_then(|text| BASE64_STANDARD.decode(text).ok());
        let Some(sealed) = sealed else { return Ok(text.to_owned()) };
        Ok(String::from_utf8_lossy(&self.open(&sealed.into(), about)?).into_owned())
    }

    fn shown(&self, text: &str, about: &[u8]) -> String {
        self.open_text(text, about).unwrap_or_else(|error| format!("({error})"))
    }

    fn show_text(&self, text: &mut Option<String>, about: &[u8]) {
        if let Some(text) = text {
            *text = self.shown(text, about);
        }
    }
}

fn sealed_headers(sealed: &[u8]) -> Headers {
    [(SEALED_HEADERS, BASE64_STANDARD.encode(sealed))].into_iter().collect()
}

/// How long the body is that came with these headers, without what sealing has added to it.
pub(in crate::store) fn plain_bytes(headers: &Headers, body: &Bytes) -> usize {
    if is_sealed(headers) { body.len().saturating_sub(SEALING_BYTES) } else { body.len() }
}

/// Whether these are headers as they are sealed, and what came with them is sealed too.
pub(super) fn is_sealed(headers: &Headers) -> bool {
    headers.first(SEALED_HEADERS).is_some()
}
