//! What hookonce runs with when there is no configuration file, and the development secrets it makes.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::Path,
};

use zeroize::Zeroizing;

use super::{
    Config, Environment, HandlerConfig, Log, Mistakes, Server, Surroundings, mistakes::Findings,
    notices, raw::Table, section::Section, server, store, telemetry, workers,
};
use crate::{
    private,
    provider::{Provider, Settings},
    secret::Secret,
    source::Source,
};

/// The file in the data folder that keeps the development secrets.
const SECRETS_FILE: &str = "development-secrets.toml";

/// Held while that file is read and written. A file of its own, since the other one is replaced.
const LOCK_FILE: &str = "development-secrets.lock";

/// What becomes of development secrets that are made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NewSecrets {
    /// They are written down, and are the same from now on.
    Kept,
    /// They are not: whoever made them only looks.
    Forgotten,
}

/// See [`Config::without_file`].
pub(super) fn config(
    environment: &Environment<'_>,
    data_dir: &Path,
    providers: &[&'static dyn Provider],
    new_secrets: NewSecrets,
) -> Result<Config, Mistakes> {
    let mut found = Findings::new(&data_dir.join(SECRETS_FILE));
    let mut settings = settings_from(environment, providers);
    let without: Vec<_> =
        providers.iter().copied().filter(|it| !settings.contains_key(it.name())).collect();
    match development_secrets(data_dir, &without, new_secrets, rand::random) {
        Ok(made) => settings.extend(made.into_iter().map(|(name, secret)| (name, with(secret)))),
        Err(error) => {
            found.mistake(None, "", format!("development secrets cannot be kept here: {error}"));
        }
    }
    warn_of_development_secrets(&without, &mut found);

    let named = |provider: &&dyn Provider| provider.name().to_owned();
    let log = HandlerConfig::log_everything(providers.iter().map(named).collect());
    let mut all = Vec::new();
    for &provider in providers {
        let settings = settings.remove(provider.name());
        all.extend(settings.and_then(|settings| source(provider, settings, &log, &mut found)));
    }

    let around = Surroundings { environment, providers, folder: Path::new("") };
    let absent = |name, found: &mut Findings| Section::top(Table::EMPTY, name, found);
    let server = server::resolve(&absent("server", &mut found), Path::new(""), &mut found);
    let store = store::resolve(&absent("store", &mut found), data_dir, &around, &mut found);
    let workers = workers::resolve(&absent("workers", &mut found), &mut found);
    let notices = notices::resolve(&absent("notices", &mut found), &mut found);
    let telemetry = telemetry::resolve(&absent("telemetry", &mut found), &mut found);
    let warnings = found.finish()?;
    Ok(Config {
        server: Server { data_dir: data_dir.to_owned(), ..server },
        store,
        workers,
        sources: all,
        handlers: vec![log],
        apis: Vec::new(),
        notices,
        log: Log::default(),
        telemetry,
        warnings,
    })
}

/// What the environment has of secrets and public keys, by the provider's name. Of a provider that signs
/// with a private key its public one counts, and the secret of a stand-in only without it.
fn settings_from(
    environment: &Environment<'_>,
    providers: &[&'static dyn Provider],
) -> BTreeMap<String, Settings> {
    let mut all = BTreeMap::new();
    for provider in providers {
        let read = |name: &str| environment(name).map(Secret::new).filter(|text| !text.is_blank());
        let public_key = provider.public_key_variable().and_then(|name| read(&name));
        let settings = match public_key {
            Some(key) => {
                let public_keys = vec![key.expose().to_owned()];
                Some(Settings { public_keys, ..Settings::default() })
            }
            None => read(provider.secret_variable()).map(with),
        };
        all.extend(settings.map(|settings| (provider.name().to_owned(), settings)));
    }
    all
}

fn with(secret: Secret) -> Settings {
    Settings { secrets: vec![secret], ..Settings::default() }
}

/// The development secrets of these providers, by name. Those that are not kept yet are made.
fn development_secrets(
    data_dir: &Path,
    providers: &[&'static dyn Provider],
    new_secrets: NewSecrets,
    random: impl Fn() -> [u8; 24],
) -> io::Result<BTreeMap<String, Secret>> {
    if providers.is_empty() {
        return Ok(BTreeMap::new());
    }
    let _lock = match new_secrets {
        NewSecrets::Kept => Some(lock(data_dir)?),
        NewSecrets::Forgotten => None, // the file is replaced as a whole, so it can be read at any time
    };
    let mut kept = kept(&data_dir.join(SECRETS_FILE))?;
    let known = kept.len();
    for provider in providers {
        kept.entry(provider.name().to_owned())
            .or_insert_with(|| provider.development_secret(random()));
    }
    if kept.len() > known && new_secrets == NewSecrets::Kept {
        keep(data_dir, &kept)?;
    }
    kept.retain(|name, _| providers.iter().any(|provider| provider.name() == name));
    Ok(kept)
}

/// Of two processes that start at once, the second one waits here and finds what the first one made.
fn lock(data_dir: &Path) -> io::Result<fs::File> {
    private::make_folder(data_dir)?;
    let lock = private::open_or_make(&data_dir.join(LOCK_FILE))?;
    lock.lock()?;
    Ok(lock)
}

fn kept(file: &Path) -> io::Result<BTreeMap<String, Secret>> {
    let text = match fs::read_to_string(file) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    // The parser's own words are not passed on: they may show a secret.
    let secrets = toml::from_str::<BTreeMap<String, String>>(&text).map_err(|_| {
        io::Error::other("the file is not of the form it was made in: mend it, or delete it")
    })?;
    Ok(secrets.into_iter().map(|(name, secret)| (name, Secret::new(secret))).collect())
}

/// Replaces the file as a whole, so that a crash leaves the old one or the new one.
fn keep(data_dir: &Path, secrets: &BTreeMap<String, Secret>) -> io::Result<()> {
    // Mode 600 from the beginning, as every temporary file of this crate has.
    let mut file = tempfile::NamedTempFile::new_in(data_dir)?;
    writeln!(
        file,
        "# Made by hookonce for trying things out. Real events need the provider's own."
    )?;
    for (name, secret) in secrets {
        // What JSON quotes, TOML reads: its basic strings have the same escapes.
        let quoted = Zeroizing::new(serde_json::to_string(secret.expose())?);
        writeln!(file, "{name} = {}", quoted.as_str())?;
    }
    file.as_file().sync_all()?;
    file.persist(data_dir.join(SECRETS_FILE))?;
    Ok(())
}

fn warn_of_development_secrets(providers: &[&'static dyn Provider], found: &mut Findings) {
    let Some(first) = providers.first() else { return };
    let variable =
        first.public_key_variable().unwrap_or_else(|| first.secret_variable().to_owned());
    let message = format!(
        "development secrets are in use: {} are in this file; for real events set the providers' own variables, such as {variable}, or write a {}",
        providers.len(),
        super::DEFAULT_FILE,
    );
    found.warning(None, "", message);
}

/// The source named as its provider. `None`, with a warning, where a secret or a key alone does not make
/// one.
fn source(
    provider: &'static dyn Provider,
    settings: Settings,
    log: &HandlerConfig,
    found: &mut Findings,
) -> Option<Source> {
    let name = provider.name();
    match Source::new(name, provider, settings) {
        Ok(source) => {
            let routes = log.route_from(name).into_iter().collect();
            Some(Source { routes, ..source })
        }
        Err(problems) => {
            let message = format!("there is no source `{name}`: {}", problems.join("; "));
            found.warning(None, "", message);
            None
        }
    }
}
