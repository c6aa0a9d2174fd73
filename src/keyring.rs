//! Keys that a source learned from where its provider publishes them.
//!
//! Keys of the configuration always count first. A request that names another one is answered with a
//! 503 while the key is fetched, away from the request, and at most once a minute per place; so the
//! provider's retry finds it. What a fetch did not bring is unknown, and refused.
//!
//! A stranger can name keys that are not there, so there is room for a few of those at a time, and
//! keys that were found are never pushed out by them.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    clock::Timestamp,
    limits,
    provider::{
        NotSignable, Provider, Scheme, Settings,
        place::{Place, PublishesKeys},
    },
    refusal::SignatureProblem,
    request::Unverified,
};

/// The keys that one source knows besides those of its configuration.
pub struct Keyring {
    provider: &'static dyn Provider,
    publishes: &'static dyn PublishesKeys,
    settings: Settings,
    entries: Mutex<BTreeMap<Place, Entry>>,
}

/// What is known of one place.
#[derive(Debug, Default)]
struct Entry {
    /// The provider's scheme with the keys found there, and when they were.
    found: Option<(Arc<dyn Scheme>, Timestamp)>,
    /// When it was last asked, and whether that gave an answer: with keys, or that there are none.
    asked: Option<(Timestamp, bool)>,
    /// Whether a request waits for it.
    is_wanted: bool,
}

/// What came of asking at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This text.
    Found(String),
    /// The place says that there is nothing.
    Nothing,
    /// None: the place could not be asked.
    Missing,
}

impl Keyring {
    /// The keyring of a source, if its keys are to be fetched: not where the configuration says no, nor
    /// for a stand-in, whose key is its own.
    pub fn of(provider: &'static dyn Provider, settings: &Settings) -> Option<Self> {
        let publishes = provider.publishes_keys()?;
        let fetches = settings.fetch_keys && settings.secrets.is_empty();
        let settings = settings.clone();
        fetches.then(|| Self { provider, publishes, settings, entries: Mutex::default() })
    }

    /// Whether what this one has learned counts for a source with the settings of `other` too.
    pub fn is_like(&self, other: &Self) -> bool {
        let told = |keyring: &Self| {
            let Settings { public_keys, tolerance, extra, .. } = keyring.settings.clone();
            (keyring.provider.name(), public_keys, tolerance, extra) // there are no secrets: see `of`
        };
        told(self) == told(other)
    }

