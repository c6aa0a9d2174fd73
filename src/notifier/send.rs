//! Sends notices, one after the other, so that an end is never told before its beginning.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::mpsc;

use crate::{
    app::App,
    delivery::DeliveryId,
    handler::{Answer, Attempt, Outcome},
    limits,
    notice::{Channel, Notice},
    retry::Retry,
    shutdown::Tasks,
};

/// Sends what waits, until it is told to stop. What waits then is in the log alone.
pub(super) async fn run(app: Arc<App>, mut waiting: mpsc::Receiver<Notice>, tasks: Tasks) {
    loop {
        let notice = tokio::select! {
            notice = waiting.recv() => notice,
            () = tasks.stopping() => return,
        };
        let Some(notice) = notice else { return };
        let setup = app.setup(); // who is configured now, not when it was noticed
        let told = setup.notices.channels.iter().map(|channel| tell(&app, channel, &notice));
        tokio::select! {
            _ = join_all(told) => {}
            () = tasks.stopping() => return,
        }
    }
}

/// Tells by one channel, in a few attempts under the same key. A failure is logged, and that is all: the
/// next notice is another chance.
async fn tell(app: &App, channel: &Channel, notice: &Notice) {
    let delivery = DeliveryId::new(notice.at);
    for number in 1.. {
        let attempt = Attempt {
            delivery,
            number,
            token: u64::from(number),
            replay_of: None,
            timeout: limits::NOTICE_TIMEOUT,
            traceparent: None,
        };
        let (retry_in, answer) = match channel.tell(notice, attempt).await {
            Outcome::Done(_) => return app.metrics.noticed(notice.kind.name(), "sent"),
            Outcome::Rejected(answer) => (None, answer),
            Outcome::Failed { retry_after, answer } => {
                (RETRY.delay(number, retry_after, rand::random()), answer)
            }
        };
        match retry_in {
            Some(delay) => tokio::time::sleep(delay).await,
            None => return give_up(app, channel, notice, answer),
        }
    }
}

fn give_up(app: &App, channel: &Channel, notice: &Notice, answer: Answer) {
    app.metrics.noticed(notice.kind.name(), "failed");
    let error = answer.error.unwrap_or_default();
    tracing::warn!(notice.kind = notice.kind.name(), notice.subject = %notice.subject, notice.channel = channel.name(), error, "a notice reached nobody");
}

const RETRY: Retry = Retry {
    attempts: limits::NOTICE_ATTEMPTS,
    first: limits::NOTICE_RETRY_FIRST,
    max: limits::NOTICE_RETRY_MAX,
};
