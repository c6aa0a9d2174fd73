//! `hookonce handlers`: list them, pause and resume one, change how much it may do.

use std::process::ExitCode;

use hookonce::{
    admin::{HandlerList, HandlerView},
    control::Limits,
    rate::Rate,
};

use super::{Everywhere, asker::Asker, output::table};

/// List handlers, pause and resume one, change how much it may do.
#[derive(Debug, clap::Args)]
pub(crate) struct Handlers {
    #[command(subcommand)]
    ask: Option<Ask>,
}

#[derive(Debug, clap::Subcommand)]
enum Ask {
    /// List them, with what waits for each: the default
    List,
    /// Begin no attempt any more, in any process: events are accepted and kept
    Pause {
        /// The handler
        name: String,
    },
    /// Go on with what waits
    Resume {
        /// The handler
        name: String,
    },
    /// Set limits that stand over the configuration; what is left out is as configured again
    Set {
        /// The handler
        name: String,
        /// Attempts at once in each process
        #[arg(long, value_name = "COUNT")]
        concurrency: Option<usize>,
        /// How often attempts begin in each process, such as 50/s, 100/m or 20/h
        #[arg(long)]
        rate: Option<Rate>,
    },
}

impl Handlers {
    pub(crate) async fn run(self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let (asker, output) = (Asker::find(everywhere).await?, everywhere.output());
        let changed = match self.ask.unwrap_or(Ask::List) {
            Ask::List => {
                output.show(&asker.handlers().await?, text)?;
                return Ok(ExitCode::SUCCESS);
            }
            Ask::Pause { name } => asker.pause(&name).await?,
            Ask::Resume { name } => asker.resume(&name).await?,
            Ask::Set { name, concurrency, rate } => {
                asker.limit(&name, Limits { concurrency, rate }).await?
            }
        };
        output.show(&changed, |changed| rows(std::slice::from_ref(changed)))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn text(list: &HandlerList) -> String {
    match list.handlers.as_slice() {
        [] => "there are no handlers".to_owned(),
        handlers => rows(handlers),
    }
}

fn rows(handlers: &[HandlerView]) -> String {
    let heads =
        ["handler", "state", "concurrency", "rate", "set by hand", "queued", "leased", "dead now"];
    let mut table = table(heads);
    for handler in handlers {
        let Limits { concurrency, rate } = handler.limits;
        let by_hand = [concurrency.map(|_| "concurrency"), rate.map(|_| "rate")];
        table.add_row([
            handler.name.to_string(),
            if handler.paused { "paused" } else { "running" }.to_owned(),
            handler.concurrency.to_string(),
            handler.rate.map_or_else(|| "any".to_owned(), |rate| rate.to_string()),
            by_hand.into_iter().flatten().collect::<Vec<_>>().join(", "),
            handler.queued.to_string(),
            handler.leased.to_string(),
            handler.dead_now.to_string(),
        ]);
    }
    table.to_string()
}
