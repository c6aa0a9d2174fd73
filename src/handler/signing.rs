//! The signature on what we send: Standard Webhooks, `v1`.
//!
//! A handler that checks it knows that hookonce called, with any library for that standard.

use std::fmt;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{clock::Timestamp, secret::Secret};

/// Padding is optional, as in the standard's own libraries.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How long a key may be, says the standard.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The key that a handler shares with us. Its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct SigningKey(Zeroizing<Vec<u8>>);

/// A signing secret has not the form of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the signing secret is not `whsec_` and base64 of 24 to 64 bytes: make one with `echo whsec_$(openssl rand -base64 32)`"
)]
pub struct MalformedSigningKey;

impl SigningKey {
    /// The key in `secret`, which is base64 of 24 to 64 bytes after an optional `whsec_`.
    ///
    /// # Errors
    /// When it is not.
    pub fn parse(secret: &Secret) -> Result<Self, MalformedSigningKey> {
        let text = secret.expose().trim();
        let encoded = text.strip_prefix("whsec_").unwrap_or(text);
        let key = Zeroizing::new(LENIENT.decode(encoded).map_err(|_| MalformedSigningKey)?);
        if !KEY_BYTES.contains(&key.len()) {
            return Err(MalformedSigningKey);
        }
        Ok(Self(key))
    }

    /// The value of `webhook-signature` for this id, time and body.
    pub(super) fn sign(&self, id: &str, time: Timestamp, body: &[u8]) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(format!("{id}.{}.", time.as_seconds()).as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_of_the_standard() {
        // The example in the standard's own libraries.
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let key = SigningKey::parse(&secret).unwrap();
        let signature = key.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            Timestamp::from_seconds(1_614_265_330),
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn padding_and_prefix_are_optional() {
        let key = "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYQ";
        for text in [key.to_owned(), format!("whsec_{key}"), format!("whsec_{key}==\n")] {
            assert!(SigningKey::parse(&Secret::new(text.clone())).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "whsec_", "whsec_c2hvcnQ=", "whsec_not base64 at all, whatever you try"] {
            let parsed = SigningKey::parse(&Secret::new(text));
            assert_eq!(parsed.err(), Some(MalformedSigningKey), "{text}");
        }
    }
}
