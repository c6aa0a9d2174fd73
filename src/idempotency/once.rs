//! The same promise for queue consumers: a message is worked on once, however often the queue hands
//! it out.
//!
//! Kafka, SQS and their kind deliver at least once: after a rebalance, a redelivery or a lost
//! acknowledgement the same message comes again. Give its id as the key, and acknowledge it when
//! [`Consumer::once`] says [`Done`](Once::Done) or [`AlreadyDone`](Once::AlreadyDone):
//!
//! ```
//! # use std::time::Duration;
//! # use hookonce::{clock::SystemClock, store::{self, Durability}};
//! use hookonce::idempotency::once::{Consumer, Once};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # async fn charge(_: &str) -> Result<String, std::io::Error> { Ok("receipt 1".to_owned()) }
//! let clock = SystemClock::start();
//! let store = store::connect("memory:", Durability::Always, None, &clock).await?;
//! let orders = Consumer::new("orders", store, clock);
//!
//! // Longer than the queue can hand the message out again.
//! let window = Duration::from_secs(7 * 24 * 3600);
//! match orders.once("orders-0-4711", window, charge("order 4711")).await? {
//!     Once::Done(receipt) | Once::AlreadyDone(receipt) => println!("acknowledge: {receipt}"),
//!     Once::InFlight { retry_in } => println!("leave it, and look again in {retry_in:?}"),
//!     Once::Unknown { .. } => println!("put it aside: a person must find out"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A worker that dies leaves its message's outcome `unknown`: its effect may be there or not. Nobody
//! runs it again until it is resolved, unless [`Consumer::on_unknown`] says that running it twice is
//! harmless.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::{
    clock::Clock,
    id::time_ordered,
    key::{Fingerprint, KeyScope, SavedResponse},
    limits,
    request::Headers,
    store::{
        Hold, Store, StoreError,
        keys::{Begin, Begun, OnUnknown},
    },
};

/// Whose messages, in which store, and how.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// What tells its messages from those of another: a topic, or a consumer group and a topic. It is
    /// the `api` of its keys, for operators.
    pub name: String,
    /// Where its keys are.
    pub store: Arc<dyn Store>,
    /// Our time.
    pub clock: Arc<dyn Clock>,
    /// After what time a worker that died is noticed. It is extended while the work runs.
    pub lease: Duration,
    /// What to do with a message whose outcome is unknown.
    pub on_unknown: OnUnknown,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Once<T> {
    /// The work was done just now, with this outcome.
    Done(T),
    /// It was done before, with this outcome.
    AlreadyDone(T),
    /// Somebody else is at it: it is not to be acknowledged yet.
    InFlight {
        /// When its lease ends, from now.
        retry_in: Duration,
    },
    /// It may have been done or not, and is to be resolved.
    Unknown {
        /// What is known about it.
        note: Option<String>,
    },
}

/// Why a message is not done. It is not to be acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum OnceError<E> {
    /// The work failed; its key is free, so the message may be worked on again.
    #[error("the work failed: {0}")]
    Work(E),
    /// The store did not let it begin. Nothing was run.
    #[error(transparent)]
    Store(StoreError),
    /// The lease could not be extended, and somebody else may begin the work again. What ran of it was
    /// cut off.
    #[error("the lease of the key ended before the work did")]
    LeaseLost,
    /// The work was done, but its outcome is no JSON, or what was saved is of another type.
    #[error("the outcome cannot be written down or read: {0}")]
    Outcome(serde_json::Error),
}

impl Consumer {
    /// A consumer of this name, that runs nothing again whose outcome is unknown.
    pub fn new(name: &str, store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        let on_unknown = OnUnknown::Keep;
        Self { name: name.to_owned(), store, clock, lease: limits::LEASE, on_unknown }
    }

