//! How everything stands, on one page; and the task that notes how it went.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Admin, AdminError, Readiness, RefusalQuery};
use crate::{
    app::App,
    clock::Timestamp,
    doctor::Kind,
    limits,
    refusal::Step,
    shutdown::Tasks,
    source::Source,
    store::Stats,
    telemetry::{
        history::Point,
        metrics::{StoreNow, Totals},
    },
};

/// How everything stands.
#[derive(Clone, Debug)]
pub struct Overview {
    /// When this was.
    pub now: Timestamp,
    /// Whether all is well, and what to look at.
    pub readiness: Readiness,
    /// What the store has counted. `None`: it does not answer.
    pub stats: Option<Stats>,
    /// Since when the delivery of each handler waits that waits longest.
    pub waiting_since: BTreeMap<String, Timestamp>,
    /// What this process has counted.
    pub totals: Totals,
    /// What happened over the last day, as this process saw it, oldest first.
    pub points: Vec<Point>,
}

impl Admin {
    /// How everything stands. A store that does not answer makes no error of it: that is something to
    /// be seen.
    pub async fn overview(&self) -> Result<Overview, AdminError> {
        let now = self.app.clock.now();
        let (mut readiness, stats) = self.readiness_and_stats().await;
        if stats.is_some() {
            readiness.warnings.extend(self.clock_warning(now).await); // or it would be waited for again
        }
        let day = limits::HISTORY_INTERVAL * u32::try_from(limits::HISTORY_POINTS_MAX).unwrap_or(1);
        let points = self.app.history.since(now.minus(day));
        let waiting_since = match &stats {
            Some(stats) => self.waiting_since(stats, now).await?,
            None => BTreeMap::new(),
        };
        let totals = self.app.metrics.totals();
        Ok(Overview { now, readiness, stats, waiting_since, totals, points })
    }

    /// The metrics, as Prometheus reads them. A store that does not answer in time is told as one that is
    /// down.
    pub async fn metrics(&self) -> String {
        let asked = async {
            let (stats, keys) = (self.stats().await?, self.key_counts().await?);
            let now = self.app.clock.now();
            let waiting = self.waiting_since(&stats, now).await?;
            let waiting = waiting.into_iter().map(|(handler, since)| (handler, now.since(since)));
            Ok::<_, AdminError>(StoreNow { stats, keys, waiting: waiting.collect() })
        };
        let now = tokio::time::timeout(limits::ANSWER_DEADLINE, asked).await;
        self.app.metrics.text(now.ok().and_then(Result::ok).as_ref(), &*self.app.store)
    }

    async fn waiting_since(
        &self,
        stats: &Stats,
        now: Timestamp,
    ) -> Result<BTreeMap<String, Timestamp>, AdminError> {
        let mut waiting = BTreeMap::new();
        for (handler, _) in stats.handlers.iter().filter(|(_, counts)| counts.queued > 0) {
            let since = self.app.store.waiting_since(handler).await?;
            waiting
                .extend(since.filter(|since| *since <= now).map(|since| (handler.clone(), since)));
        }
        Ok(waiting)
    }

    /// What the doctor says where the signed times of late are all off by the same.
    async fn clock_warning(&self, now: Timestamp) -> Option<String> {
        let (step, limit) = (Some(Step::Stale), Some(STALE_LOOKED_AT));
        let query = RefusalQuery { step, limit, ..RefusalQuery::default() };
        let stale = self.refusals(query).await.ok()?.refusals;
        let mut of_late = stale.iter().filter(|view| now.since(view.row.received_at) < OF_LATE);
        let skew = of_late.find(|view| view.finding.kind == Kind::ClockSkew)?;
        Some(format!("{}: {}", skew.finding.cause, skew.finding.fix))
    }

    /// Sources that admit what does not verify.
    pub(super) fn sources_in_shadow_mode(&self) -> Vec<String> {
        let setup = self.app.setup();
        let sources = setup.sources.values().filter(|source| source.is_in_shadow_mode());
        let warning = |source: &Arc<Source>| {
            format!(
                "SHADOW MODE: source `{}` admits what does not verify, so anybody can trigger its handlers; \
                 once no event is marked `shadow` any more, write verify = \"enforce\"",
                source.name
            )
        };
        sources.map(warning).collect()
    }

    pub(super) fn paused_handlers(&self) -> Vec<String> {
        let setup = self.app.setup();
        let paused = setup.handlers.keys().filter(|name| setup.control(name).paused);
        let warning = |name: &Arc<str>| {
            format!(
                "handler `{name}` is paused, and its events wait: `hookonce handlers resume {name}`"
            )
        };
        paused.map(warning).collect()
    }
}

/// How many refused requests the clock is judged by, and how old they may be.
const STALE_LOOKED_AT: usize = 10;
const OF_LATE: Duration = Duration::from_hours(1);

/// Notes what was counted, every now and then, until it is told to stop.
pub async fn note_history(app: Arc<App>, tasks: Tasks) {
    while !tasks.is_stopping() {
        tokio::select! {
            () = tokio::time::sleep(limits::HISTORY_INTERVAL) => {}
            () = tasks.stopping() => return,
        }
        let waiting =
            stats_in_time(&app).await.map(|stats| stats.total.queued + stats.total.leased);
        app.history.note(app.clock.now(), app.metrics.totals(), waiting);
    }
}

/// The counters. `None`: the store does not answer, or not in time.
pub(super) async fn stats_in_time(app: &App) -> Option<Stats> {
    let stats = tokio::time::timeout(limits::ANSWER_DEADLINE, app.store.stats()).await;
    stats.ok().and_then(Result::ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::{Clock as _, ManualClock},
        provider::{self, Settings},
        secret::Secret,
        setup::Setup,
        store::memory::MemoryStore,
    };

    #[tokio::test]
    async fn a_source_is_warned_of_while_it_is_silent_and_configured() {
        let settings = Settings { secrets: vec![Secret::new("whsec_test")], ..Settings::default() };
        let source = Source::new("stripe", provider::find("stripe").unwrap(), settings).unwrap();
        let clock = ManualClock::at(Timestamp::from_seconds(1_000_000));
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let admin =
            Admin::new(Arc::new(App::new(vec![source], Vec::new(), store, clock.clone())), None);
        for count in 1..=limits::SILENCE_TIMES_MIN {
            clock.advance(limits::HISTORY_INTERVAL);
            let heard = (("stripe".to_owned(), "accepted".to_owned()), u64::from(count));
            let totals = Totals { requests: [heard].into(), ..Totals::default() };
            admin.app.history.note(clock.now(), totals, None);
        }
        clock.advance(limits::SILENCE_MIN + Duration::from_secs(1));
        let warnings = admin.readiness().await.warnings;
        assert!(
            warnings[0].starts_with("nothing heard from source `stripe` since"),
            "{warnings:?}"
        );

        admin.app.replace_setup(Setup::default());
        assert_eq!(admin.readiness().await.warnings, Vec::<String>::new());
    }
}
