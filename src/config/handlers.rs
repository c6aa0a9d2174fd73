//! `[handlers.NAME]`: what is run for which events.

use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use url::Url;

use super::{mistakes::Findings, raw::Table, section::Section, server::http_url, values::nearest};
use crate::{limits, rate::Rate, retry::Retry, secret::Secret, source::Route};

/// A handler as it is configured: plain data, from which the app builds what runs.
#[derive(Clone, Debug)]
pub struct HandlerConfig {
    /// Its name.
    pub name: Arc<str>,
    /// What it runs.
    pub kind: HandlerKind,
    /// The sources whose events it wants; all of them exist.
    pub sources: Vec<String>,
    /// The types of event it wants, as patterns.
    pub events: Vec<String>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How many attempts may run at once in this process.
    pub concurrency: usize,
    /// How often attempts may begin in this process.
    pub rate: Option<Rate>,
    /// How often and when it is tried again.
    pub retry: Retry,
}

impl HandlerConfig {
    /// A handler that writes every event of these sources to the log.
    pub fn log_everything(sources: Vec<String>) -> Self {
        Self {
            name: Arc::from("log"),
            kind: HandlerKind::Log,
            sources,
            events: vec!["*".to_owned()],
            timeout: limits::ATTEMPT_TIMEOUT,
            concurrency: limits::CONCURRENCY,
            rate: None,
            retry: Retry::default(),
        }
    }

    /// The route from this source to it, if it wants its events.
    pub fn route_from(&self, source: &str) -> Option<Route> {
        let wants = self.sources.iter().any(|wanted| wanted == source);
        wants.then(|| Route { handler: Arc::clone(&self.name), events: self.events.clone() })
    }
}

/// What a handler runs.
#[derive(Clone)]
pub enum HandlerKind {
    /// Posts the event.
    Url {
        /// Where to.
        url: Url,
        /// What it is signed with, as Standard Webhooks says; checked to be of its form.
        signing_secret: Option<Secret>,
    },
    /// Runs this program with these arguments; never empty.
    Command(Vec<String>),
    /// Writes the event to the log.
    Log,
}

/// Shows where an event goes, without what may be a credential: the rest of the URL, the arguments.
impl fmt::Debug for HandlerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url { url, .. } => {
                write!(f, "Url({}…)", url.origin().ascii_serialization())
            }
            Self::Command(arguments) => {
                write!(f, "Command({}…)", arguments.first().map_or("", String::as_str))
            }
            Self::Log => f.write_str("Log"),
        }
    }
}

/// Every handler of the file, whose sources have the names `sources`.
pub(super) fn resolve(root: &Table, sources: &[&str], found: &mut Findings) -> Vec<HandlerConfig> {
    let mut handlers = Vec::new();
    for (name, section) in Section::named(root, "handlers.NAME", found) {
        section.refuse_unknown_keys(&[], found);
        let wanted = wanted_sources(&section, sources, found);
        let events = wanted_events(&section, found);
        let timeout = section.duration("timeout", found);
        let concurrency = section.integer("concurrency", found);
        let rate = section.parsed("rate", found, |text| text.parse().ok());
        let retry = retry(&section, found);
        if let Some(kind) = kind(&section, found) {
            let (name, sources) = (Arc::from(name), wanted);
            handlers.push(HandlerConfig {
                name,
                kind,
                sources,
                events,
                timeout,
                concurrency,
                rate,
                retry,
            });
        }
    }
    handlers
}

fn wanted_sources(section: &Section<'_>, known: &[&str], found: &mut Findings) -> Vec<String> {
    let Some(wanted) = section.texts_if_written("sources", found) else {
        return known.iter().map(|&name| name.to_owned()).collect();
    };
    for (name, place) in &wanted {
        if !known.contains(name) {
            let message = match nearest(name, known.iter().copied()) {
                Some(meant) => {
                    format!("names a source that is not configured: did you mean \"{meant}\"?")
                }
                None if known.is_empty() => "names a source, but none is configured".to_owned(),
                None => {
                    format!("names a source that is not configured: there are {}", known.join(", "))
                }
            };
            found.mistake(*place, section.key_of("sources"), message);
        }
    }
    wanted.into_iter().map(|(name, _)| name.to_owned()).collect()
}

