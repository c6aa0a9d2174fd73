//! Every key of the configuration file.

use std::time::Duration;

use super::{Fallback, Key, Kind};
use crate::{config::DEFAULT_DATA_DIR, limits};

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
        Fallback::Text(DEFAULT_DATA_DIR),
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
        "`sqlite:FILE` (relative to `data_dir`), `redis://…` or `memory:`.",
    ),
    key(
        "store",
        "durability",
        choice(&["always", "replicated", "relaxed"], &[]),
        Fallback::Text("always"),
        "What a yes survives on Redis. SQLite is always durable, and memory never is.",
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
        "Whose rules it follows: see [providers.md](providers.md).",
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
        span(Duration::ZERO, limits::WINDOW_MAX),
        Fallback::Told("the least"),
        "How long an event is remembered after it came. The least is a day more than the provider may send it again, and a week.",
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
        choice(&["ignore", "redrive"], &[]),
        Fallback::Text("ignore"),
        "What a duplicate of an event with dead deliveries does: nothing, or it redrives them, so that the provider's button for sending again does what a person expects of it.",
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
        Kind::SigningSecret,
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
