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

/// Lets so many lines through per key and interval, and counts the rest: an attacker decides how often a
/// request is refused, but not how much we write about it.
#[derive(Debug)]
pub struct Throttle {
    lines_max: u64,
    interval: Duration,
    last: Mutex<HashMap<String, Held>>,
}

#[derive(Debug)]
struct Held {
    since: Duration,
    written: u64,
    held_back: u64,
}

impl Throttle {
    /// One line per key in `interval`.
    pub fn every(interval: Duration) -> Self {
        Self::of(1, interval)
    }

    /// So many lines per key in `interval`.
    pub fn of(lines_max: u64, interval: Duration) -> Self {
        Self { lines_max, interval, last: Mutex::default() }
    }

    /// Whether a line about `key` may be written at `monotonic`, and if so how many were held back
    /// since the last one. Keys must come from a closed set: they are kept for ever.
    pub fn let_through(&self, key: &str, monotonic: Duration) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last.get_mut(key) {
            None => {
                last.insert(key.to_owned(), Held { since: monotonic, written: 1, held_back: 0 });
                Some(0)
            }
            Some(held) if monotonic.saturating_sub(held.since) >= self.interval => {
                (held.since, held.written) = (monotonic, 1);
                Some(std::mem::take(&mut held.held_back))
            }
            Some(held) if held.written < self.lines_max => {
                held.written += 1;
                Some(0)
            }
            Some(held) => {
                held.held_back += 1;
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

    #[test]
    fn a_few_lines_are_no_flood() {
        let throttle = Throttle::of(3, Duration::from_secs(1));
        let now = |millis| throttle.let_through("billing", Duration::from_millis(millis));
        assert_eq!([now(0), now(1), now(2), now(3)], [Some(0), Some(0), Some(0), None]);
        assert_eq!([now(1000), now(1001)], [Some(1), Some(0)]);
    }
}
