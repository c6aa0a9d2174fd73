//! `hookonce store restore`: a backup takes the place of the store.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use hookonce::{
    clock::Timestamp,
    store::{
        StoreError,
        snapshot::{self, Restored},
    },
};
use serde::Serialize;

use crate::cli::{Everywhere, Misused};

/// Put a backup in the place of the store.
#[derive(Debug, clap::Args)]
pub(crate) struct Restore {
    /// The backup; it stays as it is
    file: PathBuf,
    /// Set the store aside that is there now, under its name and `.replaced`
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Serialize)]
struct Done<'a> {
    file: &'a Path,
    taken_at: Timestamp,
    set_aside: Option<&'a Path>,
    is_to_be_accepted: bool,
}

impl Restore {
    pub(crate) fn run(&self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let config = everywhere.look_at_config()?;
        if !self.file.exists() {
            return Err(Misused(format!("there is no file {}", self.file.display())).into());
        }
        let output = everywhere.output();
        let progress = output.progress(0);
        let tell = |done, total| progress.stand_at("copying", done, total);
        let (url, data_dir) = (config.store.url.expose(), &config.server.data_dir);
        let restored = snapshot::restore(&self.file, url, data_dir, self.replace, &tell);
        progress.finish();
        let restored = match restored {
            Err(error @ StoreError::InUse(_)) => {
                return Err(error).context("stop the server that uses the store first");
            }
            restored => restored?,
        };
        let Some(Restored { taken_at, set_aside, is_to_be_accepted }) = restored else {
            let message =
                "this kind of store is restored with its own tools: docs/OPERATIONS.md says how";
            return Err(Misused(message.to_owned()).into());
        };
        let set_aside = set_aside.as_deref();
        output.show(&Done { file: &self.file, taken_at, set_aside, is_to_be_accepted }, text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn text(done: &Done<'_>) -> String {
    let mut lines = vec![format!(
        "the store is {} now, as of {}: what came and was done since is not known to it",
        done.file.display(),
        done.taken_at
    )];
    if let Some(aside) = done.set_aside {
        lines.push(format!("the one before is {}", aside.display()));
    }
    if done.is_to_be_accepted {
        lines.push("start the server, and accept that with `hookonce store accept`".to_owned());
    } else {
        lines.push("start the server".to_owned());
    }
    lines.join("\n")
}
