//! A keyed request: what its `Idempotency-Key` stands for, and how it stands.
//!
//! ```text
//!            begin                      complete
//!   (free) ─────────▶ in progress ───────────────────▶ completed ──▶ (free)
//!     ▲                 │   │                              ▲     retention is over
//!     │   abandon       │   │ mark unknown,                │
//!     ├─────────────────┘   │ or its lease runs out        │
//!     │                     ▼                              │
//!     └───────────────── unknown ──────────────────────────┘
//!        abandon, resolve            complete, resolve
//! ```
//!
//! A lease that runs out makes its key `unknown` without anybody noticing it: whoever looks reads it off
//! the lease's end. A begin with [`OnUnknown::Retry`](crate::store::keys::OnUnknown) takes an unknown
//! key back to in progress, under a new owner.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest as _, Sha256};

use crate::{clock::Timestamp, request::Headers};

/// What a key counts within: another API, method, path or principal makes another key of the same text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyScope {
    /// The name of the API.
    pub api: String,
    /// The method of the request.
    pub method: String,
    /// The path of the request, without its query.
    pub path: String,
    /// Who asks, as a hash: enough to tell two apart, and nothing that gets anybody in.
    pub principal: String,
    /// The key as the client wrote it, without quotes.
    pub key: String,
}

impl KeyScope {
    /// The scope of a request. Of `principal` (a credential, as a rule) only a hash is kept.
    pub fn new(api: &str, method: &str, path: &str, principal: &[u8], key: &str) -> Self {
        Self {
            api: api.to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            // With the API's name, so that one client does not look the same to two of them.
            principal: hex::encode(sha256([api.as_bytes(), principal])),
            key: key.to_owned(),
        }
    }

    /// What the store knows it by.
    pub fn id(&self) -> KeyId {
        let parts = [&self.api, &self.method, &self.path, &self.principal, &self.key];
        KeyId(sha256(parts.map(String::as_bytes)))
    }
}

/// The id of a key: SHA-256 of its scope, as text in hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(transparent)]
pub struct KeyId(#[schemars(with = "String")] [u8; 32]);

/// SHA-256 of all that must be the same when a key is sent again: another one is refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(transparent)]
pub struct Fingerprint(#[schemars(with = "String")] [u8; 32]);

impl Fingerprint {
    /// The fingerprint of `parts`, each with its length, so that no two lists of parts look alike.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self(sha256(parts))
    }
}

/// The answer that a key got, as every later request with it gets it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedResponse {
    /// Its status.
    pub status: u16,
    /// Its headers, repeated ones too, in their order.
    pub headers: Headers,
    /// Its body, byte for byte.
    pub body: Bytes,
}

impl SavedResponse {
    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        self.body.len() + headers.sum::<usize>()
    }
}

/// How a key stands that is not free. The drawing above says who moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Its owner is at work, and its lease lasts.
    InProgress,
    /// Its answer is saved, until its retention is over.
    Completed,
    /// Nobody knows whether the work was done. It stays so until it is resolved.
    Unknown,
}

impl KeyState {
    /// Its name, as in the API and in stores.
    pub fn name(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Unknown => "unknown",
        }
    }
}

/// A key as the store has it, for operators: all but its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyRecord {
    /// Its id.
    pub id: KeyId,
    /// What it counts within.
    #[serde(flatten)]
    pub scope: KeyScope,
    /// How it stands.
    pub state: KeyState,
    /// What a request with it must be like.
    pub fingerprint: Fingerprint,
    /// When it was begun; by its last owner, where there were several.
    pub begun_at: Timestamp,
    /// When its lease ends, or ended.
    pub lease_until: Timestamp,
    /// When it was completed.
    pub completed_at: Option<Timestamp>,
    /// When it is free again, once it is completed.
    pub expires_at: Option<Timestamp>,
    /// How often its saved answer was given.
    pub replays: u64,
    /// What is known about an unknown outcome.
    pub note: Option<String>,
}

/// Gives 32 bytes their form as text: hex, everywhere.
macro_rules! as_hex {
    ($name:ident) => {
        impl $name {
            /// Its 32 bytes.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The one with these 32 bytes.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = hex::FromHexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0; 32];
                hex::decode_to_slice(text, &mut bytes)?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

as_hex!(KeyId);
as_hex!(Fingerprint);

/// SHA-256 of `parts`, each with its length.
fn sha256<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(api: &str, method: &str, path: &str, principal: &[u8], key: &str) -> KeyId {
        KeyScope::new(api, method, path, principal, key).id()
    }

    #[test]
    fn every_part_of_the_scope_makes_another_key() {
        let one = scope("payments", "POST", "/charges", b"alice", "k1");
        assert_eq!(one, scope("payments", "POST", "/charges", b"alice", "k1"));
        for other in [
            scope("refunds", "POST", "/charges", b"alice", "k1"),
            scope("payments", "PATCH", "/charges", b"alice", "k1"),
            scope("payments", "POST", "/charge", b"alice", "k1"),
            scope("payments", "POST", "/charges", b"bob", "k1"),
            scope("payments", "POST", "/charges", b"alice", "k2"),
            scope("payments", "POST", "/chargesk", b"alice", "1"),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn of_the_principal_only_a_hash_is_kept() {
        let scope = KeyScope::new("payments", "POST", "/", b"Bearer sk_live_1", "k1");
        assert!(!format!("{scope:?}").contains("sk_live"));
        assert_ne!(
            scope.principal,
            KeyScope::new("refunds", "POST", "/", b"Bearer sk_live_1", "k1").principal
        );
    }

    #[test]
    fn an_id_is_read_back_from_its_text() {
        let id = scope("payments", "POST", "/", b"", "k1");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("k1".parse::<KeyId>().is_err());
    }
}
