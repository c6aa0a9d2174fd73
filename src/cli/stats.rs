//! `hookonce stats`: what was counted, and what waits now.

use std::process::ExitCode;

use hookonce::store::{Counts, Stats as Counted};

use super::{Everywhere, asker::Asker, output::table};

/// Show what was counted, and what waits now.
#[derive(Debug, clap::Args)]
pub(crate) struct Stats {}

impl Stats {
    pub(crate) async fn run(&self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let stats = Asker::find(everywhere).await?.stats().await?;
        everywhere.output().show(&stats, text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn text(stats: &Counted) -> String {
    let mut table = table([
        "",
        "events",
        "duplicates",
        "held",
        "shadow",
        "unrouted",
        "done",
        "dead",
        "queued",
        "leased",
        "dead now",
        "held now",
    ]);
    let mut row = |name: String, counts: &Counts| {
        let numbers = [
            counts.events,
            counts.duplicates,
            counts.held,
            counts.shadow,
            counts.unrouted,
            counts.done,
            counts.dead,
            counts.queued,
            counts.leased,
            counts.dead_now,
            counts.held_now,
        ];
        table.add_row(std::iter::once(name).chain(numbers.iter().map(ToString::to_string)));
    };
    row("all".to_owned(), &stats.total);
    for (name, counts) in &stats.sources {
        row(format!("source {name}"), counts);
    }
    for (name, counts) in &stats.handlers {
        row(format!("handler {name}"), counts);
    }
    match stats.total.shadow {
        0 => table.to_string(),
        events => format!(
            "{table}\nSHADOW MODE: {events} events were admitted although their signature did not hold"
        ),
    }
}
