//! Secrets, which no log, error, metric or `Debug` output ever shows.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A shared secret as its owner wrote it: text, never decoded here.
///
/// It is wiped from memory when dropped, and its `Debug` says nothing about it, not even its length.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The secret `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The secret's text, for computing a signature with it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether this is no secret at all: empty, blank, or what a template leaves in its place.
    pub fn is_blank(&self) -> bool {
        let text = self.0.trim();
        text.is_empty() || text.bytes().all(|byte| byte == b'*') || text == "changeme"
    }

    /// Whether `given` is this secret, in time that does not depend on where they differ.
    pub fn matches(&self, given: &str) -> bool {
        equal(self.0.as_bytes(), given.as_bytes())
    }
}

/// Whether two byte strings are equal, in time that depends on their lengths only.
///
/// Every comparison of something secret goes through here.
pub fn equal(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("whsec_abc")), "Secret(…)");
    }

    #[test]
    fn placeholders_are_blank() {
        for text in ["", "  ", "***", "changeme"] {
            assert!(Secret::new(text).is_blank(), "{text:?}");
        }
        assert!(!Secret::new("x").is_blank());
    }

    #[test]
    fn a_prefix_is_not_equal() {
        assert!(!equal(b"abc", b"abcd"));
        assert!(!equal(b"", b"a"));
        assert!(equal(b"abc", b"abc"));
    }
}
