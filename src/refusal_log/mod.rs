//! Writes refused requests down, off the request's path: no answer waits for it, and nothing depends
//! on it. Under a flood it takes a sample, and counts what it leaves out.

mod credentials;
mod sampler;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use self::{credentials::Parts, sampler::Sampler};
use crate::{
    clock::Clock,
    limits,
    refusal::{Refusal, RefusalId, Step},
    request::Unverified,
    seal::{NotOpened, Seal},
    secret::Secret,
    shutdown::Tasks,
    store::{RefusalRow, Refused, Store},
    telemetry::{log::Throttle, metrics::Metrics},
};

/// How many are written down in one call of the store.
const LOT: usize = 32;

/// How long one call of the store may take: nobody waits for it, but what follows must be let go.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes refused requests and keeps them.
#[derive(Debug)]
pub struct RefusalLog {
    sampler: Sampler,
    queue: mpsc::Sender<Waiting>,
    bytes_free: Arc<Semaphore>,
    /// The other end of the queue, until [`RefusalLog::run`] takes it.
    waiting: Mutex<Option<mpsc::Receiver<Waiting>>>,
    seal: Seal,
    secrets: Mutex<Vec<Secret>>,
    metrics: Metrics,
    lines: Throttle,
}

/// A refused request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The source that refused it.
    pub source: Arc<str>,
    /// Why.
    pub refusal: Refusal,
    /// The request, with the URL that was used for verifying. Its body counts only if it was read.
    pub request: Unverified,
    /// Whether its body was read.
    pub body_was_read: bool,
    /// The path and the query that it was sent to.
    pub target: String,
    /// Who sent it.
    pub peer: Option<IpAddr>,
}

/// A refused request, opened again: everything that verifying and looking into it needs.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The request, with the URL that was used for verifying.
    pub request: Unverified,
    /// The path and the query that it was sent to.
    pub target: String,
    /// Whether its body is there; if not, it is empty in `request`.
    pub has_body: bool,
}

#[derive(Debug)]
struct Waiting {
    seen: Seen,
    /// How long its body was, if it was read; it may not be in `seen` any more.
    body_bytes: Option<usize>,
    left_out: u64,
    _bytes_taken: OwnedSemaphorePermit,
}

impl RefusalLog {
    /// A log that counts in `metrics`; what it seals opens for as long as the process lives.
    pub fn new(metrics: Metrics) -> Self {
        let (queue, waiting) = mpsc::channel(limits::REFUSALS_WAITING_MAX);
        Self {
            sampler: Sampler::default(),
            queue,
            bytes_free: Arc::new(Semaphore::new(limits::REFUSALS_WAITING_BYTES_MAX)),
            waiting: Mutex::new(Some(waiting)),
            seal: Seal::in_memory(),
            secrets: Mutex::default(),
            metrics,
            lines: Throttle::every(Duration::from_secs(60)),
        }
    }

    /// The same with a key of its own.
    #[must_use]
    pub fn sealed_by(self, seal: Seal) -> Self {
        Self { seal, ..self }
    }

