//! The commands: what each is for is said here, what it does in its own file.

mod asker;
mod check;
mod client;
mod deliveries;
mod demo;
mod doctor;
mod events;
mod existing;
mod handlers;
mod health;
mod keys;
mod load;
mod lots;
mod migrate;
mod output;
mod providers;
mod redrive;
mod refusals;
mod reload;
mod replay;
mod send;
mod sender;
mod serve;
mod sign;
mod stand_in;
mod stats;
mod store;
mod tail;
mod tally;
mod trust;
mod verify;

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand};
use hookonce::{
    admin::AdminError,
    config::{Access, Config, DEFAULT_FILE, Mistakes, process_environment},
    secret::Secret,
};

use self::output::Output;

/// Receives webhooks, runs each event's handler once, and loses none.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    everywhere: Everywhere,
    #[command(subcommand)]
    command: Command,
}

/// Over these in `--help`: a command's own options stand apart from them.
const EVERYWHERE: &str = "For every command that it concerns";

/// What every command takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Everywhere {
    /// The configuration file [default: ./hookonce.toml, or none]
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The admin address of a running server [default: the one in the configuration]
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "URL")]
    server: Option<String>,
    /// The token of that server [default: the one in the configuration]
    #[arg(
        long,
        global = true,
        help_heading = EVERYWHERE,
        value_name = "TOKEN",
        env = "HOOKONCE_TOKEN",
        hide_env_values = true,
        value_parser = secret
    )]
    token: Option<Secret>,
    /// A PEM file with authorities to believe besides the system's, for a server at https://
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Receive webhooks and run their handlers
    Serve(serve::Serve),
    /// Rehearse every provider's retries in one process, and check the promises
    ///
    /// Each event is sent as its provider would: once, again, twenty times at once, forged, to a handler
    /// that fails, and after a restart. The exit code is 1 if a promise broke.
    Demo(demo::Demo),
    /// Send events as a provider would: signed, in copies, at once, again
    ///
    /// The secret is the source's own, out of the same configuration that the server runs with, and every
    /// attempt is signed anew. The exit code is 0 if every request was answered 2xx in the end.
    Send(send::Send),
    /// Print a request as the provider would sign it
    ///
    /// What is printed can be checked with `hookonce verify`, and sent with curl or `hookonce send --as-is`.
    Sign(sign::Sign),
    /// Check a captured request, or a file of them, at the time it was sent
    ///
    /// The exit code is 0 if it would be accepted, or if every vector is as expected.
    Verify(verify::Verify),
    /// Have a running server read its configuration again
    ///
    /// Sources, handlers and APIs change at once, and no request is lost. The exit code is not 0 if there
    /// is a mistake in the file: then the old configuration goes on.
    Reload(reload::Reload),
    /// Check the configuration and the store, and say what a yes survives
    Check(check::Check),
    /// Bring the schema of the store up to this version of hookonce
    ///
    /// A store that is new needs none. On Postgres, run it once when a new version says so. Two at once
    /// wait for each other.
    Migrate(migrate::Migrate),
    /// Find out what is wrong: the configuration, the store, and why requests were refused
    ///
    /// The exit code is 0 if nothing is wrong, 1 if requests were refused, 64 for a mistake in the
    /// configuration and 69 when the store is not available.
    Doctor(doctor::Doctor),
    /// Ask a running server whether it is ready: for containers and load balancers
    Health(health::Health),
    /// Show what was counted, and what waits now
    Stats(stats::Stats),
    /// List events, show one, or admit a held one
    Events(events::Events),
    /// List deliveries, show one's attempts, move, kill or unblock them
    Deliveries(deliveries::Deliveries),
    /// List handlers, pause and resume one, change how much it may do
    ///
    /// What is said stands over the configuration, for every process and over restarts.
    Handlers(handlers::Handlers),
    /// Deliver an event again, as a new delivery
    Replay(replay::Replay),
    /// Queue dead letters again, with a fresh budget
    Redrive(redrive::Redrive),
    /// See to the store itself: back it up and restore it, move everything into another, accept a loss
    Store(store::Store),
    /// List refused requests, show one, or admit some after all
    Refusals(refusals::Refusals),
    /// Watch what a running server receives and does, as it happens
    Tail(tail::Tail),
    /// List the keys of your APIs, show one, or resolve one whose outcome is unknown
    Keys(keys::Keys),
    /// Show the providers: scheme, identity, window, handshake
    Providers(providers::Providers),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Runs a command. The code is 0 when all is well, 1 when the answer is no, 64 for a mistake in the
