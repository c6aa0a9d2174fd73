//! `hookonce store copy`: move everything from one store into another.

use std::{
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use hookonce::{
    clock::SystemClock,
    config::{self, Config, process_environment},
    secret::Secret,
    store::{
        self, Durability, Store, StoreError,
        moving::{self, House, Progress, Report},
    },
};
use serde::Serialize;
use uuid::Uuid;

use crate::cli::{
    Everywhere, Misused,
    existing::refuse_missing,
    output::{self, Output},
};

/// Move everything into another store.
#[derive(Debug, clap::Args)]
pub(crate) struct Copy {
    /// The store to move out of, as in `[store]`; `${NAME}` is taken from the environment
    #[arg(long, value_name = "URL")]
    from: String,
    /// The store to move into, which must be empty
    #[arg(long, value_name = "URL", required_unless_present = "call_off")]
    to: Option<String>,
    /// What the source keeps a yes through
    #[arg(long, value_name = "DURABILITY", default_value = "always", value_parser = DURABILITIES)]
    from_durability: String,
    /// What the target must keep a yes through
    #[arg(long, value_name = "DURABILITY", default_value = "always", value_parser = DURABILITIES)]
    to_durability: String,
    /// Give the source back instead: it serves again, and the target is not used
    #[arg(long)]
    call_off: bool,
}

const DURABILITIES: [&str; 3] = ["always", "replicated", "relaxed"];

/// What came of it.
#[derive(Serialize)]
struct Outcome<'a> {
    from: &'a str,
    to: Option<&'a str>,
    #[serde(flatten)]
    report: Option<Report>,
    called_off: Option<Uuid>,
}

impl Copy {
    pub(crate) async fn run(&self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let config = everywhere.look_at_config()?;
        let output = everywhere.output();
        let from = Place::named(&self.from, &config)?;
        refuse_missing(&from.url)?;
        if self.call_off {
            let store = from.open(&self.from_durability, Some(&config.server.data_dir)).await?;
            let called_off = moving::call_off(house(&*store, &from)).await?;
            let outcome = Outcome { from: &from.name, to: None, report: None, called_off };
            output.show(&outcome, text)?;
            return Ok(ExitCode::SUCCESS);
        }
        let to = Place::named(self.to.as_deref().unwrap_or_default(), &config)?;
        if from.name == to.name {
            return Err(Misused("--from and --to name the same store".to_owned()).into());
        }
        let source = from.open(&self.from_durability, Some(&config.server.data_dir)).await?;
        // What was seen of the target before does not count: it must be empty, and may have been emptied
        // after a copy that was called off. One that loses what it was filled with is known to the source.
        let target = to.open(&self.to_durability, None).await?;
        let teller = Teller::new(output);
        let clock = SystemClock::start();
        let (source, target) = (house(&*source, &from), house(&*target, &to));
        let tell = |progress| teller.tell(progress);
        let report = moving::copy(source, target, Uuid::now_v7(), &*clock, &tell).await;
        teller.bar.finish();
        let report = Some(report?);
        output.show(
            &Outcome { from: &from.name, to: Some(&to.name), report, called_off: None },
            text,
        )?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A store that was named.
struct Place {
    url: Secret,
    /// Its URL without user and password.
    name: String,
}

impl Place {
    fn named(url: &str, config: &Config) -> Result<Self, Misused> {
        let url = config::store_url(url, &config.server.data_dir, &process_environment)
            .map_err(|problems| Misused(problems.join("; ")))?;
        if url.expose().starts_with("memory:") {
            return Err(Misused("nothing is kept in `memory:` when this command ends".to_owned()));
        }
        let name = moving::name_of(url.expose());
        Ok(Self { url, name })
    }

    async fn open(
        &self,
        durability: &str,
        data_dir: Option<&Path>,
    ) -> anyhow::Result<Arc<dyn Store>> {
        let durability = match durability {
            "relaxed" => Durability::Relaxed,
            "replicated" => Durability::Replicated,
            _ => Durability::Always,
        };
        let opened =
            store::connect(self.url.expose(), durability, data_dir, &SystemClock::start()).await;
        opened.map_err(|error| match error {
            StoreError::InUse(_) => anyhow::Error::new(error)
                .context(format!("stop the server that uses {} first", self.name)),
            error => anyhow::Error::new(error).context(self.name.clone()),
        })
    }
}

fn house<'a>(store: &'a dyn Store, place: &'a Place) -> House<'a> {
    House { store, name: &place.name }
}

/// Says how far it is.
struct Teller {
    output: Output,
    bar: output::Progress,
    has_waited: AtomicBool,
}

impl Teller {
    fn new(output: Output) -> Self {
        Self { output, bar: output.progress(0), has_waited: false.into() }
    }

    fn tell(&self, progress: Progress) {
        match progress {
            Progress::Ending(live) => {
                if !self.has_waited.swap(true, Ordering::Relaxed) {
                    let remark =
                        format!("{live} attempts still run; the copy begins when they have ended");
                    self.output.remark(&remark);
                }
            }
            Progress::Copied(done, total) => self.bar.stand_at("copying", done, total),
            Progress::Compared(done, total) => self.bar.stand_at("comparing", done, total),
        }
    }
}

fn text(outcome: &Outcome<'_>) -> String {
    let from = outcome.from;
    let (Some(to), Some(report)) = (outcome.to, &outcome.report) else {
        return match outcome.called_off {
            Some(id) => format!(
                "copy {id} is called off: {from} serves again\n\
                 what was copied is in the other store, and serves nobody: empty it"
            ),
            None => format!("nothing to call off: {from} serves"),
        };
    };
    let mut lines: Vec<String> = Vec::new();
    match &report.copied {
        Some(copied) => {
            lines.extend(copied.kinds().map(|(kind, of)| format!("{:>12} {kind}", of.records)));
        }
        None => lines.push("a run before this one has copied and compared them".to_owned()),
    }
    lines.push(format!("everything in {from} is in {to}, which is open now"));
    lines.push("put this into the configuration, with user and password, and start:".to_owned());
    lines.push(format!("[store]\nurl = \"{to}\""));
    lines.join("\n")
}
