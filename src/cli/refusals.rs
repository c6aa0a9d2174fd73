//! `hookonce refusals`: list refused requests, show one, admit some after all.

use std::{fmt::Write as _, process::ExitCode};

use clap::Subcommand;
use hookonce::{
    admin::{Readmitted, ReadmittedStatus, RefusalPage, RefusalQuery, RefusalRecord},
    doctor::Finding,
    refusal::{RefusalId, Step},
};

use super::{
    Everywhere,
    asker::Asker,
    events::{named, word},
    output::{Output, table},
};

/// List refused requests, show one, or admit some after all.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Refusals {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List them, newest first: what is done when nothing is said
    List(List),
    /// Show everything about one, but its credentials
    Show {
        /// Its id, as in the list
        id: RefusalId,
    },
    /// Verify them again, as of when they were received, and admit those that hold now
    ///
    /// The configuration is today's. The exit code is 0 if all of them are admitted, or were already.
    Readmit {
        /// Their ids, as in the list
        #[arg(required = true)]
        ids: Vec<RefusalId>,
    },
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only of this source
    #[arg(long)]
    source: Option<String>,
    /// Only those refused at this step: `no_match`, stale, `header_missing` …
    #[arg(long, value_parser = named::<Step>)]
    step: Option<Step>,
    /// The page after the one that ended with this id
    #[arg(long, value_name = "ID")]
    before: Option<RefusalId>,
    /// Rows to show
    #[arg(long)]
    limit: Option<usize>,
}

impl Refusals {
    pub(crate) async fn run(self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let asker = Asker::find(everywhere).await?;
        let output = everywhere.output();
        match self.what.unwrap_or(What::List(self.list)) {
            What::List(list) => output.show(&asker.refusals(list.into()).await?, page)?,
            What::Show { id } => output.show(&asker.refusal(id).await?, one)?,
            What::Readmit { ids } => return readmit(&asker, output, ids).await,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Admits one after the other. Where one cannot be, what was done before is told all the same.
async fn readmit(asker: &Asker, output: Output, ids: Vec<RefusalId>) -> anyhow::Result<ExitCode> {
    let mut done = Vec::new();
    let mut failed = None;
    for id in ids {
        match asker.readmit(id).await {
            Ok(readmitted) => done.push(readmitted),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    output.show(&done, |done| done.iter().map(outcome).collect())?;
    let all_are_in = done.iter().all(|one| one.status != ReadmittedStatus::Refused);
    match failed {
        Some(error) => Err(error),
        None if all_are_in => Ok(ExitCode::SUCCESS),
        None => Ok(ExitCode::FAILURE),
    }
}

impl From<List> for RefusalQuery {
    fn from(list: List) -> Self {
        let List { source, step, before, limit } = list;
        Self { source, step, before, limit }
    }
}

fn page(page: &RefusalPage) -> String {
    let mut table = table(["id", "received", "source", "step", "likely cause"]);
    for view in &page.refusals {
        let row = &view.row;
        let readmitted = row.readmitted.as_ref().map(|_| "readmitted".to_owned());
        table.add_row([
            row.id.to_string(),
            row.received_at.to_string(),
            row.source.to_string(),
            row.step.name().to_owned(),
            readmitted.unwrap_or_else(|| view.finding.cause.clone()),
        ]);
    }
    let more = page.next.map(|next| format!("\nmore: --before {next}")).unwrap_or_default();
    format!("{table}{more}")
}

fn one(refusal: &RefusalRecord) -> String {
    let row = &refusal.view.row;
    let mut text = String::new();
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            writeln!(text, "{name:<14} {value}").expect("writing to a String does not fail");
        }
    };
    fact("id", row.id.to_string());
    fact("source", row.source.to_string());
    fact("received", row.received_at.to_string());
    fact("from", row.peer.map(|peer| peer.to_string()).unwrap_or_default());
    fact("step", row.step.name().to_owned());
    fact("problem", row.problem.clone());
    if let Some(readmission) = &row.readmitted {
        let events: String = readmission.events.iter().map(|id| format!(" {id}")).collect();
        fact("readmitted", format!("{} as{events}", readmission.at));
    }
    fact("cause", refusal.view.finding.cause.clone());
    fact("fix", refusal.view.finding.fix.clone());
    for evidence in &refusal.view.finding.evidence {
        fact("  found", evidence.clone());
    }
    fact("request", format!("{} {}", row.method, row.url));
    for (name, value) in &refusal.headers {
        fact("header", format!("{name}: {value}"));
    }
    if refusal.has_credentials {
        fact("credentials", "sealed, and not shown".to_owned());
    }
    if !row.body_kept {
        fact("body", "not kept: it cannot be readmitted".to_owned());
    }
    let body = refusal.body.clone().or_else(|| refusal.body_base64.clone()).unwrap_or_default();
    format!("{text}\n{body}")
}

fn outcome(one: &Readmitted) -> String {
    let events: String = one.events.iter().map(|id| format!(" {id}")).collect();
    let why = one.finding.as_ref().map(because).unwrap_or_default();
    format!("{} {}{events}{why}\n", one.id, word(one.status))
}

fn because(finding: &Finding) -> String {
    format!(": {}\n  fix: {}", finding.cause, finding.fix)
}
