//! `hookonce health`: one question and an exit code, so that a container needs no curl.

use std::process::ExitCode;

use super::{EXIT_UNAVAILABLE, Everywhere, asker::Client};

/// Ask a running server whether it is ready.
#[derive(Debug, clap::Args)]
pub(crate) struct Health {
    /// Ask only whether it is alive, not whether its store is
    #[arg(long)]
    alive: bool,
}

impl Health {
    pub(crate) async fn run(&self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let client = Client::for_health(everywhere)?;
        let (status, text) = client.text(if self.alive { "/healthz" } else { "/readyz" }).await?;
        everywhere.output().line(text.trim_end())?;
        let is_well = (200..300).contains(&status);
        Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::from(EXIT_UNAVAILABLE) })
    }
}
