//! When to try again: pure, with time and chance as arguments.

use std::time::Duration;

use crate::limits;

/// How often and when a delivery is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts a delivery gets before it is dead.
    pub attempts: u32,
    /// The longest the first retry may wait; doubled with every further one.
    pub first: Duration,
    /// The longest any retry may wait.
    pub max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: limits::ATTEMPTS, first: limits::RETRY_FIRST, max: limits::RETRY_MAX }
    }
}

impl Retry {
    /// How long to wait after the failed attempt `attempt` (counted from 1 since the budget was
    /// fresh), or `None` if it was the last one.
    ///
    /// Full jitter: anywhere between nothing and the doubled delay, so that deliveries which
    /// failed together do not come back together. `chance` is in `0.0..=1.0`. What the handler
    /// asked for with `Retry-After` comes before that. It never shortens it: a proxy that asks for a
    /// second each time would use up in a minute the attempts that are there for hours.
    pub fn delay(&self, attempt: u32, asked: Option<Duration>, chance: f64) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let doublings = attempt.saturating_sub(1).min(31);
        let longest = self.first.saturating_mul(1 << doublings).min(self.max);
        let jittered = longest.mul_f64(chance.clamp(0.0, 1.0));
        let asked = asked.unwrap_or_default().min(limits::RETRY_AFTER_MAX);
        Some(asked.saturating_add(jittered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Retry =
        Retry { attempts: 4, first: Duration::from_secs(5), max: Duration::from_secs(12) };

    #[test]
    fn the_delay_doubles_up_to_its_cap() {
        let longest = |attempt| RETRY.delay(attempt, None, 1.0);
        assert_eq!(longest(1), Some(Duration::from_secs(5)));
        assert_eq!(longest(2), Some(Duration::from_secs(10)));
        assert_eq!(longest(3), Some(Duration::from_secs(12)));
    }

    #[test]
    fn the_last_attempt_has_no_delay() {
        assert_eq!(RETRY.delay(4, None, 0.5), None);
        assert_eq!(RETRY.delay(9, Some(Duration::from_secs(1)), 0.5), None);
    }

    #[test]
    fn retry_after_is_waited_at_least() {
        let asked = Some(Duration::from_secs(60));
        assert_eq!(RETRY.delay(1, asked, 0.0), Some(Duration::from_secs(60)));
        assert_eq!(RETRY.delay(1, asked, 1.0), Some(Duration::from_secs(65)));
        let absurd = RETRY.delay(1, Some(Duration::MAX), 0.0);
        assert_eq!(absurd, Some(limits::RETRY_AFTER_MAX));
    }

    #[test]
    fn asking_for_a_second_each_time_does_not_use_up_the_attempts_sooner() {
        let retry = Retry::default();
        let whole = |asked| -> Duration {
            (1..retry.attempts).filter_map(|attempt| retry.delay(attempt, asked, 1.0)).sum()
        };
        let second = Duration::from_secs(1);
        assert!(whole(None) > Duration::from_hours(9));
        assert_eq!(whole(Some(second)), whole(None) + second * (retry.attempts - 1));
    }

    #[test]
    fn no_attempt_number_overflows() {
        let retry = Retry { attempts: u32::MAX, first: Duration::MAX, max: Duration::from_secs(1) };
        assert_eq!(retry.delay(u32::MAX - 1, None, 1.0), Some(Duration::from_secs(1)));
    }
}
