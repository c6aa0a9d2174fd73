//! `hookonce store accept`: a person says that a store which has lost something is to be used all the same.

use std::process::ExitCode;

use hookonce::{admin::Accepted, clock::SystemClock, store};

use crate::cli::{Everywhere, asker::Asker, existing::refuse_missing};

/// Go on with a store that has lost what it held.
#[derive(Debug, clap::Args)]
pub(crate) struct Accept {}

impl Accept {
    pub(crate) async fn run(&self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let server = Asker::server(everywhere)?;
        let accepted = if everywhere.server.is_some() || server.is_there().await? {
            server.accept().await?
        } else {
            let config = everywhere.look_at_config()?;
            refuse_missing(&config.store.url)?;
            let (url, durability) = (config.store.url.expose(), config.store.durability);
            let data_dir = Some(config.server.data_dir.as_path());
            let store =
                store::connect(url, durability, data_dir, &(SystemClock::start() as _)).await?;
            Accepted { accepted: store.accept().await? }
        };
        everywhere.output().show(&accepted, text)?;
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
