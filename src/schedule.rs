//! How a delivery goes on after an attempt: pure.

use std::time::Duration;

use crate::{
    clock::Timestamp,
    delivery::{Attempt, AttemptOutcome, Leased, Settlement, Verdict},
    handler::{Answer, Outcome},
    retry::Retry,
};

/// How an attempt ended, and when.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) started_at: Timestamp,
    pub(crate) took: Duration,
    pub(crate) now: Timestamp,
}

/// What to write down about an attempt. `chance` is the jitter, in `0.0..=1.0`.
pub(crate) fn settle(leased: &Leased, ended: Ended, retry: Retry, chance: f64) -> Settlement {
    let (outcome, answer, retry_after) = match ended.outcome {
        Outcome::Done(answer) => (AttemptOutcome::Done, answer, None),
        Outcome::Failed { retry_after, answer } => (AttemptOutcome::Failed, answer, retry_after),
        Outcome::Rejected(answer) => (AttemptOutcome::Rejected, answer, None),
    };
    let verdict = match outcome {
        AttemptOutcome::Done => Verdict::Done,
        AttemptOutcome::Rejected => Verdict::Dead,
        AttemptOutcome::Failed | AttemptOutcome::Died => {
            let delay = retry.delay(attempt_of_budget(leased), retry_after, chance);
            delay.map_or(Verdict::Dead, |delay| Verdict::RetryAt(ended.now.plus(delay)))
        }
    };
    let Answer { status, error, excerpt } = answer;
    let attempt = Attempt {
        number: leased.attempt,
        started_at: ended.started_at,
        took_ms: Some(u64::try_from(ended.took.as_millis()).unwrap_or(u64::MAX)),
        outcome,
        status,
        error,
        excerpt,
    };
    Settlement { lease: leased.lease, verdict, attempt }
}

/// What to write down about an attempt whose process died: due again at once, and from the second
/// death in a row on after the backoff.
pub(crate) fn died(leased: &Leased, retry: Retry, now: Timestamp, chance: f64) -> Settlement {
    let delay = match retry.delay(attempt_of_budget(leased), None, chance) {
        Some(_) if leased.deaths_in_a_row == 0 => Some(Duration::ZERO),
        delay => delay,
    };
    let verdict = delay.map_or(Verdict::Dead, |delay| Verdict::RetryAt(now.plus(delay)));
    Settlement { lease: leased.lease, verdict, attempt: Attempt::died(leased.attempt, now) }
}

/// Which attempt this is since the budget was fresh.
fn attempt_of_budget(leased: &Leased) -> u32 {
    leased.attempt.saturating_sub(leased.attempts_before_redrive)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        delivery::{DeliveryId, Lease},
        event::{Event, EventId},
        request::Headers,
    };

    const NOW: Timestamp = Timestamp::from_seconds(1000);
    const RETRY: Retry =
        Retry { attempts: 3, first: Duration::from_secs(8), max: Duration::from_secs(60) };

    fn leased(attempt: u32, attempts_before_redrive: u32, deaths_in_a_row: u32) -> Leased {
        let event = Event {
            id: EventId::new(NOW),
            source: Arc::from("stripe"),
            event_id: None,
            event_type: None,
            received_at: NOW,
            shadow: false,
            resent_under_new_id: false,
            retry_marker: None,
            query: String::new(),
            headers: Headers::default(),
            body: bytes::Bytes::new(),
        };
        Leased {
            lease: Lease { delivery: DeliveryId::new(NOW), token: 1 },
            handler: Arc::from("billing"),
            attempt,
            attempts_before_redrive,
            replay_of: None,
            deaths_in_a_row,
            order_key: None,
            event: Arc::new(event),
        }
    }

    fn verdict(leased: &Leased, outcome: Outcome) -> Verdict {
        let ended = Ended { outcome, started_at: NOW, took: Duration::from_millis(5), now: NOW };
        settle(leased, ended, RETRY, 0.5).verdict
    }

    #[test]
    fn a_failure_is_tried_again_until_the_budget_is_spent() {
        let later = |seconds: i64| Verdict::RetryAt(Timestamp::from_seconds(1000 + seconds));
        assert_eq!(verdict(&leased(1, 0, 0), Outcome::failed("no")), later(4));
        assert_eq!(verdict(&leased(2, 0, 0), Outcome::failed("no")), later(8));
        assert_eq!(verdict(&leased(3, 0, 0), Outcome::failed("no")), Verdict::Dead);
    }

    #[test]
    fn a_redrive_starts_the_budget_over() {
        let verdict = verdict(&leased(4, 3, 0), Outcome::failed("no"));
        assert_eq!(verdict, Verdict::RetryAt(Timestamp::from_seconds(1004)));
    }

    #[test]
    fn what_the_handler_rejects_is_dead_at_once() {
        assert_eq!(verdict(&leased(1, 0, 0), Outcome::rejected("gone")), Verdict::Dead);
        assert_eq!(verdict(&leased(1, 0, 0), Outcome::done()), Verdict::Done);
    }

    #[test]
    fn the_second_death_in_a_row_waits() {
        let due = |deaths| died(&leased(2, 0, deaths), RETRY, NOW, 0.5).verdict;
        assert_eq!(due(0), Verdict::RetryAt(NOW));
        assert_eq!(due(1), Verdict::RetryAt(Timestamp::from_seconds(1008)));
        assert_eq!(died(&leased(3, 0, 0), RETRY, NOW, 0.5).verdict, Verdict::Dead);
    }
}
