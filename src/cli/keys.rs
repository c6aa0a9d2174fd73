//! `hookonce keys`: list them, show one, resolve an unknown outcome.

use std::{fmt::Write as _, process::ExitCode};

use clap::{ArgGroup, Subcommand};
use hookonce::{
    admin::keys::{KeyCursor, KeyPage, KeyQuery, ResolveRequest, ResolvedKey},
    key::{KeyId, KeyRecord, KeyState},
};

use super::{
    Everywhere, Misused,
    asker::Asker,
    events::{named, word},
    output::table,
};

/// List the keys of your APIs, show one, or resolve one whose outcome is unknown.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Keys {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List them
    List(List),
    /// Show everything about one key
    Show {
        /// Its id, as in the list
        id: KeyId,
    },
    /// Say how an unknown outcome ended
    Resolve(Resolve),
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only of this API
    #[arg(long)]
    api: Option<String>,
    /// Only in this state
    #[arg(long, value_parser = named::<KeyState>, value_name = "in_progress|completed|unknown")]
    state: Option<KeyState>,
    /// The page after the one that ended with this
    #[arg(long, value_name = "NEXT")]
    before: Option<KeyCursor>,
    /// Rows to show
    #[arg(long)]
    limit: Option<usize>,
}

/// What became of the work is for a person to say, and never guessed: a yes to the wrong one lets it be
/// done a second time.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("outcome").required(true).multiple(false))]
struct Resolve {
    /// Its id, as in the list
    id: KeyId,
    /// The work was not done: the next request with the key is sent on
    #[arg(long, group = "outcome")]
    free: bool,
    /// The work was done: the next request with the key gets the answer below
    #[arg(long, group = "outcome")]
    complete: bool,
    /// The answer's status
    #[arg(long, conflicts_with = "free", default_value_t = 200)]
    status: u16,
    /// A header of the answer; can be given several times
    #[arg(long = "header", conflicts_with = "free", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The answer's body
    #[arg(long, conflicts_with = "free", default_value = "")]
    body: String,
}

impl Keys {
    pub(crate) async fn run(self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let asker = Asker::find(everywhere).await?;
        let output = everywhere.output();
        match self.what {
            None => output.show(&asker.keys(self.list.into()).await?, page)?,
            Some(What::List(list)) => output.show(&asker.keys(list.into()).await?, page)?,
            Some(What::Show { id }) => output.show(&asker.key(id).await?, one)?,
            Some(What::Resolve(resolve)) => {
                let (id, ask) = (resolve.id, resolve.request()?);
                output.show(&asker.resolve_key(id, ask).await?, resolved)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl From<List> for KeyQuery {
    fn from(list: List) -> Self {
        let List { api, state, before, limit } = list;
        Self { api, state, before, limit }
    }
}

impl Resolve {
    fn request(self) -> Result<ResolveRequest, Misused> {
        if self.free {
            return Ok(ResolveRequest::Free);
        }
        let header = |line: String| {
            let (name, value) = line.split_once(':').ok_or_else(|| {
                Misused(format!("`{line}` is no header: write it as `Name: value`"))
            })?;
            Ok((name.to_owned(), value.trim().to_owned()))
        };
        let headers = self.headers.into_iter().map(header).collect::<Result<_, _>>()?;
        Ok(ResolveRequest::Complete { status: self.status, headers, body: self.body })
    }
}

fn page(page: &KeyPage) -> String {
    let mut table = table(["id", "begun", "api", "request", "key", "state", "replays"]);
    for row in &page.keys {
        table.add_row([
            row.id.to_string(),
            row.begun_at.to_string(),
            row.scope.api.clone(),
            format!("{} {}", row.scope.method, row.scope.path),
            row.scope.key.clone(),
            word(row.state),
            row.replays.to_string(),
        ]);
    }
    let more = page.next.map(|next| format!("\nmore: --before {next}")).unwrap_or_default();
    format!("{table}{more}")
}

fn one(key: &KeyRecord) -> String {
    let mut text = String::new();
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            writeln!(text, "{name:<12} {value}").expect("writing to a String does not fail");
        }
    };
    let time = |time: Option<hookonce::clock::Timestamp>| {
        time.map(|time| time.to_string()).unwrap_or_default()
    };
    fact("id", key.id.to_string());
    fact("api", key.scope.api.clone());
    fact("request", format!("{} {}", key.scope.method, key.scope.path));
    fact("key", key.scope.key.clone());
    fact("principal", key.scope.principal.clone());
    fact("state", word(key.state));
    fact("note", key.note.clone().unwrap_or_default());
    fact("begun", key.begun_at.to_string());
    if key.state == KeyState::InProgress {
        fact("leased until", key.lease_until.to_string());
    }
    fact("completed", time(key.completed_at));
    fact("kept until", time(key.expires_at));
    fact("replays", key.replays.to_string());
    fact("fingerprint", key.fingerprint.to_string());
    text
}

fn resolved(resolved: &ResolvedKey) -> String {
    let state = resolved.state.map_or_else(|| "free".to_owned(), word);
    format!("key {} is {state}", resolved.id)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Arguments;

    #[test]
    fn who_resolves_a_key_without_saying_how_is_offered_both_ways() {
        let id = "0a".repeat(32);
        let resolve = |more: &[&str]| {
            Arguments::try_parse_from([&["hookonce", "keys", "resolve", &id], more].concat())
        };
        let said = resolve(&[]).unwrap_err().to_string();
        assert!(said.contains("not provided:\n  <--free|--complete>"), "{said}");
        assert!(resolve(&["--free", "--complete"]).is_err());
        assert!(resolve(&["--free"]).is_ok());
        assert!(resolve(&["--complete", "--status", "201"]).is_ok());
        assert!(resolve(&["--free", "--status", "201"]).is_err());
    }
}
