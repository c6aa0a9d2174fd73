//! `[sources.NAME]`: endpoints, their providers, secrets and rules.

use std::{collections::BTreeMap, fs, io::Read as _, time::Duration};

use bytes::Bytes;

use super::{
    Surroundings,
    handlers::HandlerConfig,
    mistakes::{Findings, Place},
    raw::{Table, Value},
    section::Section,
    server::http_url,
    values::{nearest, written},
};
use crate::{
    event::ReplayGuard,
    limits,
    provider::{Provider, Settings},
    receipt::Reply,
    secret::Secret,
    source::{OnBadSignature, OnDeadDuplicate, Source, window_min},
};

/// The names of the sources of the file, rightly configured or not.
pub(super) fn names(root: &Table) -> Vec<&str> {
    match root.get("sources").map(|entry| &entry.value) {
        Some(Value::Table(table)) => table.in_order().into_iter().map(|(name, _)| name).collect(),
        _ => Vec::new(),
    }
}

/// Every source of the file, with its routes to `handlers`.
pub(super) fn resolve(
    root: &Table,
    handlers: &[HandlerConfig],
    around: &Surroundings<'_>,
    found: &mut Findings,
) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut taken = BTreeMap::new();
    for (name, section) in Section::named(root, "sources.NAME", found) {
        let path = section.parsed("path", found, path).unwrap_or_else(|| default_path(name));
        if let Some(other) = taken.insert(path.clone(), name) {
            let message = format!("is the path of the source `{other}` too: write another");
            section.mistake("path", message, found);
        }
        // Without a provider its settings cannot be told from mistyped keys: no other key is judged.
        let Some(provider) = provider(name, &section, around, found) else { continue };
        let endpoint = Endpoint { name, path, provider, section };
        let Some(source) = endpoint.resolve(around, found) else { continue };
        let routes: Vec<_> =
            handlers.iter().filter_map(|handler| handler.route_from(name)).collect();
        if routes.is_empty() {
            section.warning_as_a_whole(
                "is wanted by no handler: its events are stored as unrouted",
                found,
            );
        }
        sources.push(Source { routes, ..source });
    }
    sources
}

/// The path of a source whose configuration names none.
pub(super) fn default_path(name: &str) -> String {
    format!("/webhooks/{name}")
}

fn provider(
    name: &str,
    section: &Section<'_>,
    around: &Surroundings<'_>,
    found: &mut Findings,
) -> Option<&'static dyn Provider> {
    let wanted = match section.text("provider", found) {
        Some(wanted) => wanted,
        None if section.has("provider") => return None, // wrongly written, which has been noted
        None => name,
    };
    let provider = around.providers.iter().copied().find(|provider| provider.name() == wanted);
    if provider.is_some() {
        return provider;
    }
    let known: Vec<&str> = around.providers.iter().map(|provider| provider.name()).collect();
    let problem = if section.has("provider") {
        "is not known"
    } else {
        "is missing, and the source is not named after one"
    };
    let instead = match nearest(wanted, known.iter().copied()) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => format!("write one of {}", known.join(", ")),
    };
    section.mistake("provider", format!("{problem}: {instead}"), found);
    None
}

/// A source whose name, path and provider are known.
struct Endpoint<'a> {
    name: &'a str,
    path: String,
    provider: &'static dyn Provider,
    section: Section<'a>,
}

impl Endpoint<'_> {
    fn resolve(self, around: &Surroundings<'_>, found: &mut Findings) -> Option<Source> {
        let Self { name, path, provider, section } = self;
        let own_keys: Vec<&'static str> = provider.settings().iter().map(|(key, _)| *key).collect();
        section.refuse_unknown_keys(&own_keys, found);
        let on_bad_signature = match section.choice("verify", found) {
            "shadow" => OnBadSignature::Shadow,
            _ => OnBadSignature::Refuse,
        };
        let replay_guard = match section.choice("replay_guard", found) {
            "hold" => ReplayGuard::Hold,
            _ => ReplayGuard::Flag,
        };
        let on_dead_duplicate = match section.choice("on_dead_duplicate", found) {
            "redrive" => OnDeadDuplicate::Redrive,
            _ => OnDeadDuplicate::Ignore,
        };
        let settings = settings(&section, provider, around, found);
        let url = section.parsed("url", found, http_url).map(str::to_owned);
        let body_bytes_max = section.size_if_written("body_bytes_max", found);
        let window = window(&section, provider, found);
        let response = response(&section, found);
        let mut source = match Source::new(name, provider, settings) {
            Ok(source) => source,
            Err(problems) => {
                for problem in problems {
                    note_problem(&section, &problem, found);
                }
                return None;
            }
        };
        source.path = path;
        source.url = url;
        source.body_bytes_max = body_bytes_max.unwrap_or(source.body_bytes_max);
        source.window = window;
        source.on_bad_signature = on_bad_signature;
        source.replay_guard = replay_guard;
        source.on_dead_duplicate = on_dead_duplicate;
        source.response = response;
        Some(source)
    }
}

/// Notes what a provider says is wrong, as `key: what to write instead`, at that key. Where the key
/// has a mistake already the provider only saw the gap it left.
fn note_problem(section: &Section<'_>, problem: &str, found: &mut Findings) {
    let (key, message) = problem.split_once(": ").unwrap_or(("secrets", problem));
    if !found.has_mistake_at(&section.key_of(key)) {
        section.mistake(key, message, found);
    }
}