    /// Runs `work` if no message with this key was worked on within `window`, and remembers its
    /// outcome for so long. Otherwise `work` is dropped unrun.
    ///
    /// An error of `work` means that nothing happened which may not happen again: its key is free at
    /// once. A panic, or this future being dropped, leaves the outcome unknown when the lease ends.
    ///
    /// # Errors
    /// See [`OnceError`]. Where the work was done and only the store failed to keep that, it is
    /// [`Once::Done`] all the same, and a warning is logged: acknowledge it, and it is over.
    pub async fn once<T, E>(
        &self,
        key: &str,
        window: Duration,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<Once<T>, OnceError<E>>
    where
        T: Serialize + DeserializeOwned,
    {
        let begin = self.begin(key);
        let began = Instant::now();
        let not_after = self.clock.now().plus(limits::STORE_CALL_TIMEOUT);
        match self.store.begin(&begin, not_after).await {
            Ok(Begun::Started) => {}
            Ok(Begun::Completed { response, .. }) => {
                let outcome = serde_json::from_slice(&response.body);
                return outcome.map(Once::AlreadyDone).map_err(OnceError::Outcome);
            }
            Ok(Begun::InFlight { retry_in }) => return Ok(Once::InFlight { retry_in }),
            Ok(Begun::Unknown { note }) => return Ok(Once::Unknown { note }),
            Ok(Begun::Mismatch) => return Err(OnceError::Store(used_otherwise(&self.name))),
            Err(error) => {
                if matches!(error, StoreError::Unavailable(_)) {
                    // It may have been begun all the same. From then on it is done, or too late to be.
                    sleep_until(began + limits::STORE_CALL_TIMEOUT).await;
                    self.end(&begin, &Ending::Free).await;
                }
                return Err(OnceError::Store(error));
            }
        }
        let worked = tokio::select! {
            worked = work => worked,
            () = self.lose_lease(&begin, began) => return Err(OnceError::LeaseLost),
        };
        match worked {
            Ok(outcome) => {
                let body = serde_json::to_vec(&outcome).map_err(OnceError::Outcome)?;
                self.end(&begin, &Ending::Done { body: body.into(), window }).await;
                Ok(Once::Done(outcome))
            }
            Err(error) => {
                self.end(&begin, &Ending::Free).await;
                Err(OnceError::Work(error))
            }
        }
    }

    fn begin(&self, key: &str) -> Begin {
        Begin {
            scope: KeyScope::new(&self.name, "ONCE", "", b"", key),
            // A queue hands out the same bytes under the same id: there is nothing to tell apart.
            fingerprint: Fingerprint::of([]),
            owner: time_ordered(self.clock.now()),
            lease: self.lease,
            on_unknown: self.on_unknown,
        }
    }

    /// Extends the lease, and ends when somebody else may run the work at the same time. Where an
    /// unknown outcome is kept nobody may, so the work goes on whatever becomes of the lease.
    ///
    /// The lease's end is counted from before each call was sent, so ours is before the store's.
    async fn lose_lease(&self, begin: &Begin, began: Instant) {
        let mut ends = began + self.lease;
        loop {
            let extending = async {
                sleep(self.lease / limits::EXTENSIONS_PER_LEASE).await;
                let asked = Instant::now();
                (asked, self.store.extend_key(begin.scope.id(), begin.owner, self.lease).await)
            };
            match timeout_at(ends, extending).await {
                Ok((asked, Ok(Hold::Kept))) => ends = asked + self.lease,
                Ok((_, Err(_))) => {} // the next one may get through
                Ok((_, Ok(Hold::Lost))) | Err(_) => break,
            }
        }
        match self.on_unknown {
            OnUnknown::Retry => {}
            OnUnknown::Keep => std::future::pending().await,
        }
    }

    /// Writes down how the work ended, for as long as the lease would have lasted. The owner's token
    /// fences each try.
    async fn end(&self, begin: &Begin, ending: &Ending) {
        let last = Instant::now() + self.lease;
        let problem = loop {
            match self.try_to_end(begin, ending).await {
                Ok(Hold::Kept) => return,
                Ok(Hold::Lost) => break "its key was taken over or resolved before".to_owned(),
                Err(error) if Instant::now() >= last => break error.to_string(),
                Err(_) => sleep_until(last.min(Instant::now() + limits::POLL_INTERVAL)).await,
            }
        };
        let (consumer, key) = (&self.name, begin.scope.id());
        tracing::warn!(key.id = %key, "{ending} in {consumer} could not be written down: {problem}");
    }

    async fn try_to_end(&self, begin: &Begin, ending: &Ending) -> Result<Hold, StoreError> {
        let (key, owner) = (begin.scope.id(), begin.owner);
        match ending {
            Ending::Free => self.store.abandon(key, owner).await,
            Ending::Done { body, window } => {
                let headers = Headers::default();
                let response = SavedResponse { status: 200, headers, body: body.clone() };
                self.store.complete(key, owner, &response, *window).await
            }
        }
    }
}

/// How the work on a message ended, as it is written down.
enum Ending {
    Done { body: Bytes, window: Duration },
    Free,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done { .. } => "that a message is done",
            Self::Free => "that a message may be worked on again",
        })
    }
}

