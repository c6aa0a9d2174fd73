//! Every limit, in one place, with its unit and its reason.

use std::time::Duration;

/// Largest body a webhook request may have, unless its provider documents more or the source
/// says otherwise. Nearly all providers stay below 256 KiB.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// Largest body any source may allow. GitHub, the most generous provider, stops at 25 MiB.
pub const BODY_BYTES_CEILING: usize = 64 << 20;

/// How long a body may take to arrive. actix's own time-out ends with the head, so a slow body
/// would otherwise hold its connection for ever.
pub const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// How long the head of a request may take to arrive.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(5);

/// How long a client may take to agree on TLS, before the first byte of its request.
pub const TLS_HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// How often the files of certificates are looked at: reading two small files costs nothing, and a renewed
/// certificate should be served before anybody asks where it is.
pub const TLS_LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// From the last byte of the body to the final answer. The most impatient provider (Shopify)
/// allows one second for connecting alone; Wix hangs up after 1.25 s.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(1);

/// The longest answer deadline a configuration may ask for: below Slack's and Discord's 3 s.
pub const ANSWER_DEADLINE_MAX: Duration = Duration::from_millis(2500);

/// How long before the answer deadline the store must have begun the work, so that the answer
/// still has time to travel.
pub const ANSWER_MARGIN: Duration = Duration::from_millis(100);

/// How many signatures of one request are tried. A provider that rotates secrets sends two;
/// Stripe allows at most 16 endpoints' worth. More is somebody making us work.
pub const SIGNATURES_TRIED_MAX: usize = 16;

/// How many secrets one source may have: all of them are tried against every signature.
pub const SECRETS_MAX: usize = 8;

/// Longest header value that is read as text by a provider.
pub const HEADER_VALUE_BYTES_MAX: usize = 8 << 10;

/// Longest event id or type taken from a request. SendGrid's ids pass 100 characters.
pub const EVENT_ID_BYTES_MAX: usize = 512;

/// The shortest window a mark may have, whatever the provider: a week of manual re-sending.
pub const WINDOW_MIN: Duration = Duration::from_hours(24 * 7);

/// The longest window a source may ask for.
pub const WINDOW_MAX: Duration = Duration::from_hours(24 * 3660);

/// How far a signed time may be off, at most, whatever the configuration says.
pub const TOLERANCE_MAX: Duration = Duration::from_hours(24);

/// How many requests may wait for the store at once, and how many bytes they may hold. Beyond
/// it the answer is 503: memory stays bounded when the store is slow.
pub const WAITING_ITEMS_MAX: usize = 10_000;
/// See [`WAITING_ITEMS_MAX`].
pub const WAITING_BYTES_MAX: usize = 128 << 20;

/// How many single calls one call of the store may carry, and how many bytes. One fsync or one
/// round trip then serves all of them; more only makes the first of them wait.
pub const BATCH_ITEMS_MAX: usize = 256;
/// See [`BATCH_ITEMS_MAX`].
pub const BATCH_BYTES_MAX: usize = 8 << 20;

/// How long one call of a store over the network may take: less than the answer deadline, so that a
/// server that hangs is told apart from one that works.
pub const STORE_CALL_TIMEOUT: Duration = Duration::from_millis(800);

/// How long a call of a store over the network waits for rows that another transaction holds: less
/// than a call may take, so that one member of a batch that waits does not refuse the others.
pub const STORE_LOCK_TIMEOUT: Duration = Duration::from_millis(250);

/// How long one wish, or one lot of pruning, may take on a store over the network: they are about many
/// rows, and no provider waits for them.
pub const STORE_CHORE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the cache of marks is waited for. A store answers in a few milliseconds: beyond that the
/// cache has nothing to save.
pub const CACHE_TIMEOUT: Duration = Duration::from_millis(30);

/// For how long a cache that did not answer is not asked.
pub const CACHE_PAUSE: Duration = Duration::from_secs(1);

