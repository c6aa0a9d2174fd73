//! `hookonce send`: stand in for a provider, with its retries.

use std::{num::NonZeroU32, process::ExitCode};

use anyhow::Context as _;
use hookonce::{
    clock::SystemClock,
    fixture::{Fixture, Template},
    provider,
};
use serde::Serialize;
use tokio::net::TcpStream;
use url::Url;

use super::{
    Everywhere, Misused,
    asker::Unreachable,
    load::Load,
    output::table,
    sender::{Sender, SigningSender},
    stand_in::StandIn,
    tally::Report,
    trust,
};

/// Send events as a provider would: signed, in copies, at once, again.
#[derive(Debug, clap::Args)]
pub(crate) struct Send {
    /// The source; without a configuration file, the provider's name
    source: String,
    /// A fixture's name, a `.http` file, or a body in a file or `-` [default: the provider's first fixture]
    #[arg(value_name = "FILE|FIXTURE")]
    what: Option<String>,
    /// How many events, each with ids of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    events: u64,
    /// How often each event is sent
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    copies: u64,
    /// Send at once, over N connections, and not one after another [N: 64]
    #[arg(long, num_args = 0..=1, default_missing_value = "64", value_parser = clap::value_parser!(u16).range(1..=1024), value_name = "N")]
    concurrent: Option<u16>,
    /// Begin at most N requests a second
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU32>,
    /// Where to send it; without a path, to the source's [default: the configured server, on this machine]
    #[arg(long, value_name = "URL")]
    to: Option<Url>,
    /// Keep the ids as they are: to hookonce it is an event it may have seen
    #[arg(long, conflicts_with = "events")]
    as_is: bool,
    /// Send again what was not acknowledged, up to N times, and as late as Retry-After asks [N: 20]
    #[arg(long, num_args = 0..=1, default_missing_value = "20", value_name = "N")]
    retry: Option<u32>,
    /// List the provider's fixtures, and send nothing
    #[arg(long)]
    list: bool,
}

impl Send {
    pub(crate) async fn run(&self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let stand_in = StandIn::find(everywhere.load_config()?, &self.source, self.to.as_ref())?;
        if self.list {
            everywhere.output().show(&fixtures(&stand_in), list_text)?;
            return Ok(ExitCode::SUCCESS);
        }
        let report = self.send(everywhere, stand_in).await?;
        everywhere.output().show(&report, Report::text)?;
        Ok(if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn send(&self, everywhere: &Everywhere, stand_in: StandIn) -> anyhow::Result<Report> {
        let template = self.template(everywhere, &stand_in)?;
        if self.retry.is_none() {
            check_that_somebody_listens(&stand_in.to).await?;
        }
        let clock = SystemClock::start();
        let url = stand_in.to.to_string();
        let client = trust::client(everywhere, &url, stand_in.own.as_ref(), None)?;
        let sender = Sender::new(stand_in.to, client, clock.clone());
        let sender = SigningSender { source: stand_in.source, sender, clock };
        let load = self.load();
        let progress = everywhere.output().progress(load.requests());
        let draft = || match self.as_is {
            true => template.original().clone(),
            false => template.draft(&mut rand::rng()),
        };
        let begun = sender.clock.monotonic();
        let tally = load.run(&sender, draft, || progress.advance()).await;
        progress.finish();
        Ok(tally.report(url, sender.clock.monotonic().saturating_sub(begun)))
    }

    fn load(&self) -> Load {
        Load {
            events: self.events,
            copies: self.copies,
            connections: self.concurrent.unwrap_or(1).into(),
            rate_per_second: self.rate,
            retries_max: self.retry.unwrap_or(0),
        }
    }

    fn template(&self, everywhere: &Everywhere, stand_in: &StandIn) -> anyhow::Result<Template> {
        let now = SystemClock::start().now();
        let fixture = stand_in.fixture(self.what.as_deref(), now)?;
        let template = fixture
            .template(&stand_in.source, &stand_in.public_url, now)
            .with_context(|| format!("source `{}`", self.source))?;
        let is_handshake = fixture.expect.as_deref() == Some("handshake");
        if !self.as_is && !is_handshake && !template.renews(&stand_in.source, now, &mut rand::rng())
        {
            let advice = "nothing in this request is known to be an id: name what is new in each \
                          event in the head of a `.http` file, as `# ids: TEXT …`";
            if self.events > 1 {
                return Err(Misused(advice.to_owned()).into());
            }
            everywhere.output().remark(&format!("sent as it is: {advice}"));
        }
        Ok(template)
    }
}

/// One fixture that can be sent.
#[derive(Serialize)]
struct Listed {
    name: String,
    expect: String,
    from: Option<String>,
}

/// What can be sent. The fixtures that are to be refused are about signatures, which are made anew.
fn fixtures(stand_in: &StandIn) -> Vec<Listed> {
    let provider: &dyn provider::Provider = stand_in.source.provider;
    let fixtures = Fixture::all(provider.name()).into_iter();
    let listed = fixtures.filter_map(|fixture| {
        let expect = fixture.expect.filter(|expect| !expect.starts_with("refused"))?;
        Some(Listed { name: fixture.name, expect, from: fixture.from })
    });
    listed.collect()
}

fn list_text(fixtures: &Vec<Listed>) -> String {
    let mut table = table(["name", "what it is"]);
    for fixture in fixtures {
        table.add_row([&fixture.name, &fixture.expect]);
    }
    table.to_string()
}

/// Says at once that no server runs, before a million requests find out one by one.
async fn check_that_somebody_listens(to: &Url) -> Result<(), Unreachable> {
    let host = to.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = to.port_or_known_default().unwrap_or(80);
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await;
    match connected {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Unreachable::Receiver(to.to_string())),
    }
}

const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
