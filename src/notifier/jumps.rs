//! When a source refuses far more than it usually does: pure.
//!
//! Refusals are counted in windows of a minute. What is usual is the mean of the last windows that were no
//! jump, so that a flood does not become usual by going on.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::limits;

/// What each source has refused.
#[derive(Debug, Default)]
pub(super) struct Jumps {
    /// When the window that is counted in ends; `None` before the first look.
    window_ends: Option<Duration>,
    sources: BTreeMap<String, Counted>,
    jumps: u64,
}

/// A source that refuses far more than usual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Jump {
    pub(super) source: String,
    /// Which jump it is, of all that were seen.
    pub(super) number: u64,
    /// How many were refused in the window in which they are, or were, the most.
    pub(super) refused: u64,
}

#[derive(Debug, Default)]
struct Counted {
    /// The counter at the last look.
    total: u64,
    /// What was refused in this window.
    window: u64,
    /// What was refused in the last windows that were no jump.
    usual: VecDeque<u64>,
    /// The number of the jump, and how many it had refused in a window.
    jump: Option<(u64, u64)>,
}

impl Jumps {
    /// Takes in what every source has refused since the process began, and gives those that refuse far
    /// more than usual. The first look only says where to count from.
    pub(super) fn look(&mut self, now: Duration, refused: &BTreeMap<String, u64>) -> Vec<Jump> {
        let is_first = self.window_ends.is_none();
        let window_ends = *self.window_ends.get_or_insert(now + limits::REFUSALS_WINDOW);
        for (source, total) in refused {
            let counted = self.sources.entry(source.clone()).or_default();
            if !is_first {
                counted.window += total.saturating_sub(counted.total);
            }
            counted.total = *total;
            if counted.is_unusual() {
                let (number, most) = counted.jump.unwrap_or_else(|| {
                    self.jumps += 1;
                    (self.jumps, 0)
                });
                counted.jump = Some((number, most.max(counted.window)));
            }
        }
        let jumps = self.sources.iter().filter_map(|(source, counted)| {
            let (number, refused) = counted.jump?;
            Some(Jump { source: source.clone(), number, refused })
        });
        let jumps = jumps.collect();
        if now >= window_ends {
            self.sources.values_mut().for_each(Counted::begin_window);
            self.window_ends = Some(now + limits::REFUSALS_WINDOW);
        }
        jumps
    }
}

impl Counted {
    fn is_unusual(&self) -> bool {
        let windows = u64::try_from(self.usual.len()).unwrap_or(u64::MAX).max(1);
        let all: u64 = self.usual.iter().sum();
        self.window >= limits::REFUSALS_JUMP_MIN
            && self.window.saturating_mul(windows) > all.saturating_mul(limits::REFUSALS_JUMP_TIMES)
    }

    fn begin_window(&mut self) {
        if !self.is_unusual() {
            self.jump = None;
            self.usual.push_back(self.window);
            if self.usual.len() > limits::REFUSALS_WINDOWS_KEPT {
                self.usual.pop_front();
            }
        }
        self.window = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks once a minute, after so many refusals in each; says in which minutes there is a jump.
    fn jumps(refused: &[u64]) -> Vec<usize> {
        let (mut jumps, mut total, mut seen) = (Jumps::default(), 0, Vec::new());
        for (minute, more) in [0].iter().chain(refused).enumerate() {
            total += more;
            let now = limits::REFUSALS_WINDOW * u32::try_from(minute).unwrap();
            if !jumps.look(now, &[("stripe".to_owned(), total)].into()).is_empty() {
                seen.push(minute);
            }
        }
        seen
    }

    #[test]
    fn few_are_no_jump_and_many_are() {
        assert_eq!(jumps(&[0, limits::REFUSALS_JUMP_MIN - 1, 0]), [0; 0]);
        assert_eq!(jumps(&[0, limits::REFUSALS_JUMP_MIN, 0, 0]), [2, 3], "until a minute is calm");
    }

    #[test]
    fn what_is_usual_is_no_jump() {
        assert_eq!(jumps(&[15, 15, 15, 40, 15]), [0; 0]);
        assert_eq!(jumps(&[15, 15, 15, 46, 15]), [4, 5]);
    }

    #[test]
    fn a_flood_does_not_become_usual() {
        let minutes: Vec<u64> = [1].into_iter().chain([100; 200]).collect();
        assert_eq!(jumps(&minutes).len(), 200);
    }

    #[test]
    fn what_was_refused_before_the_first_look_is_no_jump() {
        let mut jumps = Jumps::default();
        let refused = [("stripe".to_owned(), 1000)].into();
        assert_eq!(jumps.look(Duration::ZERO, &refused), []);
        assert_eq!(jumps.look(Duration::from_secs(1), &refused), []);
    }
}
