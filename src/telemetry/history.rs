//! The last day in memory: what the dashboard's plots are drawn from. It is lost with the process, and
//! each process knows its own only; who wants more asks Prometheus.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::metrics::{ACK_SECONDS, Totals};
use crate::{clock::Timestamp, limits};

/// What happened, interval by interval.
#[derive(Debug, Default)]
pub struct History(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    last: Totals,
    points: VecDeque<Point>,
    heard: BTreeMap<String, Heard>,
}

/// What happened in one interval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// When the interval ended.
    pub ended_at: Timestamp,
    /// Requests accepted or held.
    pub accepted: u64,
    /// Requests answered as duplicates.
    pub duplicates: u64,
    /// Requests refused.
    pub refused: u64,
    /// Requests answered 503.
    pub unavailable: u64,
    /// Attempts that ended well.
    pub done: u64,
    /// Attempts that did not.
    pub failed: u64,
    /// Deliveries queued or leased at its end, where the store could tell.
    pub waiting: Option<u64>,
    /// Answers by how long they took, as [`Totals::acks`].
    pub acks: [u64; ACK_SECONDS.len() + 1],
}

/// When a source was heard: 2xx only, since anybody can be refused in its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heard {
    first_at: Timestamp,
    last_at: Timestamp,
    /// In how many intervals.
    times: u32,
}

/// A source that has been silent for longer than it usually is. It displays as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent {
    /// Its name.
    pub source: String,
    /// When it was heard last, to an interval.
    pub last_at: Timestamp,
    /// How long it is silent as a rule.
    pub usual: Duration,
}

impl History {
    /// Notes what was counted since the last call.
    pub fn note(&self, now: Timestamp, totals: Totals, waiting: Option<u64>) {
        let mut inner = self.lock();
        let point = difference(now, &inner.last, &totals, waiting);
        for source in heard_since(&inner.last, &totals) {
            let begun = Heard { first_at: now, last_at: now, times: 0 };
            let heard = inner.heard.entry(source).or_insert(begun);
            heard.last_at = now;
            heard.times += 1;
        }
        inner.last = totals;
        if inner.points.len() >= limits::HISTORY_POINTS_MAX {
            inner.points.pop_front();
        }
        inner.points.push_back(point);
    }

    /// What happened in intervals that ended after `since`, oldest first.
    pub fn since(&self, since: Timestamp) -> Vec<Point> {
        let inner = self.lock();
        inner.points.iter().filter(|point| point.ended_at > since).cloned().collect()
    }

    /// Sources that were heard often enough to know how often, and not since three times as long, nor for
    /// `at_least` as long.
    pub fn silent(&self, now: Timestamp, at_least: Duration) -> Vec<Silent> {
        let inner = self.lock();
        let silent = |(source, heard): (&String, &Heard)| {
            let between = heard.times.saturating_sub(1);
            let usual = heard.last_at.since(heard.first_at).checked_div(between)?;
            let patience = (usual * limits::SILENCE_INTERVALS).max(at_least);
            let is_silent =
                heard.times >= limits::SILENCE_TIMES_MIN && now.since(heard.last_at) > patience;
            let silent = Silent { source: source.clone(), last_at: heard.last_at, usual };
            is_silent.then_some(silent)
        };
        inner.heard.iter().filter_map(silent).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Silent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "nothing heard from source `{}` since {}, which is more than {} × its usual interval ({} s): \
             look at the provider's page of deliveries",
            self.source,
            self.last_at,
            limits::SILENCE_INTERVALS,
            self.usual.as_secs()
        )
    }
}

impl Point {
    /// Adds what happened later.
    pub fn add(&mut self, later: &Self) {
        self.ended_at = later.ended_at;
        self.accepted += later.accepted;
        self.duplicates += later.duplicates;
        self.refused += later.refused;
        self.unavailable += later.unavailable;
        self.done += later.done;
        self.failed += later.failed;
        self.waiting = later.waiting.or(self.waiting);
        for (sum, more) in self.acks.iter_mut().zip(later.acks) {
            *sum += more;
        }
    }

    /// The time within which this share of the answers was given, as well as the buckets tell. `None`:
    /// there were none.
    pub fn ack_quantile(&self, share: f64) -> Option<Duration> {
        let all: u64 = self.acks.iter().sum();
        let wanted = share * approximate(all);
        let (mut below, mut from) = (0.0, 0.0);
        for (count, to) in self.acks.iter().zip(ACK_SECONDS.into_iter().chain([BEYOND])) {
            let count = approximate(*count);
            if count > 0.0 && below + count >= wanted {
                let part = ((wanted - below) / count).clamp(0.0, 1.0);
                return Some(Duration::from_secs_f64(from + (to - from) * part));
            }
            below += count;
            from = to;
        }
        None
    }
}

/// Where the bucket without an end is taken to end, in seconds: nothing is answered later.
const BEYOND: f64 = limits::ANSWER_DEADLINE_MAX.as_secs_f64();

/// A count for arithmetic that need not be exact.
#[expect(clippy::cast_precision_loss, reason = "a share of so many answers need not be exact")]
fn approximate(count: u64) -> f64 {
    count as f64
}

