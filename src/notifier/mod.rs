//! Tells a person what they have not asked for: dead letters, a silent source, a jump of refusals.
//!
//! It looks every few seconds, beside everything else: no request and no delivery waits for it. What it has
//! told is remembered in this process only; each process on a store tells for itself.

mod jumps;
mod ledger;
mod send;

use std::sync::Arc;

use tokio::sync::mpsc;

use self::{
    jumps::Jumps,
    ledger::{Concern, Ledger},
};
use crate::{
    app::App,
    limits,
    notice::{Kind, Notice, Notices},
    setup::Setup,
    shutdown::Tasks,
    store::Stats,
    telemetry::history::Silent,
};

/// Looks and tells, until it is told to stop.
pub async fn run(app: Arc<App>, tasks: Tasks) {
    let (sender, waiting) = mpsc::channel(limits::NOTICES_WAITING_MAX);
    tasks.spawn(send::run(Arc::clone(&app), waiting, tasks.clone()));
    let mut lookout = Lookout::default();
    while !tasks.is_stopping() {
        let setup = app.setup();
        match setup.notices.channels.is_empty() {
            true => lookout = Lookout::default(),
            false => leave(&app, &sender, lookout.look(&app, &setup).await),
        }
        tokio::select! {
            () = tokio::time::sleep(limits::NOTICES_LOOK_EVERY) => {}
            () = tasks.stopping() => return,
        }
    }
}

/// Leaves notices to be sent. Where too many wait already, the log alone has them.
fn leave(app: &App, sender: &mpsc::Sender<Notice>, notices: Vec<Notice>) {
    for notice in notices {
        tracing::warn!(
            notice.kind = notice.kind.name(),
            notice.state = notice.state.name(),
            "{}",
            notice.text
        );
        let kind = notice.kind;
        if sender.try_send(notice).is_err() {
            app.metrics.noticed(kind.name(), "left_out");
        }
    }
}

/// What was seen and told so far.
#[derive(Debug, Default)]
struct Lookout {
    ledger: Ledger,
    jumps: Jumps,
}

impl Lookout {
    /// What there is to tell now.
    async fn look(&mut self, app: &App, setup: &Setup) -> Vec<Notice> {
        let mut looked_at = vec![Kind::SilentSource, Kind::RefusalsJump];
        let mut concerns: Vec<_> = app.silent_sources().iter().map(silent).collect();
        let monotonic = app.clock.monotonic();
        let refused = app.metrics.totals().refused_by_source();
        concerns.extend(self.jumps.look(monotonic, &refused).into_iter().map(jump));
        let stats = tokio::time::timeout(limits::ANSWER_DEADLINE, app.store.stats()).await;
        // Of a store that does not answer nothing is known, and so nothing has ended.
        if let Ok(Ok(stats)) = stats {
            looked_at.push(Kind::DeadLetters);
            concerns.extend(dead_letters(&stats));
        }
        let Notices { every, .. } = *setup.notices;
        self.ledger.enter(&looked_at, concerns, (app.clock.now(), monotonic), every)
    }
}

fn dead_letters(stats: &Stats) -> Vec<Concern> {
    let with_some = stats.handlers.iter().filter(|(_, counts)| counts.dead_now > 0);
    let concern = |(handler, counts): (&String, &crate::store::Counts)| Concern {
        kind: Kind::DeadLetters,
        subject: handler.clone(),
        mark: counts.dead,
        count: Some(counts.dead_now),
        text: format!(
            "handler `{handler}` has {} dead letters: `hookonce deliveries --handler {handler} --state dead` says why",
            counts.dead_now
        ),
    };
    with_some.map(concern).collect()
}

fn silent(silent: &Silent) -> Concern {
    Concern {
        kind: Kind::SilentSource,
        subject: silent.source.clone(),
        mark: u64::try_from(silent.last_at.as_millis()).unwrap_or(0),
        count: None,
        text: silent.to_string(),
    }
}

fn jump(jump: jumps::Jump) -> Concern {
    Concern {
        kind: Kind::RefusalsJump,
        mark: jump.number,
        count: Some(jump.refused),
        text: format!(
            "source `{}` has refused {} requests within a minute, far more than usual: `hookonce doctor` says why",
            jump.source, jump.refused
        ),
        subject: jump.source,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        clock::{Clock as _, ManualClock, Timestamp},
        notice::State,
        provider::{self, Settings},
        secret::Secret,
        source::Source,
        store::memory::MemoryStore,
        telemetry::metrics::Totals,
    };

    fn source(name: &str) -> Source {
        let settings = Settings { secrets: vec![Secret::new("whsec_test")], ..Settings::default() };
        Source::new(name, provider::find("stripe").unwrap(), settings).unwrap()
    }

    #[tokio::test]
    async fn a_silent_source_is_told_until_it_is_heard_or_gone() {
        let clock = ManualClock::at(Timestamp::from_seconds(1_000_000));
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let app = Arc::new(App::new(vec![source("stripe")], Vec::new(), store, clock.clone()));
        for count in 1..=limits::SILENCE_TIMES_MIN {
            clock.advance(limits::HISTORY_INTERVAL);
            let heard = (("stripe".to_owned(), "accepted".to_owned()), u64::from(count));
            let totals = Totals { requests: [heard].into(), ..Totals::default() };
            app.history.note(clock.now(), totals, None);
        }
        let mut lookout = Lookout::default();
        assert_eq!(lookout.look(&app, &app.setup()).await, []);

        clock.advance(limits::SILENCE_MIN + Duration::from_secs(1));
        let told = lookout.look(&app, &app.setup()).await;
        assert_eq!((told[0].kind, told[0].state), (Kind::SilentSource, State::Begun));
        assert!(told[0].text.starts_with("nothing heard from source `stripe` since"));

        app.replace_setup(Setup::new(vec![source("stripe2")], Vec::new(), Vec::new()));
        let told = lookout.look(&app, &app.setup()).await;
        assert_eq!(told[0].state, State::Ended);
    }
}
