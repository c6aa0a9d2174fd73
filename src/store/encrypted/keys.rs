//! The keys that contents are encrypted with, and the form of what they make.
//!
//! AES-256-GCM. What is sealed is, in this order: the five bytes [`HEAD`], the last of which is the version
//! of the form; four bytes that name the key; a nonce of twelve; the ciphertext, with its tag of sixteen.
//! Head, key and what the content is about are authenticated with it.

use std::{fmt, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::store::StoreError;

/// What everything sealed begins with.
const HEAD: [u8; 5] = *b"\0hke\x01";

/// How much longer sealing makes a content: head, name of the key, nonce and tag.
pub(super) const SEALING_BYTES: usize = HEAD.len() + 4 + NONCE_LEN + 16;

/// How long a key is: that of AES-256.
const KEY_BYTES: usize = 32;

/// The keys of a store: the first encrypts, all of them decrypt. Without any, nothing is encrypted.
#[derive(Clone, Default)]
pub struct EncryptionKeys(Arc<[Key]>);

/// Names a key without telling anything about it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyName([u8; 4]);

struct Key {
    name: KeyName,
    cipher: LessSafeKey,
    /// Makes nonces out of what is sealed, where the same must come out twice.
    nonces: hmac::Key,
}

/// Why something sealed does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOpened {
    /// Its key is not there.
    #[error(
        "it is encrypted with key {0}, which is not in `encryption_keys` of [store]: put that key back, behind the first"
    )]
    NoKey(KeyName),
    /// The key is there, and it is not what that key has sealed here.
    #[error("it does not open with key {0}, which has encrypted it: it was changed in the store")]
    Changed(KeyName),
}

impl From<NotOpened> for StoreError {
    fn from(error: NotOpened) -> Self {
        Self::Failed(error.to_string())
    }
}

impl EncryptionKeys {
    /// The keys with these texts: 32 bytes each, in base64.
    ///
    /// # Errors
    /// What is wrong with which of them, counted from 0.
    pub fn of<'a>(
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, Vec<(usize, &'static str)>> {
        let (mut keys, mut mistakes) = (Vec::<Key>::new(), Vec::new());
        for (at, text) in texts.into_iter().enumerate() {
            match Key::read(text) {
                Some(key) if keys.iter().any(|known| known.name == key.name) => {
                    mistakes.push((at, "has a key in it twice"));
                }
                Some(key) => keys.push(key),
                None => mistakes.push((
                    at,
                    "has something in it that is no key: write 32 random bytes in base64, as `openssl rand -base64 32` makes them",
                )),
            }
        }
        if mistakes.is_empty() { Ok(Self(keys.into())) } else { Err(mistakes) }
    }

    /// Whether nothing is encrypted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names of the keys, the one that encrypts first.
    pub fn names(&self) -> impl Iterator<Item = KeyName> {
        self.0.iter().map(|key| key.name)
    }

    /// Seals `plain`, or gives it back where there is no key. It opens only for who names the same `about`.
    pub(super) fn seal(&self, plain: &[u8], about: &[u8]) -> Bytes {
        match self.0.first() {
            Some(key) => key.seal(plain, about, rand::random()),
            None => Bytes::copy_from_slice(plain),
        }
    }

    /// The same, and what was sealed twice looks the same twice: for what a store compares.
    pub(super) fn seal_alike(&self, plain: &[u8], about: &[u8]) -> Bytes {
        match self.0.first() {
            Some(key) => key.seal(plain, about, key.nonce_of(plain, about)),
            None => Bytes::copy_from_slice(plain),
        }
    }

    /// What was sealed about `about`; what was not sealed as it is.
    pub(super) fn open(&self, kept: &Bytes, about: &[u8]) -> Result<Bytes, NotOpened> {
        let Some(sealed) = Sealed::read(kept) else { return Ok(kept.clone()) };
        let key = self.0.iter().find(|key| key.name == sealed.key);
        key.ok_or(NotOpened::NoKey(sealed.key))?.open(&sealed, about)
    }
}

/// The names of its keys, and never a key.
impl fmt::Debug for EncryptionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// Whether they are the same, in the same order.
impl PartialEq for EncryptionKeys {
    fn eq(&self, other: &Self) -> bool {
        self.names().eq(other.names())
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Key {
    fn read(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        let decoded = Zeroizing::new(BASE64_STANDARD.decode(text.trim()).ok()?);
        if decoded.len() != KEY_BYTES {
            return None;
        }
        bytes.copy_from_slice(&decoded);
        let of_key = |purpose: &[u8]| {
            let mut hash = Sha256::new();
            hash.update(purpose);
            hash.update(bytes.as_slice());
            hash.finalize()
        };
        let name = of_key(b"hookonce key name").first_chunk().copied()?;
        let nonces = Zeroizing::new(<[u8; 32]>::from(of_key(b"hookonce nonces")));
        Some(Self {
            name: KeyName(name),
            cipher: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes.as_slice()).ok()?),
            nonces: hmac::Key::new(hmac::HMAC_SHA256, nonces.as_slice()),
        })
    }