fn wanted_events(section: &Section<'_>, found: &mut Findings) -> Vec<String> {
    let Some(patterns) = section.texts_if_written("events", found) else {
        return vec!["*".to_owned()];
    };
    for (pattern, place) in &patterns {
        if pattern.len() > limits::EVENT_ID_BYTES_MAX {
            let most = limits::EVENT_ID_BYTES_MAX;
            let message =
                format!("has a type that is too long: no event's is longer than {most} bytes");
            found.mistake(*place, section.key_of("events"), message);
        }
    }
    patterns.into_iter().map(|(pattern, _)| pattern.to_owned()).collect()
}

fn retry(section: &Section<'_>, found: &mut Findings) -> Retry {
    let Some(section) = section.inner("retry", found) else {
        return Retry::default();
    };
    section.refuse_unknown_keys(&[], found);
    let retry = Retry {
        attempts: section.integer("attempts", found),
        first: section.duration("first", found),
        max: section.duration("max", found),
    };
    // A `first` that is not written gives way: nobody asked for it to be longer than `max`.
    if retry.first > retry.max && section.has("first") {
        section.mistake("first", "is longer than `max`: write less, or raise `max`", found);
    }
    Retry { first: retry.first.min(retry.max), ..retry }
}

/// What the handler runs; everything is read, so that each mistake is found.
fn kind(section: &Section<'_>, found: &mut Findings) -> Option<HandlerKind> {
    let url = section.parsed("url", found, |text| Url::parse(http_url(text)?).ok());
    let command = section.texts_if_written("command", found);
    let log = section.flag_if_written("log", found);
    let signing_secret = section.parsed("signing_secret", found, signing_secret);

    let written: Vec<&str> =
        ["url", "command", "log"].into_iter().filter(|name| section.has(name)).collect();
    match written.as_slice() {
        [] => section.mistake_as_a_whole(
            "does not say what to run: write one of url = \"…\", command = [\"…\"] or log = true",
            found,
        ),
        [_] => {}
        [_, second, ..] => {
            let message =
                format!("is one too many: of {} a handler has one", written.join(" and "));
            section.mistake(second, message, found);
        }
    }
    if log == Some(false) {
        section.mistake(
            "log",
            "is false, and so nothing is run: write true, or a url or a command instead",
            found,
        );
    }
    if section.has("signing_secret") && !section.has("url") {
        section.mistake(
            "signing_secret",
            "signs what is posted, but there is no `url`: take it out",
            found,
        );
    }
    match (url, command, log) {
        (Some(url), ..) => Some(HandlerKind::Url { url, signing_secret }),
        (_, Some(command), _) => Some(HandlerKind::Command(
            command.into_iter().map(|(text, _)| text.to_owned()).collect(),
        )),
        (_, _, Some(_)) => Some(HandlerKind::Log),
        _ => None,
    }
}

/// The secret, if it is of the form that Standard Webhooks gives them.
pub(super) fn signing_secret(text: &str) -> Option<Secret> {
    let key = STANDARD.decode(text.strip_prefix("whsec_")?).ok()?;
    (24..=64).contains(&key.len()).then(|| Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_credential() {
        let kinds = [
            HandlerKind::Url {
                url: Url::parse("https://user:hidden@a.example:8443/hidden?token=hidden").unwrap(),
                signing_secret: Some(Secret::new("hidden")),
            },
            HandlerKind::Command(vec!["./on-event".to_owned(), "--token=hidden".to_owned()]),
        ];
        assert_eq!(format!("{kinds:?}"), "[Url(https://a.example:8443…), Command(./on-event…)]");
    }

    #[test]
    fn a_signing_secret_has_its_form() {
        let of = |bytes| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for (secret, fine) in [
            (of(24), true),
            (of(64), true),
            (of(23), false),
            (of(65), false),
            (of(24).replace("whsec_", ""), false),
            ("whsec_!".to_owned(), false),
        ] {
            assert_eq!(signing_secret(&secret).is_some(), fine, "{secret}");
        }
    }
}
