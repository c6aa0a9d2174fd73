//! Many single calls, one call of the store.
//!
//! Whatever waits when the store is free goes together: one fsync, one round trip or one script then
//! serves many requests. There is no timer. A lone call goes at once, and the busier the store is,
//! the larger the batches grow. That is where the speed comes from, on every backend.
//!
//! The queue is bounded in items and in bytes, and so is one batch. When it is full the caller is
//! told so at once, and answers 503: memory stays bounded however slow the store is.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::StoreError;
use crate::{event::NewEvent, limits};

/// Calls on their way to the store.
#[derive(Debug)]
pub struct Calls<Call, Answer> {
    queue: mpsc::Sender<Waiting<Call, Answer>>,
    bytes_free: Arc<Semaphore>,
}

/// The store's end: it takes batches and answers each call in them.
#[derive(Debug)]
pub struct Batches<Call, Answer> {
    queue: mpsc::Receiver<Waiting<Call, Answer>>,
    /// What did not fit into the last batch any more.
    left_over: Option<Waiting<Call, Answer>>,
}

/// A call that waits for its answer.
#[derive(Debug)]
pub struct Waiting<Call, Answer> {
    /// What is asked.
    pub call: Call,
    /// The right to answer it.
    pub reply: Reply<Answer>,
    bytes: usize,
}

/// The right to answer one call.
#[derive(Debug)]
pub struct Reply<Answer> {
    answer: oneshot::Sender<Answer>,
    _bytes_taken: OwnedSemaphorePermit,
}

/// A queue of calls to a store, and the store's end of it.
pub fn queue<Call, Answer>() -> (Calls<Call, Answer>, Batches<Call, Answer>) {
    let (sender, receiver) = mpsc::channel(limits::WAITING_ITEMS_MAX);
    let bytes_free = Arc::new(Semaphore::new(limits::WAITING_BYTES_MAX));
    (Calls { queue: sender, bytes_free }, Batches { queue: receiver, left_over: None })
}

/// About how many bytes each of these events takes on its way. Those of a kept request are parts of
/// its body, which is counted once, with the first of them.
pub fn sizes(events: &[NewEvent]) -> Vec<usize> {
    let mut counted = None;
    let size = |event: &NewEvent| {
        let body = match &event.request {
            None => event.named.body.len(),
            Some(request) if counted == Some(request.id) => 0,
            Some(request) => {
                counted = Some(request.id);
                request.body.len()
            }
        };
        let headers: usize =
            event.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        body + headers + event.query.len() + EVENT_BYTES
    };
    events.iter().map(size).collect()
}

/// About how many bytes an event takes beside what came in.
const EVENT_BYTES: usize = 1024;

impl<Call, Answer> Calls<Call, Answer> {
    /// Hands a call of about `bytes` bytes over and waits for its answer.
    ///
    /// Dropping the future does not take the call back: it may be done all the same.
    ///
    /// # Errors
    /// [`StoreError::Full`] when too much waits already (nothing was done), and
    /// [`StoreError::Unavailable`] when the store's end went away before it answered.
    pub async fn call(&self, call: Call, bytes: usize) -> Result<Answer, StoreError> {
        let full = || StoreError::Full("too many calls wait for it already".to_owned());
        let wanted = u32::try_from(bytes).map_err(|_| full())?;
        let bytes_taken =
            Arc::clone(&self.bytes_free).try_acquire_many_owned(wanted).map_err(|_| full())?;
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { call, reply: Reply { answer, _bytes_taken: bytes_taken }, bytes };
        self.queue.try_send(waiting).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => full(),
            mpsc::error::TrySendError::Closed(_) => gone(),
        })?;
        answered.await.map_err(|_| gone())
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable("it was shut down".to_owned())
}

impl<Call, Answer> Clone for Calls<Call, Answer> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), bytes_free: Arc::clone(&self.bytes_free) }
    }
}