/// How long a mark is cached, at most: nearly all retries come within a day, and a mark that is not
/// cached any more is in the store.
pub const CACHE_LIFE_MAX: Duration = Duration::from_hours(24);

/// How many duplicates that the cache knew may wait to be noted, and how many bytes they may hold.
pub const CACHE_NOTES_MAX: usize = 10_000;
/// See [`CACHE_NOTES_MAX`].
pub const CACHE_NOTES_BYTES_MAX: usize = 32 << 20;

/// How long who reads waits for the duplicates answered before to be noted.
pub const CACHE_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a claimed delivery is leased. A worker that dies is noticed after this time.
pub const LEASE: Duration = Duration::from_secs(30);

/// The shortest lease a configuration may ask for: three extensions must fit in, each with time
/// for a slow store.
pub const LEASE_MIN: Duration = Duration::from_secs(1);

/// How often in its lease a running attempt is extended.
pub const EXTENSIONS_PER_LEASE: u32 = 3;

/// How often a worker looks for due work when nothing wakes it.
pub const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// How often it is looked for what people have said about handlers: a pause that was told to one
/// process is followed by the others so soon.
pub const CONTROLS_INTERVAL: Duration = Duration::from_secs(1);

/// The most that a rate may ask for.
pub const RATE_COUNT_MAX: u32 = 1_000_000;

/// How much of a handler's rate may be saved up while nothing is due.
pub const RATE_SAVED_MAX: Duration = Duration::from_millis(100);

/// How long one attempt may take, unless the handler says otherwise.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest time-out a handler may ask for.
pub const ATTEMPT_TIMEOUT_MAX: Duration = Duration::from_hours(24);

/// How long before its time-out a handler gives up by itself, at most: it knows better than the
/// worker that would drop it what it was waiting for.
pub const ATTEMPT_MARGIN: Duration = Duration::from_millis(10);

/// Attempts per handler and process at once, unless the handler says otherwise.
pub const CONCURRENCY: usize = 16;

/// The most attempts at once that a handler may ask for.
pub const CONCURRENCY_MAX: usize = 1024;

/// Attempts a delivery gets before it is dead, unless the handler says otherwise. With the
/// default delays the last one comes up to ten hours after the first, and five on average.
pub const ATTEMPTS: u32 = 20;

/// First and longest delay between two attempts, unless the handler says otherwise.
pub const RETRY_FIRST: Duration = Duration::from_secs(5);
/// See [`RETRY_FIRST`].
pub const RETRY_MAX: Duration = Duration::from_hours(1);

/// The longest `Retry-After` of a handler that is honoured.
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);

/// How much of a handler's answer, or of a command's output, is kept with an attempt.
pub const EXCERPT_BYTES_MAX: usize = 1024;

/// How much of a handler's answer is read at all, so that its connection can be used again.
pub const ANSWER_BYTES_READ_MAX: usize = 64 << 10;

/// How long the body of a handler's answer may take, once its status is there. The status has said
/// all that counts.
pub const ANSWER_BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long connecting to a handler may take.
pub const HANDLER_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an unused connection to a handler is kept: below the 5 s after which Node, Uvicorn and
/// actix-web hang up, since a request sent at that moment is lost and costs an attempt.
pub const HANDLER_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// How long the output of a command is still read once it has exited, where something that it left
/// behind keeps the pipe open.
pub const COMMAND_OUTPUT_GRACE: Duration = Duration::from_millis(100);

/// How many duplicates of one event are kept with their time and retry marker; all are counted.
pub const DUPLICATES_KEPT_MAX: usize = 50;

/// How many attempts of one delivery are kept; the oldest go first.
pub const ATTEMPTS_KEPT_MAX: usize = 100;

/// How long finished events are kept, and dead or unrouted ones, unless the store says otherwise.
pub const RETENTION: Duration = Duration::from_hours(24 * 30);
/// See [`RETENTION`].
pub const RETENTION_DEAD: Duration = Duration::from_hours(24 * 90);

