//! `hookonce replay`: deliver an event again, as a new delivery with a key of its own.

use std::process::ExitCode;

use hookonce::{admin::ReplayRequest, event::EventId};
use uuid::Uuid;

use super::{Everywhere, asker::Asker, events::changed};

/// Deliver an event again, as a new delivery.
#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    /// Our id of the event
    id: EventId,
    /// Only to this handler [default: every handler that wants the event now]
    #[arg(long)]
    handler: Option<String>,
    /// Why, for the server's log
    #[arg(long)]
    reason: Option<String>,
}

impl Replay {
    pub(crate) async fn run(self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let asker = Asker::find(everywhere).await?;
        let (handler, reason, wish) = (self.handler, self.reason, Some(Uuid::now_v7()));
        let ask = ReplayRequest { handler, reason, wish };
        let made = asker.replay(self.id, ask).await?;
        everywhere.output().show(&made, changed)?;
        Ok(ExitCode::SUCCESS)
    }
}
