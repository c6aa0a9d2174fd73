//! Every key of the configuration file, in one list.
//!
//! The list decides which keys are known and what a mistyped one probably meant, which bounds a
//! value has to keep, what it is when the file does not say, and it is what docs/config.md is made of.

use std::{fmt, time::Duration};

use super::values::{written, written_size};
use crate::limits;

/// Every key, section by section, in the order of the reference.
pub static KEYS: &[Key] = &[
    key(
        "server",
        "listen",
        Kind::Address,
        Fallback::Text("0.0.0.0:8080"),
        "Where webhooks come in: the public address.",
    ),
    key(
        "server",
        "admin_listen",
        Kind::Address,
        Fallback::Text("127.0.0.1:8081"),
        "Where the dashboard, the API, the metrics and the health checks are.",
    ),
    key(
        "server",
        "admin_token",
        Kind::Text,
        Fallback::Unset,
        "What the admin address asks for as `Authorization: Bearer …`. It must be set unless `admin_listen` is a loopback address.",
    ),
    key(
        "server",
        "public_url",
        Kind::Url,
        Fallback::Unset,
        "The URL under which providers reach `listen`. It is needed behind a proxy where signatures cover the URL (Twilio).",
    ),
    key(
        "server",
        "trusted_proxies",
        Kind::Networks,
        Fallback::Told("nobody"),
        "Networks whose `X-Forwarded-*` headers count.",
    ),
    key(
        "server",
        "data_dir",
        Kind::Directory,
        Fallback::Text(super::DEFAULT_DATA_DIR),
        "The folder of the SQLite file and of development secrets, relative to the working directory.",
    ),
    key(
        "server",
        "answer_within",
        span(limits::ANSWER_DEADLINE_MIN, limits::ANSWER_DEADLINE_MAX),
        Fallback::Duration(limits::ANSWER_DEADLINE),
        "From the last byte of a request to its final answer, which is a 503 if nothing better is known by then.",
    ),
    key(
        "server",
        "body_within",
        span(SECOND, limits::BODY_DEADLINE_MAX),
        Fallback::Duration(limits::BODY_DEADLINE),
        "How long a body may take to arrive.",
    ),
    key(
        "server",
        "shutdown_within",
        span(Duration::ZERO, limits::SHUTDOWN_GRACE_MAX),
        Fallback::Duration(limits::SHUTDOWN_GRACE),
        "How long a shut-down waits for running attempts before it releases them.",
    ),
    key(
        "store",
        "url",
        Kind::Text,
        Fallback::Text("sqlite:hookonce.db"),
        "`memory:`, `sqlite:FILE` (relative to `data_dir`), `redis://…`, `rediss://…`, `redis-cluster://a:6379,b:6379` or `postgres://…`.",
    ),
    key(
        "store",
        "durability",
        choice(&["always", "replicated", "relaxed"], &[]),
        Fallback::Text("always"),
        "What a yes survives on Redis. The other stores always keep what they were told.",
    ),
    key("store", "cache", Kind::Later, Fallback::Unset, "A Redis in front of an SQL store."),
    key(
        "store",
        "retention",
        span(MINUTE, limits::WINDOW_MAX),
        Fallback::Duration(limits::RETENTION),
        "How long finished events are kept, from the end of their last delivery.",
    ),
    key(
        "store",
        "retention_dead",
        span(MINUTE, limits::WINDOW_MAX),
        Fallback::Duration(limits::RETENTION_DEAD),
        "The same for events with a dead delivery, and for those no handler wanted.",
    ),
    key(
        "store",
        "retention_held",
        span(MINUTE, limits::WINDOW_MAX),
        Fallback::Duration(limits::RETENTION_HELD),
        "The same for held events.",
    ),
    key(
        "workers",
        "lease",
        span(limits::LEASE_MIN, limits::LEASE_MAX),
        Fallback::Duration(limits::LEASE),
        "How long a delivery stays with a worker that gives no sign of life. Running attempts extend it.",
    ),
    key(
        "sources.NAME",
        "provider",
        Kind::Text,
        Fallback::Told("the source's name"),
        "Whose rules it follows: see docs/providers.md.",
    ),
    key(
        "sources.NAME",
        "secrets",
        Kind::Secrets,
        Fallback::Told("none"),
        "The provider's signing secrets, several while rotating. `file:PATH` reads one from a file.",
    ),
    key(
        "sources.NAME",
        "public_keys",
        Kind::Secrets,
        Fallback::Told("none"),
        "Keys, certificates or a JWKS of providers that sign with a private key, as text or `file:PATH`.",
    ),
    key(
        "sources.NAME",
        "path",
        Kind::Path,
        Fallback::Told("`/webhooks/NAME`"),
        "The path it answers at.",
    ),
    key(
        "sources.NAME",
        "url",
        Kind::Url,
        Fallback::Told("`public_url` and `path`"),
        "The URL exactly as registered with the provider, where signatures cover it.",
    ),
    key(
        "sources.NAME",
        "body_bytes_max",
        Kind::Size { least: 1 << 10, most: limits::BODY_BYTES_CEILING },
        Fallback::Told("`1MiB`, or what the provider documents"),
        "The longest body it takes; a longer one is answered 413.",
    ),
    key(
        "sources.NAME",
        "window",
        span(limits::WINDOW_MIN, limits::WINDOW_MAX),
        Fallback::Told("the least"),
        "How long an event is remembered after it came. At least a week, and a day more than the provider may send it again.",
    ),
    key(
        "sources.NAME",
        "tolerance",
        span(SECOND, limits::TOLERANCE_MAX),
        Fallback::Told("the provider's"),
        "How far a signed time may be off.",
    ),
    key(
        "sources.NAME",
        "verify",
        choice(&["enforce"], &["shadow"]),
        Fallback::Text("enforce"),
        "What a bad signature leads to: with `enforce` the request is refused.",
    ),
    key(
        "sources.NAME",
        "replay_guard",
        choice(&["flag", "hold"], &[]),
        Fallback::Text("flag"),
        "What is done with known content that comes under a fresh id, where the id is not signed: admit and flag it, or hold it until a person admits it.",
    ),
    key(
        "sources.NAME",
        "on_dead_duplicate",
        choice(&["ignore"], &["redrive"]),
        Fallback::Text("ignore"),
        "What a duplicate of an event with a dead delivery does.",
    ),
    key(
        "sources.NAME",
        "response",
        Kind::Table,
        Fallback::Told("the provider's, or JSON"),
        "A fixed answer to accepted requests: see below.",
    ),
    key(
        "sources.NAME.response",
        "status",
        Kind::Integer { least: 200, most: 299 },
        Fallback::Integer(200),
        "Its status.",
    ),
    key("sources.NAME.response", "content_type", Kind::Text, Fallback::Unset, "Its content type."),
    key("sources.NAME.response", "body", Kind::Text, Fallback::Told("empty"), "Its body."),
    key(
        "sources.NAME.response",
        "headers",
        Kind::Table,
        Fallback::Told("none"),
        "Further headers, as `{ Name = \"value\" }`.",
    ),
    key(
        "handlers.NAME",
        "sources",
        Kind::Texts,
        Fallback::Told("every source"),
        "The sources whose events it wants.",
    ),
    key(
        "handlers.NAME",
        "events",
        Kind::Texts,
        Fallback::Told("`[\"*\"]`"),
        "The types of event it wants; `*` stands for any run of characters.",
    ),
    key("handlers.NAME", "url", Kind::Url, Fallback::Unset, "Where events are posted to."),
    key(
        "handlers.NAME",
        "command",
        Kind::Texts,
        Fallback::Unset,
        "The program that is run for each event, and its arguments. No shell is between; the event's body is its input.",
    ),
    key(
        "handlers.NAME",
        "log",
        Kind::Flag,
        Fallback::Unset,
        "`true`: events are written to the log.",
    ),
    key(
        "handlers.NAME",
        "timeout",
        span(MILLISECOND, limits::ATTEMPT_TIMEOUT_MAX),
        Fallback::Duration(limits::ATTEMPT_TIMEOUT),
        "How long one attempt may take.",
    ),
    key(
        "handlers.NAME",
        "concurrency",
        Kind::Integer { least: 1, most: limits::CONCURRENCY_MAX as u64 },
        Fallback::Integer(limits::CONCURRENCY as u64),
        "How many attempts may run at once in this process.",
    ),
    key(
        "handlers.NAME",
        "retry",
        Kind::Table,
        Fallback::Told("see below"),
        "How often and when a failed attempt is tried again.",
    ),
    key(
        "handlers.NAME",
        "signing_secret",
        Kind::Text,
        Fallback::Unset,
        "Signs what is posted to `url`, as Standard Webhooks says: `whsec_` and 24 to 64 bytes in base64.",
    ),
    key(
        "handlers.NAME.retry",
        "attempts",
        Kind::Integer { least: 1, most: limits::ATTEMPTS_MAX as u64 },
        Fallback::Integer(limits::ATTEMPTS as u64),
        "Attempts a delivery gets before it is dead.",
    ),
    key(
        "handlers.NAME.retry",
        "first",
        span(MILLISECOND, limits::RETRY_DELAY_MAX),
        Fallback::Duration(limits::RETRY_FIRST),
        "The longest the first retry waits. Every further one may wait twice as long.",
    ),
    key(
        "handlers.NAME.retry",
        "max",
        span(MILLISECOND, limits::RETRY_DELAY_MAX),
        Fallback::Duration(limits::RETRY_MAX),
        "The longest any retry waits.",
    ),
    key(
        "log",
        "format",
        choice(&["pretty", "json"], &[]),
        Fallback::Text("pretty"),
        "Lines for people, or JSON for programs.",
    ),
    key(
        "log",
        "level",
        Kind::Text,
        Fallback::Told("`info`"),
        "`error`, `warn`, `info`, `debug` or `trace`, also by module: `info,hookonce::work=debug`.",
    ),
    key(
        "apis.NAME",
        "*",
        Kind::Later,
        Fallback::Unset,
        "`Idempotency-Key` in front of an HTTP API of your own.",
    ),
];

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The section it stands in; `NAME` stands for a name that the file chooses.
    pub section: &'static str,
    /// Its name in the section.
    pub name: &'static str,
    /// What is written for it.
    pub kind: Kind,
    /// What it is when the file does not say.
    pub fallback: Fallback,
    /// What it does.
    pub doc: &'static str,
}

