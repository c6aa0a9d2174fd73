//! `hookonce check`: is the configuration right, and does the store keep what it promises?

use std::process::ExitCode;

use hookonce::{
    Hookonce,
    admin::Readiness,
    config::{Config, Mistakes, Remark},
    store::moving,
    tls::{Certificate, Unusable},
};
use serde::Serialize;

use super::{
    EXIT_UNAVAILABLE, EXIT_USAGE, Everywhere,
    asker::{Asker, Client, Unreachable},
    existing::{NoStore, refuse_missing},
};

/// Check the configuration and the store, and say what a yes survives.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {}

/// What was found.
#[derive(Default, Serialize)]
pub(super) struct Report {
    /// Whether a server can run like this.
    pub(super) ok: bool,
    mistakes: Vec<Remark>,
    warnings: Vec<String>,
    /// What a yes survives; not known while the configuration has mistakes, or before there is a store.
    survives: Option<String>,
    error: Option<String>,
    /// Whether a server starts nevertheless, and waits for its store.
    #[serde(skip)]
    starts: bool,
}

impl Check {
    pub(crate) async fn run(&self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let report = check(everywhere).await;
        everywhere.output().show(&report, text)?;
        Ok(report.exit_code())
    }
}

impl Report {
    pub(super) fn exit_code(&self) -> ExitCode {
        if self.ok {
            ExitCode::SUCCESS
        } else if self.mistakes.is_empty() {
            ExitCode::from(EXIT_UNAVAILABLE)
        } else {
            ExitCode::from(EXIT_USAGE)
        }
    }

    /// What there is to say in the end, if nothing is wrong.
    pub(super) fn verdict(&self) -> Option<String> {
        match (self.ok, self.warnings.len()) {
            (false, _) => None,
            (true, 0) => Some("all is well".to_owned()),
            (true, 1) => Some("it works, with a warning".to_owned()),
            (true, count) => Some(format!("it works, with {count} warnings")),
        }
    }

    fn of_error(warnings: Vec<String>, error: &impl ToString) -> Self {
        Self { warnings, error: Some(error.to_string()), ..Self::default() }
    }

    fn of_readiness(mut warnings: Vec<String>, readiness: Readiness) -> Self {
        let Readiness { ready, survives, error, warnings: found } = readiness;
        warnings.extend(found);
        let survives = Some(survives);
        Self { ok: ready, warnings, survives, error, starts: true, ..Self::default() }
    }
}

pub(super) async fn check(everywhere: &Everywhere) -> Report {
    if everywhere.server.is_some() {
        return check_server_elsewhere(everywhere).await;
    }
    let mut config = match everywhere.look_at_config() {
        Ok(config) => config,
        Err(mistakes) => return check_with_mistakes(everywhere, &mistakes).await,
    };
    let mut warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    if let Some(unusable) = unusable_certificate(&config) {
        return Report::of_error(warnings, &unusable);
    }
    match readiness_of_server(everywhere).await {
        // A running server holds the store, and knows best; but it may run with an older configuration.
        Ok(Some(readiness)) => return Report::of_readiness(warnings, readiness),
        Ok(None) => {}
        Err(error) => return Report::of_error(warnings, &format!("{error:#}")),
    }
    if let Err(NoStore(file)) = refuse_missing(&config.store.url) {
        let file = file.display();
        warnings.push(format!("there is no store yet: `hookonce serve` will make it at {file}"));
        return Report { ok: true, warnings, ..Report::default() };
    }
    // What is seen of the store is written down where servers do so, and not where none has been.
    let nowhere = match tempfile::tempdir() {
        Ok(nowhere) => nowhere,
        Err(error) => return Report::of_error(warnings, &error),
    };
    if !config.server.data_dir.exists() {
        config.server.data_dir = nowhere.path().to_owned();
    }
    let place = moving::name_of(config.store.url.expose());
    match Hookonce::open(config).await {
        Ok(hookonce) => {
            let mut readiness = hookonce.admin().readiness().await;
            readiness.error = readiness.error.map(|error| format!("{place}: {error}"));
            Report::of_readiness(warnings, readiness)
        }
        Err(error) => Report::of_error(warnings, &format!("{place}: {error}")),
    }
}

/// Asks the server that was named, and looks at nothing here.
async fn check_server_elsewhere(everywhere: &Everywhere) -> Report {
    let asked = async {
        let client = Asker::server(everywhere)?;
        let none = || Unreachable::Admin(everywhere.server.clone().unwrap_or_default());
        Ok::<_, anyhow::Error>(client.readiness().await?.ok_or_else(none)?)
    };
    match asked.await {
        Ok(readiness) => Report::of_readiness(Vec::new(), readiness),
        Err(error) => Report::of_error(Vec::new(), &format!("{error:#}")),
    }
}

/// Variables that only the server was started with are no reason for it to stop.
async fn check_with_mistakes(everywhere: &Everywhere, mistakes: &Mistakes) -> Report {
    if mistakes.are_missing_variables()
        && let Ok(Some(readiness)) = readiness_of_server(everywhere).await
    {
        let told = |mistake: &Remark| format!("{mistake} (the running server may have it)");
        return Report::of_readiness(mistakes.iter().map(told).collect(), readiness);
    }
    Report { mistakes: mistakes.iter().cloned().collect(), ..Report::default() }
}

async fn readiness_of_server(everywhere: &Everywhere) -> anyhow::Result<Option<Readiness>> {
    Client::configured(everywhere)?.readiness().await
}

fn unusable_certificate(config: &Config) -> Option<Unusable> {
    let pairs = [&config.server.tls, &config.server.admin_tls];
    pairs.into_iter().flatten().find_map(|pair| Certificate::load(pair.clone()).err())
}

fn text(report: &Report) -> String {
    let mut lines = lines(report);
    lines.extend(report.verdict());
    lines.join("\n")
}

/// What was found, a line each. That all is well is for the caller to say, who may have found more.
pub(super) fn lines(report: &Report) -> Vec<String> {
    let mut lines: Vec<String> = report.mistakes.iter().map(ToString::to_string).collect();
    lines.extend(report.warnings.iter().map(|warning| format!("warning: {warning}")));
    lines.extend(report.error.iter().map(|error| format!("error: {error}")));
    lines.extend(report.survives.iter().map(|survives| format!("a yes survives: {survives}")));
    match (report.ok, report.mistakes.len()) {
        (true, _) => {}
        (false, 0) if report.starts => {
            lines.push("a server starts, and answers 503 until that is mended".to_owned());
        }
        (false, 0) => lines.push("a server cannot run like this".to_owned()),
        (false, 1) => lines.push("1 mistake".to_owned()),
        (false, count) => lines.push(format!("{count} mistakes")),
    }
    lines
}
