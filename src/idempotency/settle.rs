//! How a call ended, written down under its key, and what the client is told.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, timeout},
};

use super::{
    Answer, Body, Called, EXPIRES, Problem,
    policy::{Verdict, verdict},
};
use crate::{
    api::Api,
    app::App,
    key::SavedResponse,
    limits,
    store::{Hold, StoreError, keys::Begin},
};

/// Writes down how the call ended, and answers the client.
///
/// The client gets the upstream's answer also when the store fails just now: it is true. What was to be
/// written is then tried again in the background, and until it is written a retry gets 409. The call
/// keeps its place so long, so that no other can push it out.
pub(super) async fn settle(
    app: &Arc<App>,
    api: &Api,
    begin: Begin,
    called: Called,
    place: OwnedSemaphorePermit,
) -> Answer {
    let (ending, mut answer) = ended(app, api, called);
    app.metrics.key_ended(&api.name, ending.word());
    if let Ending::Unknown(why) = &ending {
        let key = begin.scope.id();
        if let Some(more) = app.may_say(&format!("{} unknown", api.name)) {
            tracing::warn!(api.name = %api.name, key.id = %key, lines.held_back = more, "the outcome of a call is unknown: {why}");
        }
    }
    if matches!(ending, Ending::Complete(_)) {
        answer.headers.set(EXPIRES, app.clock.now().plus(api.retention).to_string());
    }
    let write = Write { begin, ending, retention: api.retention };
    match timeout(app.answer_within, write.now(app)).await {
        Ok(Ok(Hold::Kept)) => {}
        Ok(Ok(Hold::Lost)) => {
            tracing::warn!(api.name = %api.name, key.id = %write.begin.scope.id(), "a key was taken over or resolved before its call ended");
        }
        Ok(Err(_)) | Err(_) => write_later(app, api, write, limits::KEY_WRITE_PAUSE, place),
    }
    answer
}

/// The answer to a call that nothing is written down about.
pub fn unsaved(called: Called) -> Answer {
    match called {
        Called::Answered(answer) => answer,
        Called::NotSent(_) => Problem::UpstreamUnreachable.answer(),
        Called::NoAnswer { timed_out: true, .. } => Problem::UpstreamTimedOut.answer(),
        Called::NoAnswer { timed_out: false, .. } => Problem::UpstreamBrokeOff.answer(),
    }
}

/// Frees a key that may have been begun without our hearing of it. Nothing was sent, so without this it
/// would stand there as unknown once its lease ran out.
pub(super) fn let_go_later(app: &Arc<App>, api: &Api, begin: Begin) {
    let Ok(place) = Arc::clone(&app.late_frees).try_acquire_owned() else {
        return tell_not_freed(app, api, &begin); // as many wait already as there is reason to
    };
    let write = Write { begin, ending: Ending::Free, retention: api.retention };
    // By then the begin is done, or too late to be. Where it still hangs in its commit this fails, and is
    // tried again.
    write_later(app, api, write, app.answer_within, place);
}

/// What is written down under a key.
enum Ending {
    Complete(SavedResponse),
    Free,
    Unknown(String),
}

impl Ending {
    /// As the metrics have it.
    fn word(&self) -> &'static str {
        match self {
            Self::Complete(_) => "completed",
            Self::Free => "freed",
            Self::Unknown(_) => "unknown",
        }
    }
}

fn ended(app: &App, api: &Api, called: Called) -> (Ending, Answer) {
    let ending = match &called {
        Called::NotSent(why) => {
            if let Some(more) = app.may_say(&format!("{} not sent", api.name)) {
                tracing::warn!(api.name = %api.name, lines.held_back = more, "nothing was sent, and its key is free: {why}");
            }
            Ending::Free
        }
        Called::NoAnswer { why, .. } => Ending::Unknown(why.clone()),
        Called::Answered(answer) => match verdict(api.save, answer.status) {
            Verdict::Save => Ending::Complete(kept(answer)),
            Verdict::Free => Ending::Free,
            Verdict::Unknown => Ending::Unknown(format!("it was answered {}", answer.status)),
        },
    };
    (ending, unsaved(called))
}

/// What later requests get. Where the answer is too long to be kept that is a problem saying so: the
/// work was done, and must not be done again.
fn kept(answer: &Answer) -> SavedResponse {
    let problem;
    let (answer, body) = match &answer.body {
        Body::Whole(body) => (answer, body.clone()),
        Body::Flowing(..) => {
            problem = Problem::AnswerNotKept { status: answer.status }.answer();
            let Body::Whole(body) = &problem.body else { unreachable!("a problem is whole") };
            (&problem, body.clone())
        }
    };
    SavedResponse { status: answer.status, headers: answer.headers.clone(), body }
}

/// Something to write down. The owner's token fences it, so it can be tried as often as it takes.
struct Write {
    begin: Begin,
    ending: Ending,
    retention: Duration,
}

impl Write {
    async fn now(&self, app: &App) -> Result<Hold, StoreError> {
        let (id, owner) = (self.begin.scope.id(), self.begin.owner);
        match &self.ending {
            Ending::Complete(response) => {
                let asked = app.store.complete(id, owner, response, self.retention);
                app.metrics.store_call("complete", asked).await
            }
            Ending::Free => app.store.abandon(id, owner).await,
            Ending::Unknown(why) => app.store.mark_unknown(id, owner, why).await,
        }
    }
}

/// Goes on trying in the background, as long as the key may be in progress. After that it is unknown by
/// itself, which is never wrong.
fn write_later(
    app: &Arc<App>,
    api: &Api,
    write: Write,
    first_pause: Duration,
    place: OwnedSemaphorePermit,
) {
    let (app, tasks, name) = (Arc::clone(app), app.tasks.clone(), Arc::clone(&api.name));
    let end = Instant::now() + api.lease_max;
    tasks.clone().spawn(async move {
        let mut pause = first_pause;
        loop {
            sleep(pause).await;
            match timeout(app.answer_within, write.now(&app)).await {
                Ok(Ok(_)) => break,
                _ if tasks.is_stopping() || Instant::now() > end => {
                    tell_given_up(&app, &name, &write);
                    break;
                }
                _ => pause = (pause * 2).min(limits::KEY_WRITE_PAUSE_MAX),
            }
        }
        drop(place);
    });
}

fn tell_not_freed(app: &App, api: &Api, begin: &Begin) {
    let Some(more) = app.may_say(&format!("{} not freed", api.name)) else { return };
    tracing::warn!(
        api.name = %api.name, key.id = %begin.scope.id(), lines.held_back = more,
        "too many keys wait to be freed: if this one was begun, it will be unknown"
    );
}

fn tell_given_up(app: &App, api: &str, write: &Write) {
    let Some(more) = app.may_say(&format!("{api} given up")) else { return };
    tracing::error!(
        api.name = api, key.id = %write.begin.scope.id(), lines.held_back = more,
        "could not write down how a call ended ({}): its key will be unknown", write.ending.word()
    );
}
