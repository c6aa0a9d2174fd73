//! What signs: the algorithms, the forms in which providers hand out keys, and the keys of one
//! source, ready to use.

use std::fmt;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_PAD_INDIFFERENT},
};
use ed25519_dalek::{Signature, VerifyingKey};
use hmac::{Hmac, KeyInit as _, Mac};
use sha1::{Digest as _, Sha1};
use sha2::{Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::public::{Method, PublicKey, Signer, der_of};

use crate::{limits, provider::Settings, secret};

/// How a signature is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-1: old, but no forgery of it is known.
    HmacSha1,
    /// HMAC with SHA-256: what most providers use.
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// HMAC with SHA-512.
    HmacSha512,
    /// Ed25519: the source holds public keys only.
    Ed25519,
    /// ECDSA on P-256 with SHA-256, its signatures in DER: the source holds public keys only.
    EcdsaP256,
    /// No signature at all: the provider shows the secret itself, and nothing else is covered.
    Token,
}

/// How the text of a secret, or of a public key, stands for the bytes of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    /// The text itself is the key, with every prefix it has.
    Text,
    /// Base64 after this prefix, if it is there; padded or not.
    Base64 {
        /// What the provider puts in front, such as `whsec_`; empty for none.
        prefix: &'static str,
    },
    /// Hex digits of either case.
    Hex,
    /// A DER structure in base64, with or without the lines of PEM around it.
    Pem,
    /// The SHA-1 of the text.
    Sha1,
}

/// How a signature is written. Decoding is strict: what the provider's own libraries compare as
/// text must not have a second spelling here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Hex in lower case.
    Hex,
    /// Standard base64 with padding.
    Base64,
    /// The text as it is.
    Text,
}

/// The keys of one source. There is at least one.
pub struct Keys(Vec<Key>);

/// One key. The state of an HMAC after its key is kept, so that a request does not pay for it.
enum Key {
    HmacSha1(Hmac<Sha1>),
    HmacSha256(Hmac<Sha256>),
    HmacSha384(Hmac<Sha384>),
    HmacSha512(Hmac<Sha512>),
    Ed25519(VerifyingKey),
    EcdsaP256(PublicKey),
    Token(Zeroizing<Vec<u8>>),
}

impl Keys {
    /// The keys that a source's settings hold for this algorithm.
    ///
    /// # Errors
    /// Everything that is wrong with them, as `key: what to write instead`. No keys at all, and a
    /// blank one, are errors: an empty key would make everybody a signer.
    pub fn new(
        algorithm: Algorithm,
        form: KeyForm,
        settings: &Settings,
    ) -> Result<Self, Vec<String>> {
        if matches!(algorithm, Algorithm::Ed25519 | Algorithm::EcdsaP256) {
            let read = |text: &str| Ok(vec![Key::new(algorithm, form, text)?]);
            return Ok(match Signer::new(settings, read)? {
                Signer::Provider(keys) => Self(keys),
                Signer::StandIn(keys) => keys,
            });
        }
        let texts = settings.secrets.iter().map(secret::Secret::expose);
        let mut wrong = Vec::new();
        if !settings.public_keys.is_empty() {
            wrong.push("public_keys: this scheme has none; write its keys under `secrets`".into());
        }
        if settings.secrets.is_empty() {
            wrong.push("secrets: none is set; write the one the provider shows".to_owned());
        }
        let keys = read_all("secrets", texts, |text| Ok(vec![Key::new(algorithm, form, text)?]));
        match keys {
            Ok(keys) if wrong.is_empty() => Ok(Self(keys)),
            Ok(_) => Err(wrong),
            Err(more) => Err([wrong, more].concat()),
        }
    }

    /// Whether one of the signatures was made over `message`, given in parts, with one of the keys.
    pub fn made_any(&self, signatures: &[Vec<u8>], message: &[&[u8]]) -> bool {
        self.0.iter().any(|key| key.made_any(signatures, message))
    }

    /// The first key's signature over `message`. `None`: the key only verifies.
    pub fn sign(&self, message: &[&[u8]]) -> Option<Vec<u8>> {
        self.0.first().and_then(|key| key.mac(message))
    }
}

