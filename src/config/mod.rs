//! The configuration: from the file as it was written to values that are ready to use.
//!
//! A file is read in two steps. `raw` parses it, keeps the place of every value and fills in the
//! environment; then one file per section resolves it, with `keys` as the list of what there is. Every
//! mistake is collected on the way, so that one run tells them all; a configuration with a mistake is
//! never used in part.

use std::{fs, io, io::Read as _, path::Path};

mod access;
mod apis;
mod environment;
mod handlers;
mod keys;
mod log;
mod mistakes;
mod notices;
mod raw;
mod reference;
mod restart;
mod section;
mod server;
mod sources;
mod store;
mod telemetry;
mod values;
mod without_file;
mod workers;

pub use access::Access;
pub use environment::{Environment, process_environment};
pub use handlers::{HandlerConfig, HandlerKind};
pub use keys::{Fallback, KEYS, Key, Kind};
pub use log::{Log, LogFormat};
pub use mistakes::{Mistakes, Place, Remark};
pub use notices::Notices;
pub use reference::{EXAMPLE, reference};
pub use restart::UntilRestart;
pub use server::Server;
pub use store::{Store, store_url};
pub use telemetry::Telemetry;
pub use workers::Workers;

use self::{mistakes::Findings, raw::Table, section::Section, without_file::NewSecrets};
use crate::{
    api::Api,
    limits,
    provider::{PROVIDERS, Provider},
    source::Source,
};

/// Where the configuration is when nobody says otherwise.
pub const DEFAULT_FILE: &str = "hookonce.toml";

/// The folder of local files when nobody says otherwise.
pub const DEFAULT_DATA_DIR: &str = "hookonce-data";

/// Everything that can be configured, checked and ready to use.
#[derive(Debug)]
pub struct Config {
    /// Addresses, deadlines and whom to trust.
    pub server: Server,
    /// Where events are kept.
    pub store: Store,
    /// How deliveries are held while they are tried.
    pub workers: Workers,
    /// The endpoints, each with its routes to the handlers. No two share a name or a path.
    pub sources: Vec<Source>,
    /// What is run for which events.
    pub handlers: Vec<HandlerConfig>,
    /// APIs with `Idempotency-Key` in front of them. No two of their paths meet, nor those of sources.
    pub apis: Vec<Api>,
    /// Who is told what happens, without asking.
    pub notices: Notices,
    /// What the operator reads.
    pub log: Log,
    /// Where traces go.
    pub telemetry: Telemetry,
    /// What is odd but no mistake: worth a line when the server starts.
    pub warnings: Vec<Remark>,
}

/// What a configuration depends on besides its file.
#[expect(
    missing_debug_implementations,
    reason = "an environment is a function, and full of secrets"
)]
pub struct Surroundings<'a> {
    /// Where `${NAME}` is looked up.
    pub environment: &'a Environment<'a>,
    /// The providers there are.
    pub providers: &'a [&'static dyn Provider],
    /// The folder that `file:PATH` is relative to: that of the file.
    pub folder: &'a Path,
}

impl Config {
    /// Loads the configuration from the file at `path`, which must then exist, or from
    /// [`DEFAULT_FILE`]; where that is missing too, it is [`Config::without_file`].
    ///
    /// # Errors
    /// Every mistake in the file.
    pub fn load(path: Option<&Path>, environment: &Environment<'_>) -> Result<Self, Mistakes> {
        Self::load_with(path, environment, NewSecrets::Kept)
    }

    /// The same, for who only looks at it: nothing is written. Development secrets that are not kept yet
    /// are others each time.
    ///
    /// # Errors
    /// Every mistake in the file.
    pub fn look(path: Option<&Path>, environment: &Environment<'_>) -> Result<Self, Mistakes> {
        Self::load_with(path, environment, NewSecrets::Forgotten)
    }

