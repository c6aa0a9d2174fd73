//! What happened: an event, what makes it the same event again, and where it goes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    clock::Timestamp,
    delivery::{DeliveryId, State},
    id::{self, id},
    order::Order,
    request::Headers,
};

id! {
    /// Our own id of an event: `id` in answers and the API. The provider's is `event_id`.
    EventId
}

impl EventId {
    /// The id that always follows from this one of something else and this number: as old, and as
    /// random as that.
    pub fn derived(from: &[u8; 16], number: usize) -> Self {
        Self(id::derived(from, &[&(number as u64).to_be_bytes()]))
    }
}

id! {
    /// Our own id of a request that is kept beside its events.
    RequestId
}

/// What makes two requests of one source the same event.
///
/// Text that a provider's file puts together from named fields: the fields that stay the same over
/// the provider's retries and differ between events. Two identities are equal when all parts are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identity(String);

impl Identity {
    /// Longest identity kept as it is; a longer one is kept as its SHA-256.
    const LENGTH_MAX: usize = 160;

    /// The identity made of `parts`, in order.
    ///
    /// `["ab", "c"]` and `["a", "bc"]` are different: parts are joined by a byte that is escaped inside them.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut text = String::new();
        for (at, part) in parts.into_iter().enumerate() {
            if at > 0 {
                text.push('|');
            }
            text.push_str(&part.replace('\\', "\\\\").replace('|', "\\|"));
        }
        if text.len() > Self::LENGTH_MAX {
            // The prefix cannot be mistaken for a part: a part has no lone backslash.
            text = format!("\\sha256:{}", hex::encode(Sha256::digest(text.as_bytes())));
        }
        Self(text)
    }

    /// The identity of an event that shadow mode lets in: of these bytes under this identity.
    ///
    /// No verified event has it, whatever a provider says, so a forged one can make none of those a
    /// duplicate. And a forger who knows an id but not the bytes under it cannot take its place.
    #[must_use]
    pub fn in_shadow(&self, body: &[u8]) -> Self {
        let digest = Digest::of([self.0.as_bytes(), body]);
        // The prefix cannot be mistaken for a part, as above.
        Self(format!("\\shadow:{}", hex::encode(digest.as_bytes())))
    }

    /// The identity that a store has kept as this text.
    pub(crate) fn from_kept(text: String) -> Self {
        Self(text)
    }

    /// The identity as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// SHA-256 of what a signature covers, less what changes between attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `parts`, each with its length, so that no two lists of parts look alike.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// The digest with these bytes.
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its first 128 bits in hex: enough to tell contents apart, short enough to store with every mark.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..16])
    }
}

/// What is done with a copy of a known request that comes under a fresh id, where the id is unsigned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayGuard {
    /// It is admitted, and flagged `resent_under_new_id`.
    #[default]
    Flag,
    /// It is held: kept and shown, but not routed until a person admits it.
    Hold,
}

/// What a request says happened: the event as its provider's file names it.
///
/// It is what a verified request says, but for what [`named_in_shadow`](crate::provider::named_in_shadow)
/// gives: that is what somebody says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The provider's own id, if it gives one.
    pub event_id: Option<String>,
    /// The provider's name for what happened, if it has one.
    pub event_type: Option<String>,
    /// What stays the same over retries. `None`: equal bytes can be a new fact, and nothing is deduplicated.
    pub identity: Option<Identity>,
    /// The signed content, where the id is not signed itself: a copy under another id is noticed by it.
    pub digest: Option<Digest>,
    /// The bytes of this event: the whole body, or its element of a batch.
    pub body: Bytes,
}

/// An event to admit, with every id it will have: sending the call again must not make new ones.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Our id.
    pub id: EventId,
    /// The source that received it.
    pub source: Arc<str>,
    /// What its provider's file named.
    pub named: Named,
    /// What to do with a copy under a fresh id.
    pub replay_guard: ReplayGuard,
    /// How long its mark lives, at least, from `received_at`.
    pub window: Duration,
    /// When the last byte of its request was there.
    pub received_at: Timestamp,
    /// Whether its request did not verify, and shadow mode let it in.
    pub shadow: bool,
    /// What the provider says about this being a retry, e.g. `x-slack-retry-num: 1`.
    pub retry_marker: Option<String>,
    /// The query of the request's URL.
    pub query: String,
    /// The headers of the request.
    pub headers: Arc<Headers>,
    /// The request it came in, where that held more. `None`: its own bytes are all of it.
    pub request: Option<KeptRequest>,
    /// Where it goes. Empty: it is stored as unrouted.
    pub deliveries: Vec<NewDelivery>,
}

