//! `hookonce store accept`: a person says that a store which has lost something is to be used all the same.

use std::process::ExitCode;

use hookonce::{clock::SystemClock, store};
use serde::Serialize;

use crate::cli::Everywhere;

/// Go on with a store that has lost what it held.
#[derive(Debug, clap::Args)]
pub(crate) struct Accept {}

#[derive(Debug, Serialize)]
struct Accepted {
    accepted: usize,
}

impl Accept {
    pub(crate) async fn run(&self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let config = everywhere.load_config()?;
        let clock = SystemClock::start();
        let (url, data_dir) = (config.store.url.expose(), config.server.data_dir.as_path());
        let accepted = store::accept(url, config.store.durability, data_dir, &clock).await?;
        everywhere.output().show(&Accepted { accepted }, text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn text(Accepted { accepted }: &Accepted) -> String {
    match accepted {
        0 => {
            "there was nothing to accept: the store is what it was when it was last seen".to_owned()
        }
        1 => "accepted: the store is used as it is now".to_owned(),
        parts => format!("accepted: {parts} buckets of the store are used as they are now"),
    }
}
