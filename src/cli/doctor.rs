//! `hookonce doctor`: what is wrong, and what to do about it.

use std::{collections::BTreeMap, fmt::Write as _, process::ExitCode};

use hookonce::{
    admin::{RefusalQuery, RefusalView},
    clock::Timestamp,
    doctor::{Finding, Kind},
    refusal::RefusalId,
};
use serde::Serialize;

use super::{
    Everywhere,
    asker::Asker,
    check::{self, Report},
    events::time,
    existing::NoStore,
};

/// Find out what is wrong: the configuration, the store, and why requests were refused.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// Only of this source
    #[arg(long)]
    source: Option<String>,
    /// How far back to look for refused requests: 1d, or a time as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = time)]
    since: Timestamp,
}

/// What was found.
#[derive(Serialize)]
struct Diagnosis {
    /// Whether nothing is wrong.
    ok: bool,
    check: Report,
    /// By source: why its requests were refused, the latest first. What was readmitted is left out.
    sources: BTreeMap<String, Vec<Group>>,
}

/// Refused requests of one source with the same cause.
#[derive(Serialize)]
struct Group {
    #[serde(flatten)]
    finding: Finding,
    /// How many are kept.
    count: usize,
    /// How many more of the same step were refused and not kept.
    left_out: u64,
    newest_at: Timestamp,
    /// Those that are kept, newest first.
    ids: Vec<RefusalId>,
}

/// How many ids a person is shown of each group.
const IDS_SHOWN: usize = 3;

impl Doctor {
    pub(crate) async fn run(self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let check = check::check(everywhere).await;
        let sources = if check.ok { self.groups(everywhere).await? } else { BTreeMap::new() };
        let diagnosis = Diagnosis { ok: check.ok && sources.is_empty(), check, sources };
        everywhere.output().show(&diagnosis, text)?;
        Ok(match (diagnosis.check.ok, diagnosis.ok) {
            (false, _) => diagnosis.check.exit_code(),
            (true, false) => ExitCode::FAILURE,
            (true, true) => ExitCode::SUCCESS,
        })
    }

    async fn groups(
        &self,
        everywhere: &Everywhere,
    ) -> anyhow::Result<BTreeMap<String, Vec<Group>>> {
        let asker = match Asker::find(everywhere).await {
            Err(error) if error.is::<NoStore>() => return Ok(BTreeMap::new()), // nothing was ever refused
            asker => asker?,
        };
        let oldest = self.since;
        let mut groups: BTreeMap<String, Vec<Group>> = BTreeMap::new();
        let mut before = None;
        loop {
            let query = RefusalQuery {
                source: self.source.clone(),
                before,
                limit: Some(PAGE_ROWS),
                ..RefusalQuery::default()
            };
            let page = asker.refusals(query).await?;
            let is_last = page.next.is_none()
                || page.refusals.last().is_some_and(|view| view.row.received_at < oldest);
            for view in page.refusals {
                if view.row.received_at >= oldest && view.row.readmitted.is_none() {
                    add(groups.entry(view.row.source.to_string()).or_default(), view);
                }
            }
            if is_last {
                return Ok(groups);
            }
            before = page.next;
        }
    }
}

/// As many as the server gives at once.
const PAGE_ROWS: usize = hookonce::limits::REFUSAL_PAGE_ROWS_MAX;

/// Adds one to those with the same fix: what differs between them, a time say, is no other cause.
fn add(groups: &mut Vec<Group>, view: RefusalView) {
    let RefusalView { row, finding } = view;
    let same =
        |group: &&mut Group| group.finding.kind == finding.kind && group.finding.fix == finding.fix;
    match groups.iter_mut().find(same) {
        Some(group) => {
            group.count += 1;
            group.left_out += row.left_out;
            group.ids.push(row.id);
        }
        None => groups.push(Group {
            finding,
            count: 1,
            left_out: row.left_out,
            newest_at: row.received_at,
            ids: vec![row.id],
        }),
    }
}

fn text(diagnosis: &Diagnosis) -> String {
    let mut lines = check::lines(&diagnosis.check);
    if diagnosis.ok {
        lines.extend(diagnosis.check.verdict());
    }
    let mut text = lines.join("\n");
    let mut line = |line: String| {
        writeln!(text, "{line}").expect("writing to a String does not fail");
    };
    for (source, groups) in &diagnosis.sources {
        line(format!("\n\nsource {source}"));
        for group in groups {
            let finding = &group.finding;
            let left_out = match group.left_out {
                0 => String::new(),
                count => format!(" kept, {count} more not kept,"),
            };
            line(format!(
                "  {}{left_out} refused at `{}`, last at {}",
                group.count,
                finding.step.name(),
                group.newest_at
            ));
            line(format!("    cause: {}", finding.cause));
            line(format!("    fix:   {}", finding.fix));
            for evidence in &finding.evidence {
                line(format!("    found: {evidence}"));
            }
            let shown: Vec<_> = group.ids.iter().take(IDS_SHOWN).map(ToString::to_string).collect();
            line(format!("    ids:   {}", shown.join(" ")));
        }
    }
    let all = diagnosis.sources.values().flatten();
    if all.into_iter().any(|group| group.finding.kind == Kind::Mended) {
        line("\nwhat is accepted now is admitted by `hookonce refusals readmit ID…`".to_owned());
    }
    text
}
