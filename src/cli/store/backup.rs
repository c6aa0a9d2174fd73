//! `hookonce store backup`: a copy of the whole store in one file, while it is in use.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use hookonce::{
    clock::Timestamp,
    store::snapshot::{self, Snapshot},
};
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::cli::{
    Everywhere, Misused,
    asker::{Asker, Backup as Copied},
    output::Progress,
};

/// Copy the whole store into a file.
#[derive(Debug, clap::Args)]
pub(crate) struct Backup {
    /// The file, on this machine, which must not be there yet
    file: PathBuf,
}

#[derive(Debug, Serialize)]
struct Done<'a> {
    file: &'a Path,
    bytes: u64,
    taken_at: Option<Timestamp>,
}

impl Backup {
    pub(crate) async fn run(&self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let (file, output) = (self.file.as_path(), everywhere.output());
        if file.exists() {
            let message = format!("{} is there already: name another file", file.display());
            return Err(Misused(message).into());
        }
        let partial = partial(file)?;
        let asker = Asker::find(everywhere).await?;
        let progress = output.progress(0);
        let copied = asker.backup().await?;
        let bytes = copied.bytes();
        receive(copied, partial.as_file(), &progress).await?;
        progress.finish();
        let taken_at = snapshot::check(partial.path()).context("what has come is no backup")?;
        place(partial, file).with_context(|| format!("cannot write {}", file.display()))?;
        output.show(&Done { file, bytes, taken_at }, text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A file beside `file`, which only we may read. It is taken away when we fail; when we are killed it
/// stays, and its name says what it is.
fn partial(file: &Path) -> anyhow::Result<NamedTempFile> {
    let name = file.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Misused(format!("{} names no file", file.display())))?;
    let made = tempfile::Builder::new()
        .prefix(&format!("{name}."))
        .suffix(".partial")
        .tempfile_in(folder(file));
    made.with_context(|| format!("cannot write into {}", folder(file).display()))
}

async fn receive(copied: Copied, mut to: &File, progress: &Progress) -> anyhow::Result<()> {
    let (mut done, total) = (0, copied.bytes());
    let mut keep = |chunk: &[u8]| {
        done += chunk.len() as u64;
        progress.stand_at("copying", done, total);
        to.write_all(chunk)
    };
    match copied {
        Copied::Server { mut answer, .. } => {
            while let Some(chunk) = answer.chunk().await.context("the server stopped half-way")? {
                keep(&chunk)?;
            }
        }
        Copied::Store(Snapshot { mut file, .. }) => {
            let mut chunk = vec![0; 1 << 20];
            loop {
                let read = file.read(&mut chunk)?;
                let Some(read) = chunk.get(..read).filter(|read| !read.is_empty()) else { break };
                keep(read)?;
            }
        }
    }
    anyhow::ensure!(done == total, "{done} bytes of {total} came: try again");
    Ok(())
}

/// Gives the file its name, once all of it is on the disk, and if nobody else has taken the name.
fn place(partial: NamedTempFile, file: &Path) -> io::Result<()> {
    partial.as_file().sync_all()?;
    partial.persist_noclobber(file).map_err(|failed| failed.error)?;
    File::open(folder(file))?.sync_all()
}

fn folder(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn text(Done { file, bytes, taken_at }: &Done<'_>) -> String {
    let file = file.display();
    let taken_at = taken_at.map(|at| format!(", as of {at}")).unwrap_or_default();
    format!(
        "{file}: {bytes} bytes, checked{taken_at}\n\
         keep the configuration and the rest of the data folder with it, less the database"
    )
}
