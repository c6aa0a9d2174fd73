//! Sealing what must be kept but not read: credentials in requests that were refused.
//!
//! The key is made when the first thing is sealed, and kept in the data folder with mode 600, away
//! from the store: a copy of the store alone opens nothing.

use std::{
    fmt, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::private;

/// The file in the data folder that holds the key.
const KEY_FILE: &str = "refusals.key";

/// How long the key is: that of AES-256.
const KEY_BYTES: usize = 32;

/// A key, or the place where it is.
pub struct Seal {
    /// `None`: it is in memory only.
    data_dir: Option<PathBuf>,
    key: OnceLock<LessSafeKey>,
}

/// Why something sealed cannot be opened here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOpened {
    /// There is no key in the file that should hold it.
    #[error(
        "the key that sealed its credentials is not here: run this where {} is, or copy that file",
        .0.display()
    )]
    NoKey(PathBuf),
    /// The key was in the memory of a process that has ended.
    #[error("the key that sealed its credentials is gone with the process that received it")]
    KeyIsGone,
    /// There is a key, and another one sealed it, or it was changed since.
    #[error(
        "its credentials were sealed with another key than the one here: run this where it was received"
    )]
    OtherKey,
    /// It was never sealed.
    #[error("its credentials could not be sealed when it came, and were left out")]
    LeftOut,
}

impl Seal {
    /// A seal whose key ends with the process: what it seals cannot be opened afterwards.
    pub fn in_memory() -> Self {
        Self { data_dir: None, key: OnceLock::new() }
    }

    /// A seal whose key is kept in this folder. Nothing is read or made before it is needed.
    pub fn kept_in(data_dir: &Path) -> Self {
        Self { data_dir: Some(data_dir.to_owned()), key: OnceLock::new() }
    }

    /// Seals `plain`. It opens only for who names the same `about` again.
    ///
    /// # Errors
    /// When the key can neither be read nor made.
    pub fn seal(&self, plain: &[u8], about: &[u8]) -> io::Result<Vec<u8>> {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut sealed = plain.to_vec();
        self.key_for_sealing()?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(about),
                &mut sealed,
            )
            .map_err(|_| io::Error::other("there is too much to seal"))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// What was sealed about `about`.
    ///
    /// # Errors
    /// When the key is not here, or another one sealed it.
    pub fn open(&self, sealed: &[u8], about: &[u8]) -> Result<Zeroizing<Vec<u8>>, NotOpened> {
        let no_key = || match &self.data_dir {
            Some(data_dir) => NotOpened::NoKey(data_dir.join(KEY_FILE)),
            None => NotOpened::KeyIsGone,
        };
        let key = self.key_for_opening().ok().flatten().ok_or_else(no_key)?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(NotOpened::OtherKey)?;
        let mut opened = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = key
            .open_in_place(nonce, Aad::from(about), &mut opened)
            .map_err(|_| NotOpened::OtherKey)?
            .len();
        opened.truncate(length);
        Ok(opened)
    }

    fn key_for_sealing(&self) -> io::Result<&LessSafeKey> {
        if let Some(key) = self.key_for_opening()? {
            return Ok(key);
        }
        let key = match &self.data_dir {
            None => Zeroizing::new(rand::random()),
            Some(data_dir) => make(data_dir)?,
        };
        Ok(self.key.get_or_init(|| ready(&key)))
    }

    fn key_for_opening(&self) -> io::Result<Option<&LessSafeKey>> {
        if let Some(key) = self.key.get() {
            return Ok(Some(key));
        }
        let Some(data_dir) = &self.data_dir else { return Ok(None) };
        let key = read(&data_dir.join(KEY_FILE))?;
        Ok(key.map(|key| self.key.get_or_init(|| ready(&key))))
    }
}

/// Where the key is, and never the key.
impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

fn ready(key: &[u8; KEY_BYTES]) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, key).expect("the key is as long as AES-256 asks for");
    LessSafeKey::new(key)
}

fn read(file: &Path) -> io::Result<Option<Zeroizing<[u8; KEY_BYTES]>>> {
    let text = match fs::read_to_string(file) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    hex::decode_to_slice(text.trim(), key.as_mut_slice())
        .map_err(|_| io::Error::other("the file does not hold a key: delete it"))?;
    Ok(Some(key))
}

/// Makes the key, or finds the one that another process has made at the same moment.
fn make(data_dir: &Path) -> io::Result<Zeroizing<[u8; KEY_BYTES]>> {
    private::make_folder(data_dir)?;
    let key: Zeroizing<[u8; KEY_BYTES]> = Zeroizing::new(rand::random());
    // Mode 600 from the beginning, as every temporary file of this crate has.
    let mut file = tempfile::NamedTempFile::new_in(data_dir)?;
    writeln!(file, "{}", Zeroizing::new(hex::encode(key.as_slice())).as_str())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(data_dir.join(KEY_FILE)) {
        Ok(_) => Ok(key),
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => {
            let made = read(&data_dir.join(KEY_FILE))?;
            made.ok_or_else(|| io::Error::other("the key was there, and is gone"))
        }
        Err(refused) => Err(refused.error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_sealed_opens_with_the_same_key_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("made");
        let sealed = Seal::kept_in(&data_dir).seal(b"swordfish", b"1").unwrap();
        assert!(!sealed.windows(5).any(|window| window == b"sword"));
        let seal = Seal::kept_in(&data_dir);
        assert_eq!(seal.open(&sealed, b"1").unwrap().as_slice(), b"swordfish");
        assert!(matches!(seal.open(&sealed, b"2"), Err(NotOpened::OtherKey)));
        let mode = fs::metadata(data_dir.join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn another_key_and_no_key_are_told_apart_and_opening_makes_none() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let sealed = Seal::kept_in(here.path()).seal(b"swordfish", b"1").unwrap();
        let seal = Seal::kept_in(there.path());
        assert!(matches!(seal.open(&sealed, b"1"), Err(NotOpened::NoKey(_))));
        assert!(!there.path().join(KEY_FILE).exists());
        seal.seal(b"another", b"1").unwrap();
        for sealed in [&sealed[..], b"short", b""] {
            assert!(matches!(seal.open(sealed, b"1"), Err(NotOpened::OtherKey)));
        }
    }

    #[test]
    fn a_key_in_memory_opens_what_it_sealed() {
        let seal = Seal::in_memory();
        let sealed = seal.seal(b"", b"1").unwrap();
        assert_eq!(seal.open(&sealed, b"1").unwrap().as_slice(), b"");
        assert_eq!(Seal::in_memory().open(&sealed, b"1"), Err(NotOpened::KeyIsGone));
    }

    #[test]
    fn sealing_never_repeats_itself() {
        let seal = Seal::in_memory();
        assert_ne!(seal.seal(b"same", b"1").unwrap(), seal.seal(b"same", b"1").unwrap());
    }
}
