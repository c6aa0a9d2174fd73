//! Which refused requests are kept: all of them as a rule, and under a flood a few.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{limits, refusal::Step};

/// A bucket of tokens per source and step. Both come from closed sets, so it stays small.
#[derive(Debug, Default)]
pub(super) struct Sampler(Mutex<HashMap<(Arc<str>, Step), Bucket>>);

#[derive(Debug)]
struct Bucket {
    tokens: u32,
    filled_at: Duration,
    left_out: u64,
}

impl Sampler {
    /// Whether one more is to be kept at `monotonic`, and if so how many were left out since the last.
    pub(super) fn take(&self, source: &Arc<str>, step: Step, monotonic: Duration) -> Option<u64> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = || Bucket { tokens: limits::REFUSALS_BURST, filled_at: monotonic, left_out: 0 };
        let bucket = buckets.entry((Arc::clone(source), step)).or_insert_with(full);
        bucket.fill(monotonic);
        match bucket.tokens.checked_sub(1) {
            Some(tokens) => {
                bucket.tokens = tokens;
                Some(std::mem::take(&mut bucket.left_out))
            }
            None => {
                bucket.left_out += 1;
                None
            }
        }
    }

    /// One that was taken could not be kept: it counts as left out, with the `more` before it.
    pub(super) fn give_back(&self, source: &Arc<str>, step: Step, more: u64) {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get_mut(&(Arc::clone(source), step)) {
            bucket.left_out += more + 1;
        }
    }
}

impl Bucket {
    fn fill(&mut self, monotonic: Duration) {
        let passed = monotonic.saturating_sub(self.filled_at);
        let tokens = passed.as_millis() / limits::REFUSAL_INTERVAL.as_millis();
        let Ok(tokens @ 1..) = u32::try_from(tokens) else { return };
        self.tokens = self.tokens.saturating_add(tokens).min(limits::REFUSALS_BURST);
        self.filled_at += limits::REFUSAL_INTERVAL * tokens;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_sampled_and_counted_and_does_not_hide_other_sources_or_steps() {
        let sampler = Sampler::default();
        let (stripe, github) = (Arc::from("stripe"), Arc::from("github"));
        let kept = |second: u64| {
            let at = Duration::from_secs(second);
            (0..1000).filter_map(|_| sampler.take(&stripe, Step::NoMatch, at)).collect::<Vec<_>>()
        };
        let burst = usize::try_from(limits::REFUSALS_BURST).unwrap();
        assert_eq!(kept(0), vec![0; burst]);
        assert_eq!(kept(1), [1000 - u64::from(limits::REFUSALS_BURST)]);
        assert_eq!(kept(3), [999, 0]);
        assert_eq!(sampler.take(&stripe, Step::Stale, Duration::from_secs(3)), Some(0));
        assert_eq!(sampler.take(&github, Step::NoMatch, Duration::from_secs(3)), Some(0));
        assert_eq!(kept(1_000_000).len(), burst, "it never saves up more than a burst");
    }

    #[test]
    fn what_could_not_be_kept_counts_as_left_out() {
        let sampler = Sampler::default();
        let stripe = Arc::from("stripe");
        assert_eq!(sampler.take(&stripe, Step::Stale, Duration::ZERO), Some(0));
        sampler.give_back(&stripe, Step::Stale, 0);
        assert_eq!(sampler.take(&stripe, Step::Stale, Duration::ZERO), Some(1));
    }
}
