//! Who has logged in to the dashboard: sessions, and how often somebody may try.
//!
//! Both are in memory only. A restart logs everybody out, and nothing of it can be stolen from a disk.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sha2::{Digest as _, Sha256};

use super::guard::Role;
use crate::limits;

/// The sessions that are open. All times are the monotonic ones of one clock.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// By the hash of their id: how long a look-up takes then says nothing about an id.
    open: Mutex<HashMap<[u8; 32], Session>>,
}

/// What is known about one session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// What its owner may do.
    pub(super) role: Role,
    /// What every form that its owner sends must carry.
    pub(super) form_key: Arc<str>,
    until: Duration,
}

impl Sessions {
    /// Opens a session and gives its id, which only its owner may know. The one that would end first
    /// makes room when there are too many.
    pub(super) fn open(&self, role: Role, now: Duration) -> String {
        let id = random_text();
        let until = now.saturating_add(limits::SESSION_LIFE);
        let session = Session { role, form_key: Arc::from(random_text()), until };
        let mut open = self.lock();
        open.retain(|_, session| session.until > now);
        if open.len() >= limits::SESSIONS_MAX {
            let oldest = open.iter().min_by_key(|(_, session)| session.until).map(|(id, _)| *id);
            oldest.map(|oldest| open.remove(&oldest));
        }
        open.insert(hash(&id), session);
        id
    }

    /// The session with this id, if it is open.
    pub(super) fn find(&self, id: &str, now: Duration) -> Option<Session> {
        self.lock().get(&hash(id)).filter(|session| session.until > now).cloned()
    }

    /// Ends a session.
    pub(super) fn close(&self, id: &str) {
        self.lock().remove(&hash(id));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 256 random bits as text: what nobody can guess.
pub(super) fn random_text() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

fn hash(id: &str) -> [u8; 32] {
    Sha256::digest(id).into()
}

/// How often each address has logged in wrongly of late.
#[derive(Debug, Default)]
pub(super) struct Failures {
    of: Mutex<HashMap<IpAddr, Failed>>,
}

#[derive(Debug)]
struct Failed {
    times: u32,
    since: Duration,
}

impl Failures {
    /// How long this address has to wait before it may try again. `None`: it may.
    pub(super) fn wait(&self, from: IpAddr, now: Duration) -> Option<Duration> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        of.retain(|_, failed| now.saturating_sub(failed.since) < limits::LOGIN_WINDOW);
        let is_full = of.len() >= limits::LOGIN_ADDRESSES_MAX;
        match of.get(&network(from)) {
            Some(failed) if failed.times >= limits::LOGIN_FAILURES_MAX => {
                Some(limits::LOGIN_WINDOW.saturating_sub(now.saturating_sub(failed.since)))
            }
            None if is_full => Some(limits::LOGIN_WINDOW), // somebody tries from everywhere at once
            _ => None,
        }
    }

    /// Counts a wrong token.
    pub(super) fn count(&self, from: IpAddr, now: Duration) {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        of.entry(network(from)).or_insert(Failed { times: 0, since: now }).times += 1;
    }
}

/// What one customer of a network has to itself: an address, or with IPv6 as many as they like.
fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => IpAddr::from((address.to_bits() >> 64 << 64).to_be_bytes()),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_by_itself_and_when_it_is_closed() {
        let sessions = Sessions::default();
        let id = sessions.open(Role::Reader, Duration::ZERO);
        let found = sessions.find(&id, Duration::from_secs(1)).unwrap();
        assert_eq!(found.role, Role::Reader);
        assert!(sessions.find(&id, limits::SESSION_LIFE).is_none());
        assert!(sessions.find("another", Duration::ZERO).is_none());
        sessions.close(&id);
        assert!(sessions.find(&id, Duration::ZERO).is_none());
    }

    #[test]
    fn the_oldest_session_makes_room() {
        let sessions = Sessions::default();
        let first = sessions.open(Role::Operator, Duration::ZERO);
        for _ in 0..limits::SESSIONS_MAX {
            sessions.open(Role::Operator, Duration::from_secs(1));
        }
        assert!(sessions.find(&first, Duration::from_secs(1)).is_none());
        assert_eq!(sessions.lock().len(), limits::SESSIONS_MAX);
    }

    #[test]
    fn who_guesses_has_to_wait_and_others_have_not() {
        let (failures, guesser) = (Failures::default(), IpAddr::from([10, 0, 0, 1]));
        for _ in 0..limits::LOGIN_FAILURES_MAX {
            assert_eq!(failures.wait(guesser, Duration::ZERO), None);
            failures.count(guesser, Duration::ZERO);
        }
        assert_eq!(failures.wait(guesser, Duration::ZERO), Some(limits::LOGIN_WINDOW));
        assert_eq!(failures.wait(IpAddr::from([10, 0, 0, 2]), Duration::ZERO), None);
        assert_eq!(failures.wait(guesser, limits::LOGIN_WINDOW), None);
    }

    #[test]
    fn all_addresses_of_one_customer_wait_together() {
        let failures = Failures::default();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for number in 0..limits::LOGIN_FAILURES_MAX {
            failures.count(address(&format!("2001:db8:1:2::{number:x}")), Duration::ZERO);
        }
        assert!(failures.wait(address("2001:db8:1:2:3::4"), Duration::ZERO).is_some());
        assert_eq!(failures.wait(address("2001:db8:1:3::1"), Duration::ZERO), None);
    }
}