/// How long held events are kept, and how many a source may hold: a flood of copies under fresh
/// ids must not fill the store.
pub const RETENTION_HELD: Duration = Duration::from_hours(24 * 30);
/// See [`RETENTION_HELD`].
pub const HELD_PER_SOURCE_MAX: u64 = 10_000;

/// How many events one call of prune takes away: small, so that it is never in the way of admit.
pub const PRUNE_LOT: usize = 200;

/// How often finished events are looked for.
pub const PRUNE_INTERVAL: Duration = Duration::from_secs(60);

/// How long it waits between two lots when there is more to take away.
pub const PRUNE_PAUSE: Duration = Duration::from_millis(50);

/// Rows on one page of the API, when not asked for otherwise and at most.
pub const PAGE_ROWS: usize = 50;
/// See [`PAGE_ROWS`].
pub const PAGE_ROWS_MAX: usize = 1000;

/// Deliveries that one redrive, move or kill takes at most.
pub const WISH_ROWS_MAX: usize = 10_000;

/// How many events or marks are carried to another store at once. It ends sooner where they hold
/// [`BATCH_BYTES_MAX`].
pub const EXPORT_ROWS: usize = 500;

/// How long a shut-down waits for attempts in progress before it releases them.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(25);

/// How long after the grace the last writes of what was cut off may take.
pub const SHUTDOWN_CUT: Duration = Duration::from_secs(2);

/// Longest `Idempotency-Key`, in characters: as long as Stripe's.
pub const KEY_CHARS_MAX: usize = 255;

/// How far the clocks of whoever issues a client's tokens may be off ours.
pub const TOKEN_LEEWAY: Duration = Duration::from_secs(60);

/// How long a saved answer is given again, unless the API says otherwise, and at most.
pub const KEY_RETENTION: Duration = Duration::from_hours(24);
/// See [`KEY_RETENTION`].
pub const KEY_RETENTION_MAX: Duration = Duration::from_hours(24 * 90);

/// How long a key is leased at a time. When we die in a call, its outcome is unknown after this time.
pub const KEY_LEASE: Duration = Duration::from_secs(30);

/// How long a key may be in progress, unless the API says otherwise, and at most.
pub const KEY_LEASE_MAX: Duration = Duration::from_mins(10);
/// See [`KEY_LEASE_MAX`].
pub const KEY_LEASE_CEILING: Duration = Duration::from_hours(1);

/// How long a request may wait for another one with its key, at most: it holds a connection.
pub const KEY_WAIT_MAX: Duration = Duration::from_secs(60);

/// How soon a request that waits for another one with its key looks again, first and at most.
pub const KEY_POLL_FIRST: Duration = Duration::from_millis(25);
/// See [`KEY_POLL_FIRST`].
pub const KEY_POLL_MAX: Duration = Duration::from_millis(400);

/// The longest `Retry-After` of a request whose key is in progress: most are done long before their
/// lease ends.
pub const KEY_RETRY_AFTER_SECONDS_MAX: u64 = 2;

/// How long an upstream may take for a whole answer, unless the API says otherwise.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// How many requests with a key may be in our hands at once. Each holds its body and its answer, so
/// beyond it the answer is 503. As many more may wait to be written down while the store is away.
pub const CALLS_MAX: usize = 4096;

/// The longest body of an answer that is saved, unless the API says otherwise, and at most.
pub const ANSWER_BYTES_SAVED: usize = 1 << 20;
/// See [`ANSWER_BYTES_SAVED`].
pub const ANSWER_BYTES_CEILING: usize = 16 << 20;

/// How deep JSON may be nested to be compared in its canonical form.
pub const JSON_DEPTH_MAX: usize = 64;