/// The sources that were answered 2xx between the two.
fn heard_since(before: &Totals, now: &Totals) -> BTreeSet<String> {
    let is_new = |(key, count): &(&(String, String), &u64)| {
        **count > before.requests.get(*key).copied().unwrap_or(0)
    };
    let new = now.requests.iter().filter(is_new).map(|(key, _)| key);
    let heard = new.filter(|(_, status)| !matches!(status.as_str(), "refused" | "unavailable"));
    heard.map(|(source, _)| source.clone()).collect()
}

fn difference(ended_at: Timestamp, before: &Totals, now: &Totals, waiting: Option<u64>) -> Point {
    let mut point = Point { ended_at, waiting, ..Point::default() };
    for (key, count) in &now.requests {
        let more = count.saturating_sub(before.requests.get(key).copied().unwrap_or(0));
        match key.1.as_str() {
            "duplicate" => point.duplicates += more,
            "refused" => point.refused += more,
            "unavailable" => point.unavailable += more,
            "handshake" => {}
            _ => point.accepted += more,
        }
    }
    for (key, count) in &now.attempts {
        let more = count.saturating_sub(before.attempts.get(key).copied().unwrap_or(0));
        match key.1.as_str() {
            "done" => point.done += more,
            _ => point.failed += more,
        }
    }
    for ((slot, now), before) in point.acks.iter_mut().zip(now.acks).zip(before.acks) {
        *slot = now.saturating_sub(before);
    }
    point
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(source: &str, status: &str, count: u64) -> Totals {
        let key = (source.to_owned(), status.to_owned());
        Totals { requests: [(key, count)].into(), ..Totals::default() }
    }

    #[test]
    fn a_point_is_what_came_since_the_one_before() {
        let history = History::default();
        history.note(Timestamp::from_seconds(15), requests("stripe", "accepted", 5), Some(2));
        history.note(Timestamp::from_seconds(30), requests("stripe", "accepted", 7), Some(0));
        let points = history.since(Timestamp::from_seconds(15));
        assert_eq!(points.len(), 1);
        assert_eq!((points[0].accepted, points[0].waiting), (2, Some(0)));
    }

    #[test]
    fn it_keeps_a_day_and_no_more() {
        let history = History::default();
        for second in 0..=i64::try_from(limits::HISTORY_POINTS_MAX).unwrap() {
            history.note(Timestamp::from_seconds(second), Totals::default(), None);
        }
        let points = history.since(Timestamp::from_seconds(-1));
        assert_eq!(points.len(), limits::HISTORY_POINTS_MAX);
        assert_eq!(points[0].ended_at, Timestamp::from_seconds(1));
    }

    #[test]
    fn a_source_is_silent_after_three_of_its_usual_intervals() {
        let (history, minutes) =
            (History::default(), |minutes: i64| Timestamp::from_seconds(minutes * 60));
        for round in 1..=10 {
            let count = round.try_into().unwrap();
            history.note(minutes(round * 10), requests("stripe", "accepted", count), None);
        }
        assert_eq!(history.silent(minutes(130), limits::SILENCE_MIN), []);
        let silent = history.silent(minutes(131), limits::SILENCE_MIN);
        assert_eq!((&*silent[0].source, silent[0].usual), ("stripe", Duration::from_mins(10)));
    }

    #[test]
    fn a_burst_does_not_say_how_often_there_is_one() {
        let history = History::default();
        history.note(Timestamp::from_seconds(15), requests("stripe", "accepted", 500), None);
        let later = Timestamp::from_seconds(1_000_000);
        assert_eq!(history.silent(later, limits::SILENCE_MIN), [], "heard once, however much");
        for hour in 1..=10 {
            let totals = requests("stripe", "accepted", 500 + 100 * hour);
            let at = i64::try_from(hour).unwrap() * 3600 + 15;
            history.note(Timestamp::from_seconds(at), totals, None);
        }
        let silent = |hours: i64| {
            let now = Timestamp::from_seconds(10 * 3600 + hours * 3600 + 15);
            history.silent(now, limits::SILENCE_MIN).len()
        };
        assert_eq!((silent(3), silent(4)), (0, 1), "a hundred each hour, and none for hours");
    }

    #[test]
    fn who_is_only_refused_is_not_heard() {
        let history = History::default();
        history.note(Timestamp::from_seconds(15), requests("stripe", "refused", 99), None);
        assert_eq!(history.silent(Timestamp::from_seconds(1_000_000), Duration::ZERO), []);
    }

    #[test]
    fn quantiles_fall_into_the_right_bucket() {
        let mut point = Point::default();
        assert_eq!(point.ack_quantile(0.5), None);
        point.acks[2] = 99; // 1 to 2.5 ms
        point.acks[9] = 1; // 250 to 500 ms
        let p50 = point.ack_quantile(0.5).unwrap();
        assert!(Duration::from_millis(1) < p50 && p50 < Duration::from_micros(2500), "{p50:?}");
        assert!(point.ack_quantile(0.999).unwrap() > Duration::from_millis(250));
    }
}
