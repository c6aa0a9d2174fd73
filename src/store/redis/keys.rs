//! The names of what is in Redis. `common.lua` lists all of them, with what they hold.

use sha2::{Digest as _, Sha256};

use crate::event::{Digest, EventId, Identity, NewEvent};

/// How many bytes of a hash make the key of a mark: enough that two never meet, and no more, since
/// every mark pays for them.
const MARK_KEY_BYTES: usize = 20;

/// A hash group that one script works in. All its keys carry one hash tag, so that on a cluster
/// they are on one node.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    tag: String,
    head: Vec<u8>,
}

impl Bucket {
    /// The bucket with this number, in a namespace or in none.
    pub(super) fn number(namespace: &str, number: u8) -> Self {
        let tag = format!("h{number:02}");
        let colon = if namespace.is_empty() { "" } else { ":" };
        Self { head: format!("h:{namespace}{colon}{{{tag}}}").into_bytes(), tag }
    }

    /// Its hash tag, which is also its name.
    pub(super) fn tag(&self) -> &str {
        &self.tag
    }

    /// The head of all its keys, with the hash tag.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// The key `kind`, then `name`.
    pub(super) fn key(&self, kind: &str, name: &[u8]) -> Vec<u8> {
        [&self.head, kind.as_bytes(), name].concat()
    }

    /// The hash of an event.
    pub(super) fn event(&self, id: EventId) -> Vec<u8> {
        self.key("e", id.as_bytes())
    }
}

/// Which of so many buckets an event belongs to. What may be a copy of another is in the same one: a
/// digest decides where there is one, because it is in the identity too.
pub(super) fn bucket_of(event: &NewEvent, buckets: usize) -> usize {
    let named = &event.named;
    let digest = named.digest.as_ref().map(|known| digest(&event.source, known));
    let identity = || named.identity.as_ref().map(|identity| mark(&event.source, identity));
    let key = digest.or_else(identity).unwrap_or_else(|| event.id.as_bytes().to_vec());
    let last = key.last_chunk::<2>().map_or(0, |bytes| u16::from_be_bytes(*bytes));
    usize::from(last) % buckets
}

/// What stands behind the head in the key of a mark.
pub(super) fn mark(source: &str, identity: &Identity) -> Vec<u8> {
    shortened(source, identity.as_str().as_bytes())
}

/// The same for a digest.
pub(super) fn digest(source: &str, digest: &Digest) -> Vec<u8> {
    shortened(source, digest.as_bytes())
}

/// A hash of both. The length in front keeps `("ab", "c")` and `("a", "bc")` apart.
fn shortened(source: &str, name: &[u8]) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update((source.len() as u64).to_be_bytes());
    hash.update(source);
    hash.update(name);
    hash.finalize().iter().copied().take(MARK_KEY_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_and_identity_do_not_run_together() {
        assert_ne!(mark("ab", &Identity::of(["c"])), mark("a", &Identity::of(["bc"])));
        assert_eq!(mark("a", &Identity::of(["b"])).len(), MARK_KEY_BYTES);
    }

    #[test]
    fn all_keys_of_a_bucket_carry_its_hash_tag() {
        assert_eq!(Bucket::number("", 7).key("q", b"billing"), b"h:{h07}qbilling");
        assert_eq!(Bucket::number("eu", 7).key("q", b"billing"), b"h:eu:{h07}qbilling");
    }
}
