//! Many requests to one address: copies, connections, a rate, retries. As much is in memory as is on
//! its way, however many there are in all.

use std::{iter, num::NonZeroU32, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt as _, stream};
use hookonce::request::Unverified;

use super::{
    sender::{Answer, SigningSender},
    tally::Tally,
};

/// How a provider is stood in for.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// How many events there are.
    pub(crate) events: u64,
    /// How often each is sent, one copy next to the other.
    pub(crate) copies: u64,
    /// How many requests are on their way at once.
    pub(crate) connections: usize,
    /// How many requests are begun in a second, at most.
    pub(crate) rate_per_second: Option<NonZeroU32>,
    /// How often what was not acknowledged is sent again, at most.
    pub(crate) retries_max: u32,
}

/// The first pause before a retry, and the longest; the receiver may ask for more.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The longest `Retry-After` that is honoured: a person waits for the end.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

impl Load {
    /// How many requests there are in all, retries aside.
    pub(crate) fn requests(&self) -> u64 {
        self.events.saturating_mul(self.copies)
    }

    /// Sends all of it. Each event comes from `draft`, and is signed anew each time it is sent.
    /// `counted` is told of every request that came to its end.
    pub(crate) async fn run(
        &self,
        sender: &SigningSender,
        draft: impl FnMut() -> Unverified,
        mut counted: impl FnMut(),
    ) -> Tally {
        let on_their_way = self.paced(draft).map(|draft| self.deliver(sender, draft));
        let mut answered = std::pin::pin!(on_their_way.buffer_unordered(self.connections));
        let mut tally = Tally::default();
        while let Some(answers) = answered.next().await {
            tally.count(&answers);
            counted();
        }
        tally
    }

    /// Every copy of every event, as fast as the rate allows.
    fn paced(&self, mut draft: impl FnMut() -> Unverified) -> impl Stream<Item = Arc<Unverified>> {
        let copies = usize::try_from(self.copies).unwrap_or(usize::MAX);
        let all = (0..self.events).flat_map(move |_| iter::repeat_n(Arc::new(draft()), copies));
        let pace = self.rate_per_second.map(|rate| Duration::from_secs(1) / rate.get());
        let pace = pace.map(|pace| pace.max(Duration::from_nanos(1))); // none would be no interval
        stream::unfold((all, pace.map(tokio::time::interval)), |(mut all, mut pace)| async {
            let next = all.next()?;
            if let Some(pace) = &mut pace {
                pace.tick().await;
            }
            Some((next, (all, pace)))
        })
    }

    /// Sends one request until it is acknowledged, refused for good, or was sent often enough.
    async fn deliver(&self, sender: &SigningSender, draft: Arc<Unverified>) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(1);
        let mut pause = PAUSE_FIRST;
        for _ in 0..=self.retries_max {
            if let Some(last) = answers.last() {
                tokio::time::sleep(wait_before_retry(last, pause)).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            let answer = sender.send(&draft).await;
            let is_final = is_final(&answer);
            answers.push(answer);
            if is_final {
                break;
            }
        }
        answers
    }
}

/// A refusal says that sending it again will not help; these two statuses say that it may.
fn is_final(answer: &Answer) -> bool {
    match answer.status {
        Some(408 | 429) | None => false,
        Some(status) => status < 500,
    }
}

fn wait_before_retry(last: &Answer, pause: Duration) -> Duration {
    last.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX).max(pause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sender::Became;

    fn load(events: u64, copies: u64, rate: u32) -> Load {
        Load {
            events,
            copies,
            connections: 4,
            rate_per_second: NonZeroU32::new(rate),
            retries_max: 0,
        }
    }

    fn draft(id: u64) -> Unverified {
        let fixture = hookonce::fixture::Fixture::of_body(id.to_string());
        fixture.request().clone()
    }

    #[tokio::test]
    async fn copies_of_an_event_are_next_to_each_other() {
        let mut next = 0..;
        let load = load(2, 3, 0);
        let drafts = load.paced(move || draft(next.next().unwrap()));
        let bodies: Vec<_> = drafts.map(|draft| draft.body.clone()).collect().await;
        assert_eq!(bodies, ["0", "0", "0", "1", "1", "1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_held() {
        let begun = tokio::time::Instant::now();
        let sent = load(11, 2, 10).paced(|| draft(1)).count().await;
        assert_eq!(sent, 22);
        assert_eq!(begun.elapsed().as_millis(), 2100);
    }

    #[test]
    fn retry_after_is_honoured_within_reason() {
        let answer = |status, retry_after| Answer {
            became: Became::Unavailable,
            status,
            retry_after,
            took: Duration::ZERO,
            error: None,
        };
        let wait =
            |asked| wait_before_retry(&answer(Some(503), Some(asked)), Duration::from_millis(50));
        assert_eq!(wait(Duration::from_secs(3)), Duration::from_secs(3));
        assert_eq!(wait(Duration::ZERO), Duration::from_millis(50));
        assert_eq!(wait(Duration::MAX), RETRY_AFTER_MAX);
        for (status, ends) in
            [(Some(200), true), (Some(401), true), (Some(429), false), (None, false)]
        {
            assert_eq!(is_final(&answer(status, None)), ends, "{status:?}");
        }
    }
}
