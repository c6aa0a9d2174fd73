//! `hookonce migrate`: brings the store's schema to the version that this program writes.

use std::process::ExitCode;

use serde::Serialize;

use super::Everywhere;

/// Bring the schema of the store up to this version of hookonce.
#[derive(Debug, clap::Args)]
pub(crate) struct Migrate {}

/// What was done.
#[derive(Serialize)]
struct Report {
    store: &'static str,
    /// The schema before, where there was one and the store keeps count.
    from: Option<i64>,
    /// The schema now.
    to: Option<i64>,
}

impl Migrate {
    pub(crate) async fn run(&self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let config = everywhere.look_at_config()?;
        let url = config.store.url.expose();
        let report = match url.split(':').next().unwrap_or_default() {
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" => {
                let migrated = hookonce::store::postgres::migrate(url).await?;
                Report { store: "postgres", from: migrated.from, to: Some(migrated.to) }
            }
            "sqlite" => Report { store: "sqlite", from: None, to: None },
            "memory" => Report { store: "memory", from: None, to: None },
            _ => Report { store: "redis", from: None, to: None },
        };
        everywhere.output().show(&report, text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn text(report: &Report) -> String {
    match (report.store, report.from, report.to) {
        (_, Some(from), Some(to)) if from == to => {
            format!("nothing to do: the schema is version {to}")
        }
        (_, Some(from), Some(to)) => format!("the schema was version {from} and is now {to}"),
        (_, None, Some(to)) => format!("the schema was made, in version {to}"),
        ("sqlite", _, _) => {
            "nothing to do: an SQLite file is brought up to date when it is opened".to_owned()
        }
        (store, _, _) => format!("nothing to do: the schema of {store} has one version so far"),
    }
}
