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
