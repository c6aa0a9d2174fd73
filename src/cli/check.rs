//! `hookonce check`: is the configuration right, and does the store keep what it promises?

use std::process::ExitCode;

use hookonce::{
    Hookonce,
    admin::Readiness,
    config::{Config, Remark},
    tls::{Certificate, Unusable},
};
use serde::Serialize;

use super::{EXIT_UNAVAILABLE, EXIT_USAGE, Everywhere, asker::Client};

/// Check the configuration and the store, and say what a yes survives.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {}

/// What was found.
#[derive(Serialize)]
pub(super) struct Report {
    /// Whether a server can run like this.
    pub(super) ok: bool,
    mistakes: Vec<Remark>,
    warnings: Vec<String>,
    /// What a yes survives; not known while the configuration has mistakes.
    survives: Option<String>,
    error: Option<String>,
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
}

pub(super) async fn check(everywhere: &Everywhere) -> Report {
    let config = match everywhere.look_at_config() {
        Ok(config) => config,
        Err(mistakes) => {
            let mistakes = mistakes.iter().cloned().collect();
            return Report {
                ok: false,
                mistakes,
                warnings: Vec::new(),
                survives: None,
                error: None,
            };
        }
    };
    let mut warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    if let Some(unusable) = unusable_certificate(&config) {
        let error = Some(unusable.to_string());
        return Report { ok: false, mistakes: Vec::new(), warnings, survives: None, error };
    }
    let asked = async { Client::configured(&config, everywhere)?.text("/readyz").await };
    let readiness = match asked.await {
        // A running server holds the store, and knows best; but it may run with an older configuration.
        Ok((_, text)) => serde_json::from_str(&text).map_err(|error| error.to_string()),
        Err(_) => match Hookonce::open(config).await {
            Ok(hookonce) => Ok(hookonce.admin().readiness().await),
            Err(error) => Err(error.to_string()),
        },
    };
    match readiness {
        Ok(Readiness { ready, survives, error, warnings: found }) => {
            warnings.extend(found);
            Report { ok: ready, mistakes: Vec::new(), warnings, survives: Some(survives), error }
        }
        Err(error) => {
            Report { ok: false, mistakes: Vec::new(), warnings, survives: None, error: Some(error) }
        }
    }
}

fn unusable_certificate(config: &Config) -> Option<Unusable> {
    let pairs = [&config.server.tls, &config.server.admin_tls];
    pairs.into_iter().flatten().find_map(|pair| Certificate::load(pair.clone()).err())
}

pub(super) fn text(report: &Report) -> String {
    let mut lines: Vec<String> = report.mistakes.iter().map(ToString::to_string).collect();
    lines.extend(report.warnings.iter().map(|warning| format!("warning: {warning}")));
    lines.extend(report.error.iter().map(|error| format!("error: {error}")));
    lines.extend(report.survives.iter().map(|survives| format!("a yes survives: {survives}")));
    lines.push(match (report.ok, report.mistakes.len()) {
        (true, _) => "all is well".to_owned(),
        (false, 0) => "a server cannot run like this".to_owned(),
        (false, 1) => "1 mistake".to_owned(),
        (false, count) => format!("{count} mistakes"),
    });
    lines.join("\n")
}
