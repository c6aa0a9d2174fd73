//! The beginning of what a handler said, fit to be kept and shown.

use crate::limits;

/// Collects bytes up to [`EXCERPT_BYTES_MAX`](limits::EXCERPT_BYTES_MAX) and lets the rest go.
#[derive(Debug, Default)]
pub(super) struct Excerpt(Vec<u8>);

impl Excerpt {
    /// Takes what still fits of `bytes`.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let room = limits::EXCERPT_BYTES_MAX - self.0.len();
        self.0.extend(bytes.iter().take(room));
    }

    /// The text, or `None` if nothing but white space came.
    ///
    /// Control characters become spaces: an excerpt is shown in terminals, which obey some of them.
    pub(super) fn into_text(self) -> Option<String> {
        let cut = self.0.len() == limits::EXCERPT_BYTES_MAX;
        let text = String::from_utf8_lossy(&self.0).replace(char::is_control, " ");
        let mut text = text.trim();
        if cut {
            // The limit may have fallen into the middle of a character.
            text = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
        }
        (!text.is_empty()).then(|| text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(bytes: &[u8]) -> Option<String> {
        let mut excerpt = Excerpt::default();
        excerpt.add(bytes);
        excerpt.into_text()
    }

    #[test]
    fn control_characters_and_broken_text_are_replaced() {
        assert_eq!(excerpt(b"a\x1b[2Jb\xff\n").as_deref(), Some("a [2Jb\u{fffd}"));
        assert_eq!(excerpt(b" \r\n"), None);
    }

    #[test]
    fn the_rest_is_let_go_without_a_broken_character() {
        let long = excerpt("é".repeat(limits::EXCERPT_BYTES_MAX).as_bytes()).unwrap();
        assert_eq!(long.len(), limits::EXCERPT_BYTES_MAX);
        let odd =
            excerpt(format!("x{}", "é".repeat(limits::EXCERPT_BYTES_MAX)).as_bytes()).unwrap();
        assert_eq!(odd.len(), limits::EXCERPT_BYTES_MAX - 1);
    }
}