/// What `read` makes of each text of a setting, or everything that is wrong with them.
pub(super) fn read_all<'t, K>(
    setting: &str,
    texts: impl ExactSizeIterator<Item = &'t str>,
    read: impl Fn(&str) -> Result<Vec<K>, &'static str>,
) -> Result<Vec<K>, Vec<String>> {
    let mut wrong = Vec::new();
    if texts.len() > limits::SECRETS_MAX {
        let most = limits::SECRETS_MAX;
        wrong.push(format!("{setting}: at most {most} are tried; take the retired ones out"));
    }
    let mut keys = Vec::new();
    for (at, text) in texts.enumerate() {
        let blank = secret::Secret::new(text).is_blank();
        let key = if blank {
            Err("is blank or a placeholder; write the one the provider shows")
        } else {
            read(text)
        };
        match key {
            Ok(key) => keys.extend(key),
            Err(problem) => wrong.push(format!("{setting}: number {} {problem}", at + 1)),
        }
    }
    if wrong.is_empty() { Ok(keys) } else { Err(wrong) }
}

/// The number of keys is all that may be known.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

impl Key {
    fn new(algorithm: Algorithm, form: KeyForm, text: &str) -> Result<Self, &'static str> {
        let bytes = form.decode(text)?;
        let any_length = "an HMAC takes a key of any length";
        Ok(match algorithm {
            Algorithm::HmacSha1 => Self::HmacSha1(Hmac::new_from_slice(&bytes).expect(any_length)),
            Algorithm::HmacSha256 => {
                Self::HmacSha256(Hmac::new_from_slice(&bytes).expect(any_length))
            }
            Algorithm::HmacSha384 => {
                Self::HmacSha384(Hmac::new_from_slice(&bytes).expect(any_length))
            }
            Algorithm::HmacSha512 => {
                Self::HmacSha512(Hmac::new_from_slice(&bytes).expect(any_length))
            }
            Algorithm::EcdsaP256 => Self::EcdsaP256(PublicKey::p256_of_spki(&bytes)?),
            Algorithm::Ed25519 => {
                let key = <&[u8; 32]>::try_from(bytes.as_slice())
                    .map_err(|_| "is not 32 bytes long; write the whole Ed25519 public key")?;
                let key = VerifyingKey::from_bytes(key)
                    .map_err(|_| "is not an Ed25519 public key; copy it again")?;
                if key.is_weak() {
                    return Err("is a weak Ed25519 key that fits any message; ask for another");
                }
                Self::Ed25519(key)
            }
            Algorithm::Token => Self::Token(bytes),
        })
    }

    fn made_any(&self, signatures: &[Vec<u8>], message: &[&[u8]]) -> bool {
        if let Some(mac) = self.mac(message) {
            return signatures.iter().any(|signature| secret::equal(&mac, signature));
        }
        let whole = message.concat();
        signatures.iter().any(|signature| self.verifies(&whole, signature))
    }

    /// Whether this is a public key, and its private one made the signature.
    fn verifies(&self, whole: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(key) => Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(whole, &signature).is_ok()),
            Self::EcdsaP256(key) => key.made(Method::EcdsaP256Der, whole, signature),
            Self::HmacSha1(_)
            | Self::HmacSha256(_)
            | Self::HmacSha384(_)
            | Self::HmacSha512(_)
            | Self::Token(_) => false,
        }
    }

    fn mac(&self, message: &[&[u8]]) -> Option<Vec<u8>> {
        match self {
            Self::HmacSha1(key) => Some(mac(key, message)),
            Self::HmacSha256(key) => Some(mac(key, message)),
            Self::HmacSha384(key) => Some(mac(key, message)),
            Self::HmacSha512(key) => Some(mac(key, message)),
            Self::Ed25519(_) | Self::EcdsaP256(_) => None,
            Self::Token(token) => Some(token.to_vec()),
        }
    }
}

