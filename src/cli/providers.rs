//! `hookonce providers`: whose rules are known.

use std::process::ExitCode;

use hookonce::catalogue::{self, COLUMNS, Row};

use super::{Everywhere, output::table};

/// Show the providers.
#[derive(Debug, clap::Args)]
pub(crate) struct Providers {}

impl Providers {
    pub(crate) fn run(&self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        everywhere.output().show(catalogue::rows().as_slice(), text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn text(rows: &[Row]) -> String {
    let mut table = table(COLUMNS);
    for row in rows {
        table.add_row(row.cells());
    }
    table.to_string()
}
