//! The keys of marks and digests: short hashes, so that the table of marks stays narrow.

use sha2::{Digest as _, Sha256};

use crate::event::{Digest, Identity};

/// How much of the hash is kept: enough that no two of 10^12 marks share it.
const KEY_BYTES: usize = 20;

/// The key of an identity's mark.
pub(super) fn of_identity(source: &str, identity: &Identity) -> Vec<u8> {
    shortened(source, identity.as_str().as_bytes())
}

/// The key of a digest.
pub(super) fn of_digest(source: &str, digest: &Digest) -> Vec<u8> {
    shortened(source, digest.as_bytes())
}

fn shortened(source: &str, name: &[u8]) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update((source.len() as u64).to_be_bytes());
    hash.update(source);
    hash.update(name);
    hash.finalize().iter().copied().take(KEY_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_and_identity_do_not_run_together() {
        assert_ne!(
            of_identity("ab", &Identity::of(["c"])),
            of_identity("a", &Identity::of(["bc"]))
        );
        assert_eq!(of_identity("a", &Identity::of(["b"])).len(), KEY_BYTES);
    }
}