fn settings(
    section: &Section<'_>,
    provider: &dyn Provider,
    around: &Surroundings<'_>,
    found: &mut Findings,
) -> Settings {
    let mut secrets = Vec::new();
    for (text, place) in texts_or_files(section, "secrets", around, found) {
        let secret = Secret::new(text);
        if secret.is_blank() {
            let message = "has a placeholder in it: write the provider's signing secret";
            found.mistake(place, section.key_of("secrets"), message);
        } else {
            secrets.push(secret);
        }
    }
    if secrets.len() > limits::SECRETS_MAX {
        let message =
            format!("has too many: every one is tried, so at most {}", limits::SECRETS_MAX);
        section.mistake("secrets", message, found);
    }
    let public_keys = texts_or_files(section, "public_keys", around, found);
    let mut extra = BTreeMap::new();
    for &(key, _) in provider.settings() {
        extra.extend(section.setting(key, found).map(|value| (key.to_owned(), value)));
    }
    Settings {
        secrets,
        public_keys: public_keys.into_iter().map(|(text, _)| text).collect(),
        fetch_keys: fetch_keys(section, provider, found),
        tolerance: section.duration_if_written("tolerance", found),
        extra,
    }
}

/// Whether keys are fetched: wherever the provider publishes them, unless the file says no.
fn fetch_keys(section: &Section<'_>, provider: &dyn Provider, found: &mut Findings) -> bool {
    let written = section.flag_if_written("fetch_keys", found);
    let publishes = provider.publishes_keys().is_some();
    if written == Some(true) && !publishes {
        let message = "is not possible: this provider publishes its keys nowhere. Take it out";
        section.mistake("fetch_keys", message, found);
    }
    publishes && written.unwrap_or(true)
}

/// The texts of a list; each `file:PATH` is what is in that file, less the newline at its end.
pub(super) fn texts_or_files(
    section: &Section<'_>,
    name: &'static str,
    around: &Surroundings<'_>,
    found: &mut Findings,
) -> Vec<(String, Place)> {
    let mut texts = Vec::new();
    for (text, place) in section.texts_if_written(name, found).unwrap_or_default() {
        let Some(path) = text.strip_prefix("file:") else {
            texts.push((text.to_owned(), place));
            continue;
        };
        let mut text = String::new();
        let read = fs::File::open(around.folder.join(path))
            .and_then(|file| file.take(limits::CONFIG_BYTES_MAX).read_to_string(&mut text));
        match read {
            Ok(_) => {
                let text = text.strip_suffix('\n').unwrap_or(&text);
                texts.push((text.strip_suffix('\r').unwrap_or(text).to_owned(), place));
            }
            Err(error) => {
                let kind = error.kind();
                let message = format!(
                    "has a file in it that cannot be read: {kind} (its path is relative to the configuration file)"
                );
                found.mistake(place, section.key_of(name), message);
            }
        }
    }
    texts
}

fn window(section: &Section<'_>, provider: &dyn Provider, found: &mut Findings) -> Duration {
    let least = window_min(provider);
    let window = section.duration_if_written("window", found).unwrap_or(least);
    if window < least {
        let (provider, resends_for) = (provider.title(), written(provider.resends_for()));
        let least = written(least);
        let message = format!(
            "is too short: {provider} may send an event again for {resends_for}, and the least is \"{least}\""
        );
        section.mistake("window", message, found);
    }
    window
}

/// The path, if it can only ever mean itself.
pub(super) fn path(text: &str) -> Option<String> {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "/-_.~".contains(char);
    let is_path = text.starts_with('/') && text.len() > 1 && text.chars().all(is_plain);
    // What proxies and clients rewrite before it arrives would never be found here.
    let is_final = text.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    (is_path && is_final).then(|| text.to_owned())
}

fn response(section: &Section<'_>, found: &mut Findings) -> Option<Reply> {
    let section = section.inner("response", found)?;
    section.refuse_unknown_keys(&[], found);
    let status = section.integer("status", found);
    let content_type = section.text("content_type", found);
    if content_type.is_some_and(|text| !is_header_value(text)) {
        section.mistake("content_type", "cannot be sent: write one such as \"text/xml\"", found);
    }
    // Read as a setting, since an empty body may be written out.
    let body = section.setting("body", found).unwrap_or_default();
    if body.len() > limits::RESPONSE_BYTES_MAX {
        let message = format!("is too long: at most {} bytes", limits::RESPONSE_BYTES_MAX);
        section.mistake("body", message, found);
    }
    Some(Reply {
        status,
        content_type: content_type.map(str::to_owned),
        headers: headers(&section, found),
        body: Bytes::from(body),
    })
}

fn headers(section: &Section<'_>, found: &mut Findings) -> Vec<(String, String)> {
    // Those that frame the answer are the server's, and one has a key of its own.
    const TAKEN: [&str; 5] =
        ["content-type", "content-length", "transfer-encoding", "connection", "hookonce-status"];
    let mut headers = Vec::new();
    for (name, entry) in section.free_table("headers", found) {
        let is_token = !name.is_empty()
            && name
                .chars()
                .all(|char| char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char));
        let problem = match &entry.value {
            _ if !is_token => "is not the name of a header",
            _ if TAKEN.contains(&name.to_ascii_lowercase().as_str()) => {
                "is a header that hookonce sets itself: take it out"
            }
            Value::Text(value) if is_header_value(value) => {
                headers.push((name.to_owned(), value.clone()));
                continue;
            }
            Value::Broken => continue,
            _ => "is not the value of a header: write a text of visible characters",
        };
        found.mistake(entry.place, &entry.key, problem);
    }
    headers
}

fn is_header_value(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_can_only_mean_itself() {
        for (text, fine) in [
            ("/webhooks/stripe", true),
            ("/a", true),
            ("/", false),
            ("webhooks", false),
            ("/a/../b", false),
            ("/a/", false),
            ("//a", false),
            ("/a?b", false),
            ("/{a}", false),
            ("/a b", false),
        ] {
            assert_eq!(path(text).is_some(), fine, "{text}");
        }
    }
}
