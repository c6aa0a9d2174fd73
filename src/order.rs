//! Order: what a handler does about one thing, it does one after the other.
//!
//! A handler with a [rule](OrderRule) takes an order key from each event, say the id of the object
//! that it is about. Its deliveries with one key stand in a line, in the order in which they were
//! admitted, and only the first of a line is ever due. The others wait: their due time is
//! [`Timestamp::NEVER`](crate::clock::Timestamp::NEVER) until it is their turn. So a claim needs to
//! know nothing of lines, and deliveries without a key are untouched by all of this.
//!
//! ```text
//!   admit, replay, redrive          the first is done, or dead under `skip`,
//!   ─────────────▶ last in line ──▶ or unblocked: it leaves, and the next one is due
//! ```
//!
//! A first one that is tried again later keeps the others waiting. One that is dead keeps its place
//! under [`OnDead::Block`], and so the others wait until it is redriven, or a person unblocks them.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{event::Digest, request::Headers};

/// How a handler wants its deliveries in order: `order_by` and `on_dead` in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderRule {
    /// Where the key is found.
    pub by: OrderBy,
    /// What a dead one does to those behind it.
    pub on_dead: OnDead,
}

impl OrderRule {
    /// The order of an event's delivery. `None` where the event does not say: it stands in no line.
    pub fn of(&self, headers: &Headers, body: &[u8]) -> Option<Order> {
        let key = match &self.by {
            OrderBy::Body(pointer) => {
                let body: Value = serde_json::from_slice(body).ok()?;
                let value = body.pointer(pointer)?;
                // As JSON, so that the text "7" and the number 7 are two keys.
                let is_plain = value.is_string() || value.is_number() || value.is_boolean();
                OrderKey::of(is_plain.then(|| value.to_string())?.as_bytes())
            }
            OrderBy::Header(name) => OrderKey::of(headers.first(name)?.as_bytes()),
        };
        Some(Order { key, on_dead: self.on_dead })
    }
}

/// Where the key is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderBy {
    /// At this JSON pointer into the body: a text, a number or a yes or no.
    Body(String),
    /// In this header.
    Header(String),
}

/// As it is written in the configuration: `/data/object/id` or `header:X-Customer`.
impl FromStr for OrderBy {
    type Err = MalformedOrder;

    fn from_str(text: &str) -> Result<Self, MalformedOrder> {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        match text.strip_prefix("header:") {
            Some(name) if !name.is_empty() && name.bytes().all(is_token) => {
                Ok(Self::Header(name.to_owned()))
            }
            None if text.starts_with('/') => Ok(Self::Body(text.to_owned())),
            _ => Err(MalformedOrder),
        }
    }
}

/// It says no place where a key could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("order is by a JSON pointer such as `/data/object/id`, or by `header:` and a name")]
pub struct MalformedOrder;

/// What a dead delivery does to those behind it in line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDead {
    /// It keeps its place, also when it is redriven, and they wait.
    #[default]
    Block,
    /// It leaves, and they go on; redriven, it goes last.
    Skip,
}

/// The order of one delivery: which line of its handler it stands in, and what it does there when it
/// is dead. It is what the rule said when the delivery was made; a reload changes only later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Order {
    /// The key that it shares with those it must not overtake.
    pub key: OrderKey,
    /// What it does to those behind it when it is dead.
    pub on_dead: OnDead,
}

/// What deliveries of a handler share that must run one after another: a hash of what the event says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(transparent)]
pub struct OrderKey(#[schemars(with = "String")] [u8; Self::BYTES]);

impl OrderKey {
    /// How long it is. Two values that met by chance would only wait for each other.
    pub(crate) const BYTES: usize = 16;

    fn of(value: &[u8]) -> Self {
        let digest = Digest::of([value]);
        Self(*digest.as_bytes().first_chunk().expect("a digest is longer"))
    }

    /// The key with these bytes.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

/// In hex, as people and the API see it.
impl fmt::Display for OrderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for OrderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for OrderKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OrderKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; Self::BYTES];
        hex::decode_to_slice(text, &mut bytes).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(by: &str, body: &str) -> Option<OrderKey> {
        let by = by.parse().expect("it is a place");
        let headers = [("X-Customer", "cus_1")].into_iter().collect();
        let rule = OrderRule { by, on_dead: OnDead::Skip };
        rule.of(&headers, body.as_bytes()).map(|order| order.key)
    }

    #[test]
    fn the_same_value_is_the_same_key() {
        let of = |body| key("/data/object/id", body);
        let first = of(r#"{"data":{"object":{"id":"in_1"}}}"#);
        assert!(first.is_some());
        assert_eq!(first, of(r#"{ "a": 1, "data": {"object": {"x": [], "id": "in_1"}}}"#));
        assert_ne!(first, of(r#"{"data":{"object":{"id":"in_2"}}}"#));
        assert_ne!(key("/id", r#"{"id":7}"#), key("/id", r#"{"id":"7"}"#));
    }

    #[test]
    fn an_event_that_does_not_say_has_no_key() {
        for body in [r#"{"other":1}"#, r#"{"id":null}"#, r#"{"id":{}}"#, "id=7", ""] {
            assert_eq!(key("/id", body), None, "{body}");
        }
        assert_eq!(key("header:X-Nobody", "{}"), None);
    }

    #[test]
    fn a_header_can_be_the_key() {
        assert!(key("header:x-customer", "no JSON").is_some());
        assert_eq!(key("header:X-Customer", "a"), key("header:x-customer", "b"));
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in ["", "id", "data.object.id", "header:", "header:a b", "Header:X"] {
            assert_eq!(text.parse::<OrderBy>(), Err(MalformedOrder), "{text}");
        }
    }

    #[test]
    fn a_key_is_read_back_from_its_text() {
        let key = OrderKey::of(b"in_1");
        let text = serde_json::to_string(&key).expect("it is text");
        assert_eq!(serde_json::from_str::<OrderKey>(&text).expect("it is one"), key);
    }
}
