//! How often attempts of a handler may begin, and who may begin now: pure.

use std::{fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits;

/// So many in a second, a minute or an hour: `50/s`, `100/m`, `20/h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    count: u32,
    per: Per,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Per {
    Second,
    Minute,
    Hour,
}

/// A text that is no rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no rate: write one such as \"50/s\", \"100/m\" or \"20/h\"")]
pub struct NoRate;

impl Rate {
    /// How far apart two of them begin when all is spent.
    fn interval(self) -> Duration {
        let per = match self.per {
            Per::Second => Duration::from_secs(1),
            Per::Minute => Duration::from_mins(1),
            Per::Hour => Duration::from_hours(1),
        };
        per / self.count
    }

    /// How much may be saved up. Little, since who asks for 50 in a second is not to get 100 in the
    /// first one; but more than a timer is late by.
    fn saved_max(self) -> Duration {
        self.interval().max(limits::RATE_SAVED_MAX)
    }
}

impl FromStr for Rate {
    type Err = NoRate;

    fn from_str(text: &str) -> Result<Self, NoRate> {
        let (count, per) = text.split_once('/').ok_or(NoRate)?;
        let count = count.trim().parse().map_err(|_| NoRate)?;
        let per = match per.trim() {
            "s" => Per::Second,
            "m" => Per::Minute,
            "h" => Per::Hour,
            _ => return Err(NoRate),
        };
        let is_within = (1..=limits::RATE_COUNT_MAX).contains(&count);
        is_within.then_some(Self { count, per }).ok_or(NoRate)
    }
}

/// As it is written in the configuration.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = match self.per {
            Per::Second => "s",
            Per::Minute => "m",
            Per::Hour => "h",
        };
        write!(f, "{}/{per}", self.count)
    }
}

impl TryFrom<String> for Rate {
    type Error = NoRate;

    fn try_from(text: String) -> Result<Self, NoRate> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

/// Keeps to a rate: a token bucket, written as the time until which what has begun has spent it. Times
/// are on the monotonic clock. The rate may be another one at each call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    spent_until: Duration,
}

impl Pace {
    /// How many may begin now; or how long it is until one may.
    pub(crate) fn may_begin(&self, rate: Rate, now: Duration) -> Result<usize, Duration> {
        let free = rate.saved_max().saturating_sub(self.ahead(rate, now));
        let many = free.as_nanos() / rate.interval().as_nanos();
        match usize::try_from(many).unwrap_or(usize::MAX) {
            0 => Err(rate.interval().saturating_sub(free)),
            many => Ok(many),
        }
    }

    /// So many have begun.
    pub(crate) fn begun(&mut self, rate: Rate, now: Duration, many: usize) {
        let many = u32::try_from(many).unwrap_or(u32::MAX);
        self.spent_until = now + self.ahead(rate, now) + rate.interval().saturating_mul(many);
    }

    /// How much of what is still to come is spent: never more than can be saved up, also where another,
    /// slower rate has spent it.
    fn ahead(&self, rate: Rate, now: Duration) -> Duration {
        self.spent_until.saturating_sub(now).min(rate.saved_max())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().expect("it is a rate")
    }

    /// How many begin within `span` when as many as may do, at each of the moments `step` apart.
    fn begun_within(rate: Rate, span: Duration, step: Duration) -> usize {
        let (mut pace, mut now, mut begun) = (Pace::default(), Duration::from_secs(7), 0);
        let end = now + span;
        while now < end {
            if let Ok(many) = pace.may_begin(rate, now) {
                pace.begun(rate, now, many);
                begun += many;
            }
            now += step;
        }
        begun
    }

    #[test]
    fn a_rate_is_read_and_written_as_people_write_it() {
        for text in ["50/s", "100/m", "1/h"] {
            assert_eq!(rate(text).to_string(), text);
        }
        for text in ["", "50", "0/s", "-1/s", "50/d", "50/sec", "1.5/s", "99999999/s"] {
            assert_eq!(text.parse::<Rate>(), Err(NoRate), "{text}");
        }
    }

    #[test]
    fn a_rate_is_kept_and_hardly_passed_in_the_first_second() {
        let step = Duration::from_millis(1);
        assert_eq!(begun_within(rate("50/s"), Duration::from_secs(1), step), 54);
        assert_eq!(begun_within(rate("50/s"), Duration::from_secs(10), step), 504);
        assert_eq!(begun_within(rate("6/m"), Duration::from_secs(60), step), 6);
        assert_eq!(begun_within(rate("2000/s"), Duration::from_secs(1), step), 2198);
    }

    #[test]
    fn who_must_wait_is_told_how_long() {
        let (mut pace, now) = (Pace::default(), Duration::from_secs(7));
        let slow = rate("1/m");
        assert_eq!(pace.may_begin(slow, now), Ok(1));
        pace.begun(slow, now, 1);
        assert_eq!(pace.may_begin(slow, now), Err(Duration::from_secs(60)));
        let later = now + Duration::from_secs(50);
        assert_eq!(pace.may_begin(slow, later), Err(Duration::from_secs(10)));
    }

    #[test]
    fn a_faster_rate_does_not_wait_for_what_a_slower_one_has_spent() {
        let (mut pace, now) = (Pace::default(), Duration::from_secs(7));
        pace.begun(rate("1/h"), now, 1);
        assert_eq!(pace.may_begin(rate("100/s"), now), Err(Duration::from_millis(10)));
    }
}
