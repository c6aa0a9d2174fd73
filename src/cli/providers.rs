//! `hookonce providers`: whose rules are known.

use std::process::ExitCode;

use hookonce::{provider::PROVIDERS, source::window_min};
use serde::Serialize;

use super::{Everywhere, output::table};

/// Show the providers.
#[derive(Debug, clap::Args)]
pub(crate) struct Providers {}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    title: &'static str,
    signs_with: &'static str,
    identity: &'static str,
    window: String,
    handshake: &'static str,
    secret_variable: &'static str,
    docs: &'static str,
}

impl Providers {
    pub(crate) fn run(&self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let row = |provider: &&'static dyn hookonce::provider::Provider| Row {
            name: provider.name(),
            title: provider.title(),
            signs_with: provider.signs_with(),
            identity: provider.identity(),
            window: humantime::format_duration(window_min(*provider)).to_string(),
            handshake: provider.handshake(),
            secret_variable: provider.secret_variable(),
            docs: provider.docs(),
        };
        let rows: Vec<Row> = PROVIDERS.iter().map(row).collect();
        everywhere.output().show(rows.as_slice(), text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn text(rows: &[Row]) -> String {
    let mut table = table(["name", "signs with", "identity", "window", "handshake"]);
    for row in rows {
        table.add_row([row.name, row.signs_with, row.identity, &row.window, row.handshake]);
    }
    table.to_string()
}