/// What is written for a key, and within which bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "bounds: the least and the most that may be written")]
pub enum Kind {
    /// Any text.
    Text,
    /// Several texts.
    Texts,
    /// Several texts, each of which may be `file:PATH`.
    Secrets,
    /// One of a few words: those known now, and those that are not in this version yet.
    Choice { now: &'static [&'static str], later: &'static [&'static str] },
    /// A duration.
    Duration { least: Duration, most: Duration },
    /// A number of bytes.
    Size { least: usize, most: usize },
    /// A number.
    Integer { least: u64, most: u64 },
    /// Yes or no.
    Flag,
    /// An IP address and a port.
    Address,
    /// Several networks.
    Networks,
    /// An absolute URL.
    Url,
    /// The path of a URL.
    Path,
    /// A folder.
    Directory,
    /// A table with a section of its own.
    Table,
    /// Nothing yet: the name is taken for a later version.
    Later,
}

impl Kind {
    /// What to write, with an example.
    pub fn wanted(self) -> String {
        match self {
            Self::Text => "a text in quotes".to_owned(),
            Self::Texts => "a list of texts, such as [\"one\", \"two\"]".to_owned(),
            Self::Secrets => "a list of texts, such as [\"${NAME_OF_A_VARIABLE}\"]".to_owned(),
            Self::Choice { now, .. } => match now {
                [only] => format!("\"{only}\""),
                several => format!("one of \"{}\"", several.join("\", \"")),
            },
            Self::Duration { .. } => "a duration with its unit, such as \"30s\"".to_owned(),
            Self::Size { .. } => "a size with its unit, such as \"1MiB\"".to_owned(),
            Self::Integer { least, most } => format!("a whole number from {least} to {most}"),
            Self::Flag => "true or false".to_owned(),
            Self::Address => "an IP address and a port, such as \"127.0.0.1:8081\"".to_owned(),
            Self::Networks => "a list of networks, such as [\"10.0.0.0/8\"]".to_owned(),
            Self::Url => {
                "an absolute URL, such as \"https://hooks.example.com/in\", without a fragment"
                    .to_owned()
            }
            Self::Path => "a path, such as \"/webhooks/stripe\"".to_owned(),
            Self::Directory => "the path of a folder".to_owned(),
            Self::Table => "a table, such as { name = \"value\" }".to_owned(),
            Self::Later => "nothing yet".to_owned(),
        }
    }
}

