//! `hookonce store`: what is done to a store as a whole.

mod accept;
mod backup;
mod copy;
mod restore;

use std::process::ExitCode;

use clap::Subcommand;

use super::Everywhere;

/// See to the store itself.
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
    /// Copy the whole store into a file, while it is in use
    ///
    /// The running server takes the copy, and this command writes it down, on the machine that it is run on.
    /// What was answered 200 before is in it. The file has its name only when it is whole, checked and on the
    /// disk. Postgres and Redis have tools of their own.
    Backup(backup::Backup),
    /// Put a backup in the place of the store
    ///
    /// Stop the server first. The backup is checked before anything changes. It knows nothing of what came
    /// and was done after it was taken, so `hookonce store accept` is asked for where the store was seen in a
    /// later state.
    Restore(restore::Restore),
    /// Go on with a store that has lost what it held
    ///
    /// After FLUSHALL, a lost node or an old backup the store is not what it was, and every event is answered
    /// 503: what it has forgotten would be run again. Bring the data back, or accept the loss with this
    /// command. It tells the running server, and all others on the same store follow. Where none runs, run it
    /// with the configuration, and on the machine, of one of them: it is known there what was last seen.
    Accept(accept::Accept),
}

impl Store {
    pub(crate) async fn run(&self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        match &self.what {
            What::Copy(copy) => copy.run(everywhere).await,
            What::Backup(backup) => backup.run(everywhere).await,
            What::Restore(restore) => restore.run(everywhere),
            What::Accept(accept) => accept.run(everywhere).await,
        }
    }
}