/// How long it waits before it tries again to write down how a call ended, first and at most.
pub const KEY_WRITE_PAUSE: Duration = Duration::from_millis(200);
/// See [`KEY_WRITE_PAUSE`].
pub const KEY_WRITE_PAUSE_MAX: Duration = Duration::from_secs(5);

/// How many chunks of a body may wait between its reader and its writer.
pub const CHUNKS_WAITING_MAX: usize = 4;

/// `Retry-After` of a 503, in seconds: a time in between, so that a herd does not come back in step.
pub const RETRY_AFTER_SECONDS: std::ops::RangeInclusive<u32> = 1..=5;

/// The shortest answer deadline a configuration may ask for: twice the margin, so that the store
/// has as much time as the answer.
pub const ANSWER_DEADLINE_MIN: Duration = Duration::from_millis(200);

/// The longest a configuration may wait for a body: a slow one holds its connection so long.
pub const BODY_DEADLINE_MAX: Duration = Duration::from_secs(120);

/// The longest lease a configuration may ask for: a dead worker goes unnoticed so long.
pub const LEASE_MAX: Duration = Duration::from_hours(1);

/// The longest delay between two attempts that may be asked for.
pub const RETRY_DELAY_MAX: Duration = Duration::from_hours(24 * 7);

/// The most attempts a handler may ask for.
pub const ATTEMPTS_MAX: u32 = 1000;

/// The longest a shut-down may be asked to wait.
pub const SHUTDOWN_GRACE_MAX: Duration = Duration::from_hours(1);

/// The longest a configured answer to a provider may be.
pub const RESPONSE_BYTES_MAX: usize = 64 << 10;

/// Longest configuration file, and longest file with a secret or a key in it.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Longest body the admin listener takes.
pub const ADMIN_BODY_BYTES_MAX: usize = 64 << 10;

/// How often what was counted is noted for the dashboard, and how many of these notes are kept: a day.
pub const HISTORY_INTERVAL: Duration = Duration::from_secs(15);
/// See [`HISTORY_INTERVAL`].
pub const HISTORY_POINTS_MAX: usize = 24 * 60 * 4;

/// In how many intervals ([`HISTORY_INTERVAL`]) a source must have been heard before anything is said about
/// its being silent. Not how many requests: a burst says nothing about how often there is one.
pub const SILENCE_TIMES_MIN: u32 = 10;

/// How many times its usual interval a source is silent before that is worth a warning, and how long
/// at least: a busy source may pause.
pub const SILENCE_INTERVALS: u32 = 3;
/// See [`SILENCE_INTERVALS`].
pub const SILENCE_MIN: Duration = Duration::from_mins(5);

/// How often it is looked whether there is anything to tell a person.
pub const NOTICES_LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long there is no second notice of the same kind and subject: a person is told, not pestered.
pub const NOTICES_EVERY: Duration = Duration::from_hours(1);
/// See [`NOTICES_EVERY`].
pub const NOTICES_EVERY_MAX: Duration = Duration::from_hours(24 * 30);

/// How many notices may wait to be sent.
pub const NOTICES_WAITING_MAX: usize = 256;

/// How often a notice is tried, how long an attempt may take, and how long it waits in between.
pub const NOTICE_ATTEMPTS: u32 = 4;
/// See [`NOTICE_ATTEMPTS`].
pub const NOTICE_TIMEOUT: Duration = Duration::from_secs(10);
/// See [`NOTICE_ATTEMPTS`].
pub const NOTICE_RETRY_FIRST: Duration = Duration::from_secs(2);
/// See [`NOTICE_ATTEMPTS`].
pub const NOTICE_RETRY_MAX: Duration = Duration::from_secs(30);