    /// Shows none of these secrets from now on, nor of those it was given before: what was rotated out
    /// may still be in use elsewhere.
    pub fn hide<'a>(&self, secrets: impl IntoIterator<Item = &'a Secret>) {
        let mut hidden = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        for secret in secrets {
            if !hidden.iter().any(|known| known.matches(secret.expose())) {
                hidden.push(secret.clone());
            }
        }
    }

    /// Takes a refused request to be kept. It never waits: what is too much is left out, and counted.
    /// `seen` is called only if there is room for one more.
    pub fn note(
        &self,
        source: &Arc<str>,
        step: Step,
        monotonic: Duration,
        seen: impl FnOnce() -> Seen,
    ) {
        let Some(left_out) = self.sampler.take(source, step, monotonic) else {
            return self.metrics.refusal_noted(source, "left_out");
        };
        if self.hand_over(seen(), left_out).is_none() {
            self.sampler.give_back(source, step, left_out);
            self.metrics.refusal_noted(source, "left_out");
        }
    }

    fn hand_over(&self, mut seen: Seen, left_out: u64) -> Option<()> {
        let body_bytes = seen.body_was_read.then_some(seen.request.body.len());
        // A long body is let go of here, not once it is its turn. A short one is copied: it may be a
        // slice of something larger, which would be kept for its sake.
        let is_short = seen.request.body.len() <= limits::REFUSAL_BODY_BYTES_MAX;
        let kept = if is_short { seen.request.body.as_ref() } else { &[] };
        seen.request.body = Bytes::copy_from_slice(kept);
        let headers: usize =
            seen.request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let bytes = headers + seen.request.url.len() + seen.request.body.len() + 512;
        let free = Arc::clone(&self.bytes_free);
        let bytes_taken = free.try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()?;
        let waiting = Waiting { seen, body_bytes, left_out, _bytes_taken: bytes_taken };
        self.queue.try_send(waiting).ok()
    }

    /// Keeps what was taken until it is told to stop and nothing waits any more. Only the first call
    /// does anything.
    pub async fn run(&self, store: Arc<dyn Store>, clock: Arc<dyn Clock>, tasks: Tasks) {
        let taken = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut waiting) = taken else { return };
        loop {
            let mut lot = Vec::with_capacity(LOT);
            tokio::select! {
                biased;
                _ = waiting.recv_many(&mut lot, LOT) => {}
                () = tasks.stopping() => {}
            }
            if lot.is_empty() {
                return; // told to stop, and nothing waits
            }
            self.keep(lot, store.as_ref(), clock.as_ref()).await;
        }
    }

    async fn keep(&self, lot: Vec<Waiting>, store: &dyn Store, clock: &dyn Clock) {
        let sources: Vec<_> = lot.iter().map(|one| Arc::clone(&one.seen.source)).collect();
        let refused = lot.into_iter().map(|one| self.sealed(one)).collect();
        let kept = tokio::time::timeout(WRITE_TIMEOUT, store.keep_refusals(refused)).await;
        let problem = match kept {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the store does not answer".to_owned()),
        };
        let outcome = if problem.is_none() { "kept" } else { "failed" };
        for source in &sources {
            self.metrics.refusal_noted(source, outcome);
        }
        if let Some(problem) = problem {
            self.warn(clock, "refused requests cannot be kept for the doctor", &problem);
        }
    }

    /// The request as it is kept, its credentials sealed. Where they cannot be, they are left out.
    fn sealed(&self, waiting: Waiting) -> Refused {
        let Waiting { seen, body_bytes, left_out, _bytes_taken } = waiting;
        let Seen { source, refusal, request, target, peer, .. } = seen;
        let id = RefusalId::new(request.received_at);
        let is_whole = body_bytes == Some(request.body.len());
        let mut parts = Parts {
            url: request.url,
            target,
            headers: request.headers,
            body: is_whole.then_some(request.body),
        };
        let body_kept = parts.body.is_some();
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sealed = match credentials::take(&mut parts, &secrets) {
            None => Vec::new(),
            Some(taken) => self.seal.seal(&taken, id.as_bytes()).unwrap_or_else(|error| {
                tracing::warn!(%error, "credentials in a refused request cannot be sealed, and are left out: it cannot be readmitted");
                UNSEALED.to_vec()
            }),
        };
        let row = RefusalRow {
            id,
            source,
            step: refusal.step(),
            problem: refusal.to_string(),
            received_at: request.received_at,
            method: request.method,
            url: parts.url,
            target: parts.target,
            peer,
            body_bytes,
            body_kept,
            left_out,
            readmitted: None,
        };
        Refused { row, headers: parts.headers, sealed, body: parts.body }
    }

    /// The request as it came, its credentials back in their places.
    ///
    /// # Errors
    /// When they were sealed with a key that is not here.
    pub fn open(&self, refused: &Refused) -> Result<Opened, NotOpened> {
        let row = &refused.row;
        let mut parts = Parts {
            url: row.url.clone(),
            target: row.target.clone(),
            headers: refused.headers.clone(),
            body: refused.body.clone(),
        };
        if !refused.sealed.is_empty() {
            if refused.sealed == UNSEALED {
                return Err(NotOpened::LeftOut);
            }
            let taken = self.seal.open(&refused.sealed, row.id.as_bytes())?;
            credentials::put_back(&mut parts, &taken).ok_or(NotOpened::OtherKey)?;
        }
        Ok(Opened {
            has_body: parts.body.is_some(),
            target: parts.target,
            request: Unverified {
                method: row.method.clone(),
                url: parts.url,
                headers: parts.headers,
                body: parts.body.unwrap_or_default(),
                received_at: row.received_at,
            },
        })
    }

    fn warn(&self, clock: &dyn Clock, what: &str, problem: &str) {
        if let Some(more) = self.lines.let_through(what, clock.monotonic()) {
            tracing::warn!(problem, lines.held_back = more, "{what}");
        }
    }
}

