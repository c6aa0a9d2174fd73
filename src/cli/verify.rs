//! `hookonce verify`: what the receiver would say to a captured request, without a server.

use std::process::ExitCode;

use anyhow::Context as _;
use hookonce::{
    clock::{SystemClock, Timestamp},
    event::NewEvent,
    fixture::Fixture,
    provider::{self, PROVIDERS, Provider, Settings},
    secret::Secret,
    source::Source,
    verify::{self, Checked},
};
use serde::Serialize;

use super::{Everywhere, Misused, output::Output, sign::secret, stand_in::read};

/// Check a captured request, or a file of them, at the time it was sent.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// A captured request as a `.http` file, or `-`; its head may hold the settings
    #[arg(required_unless_present = "vectors", conflicts_with = "vectors")]
    file: Option<String>,
    /// Check a file of vectors, one JSON object a line; prints a result for each
    #[arg(long, value_name = "FILE")]
    vectors: Option<String>,
    /// The provider that sent it
    #[arg(long, required_unless_present_any = ["vectors", "source"])]
    provider: Option<String>,
    /// The source of the configuration that it was sent to, with its settings [default: the only one of
    /// that provider]
    #[arg(long, conflicts_with = "vectors")]
    source: Option<String>,
    /// A secret of the source; may be given again
    #[arg(long, value_parser = secret)]
    secret: Vec<Secret>,
    /// A public key of the source; may be given again
    #[arg(long, value_name = "KEY")]
    public_key: Vec<String>,
    /// Another setting of the source; may be given again
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
    /// Judge as of this time, in Unix seconds [default: the file's `# now:`, or now]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    now: Option<i64>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let halves = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((halves.0.trim().to_owned(), halves.1.trim().to_owned()))
}