/// As the reference shows it, with its bounds.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("text"),
            Self::Texts => f.write_str("list of texts"),
            Self::Secrets => f.write_str("list of texts or files"),
            Self::Choice { now, later } => {
                write!(f, "`\"{}\"`", now.join("\"` or `\""))?;
                later.iter().try_for_each(|word| write!(f, "; not yet: `\"{word}\"`"))
            }
            Self::Duration { least, most } => {
                write!(f, "duration, {} to {}", written(*least), written(*most))
            }
            Self::Size { least, most } => {
                write!(f, "size, {} to {}", written_size(*least), written_size(*most))
            }
            Self::Integer { least, most } => write!(f, "number, {least} to {most}"),
            Self::Flag => f.write_str("`true`"),
            Self::Address => f.write_str("IP address and port"),
            Self::Networks => f.write_str("list of networks"),
            Self::Url => f.write_str("URL"),
            Self::Path => f.write_str("path"),
            Self::Directory => f.write_str("folder"),
            Self::Table => f.write_str("table"),
            Self::Later => f.write_str("not in this version yet"),
        }
    }
}

/// What a key is when the file does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// This text, read as if it had been written.
    Text(&'static str),
    /// This duration.
    Duration(Duration),
    /// This number.
    Integer(u64),
    /// Something that depends on the rest: said in words.
    Told(&'static str),
    /// Nothing.
    Unset,
}

/// As the reference shows it.
impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "`\"{text}\"`"),
            Self::Duration(duration) => write!(f, "`\"{}\"`", written(*duration)),
            Self::Integer(number) => write!(f, "`{number}`"),
            Self::Told(words) => f.write_str(words),
            Self::Unset => f.write_str("not set"),
        }
    }
}