/// Refusals of a source are counted over this time, and compared with the mean of so many such times: an
/// hour. More than three times that, and no fewer than this, is a jump.
pub const REFUSALS_WINDOW: Duration = Duration::from_mins(1);
/// See [`REFUSALS_WINDOW`].
pub const REFUSALS_WINDOWS_KEPT: usize = 60;
/// See [`REFUSALS_WINDOW`].
pub const REFUSALS_JUMP_TIMES: u64 = 3;
/// See [`REFUSALS_WINDOW`].
pub const REFUSALS_JUMP_MIN: u64 = 20;

/// Longest reason that a person may give for a replay.
pub const REASON_BYTES_MAX: usize = 500;

/// How much of a body a page of the dashboard shows; the whole can be downloaded.
pub const BODY_BYTES_SHOWN: usize = 128 << 10;

/// How many may watch the live tail at once, and how much waits for one who is slow.
pub const TAIL_WATCHERS_MAX: usize = 32;
/// See [`TAIL_WATCHERS_MAX`].
pub const TAIL_WAITING_MAX: usize = 1024;

/// How long the live tail is silent at most: proxies take a longer silence for an end.
pub const TAIL_KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How many dead letters a redrive at a rate may queue in a second.
pub const REDRIVES_PER_SECOND_MAX: u32 = 1000;

/// How long somebody stays logged in to the dashboard: a working day.
pub const SESSION_LIFE: Duration = Duration::from_hours(12);

/// How many may be logged in at once; the oldest session makes room.
pub const SESSIONS_MAX: usize = 256;

/// How many wrong tokens one address may type in a window. A token is long: this is against noise.
pub const LOGIN_FAILURES_MAX: u32 = 10;
/// See [`LOGIN_FAILURES_MAX`].
pub const LOGIN_WINDOW: Duration = Duration::from_secs(60);

/// How many addresses are remembered for their wrong tokens. Beyond it strangers have to wait.
pub const LOGIN_ADDRESSES_MAX: usize = 4096;

/// How long after asking at a place where a provider publishes keys it is left alone: a stranger
/// must not be able to make us call somebody again and again.
pub const KEYS_ASKED_EVERY: Duration = Duration::from_mins(1);

/// How many such places one source knows. SNS has a place per certificate, and a stranger can name as
/// many as he likes.
pub const KEY_PLACES_MAX: usize = 32;

/// How long fetched keys are used before they are fetched again: one that its provider has withdrawn
/// must not be trusted for ever.
pub const KEYS_FRESH: Duration = Duration::from_hours(6);

/// How long fetched keys are used when they cannot be fetched again.
pub const KEYS_KEPT: Duration = Duration::from_hours(48);

/// Longest page of keys that is read. A certificate with its chain has some 6 KiB.
pub const KEYS_BYTES_MAX: usize = 256 << 10;

/// How long a call of a provider's own place may take.
pub const OUTBOUND_TIMEOUT: Duration = Duration::from_secs(10);

/// How many such calls run at once.
pub const OUTBOUND_AT_ONCE: usize = 4;

/// How long the task that makes them sleeps when nothing wakes it: keys grow old by themselves.
pub const OUTBOUND_INTERVAL: Duration = Duration::from_secs(30);

/// How many confirmations may wait to be sent.
pub const CONFIRMATIONS_MAX: usize = 64;

/// How often a confirmation is tried, and how long it waits after the first failure; each wait is five
/// times the one before it. A token of SNS is good for three days.
pub const CONFIRMATION_ATTEMPTS: u32 = 5;
/// See [`CONFIRMATION_ATTEMPTS`].
pub const CONFIRMATION_WAIT: Duration = Duration::from_secs(2);

/// How many secrets that were handed over are written down at once: anybody can send them.
pub const HANDED_OVER_AT_ONCE: usize = 4;

/// How many secrets that were handed over are kept per source, and how long one may be.
pub const HANDED_OVER_MAX: usize = 8;
/// See [`HANDED_OVER_MAX`].
pub const HANDED_OVER_BYTES_MAX: usize = 512;

/// How many refused requests are kept of one source and step: enough to see a pattern, and few enough
/// to read.
pub const REFUSALS_KEPT_MAX: usize = 20;

