//! `hookonce events`: list them, show one, admit a held one, erase one.

use std::{fmt::Write as _, process::ExitCode};

use clap::Subcommand;
use hookonce::{
    admin::{Changed, EraseRequest, EventPage, EventQuery, EventView},
    clock::{SystemClock, Timestamp},
    event::{EventId, EventState},
    store::EventRow,
};

use super::{Everywhere, asker::Asker, output::table};

/// List events, show one, admit a held one, or erase one.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Events {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show everything about one event
    Show {
        /// Our id, as in the list
        id: EventId,
        /// Print the body of the request it came in instead, byte for byte
        #[arg(long)]
        request: bool,
    },
    /// Route a held event after all
    Admit {
        /// Our id, as in the list
        id: EventId,
    },
    /// Erase the body, the headers and all else its sender has written, for good: its ids and its mark stay
    Erase {
        /// Our id, as in the list
        id: EventId,
        /// Why, for the server's log
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only of this source
    #[arg(long)]
    source: Option<String>,
    /// Only of this type; with a * at the end, of types that begin so
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only in this state: open, done, dead, unrouted, held
    #[arg(long, value_parser = named::<EventState>)]
    state: Option<EventState>,
    /// Only with this id of the provider's
    #[arg(long)]
    event_id: Option<String>,
    /// Only received at this time or later, as 2026-01-31T12:00:00Z, or so long ago, as 1d
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Only received before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// The page after the one that ended with this id
    #[arg(long, value_name = "ID")]
    before: Option<EventId>,
    /// Rows to show
    #[arg(long)]
    limit: Option<usize>,
}

/// A time: as it is written in logs and answers, or how long ago it was.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    match humantime::parse_duration(text) {
        Ok(ago) => Ok(SystemClock::start().now().minus(ago)),
        Err(_) => text.parse().map_err(|_| {
            "write a time, as 2026-01-31T12:00:00Z, or how long ago it was, as 1d".to_owned()
        }),
    }
}

impl Events {
    pub(crate) async fn run(self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let asker = Asker::find(everywhere).await?;
        let output = everywhere.output();
        match self.what {
            None => output.show(&asker.events(self.list.into()).await?, page)?,
            Some(What::Show { id, request: true }) => output.raw(&asker.request(id).await?)?,
            Some(What::Show { id, request: false }) => output.show(&asker.event(id).await?, one)?,
            Some(What::Admit { id }) => output.show(&asker.admit(id).await?, changed)?,
            Some(What::Erase { id, reason }) => {
                output.show(&asker.erase(id, EraseRequest { reason }).await?, killed)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl From<List> for EventQuery {
    fn from(list: List) -> Self {
        let List { source, event_type, state, event_id, since, until, before, limit } = list;
        Self { source, r#type: event_type, state, event_id, since, until, before, limit }
    }
}

/// Reads a word as the API spells it.
pub(super) fn named<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

/// The word for a value, as the API spells it.
pub(super) fn word(value: impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

fn page(page: &EventPage) -> String {
    let mut table = table(["id", "received", "source", "type", "event id", "state", "duplicates"]);
    for row in &page.events {
        table.add_row([
            row.id.to_string(),
            row.received_at.to_string(),
            row.source.to_string(),
            row.event_type.clone().unwrap_or_default(),
            row.event_id.clone().unwrap_or_default(),
            state(row),
            row.duplicates.to_string(),
        ]);
    }
    let more = page.next.map(|next| format!("\nmore: --before {next}")).unwrap_or_default();
    format!("{table}{more}")
}

fn state(row: &EventRow) -> String {
    let shadow = if row.shadow { " SHADOW" } else { "" };
    let erased = if row.erased_at.is_some() { " erased" } else { "" };
    format!("{}{shadow}{erased}", word(row.state))
}

fn one(event: &EventView) -> String {
    let mut text = String::new();
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            writeln!(text, "{name:<14} {value}").expect("writing to a String does not fail");
        }
    };
    fact("id", event.row.id.to_string());
    fact("source", event.row.source.to_string());
    fact("type", event.row.event_type.clone().unwrap_or_default());
    fact("event id", event.row.event_id.clone().unwrap_or_default());
    fact("state", word(event.row.state));
    if let Some(erased_at) = event.row.erased_at {
        fact("erased", format!("{erased_at}: body, headers and query are gone"));
    }
    if event.row.shadow {
        let what = "SHADOW: its signature did not hold, so anybody may have sent it";
        fact("flag", what.to_owned());
    }
    fact("received", event.row.received_at.to_string());
    fact(
        "identity",
        event.identity.clone().unwrap_or_else(|| "none: nothing is deduplicated".to_owned()),
    );
    fact("mark until", event.mark_until.map(|until| until.to_string()).unwrap_or_default());
    if event.row.resent_under_new_id {
        fact("flag", "the same signed content had come before under another id".to_owned());
    }
    if let Some(request) = event.request_id {
        fact("request", format!("{request}, which held more: --request prints it"));
    }
    fact("duplicates", event.row.duplicates.to_string());
    for duplicate in &event.duplicates_seen {
        let marker = duplicate.retry_marker.clone().unwrap_or_default();
        fact("  duplicate", format!("{} {marker}", duplicate.received_at));
    }
    for shown in &event.deliveries {
        let delivery = &shown.delivery;
        fact("delivery", format!("{} {} {}", delivery.id, delivery.handler, word(delivery.state)));
        for attempt in &shown.attempts_made {
            fact("  attempt", super::deliveries::attempt(attempt));
        }
    }
    for (name, value) in &event.headers {
        fact("header", format!("{name}: {value}"));
    }
    let body = event.body.clone().or_else(|| event.body_base64.clone()).unwrap_or_default();
    format!("{text}\n{body}")
}

fn killed(changed: &Changed) -> String {
    match changed.deliveries.len() {
        0 => "erased".to_owned(),
        killed => {
            format!("erased; {killed} deliveries that were not at their end are dead letters")
        }
    }
}

pub(super) fn changed(changed: &Changed) -> String {
    let ids = changed.deliveries.iter().map(|id| format!("\n  {id}")).collect::<String>();
    let more = if changed.more { "\nthere are more: ask again for the rest" } else { "" };
    format!("{} deliveries{ids}{more}", changed.deliveries.len())
}
