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
        let mut concerns = silent_sources(app, setup);
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

fn silent_sources(app: &App, setup: &Setup) -> Vec<Concern> {
    let silent = app.history.silent(app.clock.now(), setup.notices.silence_min);
    let configured = silent.into_iter().filter(|it| setup.sources.contains_key(it.source.as_str()));
    let concern = |silent: crate::telemetry::history::Silent| Concern {
        kind: Kind::SilentSource,
        mark: u64::try_from(silent.last_at.as_millis()).unwrap_or(0),
        count: None,
        text: format!(
            "nothing heard from source `{}` since {}: look at the provider's page of deliveries",
            silent.source, silent.last_at
        ),
        subject: silent.source,
    };
    configured.map(concern).collect()
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