    fn seal(&self, plain: &[u8], about: &[u8], nonce: [u8; NONCE_LEN]) -> Bytes {
        let mut ciphertext = plain.to_vec();
        let sealed = self.cipher.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(authenticated(self.name, about)),
            &mut ciphertext,
        );
        sealed.expect("a request is far shorter than what AES-GCM takes");
        [&HEAD, self.name.0.as_slice(), &nonce, &ciphertext].concat().into()
    }

    fn nonce_of(&self, plain: &[u8], about: &[u8]) -> [u8; NONCE_LEN] {
        let mut sign = hmac::Context::with_key(&self.nonces);
        sign.update(&(about.len() as u64).to_be_bytes());
        sign.update(about);
        sign.update(plain);
        let tag = sign.sign();
        *tag.as_ref().first_chunk().expect("a tag has 32 bytes")
    }

    fn open(&self, sealed: &Sealed<'_>, about: &[u8]) -> Result<Bytes, NotOpened> {
        let mut opened = sealed.ciphertext.to_vec();
        let nonce = Nonce::assume_unique_for_key(sealed.nonce);
        let about = Aad::from(authenticated(self.name, about));
        let plain = self.cipher.open_in_place(nonce, about, &mut opened);
        let length = plain.map_err(|_| NotOpened::Changed(self.name))?.len();
        opened.truncate(length);
        Ok(opened.into())
    }
}

fn authenticated(key: KeyName, about: &[u8]) -> Vec<u8> {
    [&HEAD, key.0.as_slice(), about].concat()
}

/// The parts of something sealed.
struct Sealed<'a> {
    key: KeyName,
    nonce: [u8; NONCE_LEN],
    ciphertext: &'a [u8],
}

impl<'a> Sealed<'a> {
    fn read(kept: &'a [u8]) -> Option<Self> {
        let (key, rest) = kept.strip_prefix(&HEAD)?.split_first_chunk()?;
        let (nonce, ciphertext) = rest.split_first_chunk()?;
        Some(Self { key: KeyName(*key), nonce: *nonce, ciphertext })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> EncryptionKeys {
        let texts: Vec<_> = bytes.iter().map(|byte| BASE64_STANDARD.encode([*byte; 32])).collect();
        EncryptionKeys::of(texts.iter().map(String::as_str)).expect("they are keys")
    }

    #[test]
    fn the_first_key_seals_and_every_key_opens() {
        let (old, both) = (keys(&[1]), keys(&[2, 1]));
        for sealed in [old.seal(b"swordfish", b"a"), both.seal(b"swordfish", b"a")] {
            assert!(!sealed.windows(5).any(|window| window == b"sword"));
            assert_eq!(both.open(&sealed, b"a").expect("it opens"), "swordfish");
        }
        let sealed = both.seal(b"swordfish", b"a");
        let missing = both.names().next().expect("there is one");
        assert_eq!(old.open(&sealed, b"a"), Err(NotOpened::NoKey(missing)));
        assert_eq!(keys(&[]).open(&sealed, b"a"), Err(NotOpened::NoKey(missing)));
    }

    #[test]
    fn what_is_changed_or_about_something_else_does_not_open() {
        let keys = keys(&[1]);
        let name = keys.names().next().expect("there is one");
        let sealed = keys.seal(b"swordfish", b"a");
        assert_eq!(keys.open(&sealed, b"b"), Err(NotOpened::Changed(name)));
        for at in HEAD.len() + 4..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[at] ^= 1;
            assert_eq!(keys.open(&changed.into(), b"a"), Err(NotOpened::Changed(name)));
        }
    }

    #[test]
    fn what_was_never_sealed_is_given_back() {
        for plain in ["{}", "", "\0hke\u{1}"] {
            assert_eq!(keys(&[1]).open(&plain.into(), b"a").expect("it is plain"), plain);
            assert_eq!(keys(&[]).seal(plain.as_bytes(), b"a"), plain);
        }
    }

    #[test]
    fn sealing_repeats_itself_only_where_it_is_asked_to() {
        let keys = keys(&[1]);
        assert_ne!(keys.seal(b"same", b"a"), keys.seal(b"same", b"a"));
        let alike = keys.seal_alike(b"same", b"a");
        assert_eq!(alike, keys.seal_alike(b"same", b"a"));
        assert_ne!(alike, keys.seal_alike(b"same", b"b"));
        assert_eq!(keys.open(&alike, b"a").expect("it opens"), "same");
    }

    #[test]
    fn a_key_is_32_bytes_in_base64_and_there_once() {
        let one = BASE64_STANDARD.encode([1; 32]);
        let short = BASE64_STANDARD.encode([1; 31]);
        let wrong = EncryptionKeys::of([one.as_str(), &one, &short, "?"]).expect_err("mistakes");
        assert_eq!(wrong.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(!format!("{wrong:?}").contains(&one));
    }

    #[test]
    fn debug_shows_names_and_no_key() {
        let shown = format!("{:?}", keys(&[1]));
        assert_eq!(shown.len(), "[12345678]".len(), "{shown}");
    }
}
