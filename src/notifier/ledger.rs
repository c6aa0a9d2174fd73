//! What has been told, so that a person is told once: pure.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    clock::Timestamp,
    notice::{Kind, Notice, State},
};

/// Something that is so now, and may be worth a notice.
#[derive(Clone, Debug)]
pub(super) struct Concern {
    pub(super) kind: Kind,
    pub(super) subject: String,
    /// Another one than before: there is something new to it.
    pub(super) mark: u64,
    pub(super) count: Option<u64>,
    pub(super) text: String,
}

/// What was told last of each kind and subject.
#[derive(Debug, Default)]
pub(super) struct Ledger(BTreeMap<(Kind, String), Told>);

#[derive(Debug)]
struct Told {
    /// When it was told that it has begun, by the monotonic clock.
    at: Duration,
    mark: u64,
    /// Whether its end is still to be told.
    is_open: bool,
}

impl Ledger {
    /// Takes in how things stand, and gives what is to be told of it. What was told, is of one of the
    /// kinds `looked_at` and is no concern now has ended.
    ///
    /// Between two beginnings of one kind and subject there is the time `every`. What was new in the
    /// meantime is told after it, if it still is so then.
    pub(super) fn enter(
        &mut self,
        looked_at: &[Kind],
        concerns: Vec<Concern>,
        (now, monotonic): (Timestamp, Duration),
        every: Duration,
    ) -> Vec<Notice> {
        let mut notices = Vec::new();
        for (key, told) in &mut self.0 {
            let is = |concern: &Concern| (concern.kind, &concern.subject) == (key.0, &key.1);
            if told.is_open && looked_at.contains(&key.0) && !concerns.iter().any(is) {
                told.is_open = false;
                notices.push(ended(key, now));
            }
        }
        for Concern { kind, subject, mark, count, text } in concerns {
            let key = (kind, subject.clone());
            let is_new = self
                .0
                .get(&key)
                .is_none_or(|told| told.mark != mark && monotonic.saturating_sub(told.at) >= every);
            if is_new {
                self.0.insert(key, Told { at: monotonic, mark, is_open: true });
                notices.push(Notice { kind, state: State::Begun, subject, count, at: now, text });
            }
        }
        self.0.retain(|_, told| told.is_open || monotonic.saturating_sub(told.at) < every);
        notices
    }
}

fn ended((kind, subject): &(Kind, String), at: Timestamp) -> Notice {
    let text = match kind {
        Kind::DeadLetters => format!("handler `{subject}` has no dead letters any more"),
        Kind::SilentSource => format!("source `{subject}` is silent no longer"),
        Kind::RefusalsJump => format!("source `{subject}` refuses no more than usual again"),
    };
    let (kind, state, subject) = (*kind, State::Ended, subject.clone());
    Notice { kind, state, subject, count: None, at, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn dead(mark: u64) -> Vec<Concern> {
        let (kind, subject) = (Kind::DeadLetters, "billing".to_owned());
        vec![Concern { kind, subject, mark, count: Some(mark), text: String::new() }]
    }

    /// The states that are told when this is so at that minute.
    fn enter(ledger: &mut Ledger, concerns: Vec<Concern>, minute: u64) -> Vec<State> {
        let now = (Timestamp::default(), Duration::from_mins(minute));
        let notices = ledger.enter(&[Kind::DeadLetters], concerns, now, HOUR);
        notices.into_iter().map(|notice| notice.state).collect()
    }

    #[test]
    fn what_goes_on_is_told_once() {
        let mut ledger = Ledger::default();
        assert_eq!(enter(&mut ledger, dead(1), 0), [State::Begun]);
        assert_eq!(enter(&mut ledger, dead(1), 1), []);
        assert_eq!(enter(&mut ledger, dead(1), 600), [], "nothing of it is new");
    }

    #[test]
    fn what_is_new_waits_until_its_time_has_come() {
        let mut ledger = Ledger::default();
        assert_eq!(enter(&mut ledger, dead(1), 0), [State::Begun]);
        assert_eq!(enter(&mut ledger, dead(5), 59), []);
        assert_eq!(enter(&mut ledger, dead(5), 60), [State::Begun]);
    }

    #[test]
    fn the_end_is_told_once_and_what_flaps_is_not_told_each_time() {
        let mut ledger = Ledger::default();
        assert_eq!(enter(&mut ledger, dead(1), 0), [State::Begun]);
        assert_eq!(enter(&mut ledger, vec![], 1), [State::Ended]);
        assert_eq!(enter(&mut ledger, vec![], 2), []);
        assert_eq!(enter(&mut ledger, dead(2), 3), []);
        assert_eq!(enter(&mut ledger, vec![], 4), [], "its beginning was not told");
        assert_eq!(enter(&mut ledger, dead(3), 60), [State::Begun]);
    }

    #[test]
    fn what_could_not_be_looked_at_has_not_ended() {
        let mut ledger = Ledger::default();
        assert_eq!(enter(&mut ledger, dead(1), 0), [State::Begun]);
        let now = (Timestamp::default(), Duration::from_mins(1));
        assert_eq!(ledger.enter(&[Kind::SilentSource], vec![], now, HOUR), []);
        assert_eq!(enter(&mut ledger, vec![], 2), [State::Ended]);
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let mut ledger = Ledger::default();
        enter(&mut ledger, dead(1), 0);
        enter(&mut ledger, vec![], 1);
        enter(&mut ledger, vec![], 60);
        assert!(ledger.0.is_empty());
    }
}