/// How many bytes the kept refusals of one source may hold together: strangers write them, so they
/// must never be what fills a store.
pub const REFUSALS_KEPT_BYTES_MAX: usize = 4 << 20;

/// Longest body that is kept with a refused request. Nearly all providers stay below; of a longer one
/// everything else is kept.
pub const REFUSAL_BODY_BYTES_MAX: usize = 256 << 10;

/// Of one source and step this many refused requests are taken at once, and then one in this time.
/// More would only push each other out, and a flood must not become a flood of writes.
pub const REFUSALS_BURST: u32 = 20;
/// See [`REFUSALS_BURST`].
pub const REFUSAL_INTERVAL: Duration = Duration::from_secs(1);

/// How many refused requests, and how many of their bytes, may wait to be written down.
pub const REFUSALS_WAITING_MAX: usize = 256;
/// See [`REFUSALS_WAITING_MAX`].
pub const REFUSALS_WAITING_BYTES_MAX: usize = 8 << 20;

/// Refused requests on one page: each is looked into, which takes far longer than reading a row.
pub const REFUSAL_PAGE_ROWS_MAX: usize = 100;

/// Longest body of which the doctor tries other spellings: each is made of every string in it anew, and
/// a stranger may have written it to take as long as can be.
pub const RESPELLED_BODY_BYTES_MAX: usize = 64 << 10;

/// Lines in the log about failed attempts of one handler in a second. All of them are in the store.
pub const ATTEMPT_LINES_MAX: u64 = 10;

/// How long a batch of spans is tried to be sent, and how long a server that stops waits for the last one
/// to be gone.
pub const SPANS_TIMEOUT: Duration = Duration::from_secs(5);

const _: () = assert!(REFUSAL_BODY_BYTES_MAX < REFUSALS_KEPT_BYTES_MAX, "one must fit in");
const _: () = assert!(REFUSAL_BODY_BYTES_MAX < REFUSALS_WAITING_BYTES_MAX, "one must fit in");
const _: () = assert!(BODY_BYTES_MAX <= BODY_BYTES_CEILING);
const _: () = assert!(BODY_BYTES_CEILING <= WAITING_BYTES_MAX, "one body must fit into the queue");
const _: () = assert!(STORE_CALL_TIMEOUT.as_millis() < ANSWER_DEADLINE.as_millis());
const _: () = assert!(STORE_LOCK_TIMEOUT.as_millis() * 2 < STORE_CALL_TIMEOUT.as_millis());
const _: () = assert!(ANSWER_MARGIN.as_millis() < ANSWER_DEADLINE.as_millis());
const _: () = assert!(ANSWER_DEADLINE.as_millis() <= ANSWER_DEADLINE_MAX.as_millis());
const _: () = assert!(ATTEMPT_TIMEOUT.as_millis() <= ATTEMPT_TIMEOUT_MAX.as_millis());
const _: () = assert!(EXCERPT_BYTES_MAX <= ANSWER_BYTES_READ_MAX);
const _: () = assert!(ANSWER_MARGIN.as_millis() * 2 <= ANSWER_DEADLINE_MIN.as_millis());
const _: () = assert!(LEASE_MIN.as_millis() <= LEASE.as_millis());
const _: () = assert!(KEYS_ASKED_EVERY.as_secs() < KEYS_FRESH.as_secs());
const _: () = assert!(KEYS_FRESH.as_secs() < KEYS_KEPT.as_secs());
const _: () =
    assert!(CALL_TIMEOUT.as_millis() < KEY_LEASE_MAX.as_millis(), "a call ends in its lease");
const _: () = assert!(KEY_LEASE_MAX.as_millis() <= KEY_LEASE_CEILING.as_millis());
const _: () = assert!(ANSWER_BYTES_SAVED <= ANSWER_BYTES_CEILING);
