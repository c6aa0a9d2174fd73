//! `hookonce store`: what is done to a store as a whole.

mod copy;

use std::process::ExitCode;

use clap::Subcommand;

use super::Everywhere;

/// Move a store into another one.
#[derive(Debug, clap::Args)]
pub(crate) struct Store {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Move everything into another store, so that no retry runs twice
    ///
    /// From the first moment on the source answers 503, and what runs may end. Then everything is copied and
    /// compared, and the target opens. Killed at any instant, it goes on when the same command is run again;
    /// until the target opens, `--call-off` gives the source back.
    ///
    /// An SQLite store is held by the server that uses it: stop that one first. Servers on a shared store may
    /// run on, and answer 503 until they are started with the new store.
    Copy(copy::Copy),
}

impl Store {
    pub(crate) async fn run(&self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        match &self.what {
            What::Copy(copy) => copy.run(everywhere).await,
        }
    }
}