/// Stands for credentials that could not be sealed: no key opens it.
const UNSEALED: &[u8] = b"-";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::{ManualClock, SystemClock, Timestamp},
        refusal::SignatureProblem,
        store::{RefusalFilter, Refusals as _, memory::MemoryStore},
    };

    fn seen(body: Bytes) -> Seen {
        Seen {
            source: Arc::from("stripe"),
            refusal: SignatureProblem::NoMatch.into(),
            request: Unverified {
                method: "POST".to_owned(),
                url: "https://hooks.example.com/webhooks/stripe".to_owned(),
                headers: [("authorization", "Bearer swordfish"), ("a", "1")].into_iter().collect(),
                body,
                received_at: Timestamp::from_seconds(1_790_000_000),
            },
            body_was_read: true,
            target: "/webhooks/stripe".to_owned(),
            peer: None,
        }
    }

    /// What a log keeps of these bodies, oldest first.
    async fn kept(log: &RefusalLog, bodies: &[Bytes]) -> Vec<Refused> {
        let clock = ManualClock::at(Timestamp::from_seconds(1_790_000_000));
        let store = Arc::new(MemoryStore::new(clock.clone()));
        for body in bodies {
            let source = Arc::from("stripe");
            log.note(&source, Step::NoMatch, Duration::ZERO, || seen(body.clone()));
        }
        let tasks = Tasks::default();
        tasks.stop();
        log.run(store.clone(), clock, tasks).await;
        let filter = RefusalFilter { limit: 100, ..RefusalFilter::default() };
        let mut refused = Vec::new();
        for row in store.refusals(&filter).await.unwrap().into_iter().rev() {
            refused.extend(store.refusal(row.id).await.unwrap());
        }
        refused
    }

    #[tokio::test]
    async fn what_waits_is_kept_before_it_ends_and_opens_as_it_came() {
        let log = RefusalLog::new(Metrics::default());
        let body = Bytes::from_static(b"{}");
        let refused = kept(&log, std::slice::from_ref(&body)).await.pop().unwrap();
        let shown: Vec<_> = refused.headers.iter().map(|(name, _)| name).collect();
        assert_eq!(shown, ["a"]);
        let opened = log.open(&refused).unwrap();
        let came = seen(body).request;
        assert_eq!((opened.request.headers, opened.request.body), (came.headers, came.body));
        let other = RefusalLog::new(Metrics::default());
        assert_eq!(other.open(&refused).unwrap_err(), NotOpened::KeyIsGone);
    }

    #[tokio::test]
    async fn of_a_body_that_is_too_long_only_the_length_is_kept() {
        let log = RefusalLog::new(Metrics::default());
        let long = Bytes::from(vec![b'x'; limits::REFUSAL_BODY_BYTES_MAX + 1]);
        let refused = kept(&log, &[long.clone(), Bytes::new()]).await;
        let bodies: Vec<_> = refused
            .iter()
            .map(|one| (one.row.body_bytes, one.row.body_kept, one.body.clone()))
            .collect();
        assert!(bodies.contains(&(Some(long.len()), false, None)), "{bodies:?}");
        assert!(bodies.contains(&(Some(0), true, Some(Bytes::new()))), "{bodies:?}");
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_the_rest_is_counted() {
        let metrics = Metrics::default();
        let log = RefusalLog::new(metrics.clone());
        let large = Bytes::from(vec![b'x'; limits::REFUSAL_BODY_BYTES_MAX]);
        let mut noted = 0;
        for number in 0..10 {
            let source: Arc<str> = Arc::from(format!("stripe_{number}"));
            for _ in 0..limits::REFUSALS_BURST {
                noted += 1;
                log.note(&source, Step::NoMatch, Duration::ZERO, || Seen {
                    source: Arc::clone(&source),
                    ..seen(large.clone())
                });
            }
        }
        let taken = limits::REFUSALS_WAITING_MAX - log.queue.capacity();
        assert!(taken * large.len() <= limits::REFUSALS_WAITING_BYTES_MAX, "{taken}");
        let left_out: usize = metrics
            .text(None, &MemoryStore::new(SystemClock::start()))
            .lines()
            .filter(|line| line.contains("outcome=\"left_out\""))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok())
            .sum();
        assert_eq!(taken + left_out, noted);
    }

    #[test]
    fn no_debug_output_shows_what_is_kept() {
        let seen = format!("{:?}", seen(Bytes::from_static(b"a body")));
        assert!(!seen.contains("swordfish") && !seen.contains("a body"), "{seen}");
    }
}
