//! `hookonce deliveries`: list them, show one's attempts, move, kill or unblock them.

use std::process::ExitCode;

use clap::Subcommand;
use hookonce::{
    admin::{DeliveryPage, DeliveryQuery, MoveRequest, Selection},
    delivery::{Attempt, Delivery, DeliveryId, State},
};

use super::{
    Everywhere,
    asker::Asker,
    events::{named, word},
    lots::until_all,
    output::table,
};

/// List deliveries, show one's attempts, move, kill or unblock them.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Deliveries {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show the attempts of one delivery
    Show {
        /// Its id
        id: DeliveryId,
    },
    /// Give queued and dead deliveries to another handler
    Move {
        #[command(flatten)]
        which: Which,
        /// The handler that is to have them
        #[arg(long, value_name = "HANDLER")]
        to: String,
    },
    /// Make queued deliveries dead letters
    Kill {
        #[command(flatten)]
        which: Which,
    },
    /// Let those go on that wait in order behind dead deliveries
    Unblock {
        #[command(flatten)]
        which: Which,
    },
}

/// Which deliveries: by id, or all of a handler.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// Their ids
    #[arg(value_name = "ID")]
    pub(super) ids: Vec<DeliveryId>,
    /// All of this handler
    #[arg(long)]
    pub(super) handler: Option<String>,
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only of this handler
    #[arg(long)]
    handler: Option<String>,
    /// Only in this state: queued, leased, done, dead
    #[arg(long, value_parser = named::<State>)]
    state: Option<State>,
    /// The page after the one that ended with this id
    #[arg(long, value_name = "ID")]
    before: Option<DeliveryId>,
    /// Rows to show
    #[arg(long)]
    limit: Option<usize>,
}

impl Deliveries {
    pub(crate) async fn run(self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let asker = Asker::find(everywhere).await?;
        let output = everywhere.output();
        match self.what {
            None => {
                let List { handler, state, before, limit } = self.list;
                let query = DeliveryQuery { handler, state, before, limit };
                output.show(&asker.deliveries(query).await?, page)?;
            }
            Some(What::Show { id }) => {
                output.show(asker.attempts(id).await?.as_slice(), attempts)?;
            }
            Some(What::Move { which: Which { ids, handler }, to }) => {
                let ask = MoveRequest { ids, handler, to };
                until_all(output, async || asker.move_to(ask.clone()).await).await?;
            }
            Some(What::Kill { which: Which { ids, handler } }) => {
                let ask = Selection { ids, handler };
                until_all(output, async || asker.kill(ask.clone()).await).await?;
            }
            Some(What::Unblock { which: Which { ids, handler } }) => {
                let ask = Selection { ids, handler };
                until_all(output, async || asker.unblock(ask.clone()).await).await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn page(page: &DeliveryPage) -> String {
    let mut table = table(["id", "event", "handler", "state", "attempts", "due", "last error"]);
    for row in &page.deliveries {
        table.add_row([
            row.id.to_string(),
            row.event.to_string(),
            row.handler.to_string(),
            word(row.state),
            row.attempts.to_string(),
            due(row),
            row.last_error.clone().unwrap_or_default(),
        ]);
    }
    let more = page.next.map(|next| format!("\nmore: --before {next}")).unwrap_or_default();
    format!("{table}{more}")
}

fn due(row: &Delivery) -> String {
    match row {
        row if row.awaits_its_turn() => "in turn".to_owned(),
        row if row.blocks() => format!("{} (blocks)", row.due_at),
        row => row.due_at.to_string(),
    }
}

fn attempts(attempts: &[Attempt]) -> String {
    attempts.iter().map(|made| format!("{}\n", attempt(made))).collect()
}

/// One attempt in one line.
pub(super) fn attempt(attempt: &Attempt) -> String {
    let took = attempt.took_ms.map(|took| format!(" {took} ms")).unwrap_or_default();
    let status = attempt.status.map(|status| format!(" status {status}")).unwrap_or_default();
    let error = attempt.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    format!(
        "{} {} {}{took}{status}{error}",
        attempt.number,
        attempt.started_at,
        word(attempt.outcome)
    )
}