/// A request that held more than the bytes of one event: a batch. It is kept once, with its headers,
/// for all of its events that are fresh, and goes with the last of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRequest {
    /// Its id, by which its events refer to it. The same id always means the same request.
    pub id: RequestId,
    /// Its body, byte for byte as it was received.
    pub body: Bytes,
}

/// A delivery to make with an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    /// Its id, which is also its `Idempotency-Key`.
    pub id: DeliveryId,
    /// The handler it is for.
    pub handler: Arc<str>,
    /// Which line of that handler it joins, as its last. `None`: it waits for no other.
    pub order: Option<Order>,
}

/// How an event stands as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventState {
    /// Routed, and some delivery is not at its end yet. Enters at admission or when a held event is
    /// admitted, when a delivery is redriven and on replay; leaves when the last delivery ends.
    Open,
    /// All its deliveries are done.
    Done,
    /// All its deliveries are at their end, and at least one is dead.
    Dead,
    /// No handler wanted it.
    Unrouted,
    /// It waits for a person to admit it.
    Held,
}

impl EventState {
    /// Its name, as in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Unrouted => "unrouted",
            Self::Held => "held",
        }
    }

    /// How an event stands whose deliveries are in these states.
    pub fn of(held: bool, deliveries: &[State]) -> Self {
        let any = |wanted: &[State]| deliveries.iter().any(|state| wanted.contains(state));
        if held {
            Self::Held
        } else if deliveries.is_empty() {
            Self::Unrouted
        } else if any(&[State::Queued, State::Leased]) {
            Self::Open
        } else if any(&[State::Dead]) {
            Self::Dead
        } else {
            Self::Done
        }
    }
}

/// An event as the store has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Our id.
    pub id: EventId,
    /// The source that received it.
    pub source: Arc<str>,
    /// The provider's own id.
    pub event_id: Option<String>,
    /// The provider's name for what happened.
    pub event_type: Option<String>,
    /// When it was received.
    pub received_at: Timestamp,
    /// Whether its request did not verify, and shadow mode let it in: anybody may have sent it.
    #[serde(default)]
    pub shadow: bool,
    /// Whether the same signed content had come before under another id.
    pub resent_under_new_id: bool,
    /// What the provider said about its being a retry.
    pub retry_marker: Option<String>,
    /// The query of the request's URL.
    pub query: String,
    /// The headers of the request. The API shows them without credentials.
    #[serde(skip)]
    pub headers: Headers,
    /// The bytes: the whole body, or its element of a batch.
    #[serde(skip)]
    pub body: Bytes,
}

impl Event {
    /// The body as the JSON a handler expects.
    ///
    /// # Errors
    /// When the body is not JSON, or not of this shape.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

/// One further request of an event that was already known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Duplicate {
    /// When it was received.
    pub received_at: Timestamp,
    /// What the provider said about its being a retry.
    pub retry_marker: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(Identity::of(["ab", "c"]), Identity::of(["a", "bc"]));
        assert_ne!(Identity::of(["a|b"]), Identity::of(["a", "b"]));
        assert_ne!(Identity::of(["a\\", "b"]), Identity::of(["a", "\\b"]));
        assert_ne!(Identity::of(["a", ""]), Identity::of(["a"]));
    }

    #[test]
    fn a_long_identity_is_hashed_and_stays_apart() {
        let long = "x".repeat(1000);
        assert_ne!(Identity::of([long.as_str()]), Identity::of([long.as_str(), "y"]));
        assert!(Identity::of([long.as_str()]).as_str().len() < 100);
    }

    #[test]
    fn an_identity_in_shadow_is_one_of_these_bytes_and_no_other_ones() {
        let real = Identity::of(["evt_1"]);
        let shadow = real.in_shadow(b"{}");
        assert_eq!(shadow, real.in_shadow(b"{}"));
        assert_ne!(shadow, real.in_shadow(b"[]"));
        assert_ne!(shadow, Identity::of(["evt_2"]).in_shadow(b"{}"));
        assert_ne!(shadow, Identity::of([shadow.as_str()]), "what a provider may call its event");
    }
}
