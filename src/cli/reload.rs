//! `hookonce reload`: have a running server read its configuration again.

use std::process::ExitCode;

use hookonce::setup::Reloaded;

use super::{Everywhere, asker::Asker};

/// Have a running server read its configuration again.
#[derive(Debug, clap::Args)]
pub(crate) struct Reload {}

impl Reload {
    pub(crate) async fn run(&self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let reloaded = Asker::server(everywhere)?.reload().await?;
        everywhere.output().show(&reloaded, text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn text(reloaded: &Reloaded) -> String {
    let Reloaded { sources, handlers, apis, needs_restart, warnings } = reloaded;
    let mut lines = vec![
        format!("sources: {sources}"),
        format!("handlers: {handlers}"),
        format!("APIs: {apis}"),
    ];
    let stays = |key| format!("warning: {key} has changed, and stays as it was until a restart");
    lines.extend(needs_restart.iter().map(stays));
    lines.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
    lines.join("\n")
}
