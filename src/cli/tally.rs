//! Counting answers, in the same memory however many there are.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    output::table,
    sender::{Answer, Became},
};

/// What became of all requests so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    requests: u64,
    acknowledged: u64,
    retries: u64,
    answers: BTreeMap<(Became, Option<u16>), u64>,
    latencies: Latencies,
    failure: Option<String>,
}

/// The closing table.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Where they were sent.
    pub(crate) url: String,
    /// Requests; sending one again counts under `retries`.
    pub(crate) requests: u64,
    /// Requests that were answered 2xx in the end.
    pub(crate) acknowledged: u64,
    pub(crate) retries: u64,
    /// Every answer, retries included.
    pub(crate) answers: Vec<Row>,
    pub(crate) latency_ms: Latency,
    pub(crate) seconds: f64,
    pub(crate) requests_per_second: f64,
    /// Why the first one failed that got no answer.
    pub(crate) failure: Option<String>,
}

/// How often the same was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    pub(crate) status: Became,
    pub(crate) http: Option<u16>,
    pub(crate) count: u64,
}

/// How long answers took, in milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Tally {
    /// Counts one request with the answers it got, one for each time it was sent.
    pub(crate) fn count(&mut self, answers: &[Answer]) {
        self.requests += 1;
        self.acknowledged += u64::from(answers.last().is_some_and(Answer::is_acknowledged));
        self.retries += answers.len().saturating_sub(1) as u64;
        for answer in answers {
            *self.answers.entry((answer.became, answer.status)).or_default() += 1;
            match &answer.error {
                None => self.latencies.count(answer.took),
                Some(error) => {
                    self.failure.get_or_insert_with(|| error.clone());
                }
            }
        }
    }

    /// How often each answer was given.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let row = |(&(status, http), &count): (&(Became, _), &_)| Row { status, http, count };
        self.answers.iter().map(row).collect()
    }

    /// The closing table of what took `took` in all.
    pub(crate) fn report(&self, url: String, took: Duration) -> Report {
        let at = |part| millis(self.latencies.at(part));
        let seconds = took.as_secs_f64();
        let sendings: u64 = self.answers.values().sum();
        Report {
            url,
            requests: self.requests,
            acknowledged: self.acknowledged,
            retries: self.retries,
            answers: self.rows(),
            latency_ms: Latency {
                p50: at(0.50),
                p95: at(0.95),
                p99: at(0.99),
                max: millis(self.latencies.max),
            },
            seconds,
            requests_per_second: precise(sendings, seconds),
            failure: self.failure.clone(),
        }
    }
}

impl Report {
    /// Whether every request was acknowledged in the end.
    pub(crate) fn is_complete(&self) -> bool {
        self.acknowledged == self.requests
    }

    pub(crate) fn text(&self) -> String {
        let mut answers = table(["status", "http", "count"]);
        for row in &self.answers {
            let http = row.http.map_or_else(|| "-".to_owned(), |http| http.to_string());
            answers.add_row([row.status.to_string(), http, row.count.to_string()]);
        }
        let Latency { p50, p95, p99, max } = self.latency_ms;
        let failure = self.failure.iter().map(|failure| format!("\nthe first failure: {failure}"));
        format!(
            "{answers}\n\n{} of {} requests to {} acknowledged, {} retries\n\
             latency p50 {p50:.1} ms, p95 {p95:.1} ms, p99 {p99:.1} ms, max {max:.1} ms; {:.0}/s over {:.2} s{}",
            self.acknowledged,
            self.requests,
            self.url,
            self.retries,
            self.requests_per_second,
            self.seconds,
            failure.collect::<String>()
        )
    }
}

/// Latencies, each rounded up by 3 % at most: there are never more than some two thousand of them.
#[derive(Debug, Default)]
struct Latencies {
    counts: BTreeMap<u64, u64>,
    total: u64,
    max: Duration,
}

impl Latencies {
    fn count(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // All but the highest six bits are rounded up.
        let spare = (u64::BITS - micros.leading_zeros()).saturating_sub(6);
        let rounded = micros | ((1 << spare) - 1);
        *self.counts.entry(rounded).or_default() += 1;
        self.total += 1;
        self.max = self.max.max(took);
    }

    /// The latency that `part` of them did not exceed.
    fn at(&self, part: f64) -> Duration {
        let mut seen = 0;
        let reached = self.counts.iter().find(|(_, count)| {
            seen += **count;
            precise(seen, 1.0) >= part * precise(self.total, 1.0)
        });
        reached.map_or(Duration::ZERO, |(micros, _)| Duration::from_micros(*micros).min(self.max))
    }
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "nobody counts to 2^53 here")]
fn precise(count: u64, over: f64) -> f64 {
    if over > 0.0 { count as f64 / over } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(became: Became, status: Option<u16>) -> Answer {
        let error = status.is_none().then(|| "connection reset".to_owned());
        Answer { became, status, retry_after: None, took: Duration::from_millis(2), error }
    }

    #[test]
    fn a_request_is_acknowledged_by_its_last_answer() {
        let mut tally = Tally::default();
        tally.count(&[
            answer(Became::Failed, None),
            answer(Became::Unavailable, Some(503)),
            answer(Became::Accepted, Some(200)),
        ]);
        tally.count(&[answer(Became::Refused, Some(401))]);
        let report = tally.report(String::new(), Duration::from_secs(2));
        assert_eq!((report.requests, report.acknowledged, report.retries), (2, 1, 2));
        assert!(!report.is_complete());
        let rows: Vec<_> = report.answers.iter().map(|row| (row.http, row.count)).collect();
        assert_eq!(rows, [(Some(200), 1), (Some(401), 1), (Some(503), 1), (None, 1)]);
        assert_eq!(report.failure.as_deref(), Some("connection reset"));
        assert!((report.requests_per_second - 2.0).abs() < 1e-9);
    }

    #[test]
    fn latencies_are_rounded_a_little_and_never_beyond_the_longest() {
        let mut latencies = Latencies::default();
        for micros in 1..=100_000 {
            latencies.count(Duration::from_micros(micros));
        }
        assert!(latencies.counts.len() < 1000, "{}", latencies.counts.len());
        for (part, micros) in [(0.5, 50_000.0), (0.99, 99_000.0), (1.0, 100_000.0)] {
            let found = latencies.at(part).as_secs_f64() * 1e6;
            assert!((micros..=micros * 1.04).contains(&found), "{part}: {found}");
        }
        assert_eq!(latencies.at(1.0), latencies.max);
        assert_eq!(Latencies::default().at(0.5), Duration::ZERO);
    }
}