    /// Whose keys they are.
    pub fn provider(&self) -> &'static dyn Provider {
        self.provider
    }

    /// The place of the key that the request names, if the provider would publish it there.
    pub fn place(&self, request: &Unverified) -> Option<Place> {
        self.publishes.key_place(request, &self.settings)
    }

    /// The scheme that knows the source's own keys and those found at `place`.
    pub fn beside<'a>(&self, own: &'a dyn Scheme, place: Option<&Place>) -> Beside<'a> {
        let entries = self.entries();
        let found = place.and_then(|place| entries.get(place)?.found.as_ref());
        Beside { own, found: found.map(|(scheme, _)| Arc::clone(scheme)) }
    }

    /// Whether asking at `place` may still show that the request with this problem is genuine.
    pub fn may_tell(&self, place: &Place, problem: &SignatureProblem, now: Timestamp) -> bool {
        let entries = self.entries();
        let entry = entries.get(place);
        match problem {
            SignatureProblem::UnknownKey => {}
            // The key it names is known, and did not sign it.
            SignatureProblem::NoMatch if entry.is_some_and(|entry| entry.found.is_some()) => {
                return false;
            }
            SignatureProblem::NoMatch => {}
            SignatureProblem::Header(..)
            | SignatureProblem::Form(_)
            | SignatureProblem::Stale(_) => {
                return false;
            }
        }
        let answered = entry.and_then(|entry| entry.asked).filter(|(_, answered)| *answered);
        !answered.is_some_and(|(at, _)| is_recent(at, now))
    }

    /// Notes that a request waits for the keys at `place`. Nothing is noted while there is no room:
    /// the request is sent again, and may find some then.
    pub fn want(&self, place: &Place, now: Timestamp) {
        let mut entries = self.entries();
        if entries.len() >= limits::KEY_PLACES_MAX && !entries.contains_key(place) {
            forget_the_useless(&mut entries, now);
        }
        if entries.len() < limits::KEY_PLACES_MAX || entries.contains_key(place) {
            entries.entry(place.clone()).or_default().is_wanted = true;
        }
    }

    /// The places to ask at now: those that are wanted, and those whose keys are to be seen again. None
    /// is asked twice within a minute, so each counts as asked from here on.
    pub fn due(&self, now: Timestamp) -> Vec<Place> {
        let mut entries = self.entries();
        let mut due = Vec::new();
        for (place, entry) in entries.iter_mut() {
            entry.found.take_if(|(_, at)| now.since(*at) > limits::KEYS_KEPT);
            let is_old =
                entry.found.as_ref().is_some_and(|(_, at)| now.since(*at) > limits::KEYS_FRESH);
            let may_ask = entry.asked.is_none_or(|(at, _)| !is_recent(at, now));
            if may_ask && (entry.is_wanted || is_old) {
                entry.asked = Some((now, false));
                due.push(place.clone());
            }
        }
        due
    }

    /// Takes what came of asking at `place`.
    ///
    /// # Errors
    /// Why what was found there is not taken. What was known before stays until it is too old, unless
    /// the place says that there is nothing.
    pub fn learn(&self, place: &Place, answer: &Answer, now: Timestamp) -> Result<(), String> {
        let found = match answer {
            Answer::Found(text) => Some(self.scheme_of(text)),
            Answer::Nothing | Answer::Missing => None,
        };
        let mut entries = self.entries();
        if entries.len() >= limits::KEY_PLACES_MAX && !entries.contains_key(place) {
            return Ok(()); // it was wanted by another source
        }
        let entry = entries.entry(place.clone()).or_default();
        entry.asked = Some((now, *answer != Answer::Missing));
        entry.is_wanted = false;
        match found {
            Some(Ok(scheme)) => entry.found = Some((scheme, now)),
            Some(Err(problem)) => return Err(problem),
            None if *answer == Answer::Nothing => entry.found = None,
            None => {}
        }
        Ok(())
    }

    fn scheme_of(&self, found: &str) -> Result<Arc<dyn Scheme>, String> {
        let public_keys = self.publishes.keys_in(found)?;
        let settings = Settings { public_keys, fetch_keys: false, ..self.settings.clone() };
        self.provider.scheme(&settings).map(Arc::from).map_err(|wrong| wrong.join("; "))
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<Place, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes out the places where nothing was found, once they may be asked again.
fn forget_the_useless(entries: &mut BTreeMap<Place, Entry>, now: Timestamp) {
    entries.retain(|_, entry| {
        let waits = entry.is_wanted && entry.asked.is_none();
        let is_fresh = entry.asked.is_some_and(|(at, _)| is_recent(at, now));
        entry.found.is_some() || waits || is_fresh
    });
}

/// Whether a place that was asked at `at` is to be left alone. A clock that was set back must not keep
/// it waiting for longer.
fn is_recent(at: Timestamp, now: Timestamp) -> bool {
    now.since(at).max(at.since(now)) < limits::KEYS_ASKED_EVERY
}

/// The places only: keys are nobody's business.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries().keys()).finish()
    }
}

/// A source's own scheme, and beside it the same with keys that were found at the provider's.
#[derive(Debug)]
pub struct Beside<'a> {
    own: &'a dyn Scheme,
    found: Option<Arc<dyn Scheme>>,
}

impl Scheme for Beside<'_> {
    fn verify(&self, request: &Unverified, now: Timestamp) -> Result<(), SignatureProblem> {
        match (self.own.verify(request, now), &self.found) {
            (Err(SignatureProblem::NoMatch | SignatureProblem::UnknownKey), Some(found)) => {
                found.verify(request, now)
            }
            (verdict, _) => verdict,
        }
    }

    fn sign(&self, draft: &mut Unverified, now: Timestamp) -> Result<(), NotSignable> {
        self.own.sign(draft, now)
    }
}