impl<Call, Answer> Batches<Call, Answer> {
    /// The next batch: waits for a first call, then takes what waits already. `None` when every
    /// caller is gone.
    pub async fn next(&mut self) -> Option<Vec<Waiting<Call, Answer>>> {
        let first = match self.left_over.take() {
            Some(waiting) => waiting,
            None => self.queue.recv().await?,
        };
        Some(self.with_what_waits(first))
    }

    /// The same for a store that works on a thread of its own, outside of the runtime.
    pub fn blocking_next(&mut self) -> Option<Vec<Waiting<Call, Answer>>> {
        let first = match self.left_over.take() {
            Some(waiting) => waiting,
            None => self.queue.blocking_recv()?,
        };
        Some(self.with_what_waits(first))
    }

    fn with_what_waits(&mut self, first: Waiting<Call, Answer>) -> Vec<Waiting<Call, Answer>> {
        let mut bytes = first.bytes;
        let mut batch = vec![first];
        while batch.len() < limits::BATCH_ITEMS_MAX {
            let Ok(waiting) = self.queue.try_recv() else { break };
            bytes = bytes.saturating_add(waiting.bytes);
            if bytes > limits::BATCH_BYTES_MAX {
                self.left_over = Some(waiting);
                break;
            }
            batch.push(waiting);
        }
        batch
    }
}

impl<Answer> Reply<Answer> {
    /// Answers the call. Nobody may be there to hear it any more: a request that passed its deadline
    /// is answered 503, and its retry finds what was done.
    pub fn send(self, answer: Answer) {
        drop(self.answer.send(answer));
    }
}

/// The answers to calls that were asked together, and so failed together.
#[cfg(any(feature = "redis", feature = "sqlite", feature = "postgres"))]
pub(super) fn each<T>(
    together: Result<Vec<T>, StoreError>,
    calls: usize,
) -> Vec<Result<T, StoreError>> {
    match together {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(error) => (0..calls).map(|_| Err(error.clone())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn what_waits_goes_together_and_each_call_gets_its_own_answer() {
        let (calls, mut batches) = queue::<u32, u32>();
        let asked = join_all((0..10).map(|number| calls.call(number, 1)));
        let served = async {
            let batch = batches.next().await.expect("calls wait");
            let size = batch.len();
            for waiting in batch {
                let doubled = waiting.call * 2;
                waiting.reply.send(doubled);
            }
            size
        };
        let (answers, size) = tokio::join!(asked, served);
        assert_eq!(size, 10);
        let doubled: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(doubled, (0..10).map(|number| number * 2).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_batch_is_bounded_in_bytes_and_nothing_is_left_behind() {
        let (calls, mut batches) = queue::<usize, ()>();
        let half = limits::BATCH_BYTES_MAX / 2 + 1;
        let asked = join_all((0..3).map(|number| calls.call(number, half)));
        let served = async {
            let mut seen = Vec::new();
            while seen.len() < 3 {
                let batch = batches.next().await.expect("calls wait");
                assert_eq!(batch.len(), 1, "two of them are more than a batch may carry");
                for waiting in batch {
                    seen.push(waiting.call);
                    waiting.reply.send(());
                }
            }
            seen
        };
        let (_, seen) = tokio::join!(asked, served);
        assert_eq!(seen, [0, 1, 2]);
    }

    #[tokio::test]
    async fn a_full_queue_says_so_at_once() {
        let (calls, _batches) = queue::<(), ()>();
        let too_much = calls.call((), limits::WAITING_BYTES_MAX + 1).await;
        assert!(matches!(too_much, Err(StoreError::Full(_))));
    }

    #[tokio::test]
    async fn a_store_that_went_away_is_not_a_yes() {
        let (calls, batches) = queue::<(), ()>();
        drop(batches);
        assert!(matches!(calls.call((), 1).await, Err(StoreError::Unavailable(_))));
    }
}