fn used_otherwise(consumer: &str) -> StoreError {
    StoreError::Failed(format!("a key of {consumer} was begun by something that is no consumer"))
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::ready, io};

    use super::*;
    use crate::{
        clock::{ManualClock, Timestamp},
        key::KeyState,
        store::{keys::KeyFilter, memory::MemoryStore},
    };

    const WINDOW: Duration = Duration::from_hours(24);

    fn consumer() -> (Consumer, Arc<ManualClock>) {
        let clock = ManualClock::at(Timestamp::from_seconds(1_790_000_000));
        let store = Arc::new(MemoryStore::new(clock.clone()));
        (Consumer::new("orders", store, clock.clone()), clock)
    }

    async fn succeed(consumer: &Consumer, outcome: u32) -> Result<Once<u32>, OnceError<io::Error>> {
        consumer.once("m1", WINDOW, ready(Ok(outcome))).await
    }

    async fn states(consumer: &Consumer) -> Vec<KeyState> {
        let all = KeyFilter { limit: 10, ..KeyFilter::default() };
        let rows = consumer.store.keys(&all).await.unwrap();
        rows.into_iter().map(|row| row.state).collect()
    }

    #[tokio::test]
    async fn a_message_is_worked_on_once_and_its_outcome_is_told_again() {
        let (orders, clock) = consumer();
        assert_eq!(succeed(&orders, 1).await.unwrap(), Once::Done(1));
        assert_eq!(succeed(&orders, 2).await.unwrap(), Once::AlreadyDone(1));
        let other = Consumer { name: "refunds".to_owned(), ..orders.clone() };
        assert_eq!(succeed(&other, 3).await.unwrap(), Once::Done(3));
        clock.advance(WINDOW);
        assert_eq!(succeed(&orders, 4).await.unwrap(), Once::Done(4));
    }

    #[tokio::test]
    async fn a_duplicate_is_dropped_unrun() {
        let (orders, _) = consumer();
        let ran = Cell::new(0);
        let work = || async {
            ran.set(ran.get() + 1);
            Ok::<(), io::Error>(())
        };
        orders.once("m1", WINDOW, work()).await.unwrap();
        orders.once("m1", WINDOW, work()).await.unwrap();
        assert_eq!(ran.get(), 1);
    }

    #[tokio::test]
    async fn what_failed_may_be_worked_on_again() {
        let (orders, _) = consumer();
        let failed = orders.once("m1", WINDOW, ready(Err::<u32, _>(io::Error::other("no")))).await;
        assert!(matches!(failed, Err(OnceError::Work(_))), "{failed:?}");
        assert_eq!(succeed(&orders, 1).await.unwrap(), Once::Done(1));
    }

    #[tokio::test(start_paused = true)]
    async fn while_it_runs_it_is_in_flight_and_its_lease_is_extended() {
        let (orders, clock) = consumer();
        let long = async {
            for _ in 0..40 {
                clock.advance(orders.lease / 10);
                sleep(orders.lease / 10).await;
                assert_eq!(states(&orders).await, [KeyState::InProgress]);
            }
            let other = succeed(&orders, 2).await;
            assert!(matches!(other, Ok(Once::InFlight { .. })), "{other:?}");
            Ok::<u32, io::Error>(1)
        };
        assert_eq!(orders.once("m1", WINDOW, long).await.unwrap(), Once::Done(1));
    }

    #[tokio::test]
    async fn a_worker_that_died_leaves_an_unknown_outcome() {
        let (orders, clock) = consumer();
        let dies = orders.once("m1", WINDOW, std::future::pending::<Result<u32, io::Error>>());
        assert!(tokio::time::timeout(Duration::from_millis(5), dies).await.is_err());
        clock.advance(orders.lease);
        assert_eq!(succeed(&orders, 1).await.unwrap(), Once::Unknown { note: None });
        let retrying = Consumer { on_unknown: OnUnknown::Retry, ..orders };
        assert_eq!(succeed(&retrying, 1).await.unwrap(), Once::Done(1));
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_may_run_elsewhere_is_cut_off_when_its_lease_is_lost() {
        let (orders, clock) = consumer();
        let orders = Consumer { on_unknown: OnUnknown::Retry, ..orders };
        let stuck = async {
            clock.advance(orders.lease);
            assert_eq!(succeed(&orders, 2).await.unwrap(), Once::Done(2));
            std::future::pending::<Result<u32, io::Error>>().await
        };
        let lost = orders.once("m1", WINDOW, stuck).await;
        assert!(matches!(lost, Err(OnceError::LeaseLost)), "{lost:?}");
        assert_eq!(succeed(&orders, 3).await.unwrap(), Once::AlreadyDone(2));
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_runs_nowhere_else_goes_on_without_its_lease() {
        let (orders, clock) = consumer();
        let slow = async {
            clock.advance(orders.lease);
            sleep(orders.lease * 3).await;
            Ok::<u32, io::Error>(1)
        };
        assert_eq!(orders.once("m1", WINDOW, slow).await.unwrap(), Once::Done(1));
        assert_eq!(succeed(&orders, 2).await.unwrap(), Once::AlreadyDone(1));
    }
}
