//! The key, out of its header.

use crate::{limits, request::Headers};

/// A well-formed key: 1 to 255 visible characters or spaces, without the quotes it may have come in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(String);

/// Why there is no key to work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    /// The header is not there.
    #[error("the header is missing")]
    Missing,
    /// It is there more than once: each of us may believe another one.
    #[error("the header is there more than once: send one key")]
    Several,
    /// It is neither a bare key nor a quoted one.
    #[error(
        "write 1 to 255 visible ASCII characters, bare or in double quotes; a bare key has no space, comma or quote in it"
    )]
    Malformed,
}

impl Key {
    /// The key in the header `name`, which must be there once.
    ///
    /// `"abc"` in quotes, as the draft of the IETF has it (a string of RFC 8941, without parameters),
    /// is the same key as a bare `abc`, as nearly everybody sends it.
    ///
    /// # Errors
    /// See [`NoKey`].
    pub fn read(headers: &Headers, name: &str) -> Result<Self, NoKey> {
        let mut values = headers.all(name);
        let value = values.next().ok_or(NoKey::Missing)?;
        if values.next().is_some() {
            return Err(NoKey::Several);
        }
        let key = match value {
            [b'"', quoted @ .., b'"'] => unquoted(quoted),
            bare => bare.iter().all(|byte| is_bare(*byte)).then(|| bare.to_vec()),
        };
        let key = key.and_then(|key| String::from_utf8(key).ok()).ok_or(NoKey::Malformed)?;
        let is_right_length = (1..=limits::KEY_CHARS_MAX).contains(&key.len());
        is_right_length.then_some(Self(key)).ok_or(NoKey::Malformed)
    }

    /// Its text, without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A comma would be two keys that somebody on the way has joined.
fn is_bare(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b',')
}

/// What stands between the quotes of a string (RFC 8941, section 3.3.3).
fn unquoted(quoted: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => text.push(bytes.next().filter(|next| matches!(next, b'"' | b'\\'))?),
            b' ' | b'!' | b'#'..=b'~' => text.push(byte),
            _ => return None,
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(values: &[&[u8]]) -> Result<String, NoKey> {
        let headers = values
            .iter()
            .map(|value| ("Idempotency-Key", bytes::Bytes::copy_from_slice(value)))
            .collect();
        Key::read(&headers, "idempotency-key").map(|key| key.0)
    }

    #[test]
    fn a_key_is_bare_or_quoted() {
        for (value, key) in [
            ("abc", "abc"),
            ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
            ("\"abc\"", "abc"),
            (r#""a \"b\" \\ c""#, r#"a "b" \ c"#),
            ("a=b;c/d+e\\f", "a=b;c/d+e\\f"),
        ] {
            assert_eq!(read(&[value.as_bytes()]).as_deref(), Ok(key));
        }
        let longest = "k".repeat(255);
        assert_eq!(read(&[longest.as_bytes()]), Ok(longest.clone()));
        assert_eq!(read(&[format!("\"{longest}\"").as_bytes()]), Ok(longest));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let too_long = "k".repeat(256);
        for value in [
            "",
            "\"\"",
            "\"",
            "a b",
            "a,b",
            "\"a\", \"b\"",
            "\"a\";p=1",
            "\"a",
            "a\"",
            "\"a\\\"",
            "\"a\\b\"",
            "ä",
            "\"ä\"",
            "a\u{7f}",
            "\"a\tb\"",
            &too_long,
        ] {
            assert_eq!(read(&[value.as_bytes()]), Err(NoKey::Malformed), "{value}");
        }
        assert_eq!(read(&[]), Err(NoKey::Missing));
        assert_eq!(read(&[b"a", b"a"]), Err(NoKey::Several));
        assert_eq!(read(&[b"\xff"]), Err(NoKey::Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_key_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(key) = read(&[&bytes]) {
                prop_assert!((1..=255).contains(&key.len()));
                prop_assert!(key.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            }
        }

        #[test]
        fn a_key_survives_its_quotes(key in "[ -~]{1,255}") {
            let quoted = format!("\"{}\"", key.replace('\\', r"\\").replace('"', "\\\""));
            prop_assert_eq!(read(&[quoted.as_bytes()]), Ok(key));
        }
    }
}
