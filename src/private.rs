//! Folders and files that nobody but their owner reads: payloads and secrets are nobody else's business.

use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

/// Makes a folder, and those above it, where there is none. One that is there stays as it is.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Opens a file to write to it, and makes it where there is none. What is in it stays.
///
/// # Errors
/// When it cannot be opened.
pub(crate) fn open_or_make(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).mode(0o600).open(path)
}
