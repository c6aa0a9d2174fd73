//! The names of what is in Redis. `common.lua` lists all of them, with what they hold.

use crate::{
    event::{Digest, EventId, Identity, NewEvent},
    store::mark::MarkKey,
};

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
    bucket_of_key(&key, buckets)
}

/// The same by the key of the digest or, where there is none, of the mark or, where there is none either,
/// by the event's id.
pub(super) fn bucket_of_key(key: &[u8], buckets: usize) -> usize {
    let last = key.last_chunk::<2>().map_or(0, |bytes| u16::from_be_bytes(*bytes));
    usize::from(last) % buckets
}

/// What stands behind the head in the key of a mark.
pub(super) fn mark(source: &str, identity: &Identity) -> Vec<u8> {
    MarkKey::of_identity(source, identity).as_bytes().to_vec()
}

/// The same for a digest.
pub(super) fn digest(source: &str, digest: &Digest) -> Vec<u8> {
    MarkKey::of_digest(source, digest).as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_a_bucket_carry_its_hash_tag() {
        assert_eq!(Bucket::number("", 7).key("q", b"billing"), b"h:{h07}qbilling");
        assert_eq!(Bucket::number("eu", 7).key("q", b"billing"), b"h:eu:{h07}qbilling");
    }
}