/// The keys of a section.
pub(super) fn of_section(section: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.section == section)
}

/// The sections that stand at the top of the file, without the names the file chooses.
pub(super) fn top_sections() -> Vec<&'static str> {
    let mut sections: Vec<&str> =
        KEYS.iter().filter_map(|key| key.section.split('.').next()).collect();
    sections.dedup();
    sections
}

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

const fn key(
    section: &'static str,
    name: &'static str,
    kind: Kind,
    fallback: Fallback,
    doc: &'static str,
) -> Key {
    Key { section, name, kind, fallback, doc }
}

const fn span(least: Duration, most: Duration) -> Kind {
    Kind::Duration { least, most }
}

const fn choice(now: &'static [&'static str], later: &'static [&'static str]) -> Kind {
    Kind::Choice { now, later }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_there_twice() {
        for (at, key) in KEYS.iter().enumerate() {
            let same = |other: &&Key| other.section == key.section && other.name == key.name;
            assert_eq!(KEYS.iter().position(|other| same(&other)), Some(at), "{}", key.name);
        }
    }

    #[test]
    fn the_keys_of_a_section_stand_together() {
        let mut sections: Vec<_> = KEYS.iter().map(|key| key.section).collect();
        sections.dedup();
        let mut sorted = sections.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sections.len(), sorted.len());
    }

    #[test]
    fn what_a_key_falls_back_to_is_within_its_bounds() {
        for key in KEYS {
            match (key.kind, key.fallback) {
                (Kind::Duration { least, most }, Fallback::Duration(duration)) => {
                    assert!((least..=most).contains(&duration), "{}", key.name);
                }
                (Kind::Integer { least, most }, Fallback::Integer(number)) => {
                    assert!((least..=most).contains(&number), "{}", key.name);
                }
                (Kind::Choice { now, .. }, Fallback::Text(word)) => {
                    assert!(now.contains(&word), "{}", key.name);
                }
                (kind, Fallback::Duration(_) | Fallback::Integer(_)) => {
                    panic!("{}: a fallback that {kind:?} cannot have", key.name)
                }
                _ => {}
            }
        }
    }
}
