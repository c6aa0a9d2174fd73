//! Secrets that providers hand over when they test a URL: kept for a person to look at, in a file that
//! only the user can read, and never used by themselves.
//!
//! Anybody can send one. So the first few and the last few are kept: whoever floods the endpoint, before
//! or after the real one came, does not push it out; and each has its time beside it, so that a person
//! can tell the one that came when the webhook was made. What the provider shows, or checks, in its own
//! pages is what settles it.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::{clock::Timestamp, limits, private, secret::Secret};

/// The folder, below the data folder.
pub const FOLDER: &str = "handed-over";

const HEAD: &str = "# Secrets that were handed over in tests of this source's URL, each with its time. Anybody can \
                    send one:\n# compare it with what the provider shows, write it into the source's `secrets`, \
                    and delete this file.\n";

/// Keeps them below a data folder.
#[derive(Debug)]
pub struct Keeper {
    data_dir: Option<PathBuf>,
    at_once: Arc<Semaphore>,
}

impl Keeper {
    /// Keeps them below this folder. `None`: there is none, and nothing is kept.
    pub fn below(data_dir: Option<PathBuf>) -> Self {
        Self { data_dir, at_once: Arc::new(Semaphore::new(limits::HANDED_OVER_AT_ONCE)) }
    }

    /// Keeps `secret`, which was handed over to `source`, and says in which file.
    ///
    /// # Errors
    /// When it cannot be kept: the disk says no, it has not the form of a secret, or so many come at once
    /// that it is somebody making us work.
    pub async fn keep(
        &self,
        source: &Arc<str>,
        secret: Secret,
        now: Timestamp,
    ) -> io::Result<PathBuf> {
        let Some(data_dir) = self.data_dir.clone() else {
            return Err(io::Error::other("there is no data folder to keep it in"));
        };
        let Ok(permit) = Arc::clone(&self.at_once).try_acquire_owned() else {
            return Err(io::Error::other("too many come at once"));
        };
        let source = Arc::clone(source);
        let kept = tokio::task::spawn_blocking(move || {
            let kept = keep(&data_dir, &source, &secret, now);
            drop(permit);
            kept
        });
        kept.await.unwrap_or_else(|_| Err(io::Error::other("keeping it panicked")))
    }
}

/// Keeps one. One that is there already is not written again.
fn keep(data_dir: &Path, source: &str, secret: &Secret, now: Timestamp) -> io::Result<PathBuf> {
    let folder = data_dir.join(FOLDER);
    let file = folder.join(file_name(source)?);
    let text = secret.expose();
    let is_secret = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_secret || text.len() > limits::HANDED_OVER_BYTES_MAX {
        return Err(io::Error::other("what was handed over has not the form of a secret"));
    }
    private::make_folder(&folder)?;
    // Two may come at once: the second one waits and reads what the first one wrote.
    let lock = private::open_or_make(&folder.join(".lock"))?;
    lock.lock()?;
    let before = match fs::read_to_string(&file) {
        Ok(before) => Zeroizing::new(before),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Zeroizing::default(),
        Err(error) => return Err(error),
    };
    let mut lines: Vec<&str> = before.lines().filter(|line| !line.starts_with('#')).collect();
    if lines.iter().any(|line| line.split(' ').nth(1) == Some(text)) {
        return Ok(file);
    }
    let line = Zeroizing::new(format!("{now} {text}"));
    if lines.len() >= limits::HANDED_OVER_MAX {
        lines.remove(limits::HANDED_OVER_MAX / 2); // the oldest of the last few
    }
    lines.push(&line);
    replace(&folder, &file, &lines)?;
    Ok(file)
}

/// Replaces the file as a whole, so that a crash leaves the old one or the new one. Its mode is 600 from
/// the beginning, as that of every temporary file is.
fn replace(folder: &Path, file: &Path, lines: &[&str]) -> io::Result<()> {
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(HEAD.as_bytes())?;
    for line in lines {
        writeln!(new, "{line}")?;
    }
    new.as_file().sync_all()?;
    new.persist(file)?;
    Ok(())
}

/// A configured source has a good name; one of the library may have any.
fn file_name(source: &str) -> io::Result<&str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !source.is_empty() && source.bytes().all(plain) {
        return Ok(source);
    }
    Err(io::Error::other("the source's name cannot be the name of a file"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn secrets_in(file: &Path) -> Vec<String> {
        let text = fs::read_to_string(file).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect()
    }

    #[test]
    fn a_flood_pushes_out_neither_what_came_first_nor_what_came_last() {
        let folder = tempfile::tempdir().unwrap();
        let keep = |text: &str| {
            keep(folder.path(), "asana", &Secret::new(text), Timestamp::from_seconds(1)).unwrap()
        };
        for number in 0..100 {
            keep(&format!("secret{number}"));
        }
        let file = keep("secret99");
        let kept = ["secret0", "secret1", "secret2", "secret3"].into_iter();
        let kept: Vec<_> = kept.chain(["secret96", "secret97", "secret98", "secret99"]).collect();
        assert_eq!(secrets_in(&file), kept);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_no_secret_is_not_kept_and_no_name_leads_out_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let long = "x".repeat(limits::HANDED_OVER_BYTES_MAX + 1);
        for (source, text) in [
            ("asana", "two words"),
            ("asana", ""),
            ("asana", "a\nb"),
            ("asana", &long),
            ("../asana", "x"),
            ("", "x"),
        ] {
            let kept = keep(folder.path(), source, &Secret::new(text), Timestamp::from_seconds(1));
            assert!(kept.is_err(), "{source:?} {text:?}");
        }
    }
}
