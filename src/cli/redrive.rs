//! `hookonce redrive`: queue dead letters again, with a fresh budget.

use std::process::ExitCode;

use hookonce::admin::Selection;

use super::{Everywhere, asker::Asker, deliveries::Which, events::changed};

/// Queue dead letters again, with a fresh budget.
#[derive(Debug, clap::Args)]
pub(crate) struct Redrive {
    #[command(flatten)]
    which: Which,
}

impl Redrive {
    pub(crate) async fn run(self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let Which { ids, handler } = self.which;
        let asker = Asker::find(everywhere).await?;
        everywhere.output().show(&asker.redrive(Selection { ids, handler }).await?, changed)?;
        Ok(ExitCode::SUCCESS)
    }
}
