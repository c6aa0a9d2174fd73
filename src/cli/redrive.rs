//! `hookonce redrive`: queue dead letters again, with a fresh budget.

use std::{process::ExitCode, time::Duration};

use hookonce::admin::{RedriveProgress, RedriveRequest, RedriveState, SlowRedrive};
use uuid::Uuid;

use super::{Everywhere, asker::Asker, deliveries::Which, lots::until_all};

/// Queue dead letters again, with a fresh budget.
#[derive(Debug, clap::Args)]
pub(crate) struct Redrive {
    #[command(flatten)]
    which: Which,
    /// Queue so many a second, so that what comes in meanwhile is not drowned, and wait for the end
    #[arg(long, value_name = "N", requires = "handler")]
    per_second: Option<u32>,
    /// Stop what is being redriven of the handler: the rest stays dead
    #[arg(long, requires = "handler", conflicts_with = "per_second")]
    stop: bool,
}

impl Redrive {
    pub(crate) async fn run(self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let Which { ids, handler } = self.which;
        let (asker, output) = (Asker::find(everywhere).await?, everywhere.output());
        let progress = match (handler, self.per_second) {
            (Some(handler), Some(per_second)) => {
                let begun = asker.begin_redrive(SlowRedrive { handler, per_second }).await?;
                followed(&asker, begun, everywhere).await?
            }
            (Some(handler), None) if self.stop => asker.stop_redrive(&handler).await?,
            (handler, _) => {
                let ask = RedriveRequest { ids, handler, wish: None };
                let wish = async || {
                    let wish = Some(Uuid::now_v7());
                    asker.redrive(RedriveRequest { wish, ..ask.clone() }).await
                };
                until_all(output, wish).await?;
                return Ok(ExitCode::SUCCESS);
            }
        };
        output.show(&progress, text)?;
        let failed = progress.state == RedriveState::Failed;
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// Waits for the end. Who does not wait for it stops nothing: it is the server that redrives.
async fn followed(
    asker: &Asker,
    mut progress: RedriveProgress,
    everywhere: &Everywhere,
) -> anyhow::Result<RedriveProgress> {
    let bar = everywhere.output().progress(progress.total);
    while progress.state == RedriveState::Running {
        tokio::time::sleep(ASKED_EVERY).await;
        let found = asker.redrives().await?.into_iter().find(|one| one.id == progress.id);
        progress = found.ok_or_else(|| anyhow::anyhow!(GONE))?;
        bar.stand_at("redriving", progress.redriven, progress.total);
    }
    bar.finish();
    Ok(progress)
}

const ASKED_EVERY: Duration = Duration::from_millis(200);

const GONE: &str = "the server has started anew, or another redrive was begun in the place of this one: run this again for what is dead still";

fn text(progress: &RedriveProgress) -> String {
    let RedriveProgress { handler, redriven, total, .. } = progress;
    let how = match (&progress.state, &progress.error) {
        (RedriveState::Running, _) => "running",
        (RedriveState::Done, _) => "all are queued again",
        (RedriveState::Stopped, _) => "stopped",
        (RedriveState::Failed, why) => {
            let why = why.as_deref().unwrap_or("it failed");
            return format!("{handler}: {redriven} of {total} redriven, then {why}");
        }
    };
    format!("{handler}: {redriven} of {total} redriven: {how}")
}
