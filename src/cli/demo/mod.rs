//! `hookonce demo`: everything in one process, rehearsed for every provider, and a payment at an API
//! with keys, with the promises checked.
//!
//! The receiver is the real one, on a real store; requests reach it, and it reaches the handler, over
//! sockets. What is judged is what a provider and a handler can see from outside, and the counters.

mod counter;
mod payments;
mod rehearsal;
mod report;
mod stage;

use std::process::ExitCode;

use anyhow::Context as _;
use hookonce::provider::PROVIDERS;

use self::{counter::Counter, report::Report, stage::Stage};
use super::Everywhere;

/// Rehearse every provider's retries in one process, and check the promises.
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// The store [default: SQLite in a temporary folder]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Keep the temporary folder
    #[arg(long, conflicts_with = "store")]
    keep: bool,
}

impl Demo {
    pub(crate) async fn run(&self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let folder = tempfile::Builder::new().prefix("hookonce-demo-").tempdir()?;
        let in_folder = || format!("sqlite:{}", folder.path().join("hookonce.db").display());
        let store_url = self.store.clone().unwrap_or_else(in_folder);
        let mut report = rehearse(&store_url).await?;
        if self.keep {
            report.folder = Some(folder.keep());
        }
        everywhere.output().show(&report, Report::text)?;
        Ok(if report.all_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

async fn rehearse(store_url: &str) -> anyhow::Result<Report> {
    let counter = Counter::start().await?;
    let mut stage = Stage::set(store_url, PROVIDERS, counter.url())
        .await
        .context("cannot start the receiver")?;
    let paid = payments::rehearse(&stage.payments_url()?, &counter).await;
    let report = rehearsal::rehearse(&mut stage, &counter).await;
    stage.stop().await;
    counter.stop().await;
    Ok(report?.with_payments(paid?))
}
