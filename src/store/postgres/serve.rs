//! Batches of calls, each in one transaction.
//!
//! An error in a batch rolls all of it back. Its members then run one by one, each in a transaction of
//! its own and all within one deadline, so that one bad call does not refuse its neighbours. One that was
//! alone runs again too: it may have met another process that did the same at the same time.

use std::{slice, sync::Arc};

use tokio::sync::Mutex;

use super::{
    connection::{Lane, Turn},
    error::Trouble,
};
use crate::store::{StoreError, batch::Batches};

/// What can be asked in batches.
pub(super) trait Call: Sized + Send + Sync + 'static {
    /// The answer to one call.
    type Answer: Send + 'static;

    /// Runs these calls in one transaction. One answer each, in order; an error means that none of them
    /// is done, unless it is `Unavailable`: then nobody knows.
    fn run(
        turn: &Turn<'_>,
        calls: &[Self],
    ) -> impl Future<Output = Result<Vec<Answer<Self>>, Trouble>> + Send;
}

/// The answer to a call, or why there is none.
pub(super) type Answer<C> = Result<<C as Call>::Answer, StoreError>;

/// Where the calls come from. Several lanes may take batches from it, one after the other.
pub(super) type Queue<C> = Arc<Mutex<Batches<C, Answer<C>>>>;

/// Serves batches until every caller is gone.
pub(super) async fn serve<C: Call>(lane: Lane, queue: Queue<C>) {
    loop {
        let batch = queue.lock().await.next().await;
        let Some(batch) = batch else { return };
        let (calls, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.call, waiting.reply)).unzip();
        let answers = answer(&lane, &calls).await;
        for (reply, answer) in replies.into_iter().zip(answers) {
            reply.send(answer);
        }
    }
}

/// One answer per call, in order.
async fn answer<C: Call>(lane: &Lane, calls: &[C]) -> Vec<Answer<C>> {
    let mut turn = match lane.turn().await {
        Ok(turn) => turn,
        Err(trouble) => return refused::<C>(&trouble.error, calls.len()),
    };
    let together = C::run(&turn, calls).await;
    let goes_on = turn.tidy_up(&together).await;
    let answers = match together {
        Ok(answers) => answers,
        Err(trouble) if goes_on && trouble.is_of_one => one_by_one(&mut turn, calls).await,
        Err(trouble) => refused::<C>(&trouble.error, calls.len()),
    };
    turn.give_back();
    answers
}

async fn one_by_one<C: Call>(turn: &mut Turn<'_>, calls: &[C]) -> Vec<Answer<C>> {
    let mut answers = Vec::with_capacity(calls.len());
    for call in calls {
        let alone = C::run(turn, slice::from_ref(call)).await;
        let goes_on = turn.tidy_up(&alone).await;
        match alone {
            Ok(answer) => answers.extend(answer),
            Err(trouble) => answers.push(Err(trouble.error)),
        }
        if !goes_on {
            let left = calls.len().saturating_sub(answers.len());
            let error = StoreError::Unavailable("its connection broke before its turn".to_owned());
            answers.extend(refused::<C>(&error, left));
            break;
        }
    }
    answers
}

fn refused<C: Call>(error: &StoreError, calls: usize) -> Vec<Answer<C>> {
    (0..calls).map(|_| Err(error.clone())).collect()
}