    fn load_with(
        path: Option<&Path>,
        environment: &Environment<'_>,
        new_secrets: NewSecrets,
    ) -> Result<Self, Mistakes> {
        let file = path.unwrap_or(Path::new(DEFAULT_FILE));
        let text = match read(file) {
            Ok(text) => text,
            Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => {
                let data_dir = Path::new(DEFAULT_DATA_DIR);
                return without_file::config(environment, data_dir, PROVIDERS, new_secrets);
            }
            Err(error) => return Err(unreadable(file, &error)),
        };
        let folder = file.parent().unwrap_or(Path::new(""));
        let around = Surroundings { environment, providers: PROVIDERS, folder };
        Self::parse(&text, file, &around)
    }

    /// Reads the configuration `text`, which is the content of `file`: its name is used in messages.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn parse(text: &str, file: &Path, around: &Surroundings<'_>) -> Result<Self, Mistakes> {
        let mut found = Findings::new(file);
        let Some(root) = raw::parse(text, around.environment, &mut found) else {
            return Err(found.into_mistakes());
        };
        let config = resolve(&root, around, &mut found);
        found.finish().map(|warnings| Self { warnings, ..config })
    }

    /// What hookonce runs with when there is no configuration file: an SQLite store in `data_dir`, a
    /// source for every provider, and a handler `log` that writes every event to the log.
    ///
    /// A source's secret is the provider's variable in the environment, or else a development secret
    /// that is made once and kept in `data_dir` with mode 600. Processes that start at the same time
    /// end with the same ones.
    ///
    /// # Errors
    /// When the development secrets can neither be read nor made.
    pub fn without_file(environment: &Environment<'_>, data_dir: &Path) -> Result<Self, Mistakes> {
        without_file::config(environment, data_dir, PROVIDERS, NewSecrets::Kept)
    }
}

/// Every section in turn; what is wrong is in `found`, and the result of no use then.
fn resolve(root: &Table, around: &Surroundings<'_>, found: &mut Findings) -> Config {
    refuse_unknown_sections(root, found);
    let server = server::resolve(&Section::top(root, "server", found), around.folder, found);
    let store =
        store::resolve(&Section::top(root, "store", found), &server.data_dir, around, found);
    let workers = workers::resolve(&Section::top(root, "workers", found), found);
    let handlers = handlers::resolve(root, &sources::names(root), store.url.expose(), found);
    let sources = sources::resolve(root, &handlers, around, found);
    let apis = apis::resolve(root, &sources, around, found);
    let notices = notices::resolve(&Section::top(root, "notices", found), found);
    let log = log::resolve(&Section::top(root, "log", found), found);
    let telemetry = telemetry::resolve(&Section::top(root, "telemetry", found), found);
    if sources::names(root).is_empty() && apis.is_empty() {
        found.warning(None, "sources", "there is none: every webhook will be answered 404");
    }
    let warnings = Vec::new();
    Config { server, store, workers, sources, handlers, apis, notices, log, telemetry, warnings }
}

fn refuse_unknown_sections(root: &Table, found: &mut Findings) {
    let known = keys::top_sections();
    for (name, entry) in root.in_order() {
        if !known.contains(&name) {
            found.mistake(entry.key_place, &entry.key, section::unknown(name, &known));
        }
    }
}

/// The text of a file, unless it is absurdly long: a mistyped path may lead to anything.
fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(file)?.take(limits::CONFIG_BYTES_MAX + 1).read_to_string(&mut text)?;
    let is_too_long = text.len() as u64 > limits::CONFIG_BYTES_MAX;
    if is_too_long { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
}

fn unreadable(file: &Path, error: &io::Error) -> Mistakes {
    let mut found = Findings::new(file);
    let message = match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such file: name one that exists, or none to run without".to_owned()
        }
        io::ErrorKind::InvalidData => "the file is not UTF-8 text".to_owned(),
        kind => format!("the file cannot be read: {kind}"),
    };
    found.mistake(None, "", message);
    found.into_mistakes()
}
