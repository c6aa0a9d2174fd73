//! Logs: readable lines for people, JSON for machines.

use std::{
    collections::HashMap,
    io::{IsTerminal as _, stderr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tracing_subscriber::EnvFilter;

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Libraries that say more at `info` than an operator wants to know.
const QUIETER: &str = "actix_server=warn,actix_http=warn";

/// Sends logs to stderr from now on. `level` is a filter as `tracing` reads it (`info`,
/// `hookonce=debug`). Does nothing if the program has set a subscriber of its own.
pub fn start(format: Format, level: &str) {
    let level = format!("{QUIETER},{level}");
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false);
    let set = match format {
        Format::Pretty => subscriber.try_init(),
        Format::Json => subscriber.json().flatten_event(true).with_span_list(false).try_init(),
    };
    drop(set); // an embedding program's own subscriber stays
}

/// Lets one line through per key and interval, and counts the rest: an attacker decides how often a
/// request is refused, but not how much we write about it.
#[derive(Debug)]
pub struct Throttle {
    interval: Duration,
    last: Mutex<HashMap<String, Held>>,
}

#[derive(Debug)]
struct Held {
    since: Duration,
    lines: u64,
}

impl Throttle {
    /// One line per key in `interval`.
    pub fn every(interval: Duration) -> Self {
        Self { interval, last: Mutex::default() }
    }

    /// Whether a line about `key` may be written at `monotonic`, and if so how many were held back
    /// since the last one. Keys must come from a closed set: they are kept for ever.
    pub fn let_through(&self, key: &str, monotonic: Duration) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last.get_mut(key) {
            None => {
                last.insert(key.to_owned(), Held { since: monotonic, lines: 0 });
                Some(0)
            }
            Some(held) if monotonic.saturating_sub(held.since) >= self.interval => {
                held.since = monotonic;
                Some(std::mem::take(&mut held.lines))
            }
            Some(held) => {
                held.lines += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_writes_one_line_and_says_how_many_it_stands_for() {
        let throttle = Throttle::every(Duration::from_secs(1));
        assert_eq!(throttle.let_through("stripe", Duration::ZERO), Some(0));
        for _ in 0..99 {
            assert_eq!(throttle.let_through("stripe", Duration::from_millis(500)), None);
        }
        assert_eq!(throttle.let_through("github", Duration::from_millis(500)), Some(0));
        assert_eq!(throttle.let_through("stripe", Duration::from_secs(1)), Some(99));
    }
}