impl Verify {
    pub(crate) fn run(&self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let output = everywhere.output();
        let all_is_well = match (&self.vectors, &self.file) {
            (Some(vectors), _) => check_vectors(vectors, output)?,
            (None, Some(file)) => {
                let verdict = self.check(file, everywhere)?;
                output.show(&verdict, text)?;
                verdict.verdict == "accept"
            }
            (None, None) => anyhow::bail!("name a file and its provider"),
        };
        Ok(if all_is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn check(&self, file: &str, everywhere: &Everywhere) -> anyhow::Result<Verdict> {
        let provider = self.provider.as_deref().map(provider_named).transpose()?;
        let fixture = Fixture::parse(&read(file)?).with_context(|| format!("in `{file}`"))?;
        let configured = self.configured(provider, &fixture, everywhere)?;
        let known = configured.as_ref().map(|source| source.provider);
        let provider = provider.or(known).context("name the provider with --provider")?;
        let settings = self.settings(configured.map(|source| source.settings), &fixture);
        let source = Source::new(provider.name(), provider, settings).map_err(|wrong| {
            let wrong = wrong.join("; ");
            Misused(format!(
                "these settings do not do: {wrong}: give them with --secret, --public-key or --set, or name a configured source with --source"
            ))
        })?;
        let given = self.now.map(Timestamp::from_seconds).or(fixture.now);
        let now = given.unwrap_or_else(|| SystemClock::start().now());
        let checked = verify::check(&source, fixture.request().clone(), now);
        Ok(Verdict::of(&checked))
    }

    /// The source of the configuration that a request was sent to: the one that is named, or where there
    /// is a file and nothing else says with what it was signed, the only one of its provider.
    fn configured(
        &self,
        provider: Option<&'static dyn Provider>,
        fixture: &Fixture,
        everywhere: &Everywhere,
    ) -> anyhow::Result<Option<Source>> {
        let settled = everywhere.settled();
        let given = self.settings(None, fixture);
        let has_keys = !given.secrets.is_empty() || !given.public_keys.is_empty();
        let is_asked_for = self.source.is_some() || (!has_keys && settled.config.is_some());
        if !is_asked_for {
            return Ok(None);
        }
        let config = settled.look_at_config().context("give the secret with --secret, or:")?;
        let is_meant = |source: &Source| {
            self.source.as_ref().is_none_or(|name| *source.name == **name)
                && provider.is_none_or(|provider| source.provider.name() == provider.name())
        };
        let mut meant: Vec<Source> = config.sources.into_iter().filter(is_meant).collect();
        if meant.len() > 1 {
            let several = "several sources are of this provider: name one with --source";
            return Err(Misused(several.to_owned()).into());
        }
        match (meant.pop(), &self.source) {
            (None, Some(name)) => Err(Misused(format!("there is no such source `{name}`")).into()),
            (found, _) => Ok(found),
        }
    }

    /// What the command line says stands before what the file says of itself, and that before what is
    /// configured.
    fn settings(&self, configured: Option<Settings>, fixture: &Fixture) -> Settings {
        let mut settings = configured.unwrap_or_default();
        let of_file = &fixture.settings;
        for secrets in [&of_file.secrets, &self.secret].into_iter().filter(|of| !of.is_empty()) {
            settings.secrets.clone_from(secrets);
        }
        for keys in [&of_file.public_keys, &self.public_key].into_iter().filter(|of| !of.is_empty())
        {
            settings.public_keys.clone_from(keys);
        }
        settings.tolerance = of_file.tolerance.or(settings.tolerance);
        settings.extra.extend(of_file.extra.clone());
        settings.extra.extend(self.set.iter().cloned());
        settings
    }
}

fn provider_named(name: &str) -> Result<&'static dyn Provider, Misused> {
    provider::find(name).ok_or_else(|| {
        let known: Vec<_> = PROVIDERS.iter().map(|provider| provider.name()).collect();
        Misused(format!("there is no provider `{name}`; there are: {}", known.join(", ")))
    })
}

/// What became of one request. It says more than a sender would be told.
#[derive(Serialize)]
struct Verdict {
    verdict: &'static str,
    code: &'static str,
    /// Which step failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    events: Vec<Named>,
}

/// One event of the request.
#[derive(Serialize)]
struct Named {
    event_id: Option<String>,
    r#type: Option<String>,
    /// What makes two requests the same event. None: nothing does.
    identity: Option<String>,
}

impl Verdict {
    fn of(checked: &Checked) -> Self {
        let (events, reason) = match checked {
            Checked::Accepted(events, _) => (events.iter().map(Named::of).collect(), None),
            Checked::Handshake(_) => (Vec::new(), None),
            Checked::Refused(refusal) => (Vec::new(), Some(refusal.to_string())),
        };
        Self { verdict: checked.verdict(), code: checked.code(), reason, events }
    }
}

impl Named {
    fn of(event: &NewEvent) -> Self {
        let named = &event.named;
        Self {
            event_id: named.event_id.clone(),
            r#type: named.event_type.clone(),
            identity: named.identity.as_ref().map(|identity| identity.as_str().to_owned()),
        }
    }
}

fn text(verdict: &Verdict) -> String {
    let mut lines = vec![format!("{}: {}", verdict.verdict, verdict.code)];
    lines.extend(verdict.reason.clone());
    for event in &verdict.events {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        lines.push(format!("event id  {}", shown(&event.event_id)));
        lines.push(format!("type      {}", shown(&event.r#type)));
        lines.push(format!("identity  {}", shown(&event.identity)));
    }
    lines.join("\n")
}

/// Prints a result for each vector; says whether all are as expected.
fn check_vectors(file: &str, output: Output) -> anyhow::Result<bool> {
    let content = read(file)?;
    let text = std::str::from_utf8(&content).with_context(|| format!("`{file}` is not UTF-8"))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let (mut checked, mut unsupported, mut differing) = (0, 0, 0);
    for (at, line) in lines {
        let result = verify::check_vector(line)
            .with_context(|| format!("line {} of `{file}` is no vector", at + 1))?;
        output.json_line(&result)?;
        checked += 1;
        unsupported += usize::from(result.verdict == "unsupported");
        if !result.as_expected {
            differing += 1;
            output.remark(&format!("not as expected: {} {}", result.provider, result.name));
        }
    }
    output.remark(&format!(
        "{checked} vectors: {} as expected, {differing} not, {unsupported} of providers not known",
        checked - unsupported - differing,
    ));
    Ok(differing == 0)
}
