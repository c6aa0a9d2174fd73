//! The key of a mark: the one form in which every store can tell that an identity was here before.
//!
//! A store may keep the text of an identity or only this. What is carried from one store to another
//! once an event is pruned is this, so all of them compute it in the same way, for ever.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::event::{Digest, Identity};

/// How many bytes of a hash make a key: enough that two never meet, and no more, since every mark
/// pays for them.
pub const MARK_KEY_BYTES: usize = 20;

/// A hash of a source and an identity, or of a source and a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct MarkKey([u8; MARK_KEY_BYTES]);

impl MarkKey {
    /// The key of an identity.
    pub fn of_identity(source: &str, identity: &Identity) -> Self {
        Self::of(source, identity.as_str().as_bytes())
    }

    /// The key of a digest.
    pub fn of_digest(source: &str, digest: &Digest) -> Self {
        Self::of(source, digest.as_bytes())
    }

    /// The key with these bytes.
    pub fn from_bytes(bytes: [u8; MARK_KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; MARK_KEY_BYTES] {
        &self.0
    }

    /// A hash of both. The length in front keeps `("ab", "c")` and `("a", "bc")` apart.
    fn of(source: &str, name: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update((source.len() as u64).to_be_bytes());
        hash.update(source);
        hash.update(name);
        let hash: [u8; 32] = hash.finalize().into();
        let (key, _) = hash.split_first_chunk().expect("32 bytes begin with 20");
        Self(*key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_and_identity_do_not_run_together() {
        assert_ne!(
            MarkKey::of_identity("ab", &Identity::of(["c"])),
            MarkKey::of_identity("a", &Identity::of(["bc"]))
        );
    }

    #[test]
    fn the_key_of_a_mark_never_changes() {
        let key = MarkKey::of_identity("stripe", &Identity::of(["evt_1"]));
        assert_eq!(hex::encode(key.as_bytes()), "7dda83611f9ce0df05e538a051403dbdbd46204b");
    }
}