/// The body is a part of the message: it is hashed where it lies.
fn mac<M: Mac + Clone>(key: &M, message: &[&[u8]]) -> Vec<u8> {
    let mut mac = key.clone();
    for part in message {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

impl KeyForm {
    fn decode(self, text: &str) -> Result<Zeroizing<Vec<u8>>, &'static str> {
        let bytes = match self {
            Self::Text => text.as_bytes().to_vec(),
            Self::Base64 { prefix } => {
                let encoded = text.strip_prefix(prefix).unwrap_or(text);
                STANDARD_PAD_INDIFFERENT
                    .decode(encoded)
                    .map_err(|_| "is not base64 after its prefix; copy it whole")?
            }
            Self::Hex => hex::decode(text).map_err(|_| "is not hex; copy it whole")?,
            Self::Pem => der_of(text)?,
            Self::Sha1 => Sha1::digest(text).to_vec(),
        };
        if bytes.is_empty() {
            return Err("is a prefix without a key; copy it whole");
        }
        Ok(Zeroizing::new(bytes))
    }
}

impl Encoding {
    /// The bytes that `text` stands for; `None` if it is empty or written in any but the one way.
    pub fn decode(self, text: &str) -> Option<Vec<u8>> {
        let bytes = match self {
            Self::Hex if text.bytes().any(|byte| byte.is_ascii_uppercase()) => return None,
            Self::Hex => hex::decode(text).ok()?,
            Self::Base64 => STANDARD.decode(text).ok()?,
            Self::Text => text.as_bytes().to_vec(),
        };
        (!bytes.is_empty()).then_some(bytes)
    }

    /// The text that stands for `bytes`.
    pub fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Hex => hex::encode(bytes),
            Self::Base64 => STANDARD.encode(bytes),
            Self::Text => String::from_utf8_lossy(bytes).into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn keys(algorithm: Algorithm, form: KeyForm, secrets: &[&str]) -> Result<Keys, Vec<String>> {
        let secrets = secrets.iter().copied().map(Secret::new).collect();
        Keys::new(algorithm, form, &Settings { secrets, ..Settings::default() })
    }

    #[test]
    fn no_key_and_a_blank_key_are_errors() {
        let base64 = KeyForm::Base64 { prefix: "whsec_" };
        for (form, secrets) in [
            (KeyForm::Text, &[][..]),
            (KeyForm::Text, &[""][..]),
            (KeyForm::Text, &["good", "  "][..]),
            (base64, &["whsec_"][..]),
            (base64, &["whsec_!"][..]),
            (KeyForm::Hex, &["xyz"][..]),
            (KeyForm::Text, &["k"; limits::SECRETS_MAX + 1][..]),
        ] {
            let wrong = keys(Algorithm::HmacSha256, form, secrets).unwrap_err();
            assert!(wrong[0].starts_with("secrets: "), "{wrong:?}");
        }
    }

    #[test]
    fn an_error_does_not_tell_the_secret() {
        let form = KeyForm::Base64 { prefix: "" };
        let wrong = keys(Algorithm::HmacSha256, form, &["hunter2!"]).unwrap_err();
        assert!(!format!("{wrong:?}").contains("hunter2"));
    }

    #[test]
    fn the_examples_of_the_rfcs_hold() {
        let cases = [
            (Algorithm::HmacSha1, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
            (
                Algorithm::HmacSha256,
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                Algorithm::HmacSha384,
                "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e\
                 8e2240ca5e69e2c78b3239ecfab21649",
            ),
            (
                Algorithm::HmacSha512,
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
                 9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
            ),
        ];
        for (algorithm, expected) in cases {
            let keys = keys(algorithm, KeyForm::Text, &["Jefe"]).unwrap();
            let parts: [&[u8]; 2] = [b"what do ya want ", b"for nothing?"];
            assert_eq!(Encoding::Hex.encode(&keys.sign(&parts).unwrap()), expected);
        }
    }

    #[test]
    fn a_signature_has_one_spelling() {
        assert_eq!(Encoding::Hex.decode("0aff"), Some(vec![10, 255]));
        assert_eq!(Encoding::Base64.decode("Cv8="), Some(vec![10, 255]));
        for text in ["", "0AFF", "0af", "0af ", "0x0a"] {
            assert_eq!(Encoding::Hex.decode(text), None, "{text:?}");
        }
        for text in ["", "Cv8", "Cv9=", "Cv8=\n", "Cv8==", "_-8="] {
            assert_eq!(Encoding::Base64.decode(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_token_covers_nothing_and_matches_only_whole() {
        let keys = keys(Algorithm::Token, KeyForm::Text, &["token", "old"]).unwrap();
        for (given, fits) in [("token", true), ("old", true), ("toke", false), ("tokens", false)] {
            let given = [given.as_bytes().to_vec()];
            assert_eq!(keys.made_any(&given, &[b"any body"]), fits, "{given:?}");
        }
        assert_eq!(keys.sign(&[]), Some(b"token".to_vec()));
    }

    #[test]
    fn a_weak_public_key_is_an_error() {
        let neutral = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned();
        let settings = Settings { public_keys: vec![neutral], ..Settings::default() };
        let form = KeyForm::Base64 { prefix: "whpk_" };
        let wrong = Keys::new(Algorithm::Ed25519, form, &settings).unwrap_err();
        assert!(wrong[0].contains("weak"), "{wrong:?}");
    }
}
