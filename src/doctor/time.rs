//! Signed times that are too far off: is it the request, or is it a clock?

use std::{collections::BTreeSet, time::Duration};

use super::{Case, Finding, Kind};
use crate::{
    clock::Timestamp,
    refusal::{Refusal, SignatureProblem},
};

/// So many signed times must be off by the same before a clock is blamed.
const SAME_MIN: usize = 3;

/// How far they may lie apart to be the same: what requests take on their way.
const SAME_WITHIN_SECONDS: i64 = 30;

impl Case<'_> {
    /// The signed time is too far from ours.
    pub(super) fn stale(&self) -> Finding {
        let Some(Refusal::Signature(SignatureProblem::Stale(seconds))) = self.problem() else {
            return self.no_match(); // the tolerance has changed since, and something else is wrong too
        };
        let as_signed = Case { as_of: earlier(self.as_of, seconds), ..*self };
        let holds = as_signed.holds(self.request);
        let (cause, fix) = if seconds < 0 {
            (
                format!("its time is {} s ahead of our clock: likely our clock is slow", -seconds),
                "set this machine's clock by NTP".to_owned(),
            )
        } else {
            (
                format!(
                    "its time is {seconds} s behind our clock: likely it waited on its way or was sent again as it was, or our clock is fast"
                ),
                format!(
                    "look for what holds requests back, check this machine's clock, or raise `sources.{}.tolerance`",
                    self.source.name
                ),
            )
        };
        let mut finding = self.found(Kind::Stale, cause, fix);
        let signed_at = earlier(self.as_of, seconds);
        finding.evidence.push(format!("signed at {signed_at}, received at {}", self.as_of));
        finding.evidence.push(if holds {
            "but for its time the signature holds".to_owned()
        } else {
            "also without its time the signature does not hold".to_owned()
        });
        finding.proved = holds;
        finding.stale_seconds = Some(seconds);
        finding
    }
}

/// Looks at all findings together, each with when its request was received. Where several signed times
/// are off by the same, it is a clock.
pub fn tell_skew(findings: &mut [(Timestamp, &mut Finding)]) {
    // Only a time that was really signed says anything.
    let off = |finding: &Finding| finding.stale_seconds.filter(|_| finding.proved);
    let mut ages: Vec<_> = findings.iter().filter_map(|(_, finding)| off(finding)).collect();
    ages.sort_unstable();
    let Some(&middle) = ages.get(ages.len() / 2) else { return };
    let same = |age: i64| (age - middle).abs() <= SAME_WITHIN_SECONDS;
    // One request that is sent again and again tells of no clock: its signed time stays the same.
    let signed_at: BTreeSet<_> = findings
        .iter()
        .filter_map(|(received_at, finding)| Some((received_at, off(finding)?)))
        .filter(|(_, age)| same(*age))
        .map(|(received_at, age)| received_at.as_seconds() - age)
        .collect();
    if signed_at.len() < SAME_MIN {
        return;
    }
    let direction = if middle < 0 { "slow" } else { "fast" };
    for (_, finding) in findings.iter_mut().filter(|(_, finding)| off(finding).is_some_and(same)) {
        finding.kind = Kind::ClockSkew;
        finding.cause = format!(
            "the signed times of several requests are off by the same, about {} s: likely our clock is {direction}",
            middle.abs()
        );
        finding.fix = "set this machine's clock by NTP".to_owned();
    }
}

fn earlier(time: Timestamp, seconds: i64) -> Timestamp {
    let span = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { time.plus(span) } else { time.minus(span) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{doctor::finding, refusal::Step};

    /// The kinds that come out for requests received and signed at these seconds.
    fn kinds(requests: &[(i64, i64)]) -> Vec<Kind> {
        let stale = |(received, signed): &(i64, i64)| {
            let text = String::new;
            let mut finding = finding(Step::Stale, Kind::Stale, text(), text());
            finding.proved = true;
            finding.stale_seconds = Some(received - signed);
            (Timestamp::from_seconds(*received), finding)
        };
        let mut all: Vec<_> = requests.iter().map(stale).collect();
        let mut together: Vec<_> = all.iter_mut().map(|(at, finding)| (*at, finding)).collect();
        tell_skew(&mut together);
        all.into_iter().map(|(_, finding)| finding.kind).collect()
    }

    #[test]
    fn several_that_are_off_by_the_same_are_a_clock_and_others_are_not() {
        let skewed = [(5000, 1000), (6000, 2010), (7000, 2995), (8000, 7000)];
        let [same, other] = [Kind::ClockSkew, Kind::Stale];
        assert_eq!(kinds(&skewed), [same, same, same, other]);
        assert_eq!(kinds(&[(1000, 5000), (2000, 6000), (3000, 7000)]), [same; 3]);
    }

    #[test]
    fn one_request_sent_again_and_again_is_no_clock() {
        assert_eq!(kinds(&[(5000, 1000), (5001, 1000), (5002, 1000)]), [Kind::Stale; 3]);
        assert_eq!(kinds(&[(5000, 1000), (9000, 1000)]), [Kind::Stale; 2]);
        assert_eq!(kinds(&[]), []);
    }
}
