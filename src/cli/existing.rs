//! A store that a command only looks at is not made by looking: in the wrong folder, or under a mistyped
//! name, there would be an empty one, and everything would seem to be gone, or copied.

use std::path::{self, Path, PathBuf};

use hookonce::secret::Secret;

/// The file of an SQLite store is not there.
#[derive(Debug, thiserror::Error)]
#[error(
    "there is no store at {}, and this command makes none: run it in the folder that the server runs in, which a relative `data_dir` is in, or name another configuration with --config",
    .0.display()
)]
pub(crate) struct NoStore(pub(crate) PathBuf);

/// Refuses a store that would be made by opening it. One on a server is met when it is opened.
pub(crate) fn refuse_missing(url: &Secret) -> Result<(), NoStore> {
    match url.expose().strip_prefix("sqlite:").map(Path::new) {
        Some(file) if !file.exists() => {
            Err(NoStore(path::absolute(file).unwrap_or_else(|_| file.to_owned())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_is_not_there_is_refused_and_named_in_full() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hookonce.db");
        let url = Secret::new(format!("sqlite:{}", file.display()));
        let refused = refuse_missing(&url).unwrap_err();
        assert_eq!(refused.0, file);
        let relative = refuse_missing(&Secret::new("sqlite:nowhere/a.db")).unwrap_err();
        assert!(relative.0.is_absolute());
        std::fs::write(&file, "").unwrap();
        assert!(refuse_missing(&url).is_ok());
        assert!(refuse_missing(&Secret::new("redis://127.0.0.1:1")).is_ok());
    }
}