/// configuration and 69 when something is not available.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { everywhere, command } = arguments;
    match command {
        Command::Serve(serve) => serve.run(&everywhere).await,
        Command::Demo(demo) => demo.run(&everywhere).await,
        Command::Send(send) => send.run(&everywhere).await,
        Command::Sign(sign) => sign.run(&everywhere),
        Command::Verify(verify) => verify.run(&everywhere),
        Command::Reload(reload) => reload.run(&everywhere).await,
        Command::Check(check) => check.run(&everywhere).await,
        Command::Migrate(migrate) => migrate.run(&everywhere).await,
        Command::Doctor(doctor) => doctor.run(&everywhere).await,
        Command::Health(health) => health.run(&everywhere).await,
        Command::Stats(stats) => stats.run(&everywhere).await,
        Command::Events(events) => events.run(&everywhere).await,
        Command::Deliveries(deliveries) => deliveries.run(&everywhere).await,
        Command::Handlers(handlers) => handlers.run(&everywhere).await,
        Command::Replay(replay) => replay.run(&everywhere).await,
        Command::Redrive(redrive) => redrive.run(&everywhere).await,
        Command::Store(store) => store.run(&everywhere).await,
        Command::Refusals(refusals) => refusals.run(&everywhere).await,
        Command::Tail(tail) => tail.run(&everywhere).await,
        Command::Keys(keys) => keys.run(&everywhere).await,
        Command::Providers(providers) => providers.run(&everywhere),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "hookonce", &mut script);
            everywhere.output().raw(&script)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A command line that makes sense but asks for what cannot be: the code of `sysexits.h`.
const EXIT_USAGE: u8 = 64;
/// Something that is needed is not there just now.
const EXIT_UNAVAILABLE: u8 = 69;

/// The command line names something that is not there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misused(String);

/// Writes an error down and gives the exit code that fits it.
pub(crate) fn tell_failure(error: &anyhow::Error) -> ExitCode {
    Output::tell_error(error);
    if error.is::<Mistakes>() || error.is::<Misused>() {
        ExitCode::from(EXIT_USAGE)
    } else if error.is::<asker::Unreachable>()
        || error.is::<existing::NoStore>()
        || error.is::<hookonce::store::StoreError>()
        || matches!(error.downcast_ref(), Some(AdminError::Store(_)))
        || error.is::<hookonce::store::moving::CopyError>()
    {
        ExitCode::from(EXIT_UNAVAILABLE)
    } else {
        ExitCode::FAILURE
    }
}

fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}

impl Everywhere {
    /// The same, with the file named that is there by default. Once a file was used, its absence is a
    /// mistake: who takes it away must not get the development configuration by it.
    fn settled(&self) -> Self {
        let default = Path::new(DEFAULT_FILE);
        let there = || default.exists().then(|| default.to_owned());
        Self { config: self.config.clone().or_else(there), ..self.clone() }
    }

    /// The configuration to run with. Without a file, development secrets are made.
    fn load_config(&self) -> Result<Config, Mistakes> {
        Config::load(self.config.as_deref(), &process_environment)
    }

    /// How the server of the configuration is asked.
    fn access(&self) -> Result<Access, Mistakes> {
        Access::load(self.config.as_deref(), &process_environment)
    }

    /// The configuration to look at, or to open the store of. Nothing is made.
    fn look_at_config(&self) -> Result<Config, Mistakes> {
        Config::look(self.config.as_deref(), &process_environment)
    }

    fn output(&self) -> Output {
        Output { json: self.json }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
