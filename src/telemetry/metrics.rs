//! Every metric is named here. Labels come from closed sets (the configuration, our own words), never
//! from a request.

use std::{collections::BTreeMap, time::Duration};

use prometheus::{
    Encoder as _, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder, core::Collector, proto::Metric,
};

use crate::{
    control::Controls,
    delivery::State,
    key::KeyState,
    store::{Stats, Store, keys::KeyCounts},
};

/// The metrics of one hookonce. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    refusals: IntCounterVec,
    refusals_noted: IntCounterVec,
    shadow: IntCounterVec,
    deliveries_total: IntCounterVec,
    deliveries: IntGaugeVec,
    events_held: IntGauge,
    oldest_due_seconds: GaugeVec,
    store_up: IntGauge,
    store_seconds: HistogramVec,
    store_steps_back: IntCounter,
    cache: IntCounterVec,
    ack_seconds: HistogramVec,
    attempt_seconds: HistogramVec,
    keys: IntCounterVec,
    key_calls: IntCounterVec,
    reloads: IntCounterVec,
    notices: IntCounterVec,
    handler_paused: IntGaugeVec,
    keys_now: IntGaugeVec,
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let seconds = |name: &str, help: &str, labels: &[&str], buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            register(&registry, HistogramVec::new(options, labels))
        };
        let build_info = register(
            &registry,
            IntGaugeVec::new(Opts::new("hookonce_build_info", "1, with what runs."), &["version"]),
        );
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let reloads = counter(
            "hookonce_reloads_total",
            "Reloads of the configuration by what came of them.",
            &["outcome"],
        );
        reloads.with_label_values(&["refused"]).inc_by(0); // or nobody sees the first one
        Self {
            requests: counter(
                "hookonce_requests_total",
                "Webhook requests by their answer.",
                &["source", "status"],
            ),
            refusals: counter(
                "hookonce_refusals_total",
                "Refused webhook requests by the reason.",
                &["source", "code"],
            ),
            refusals_noted: counter(
                "hookonce_refusals_noted_total",
                "Refused webhook requests by whether they were kept for the doctor.",
                &["source", "outcome"],
            ),
            shadow: counter(
                "hookonce_shadow_total",
                "Webhook requests that were let in although they did not verify: shadow mode.",
                &["source"],
            ),
            deliveries_total: counter(
                "hookonce_deliveries_total",
                "Attempts of deliveries by how they ended.",
                &["handler", "outcome"],
            ),
            deliveries: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new("hookonce_deliveries", "Deliveries in the store now, by state."),
                    &["handler", "state"],
                ),
            ),
            events_held: register(
                &registry,
                IntGauge::new("hookonce_events_held", "Events that wait for a person now."),
            ),
            store_up: register(
                &registry,
                IntGauge::new("hookonce_store_up", "1 when the store can be written to, else 0."),
            ),
            oldest_due_seconds: register(
                &registry,
                GaugeVec::new(
                    Opts::new(
                        "hookonce_oldest_due_seconds",
                        "For how long the delivery waits that is due longest; 0 when none waits.",
                    ),
                    &["handler"],
                ),
            ),
            store_seconds: seconds(
                "hookonce_store_seconds",
                "How long calls of the store took, also those that were given up.",
                &["verb"],
                &ACK_SECONDS,
            ),
            store_steps_back: register(
                &registry,
                IntCounter::new(
                    "hookonce_store_steps_back_total",
                    "How often the store went back by less than its durability may lose.",
                ),
            ),
            cache: counter(
                "hookonce_cache_total",
                "Events asked of the cache in front of the store, by what it knew.",
                &["outcome"],
            ),
            ack_seconds: seconds(
                "hookonce_ack_seconds",
                "From the last byte of a body to its answer.",
                &["source"],
                &ACK_SECONDS,
            ),
            attempt_seconds: seconds(
                "hookonce_attempt_seconds",
                "How long attempts took.",
                &["handler"],
                &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0],
            ),
            keys: counter(
                "hookonce_keys_total",
                "Requests to APIs by what became of their key.",
                &["api", "outcome"],
            ),
            key_calls: counter(
                "hookonce_key_calls_total",
                "Calls under a key by what was written down about them.",
                &["api", "outcome"],
            ),
            reloads,
            notices: counter(
                "hookonce_notices_total",
                "Notices by what they are about and whether somebody was told.",
                &["kind", "outcome"],
            ),
            handler_paused: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new("hookonce_handler_paused", "1 while a handler is paused."),
                    &["handler"],
                ),
            ),
            keys_now: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new("hookonce_keys", "Keys in the store now, by state."),
                    &["api", "state"],
                ),
            ),
            registry,
        }
    }
}

/// The upper ends of the intervals in which answers are counted; what took longer is counted beyond.
pub const ACK_SECONDS: [f64; 11] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];

/// What was counted since the process began, as the dashboard draws it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Requests by their source and the word they were answered with.
    pub requests: BTreeMap<(String, String), u64>,
    /// Attempts by their handler and how they ended.
    pub attempts: BTreeMap<(String, String), u64>,
    /// Answers by the first of [`ACK_SECONDS`] that they were within; the last is beyond all of them.
    pub acks: [u64; ACK_SECONDS.len() + 1],
}

impl Totals {
    /// Requests refused by each source, and not those to no source at all.
    pub fn refused_by_source(&self) -> BTreeMap<String, u64> {
        let refused = |((source, status), count): (&(String, String), &u64)| {
            (status == "refused" && !source.is_empty()).then(|| (source.clone(), *count))
        };
        self.requests.iter().filter_map(refused).collect()
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<C>,
) -> C {
    let metric = metric.expect("names and labels are constants and well formed");
    registry.register(Box::new(metric.clone())).expect("every metric is registered once");
    metric
}

/// What the store says now, for the gauges.
#[derive(Clone, Debug, Default)]
pub struct StoreNow {
    /// Its counters and gauges.
    pub stats: Stats,
    /// Its keys, by their API.
    pub keys: BTreeMap<String, KeyCounts>,
    /// For how long the delivery of each handler waits that is due longest. Not there: none waits.
    pub waiting: BTreeMap<String, Duration>,
}

impl Metrics {
    /// A webhook request was answered, with a yes or a 503: its status word, and how long after its
    /// last byte.
    pub fn answered(&self, source: &str, status: &str, took: Duration) {
        self.requests.with_label_values(&[source, status]).inc();
        self.ack_seconds.with_label_values(&[source]).observe(took.as_secs_f64());
    }

    /// A webhook request was refused. The source is empty where there is none of that name.
    pub fn refused(&self, source: &str, code: &str) {
        self.requests.with_label_values(&[source, "refused"]).inc();
        self.refusals.with_label_values(&[source, code]).inc();
    }

    /// A refused request was `kept`, `left_out` of the sample, or `failed` to be written down.
    pub fn refusal_noted(&self, source: &str, outcome: &str) {
        self.refusals_noted.with_label_values(&[source, outcome]).inc();
    }

    /// This source is in shadow mode: its counter is there from the beginning, so that the mode is
    /// seen before anything is let in.
    pub fn in_shadow_mode(&self, source: &str) {
        self.shadow.with_label_values(&[source]).inc_by(0);
    }

    /// A webhook request was let in although it did not verify.
    pub fn let_in_as_shadow(&self, source: &str) {
        self.shadow.with_label_values(&[source]).inc();
    }

    /// An attempt ended.
    pub fn attempted(&self, handler: &str, outcome: &str, took: Duration) {
        self.deliveries_total.with_label_values(&[handler, outcome]).inc();
        self.attempt_seconds.with_label_values(&[handler]).observe(took.as_secs_f64());
    }

    /// Measures a call of the store until it is over, or given up.
    pub async fn store_call<T>(&self, verb: &str, call: impl Future<Output = T>) -> T {
        let _until_dropped = self.store_seconds.with_label_values(&[verb]).start_timer();
        call.await
    }

    /// A request to an API was looked at: how its key stood.
    pub fn key_begun(&self, api: &str, outcome: &str) {
        self.keys.with_label_values(&[api, outcome]).inc();
    }

    /// This API may send requests on unprotected: its counter is there from the beginning, so that the
    /// first of them is seen.
    pub fn may_fail_open(&self, api: &str) {
        self.keys.with_label_values(&[api, "failed_open"]).inc_by(0);
    }

    /// A call under a key ended: what its key is now.
    pub fn key_ended(&self, api: &str, outcome: &str) {
        self.key_calls.with_label_values(&[api, outcome]).inc();
    }

    /// What was counted until now.
    pub fn totals(&self) -> Totals {
        let mut acks = [0; ACK_SECONDS.len() + 1];
        for metric in
            self.ack_seconds.collect().iter().flat_map(prometheus::proto::MetricFamily::get_metric)
        {
            let histogram = metric.get_histogram();
            let below =
                histogram.get_bucket().iter().map(prometheus::proto::Bucket::cumulative_count);
            let mut counted = 0;
            for (slot, below) in acks.iter_mut().zip(below.chain([histogram.get_sample_count()])) {
                *slot += below.saturating_sub(counted);
                counted = below;
            }
        }
        let (requests, attempts) = (&self.requests, &self.deliveries_total);
        Totals {
            requests: counted(requests, "source", "status"),
            attempts: counted(attempts, "handler", "outcome"),
            acks,
        }
    }

    /// The configuration was loaded again: whether it was put in place.
    pub fn reloaded(&self, is_in_place: bool) {
        let outcome = if is_in_place { "applied" } else { "refused" };
        self.reloads.with_label_values(&[outcome]).inc();
    }

    /// A notice was `sent`, has `failed` to reach anybody, or was `left_out` since too many waited.
    pub fn noticed(&self, kind: &str, outcome: &str) {
        self.notices.with_label_values(&[kind, outcome]).inc();
    }

    /// These handlers are paused now, and no others.
    pub fn handlers_paused(&self, controls: &Controls) {
        self.handler_paused.reset();
        for (handler, _) in controls.iter().filter(|(_, control)| control.paused) {
            self.handler_paused.with_label_values(&[handler]).set(1);
        }
    }

    /// Everything in Prometheus' text form, with the gauges as the store says now. `None`: it could
    /// not be asked; its gauges are left out rather than told wrong.
    pub fn text(&self, now: Option<&StoreNow>, store: &dyn Store) -> String {
        // The store counts these by itself.
        self.store_steps_back.reset();
        self.store_steps_back.inc_by(store.steps_back());
        if let Some(cache) = store.cache() {
            self.cache.reset();
            for (outcome, count) in cache.by_outcome() {
                self.cache.with_label_values(&[outcome]).inc_by(count);
            }
        }
        self.deliveries.reset();
        self.oldest_due_seconds.reset();
        self.keys_now.reset();
        self.store_up.set(i64::from(now.is_some()));
        if let Some(now) = now {
            self.set_gauges(now);
        }
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("writing to memory does not fail");
        String::from_utf8(text).unwrap_or_default()
    }

    fn set_gauges(&self, now: &StoreNow) {
        self.events_held.set(gauge(now.stats.total.held_now));
        for (handler, counts) in &now.stats.handlers {
            let mut counts = *counts;
            for state in [State::Queued, State::Leased, State::Dead] {
                let now = gauge(*counts.gauge(state));
                self.deliveries.with_label_values(&[handler, state.name()]).set(now);
            }
            let waiting = now.waiting.get(handler).copied().unwrap_or_default();
            self.oldest_due_seconds.with_label_values(&[handler]).set(waiting.as_secs_f64());
        }
        for (api, counts) in &now.keys {
            for (state, count) in
                [(KeyState::InProgress, counts.in_progress), (KeyState::Unknown, counts.unknown)]
            {
                self.keys_now.with_label_values(&[api, state.name()]).set(gauge(count));
            }
        }
    }
}

/// The counts of a metric with these two labels.
fn counted(metric: &IntCounterVec, first: &str, second: &str) -> BTreeMap<(String, String), u64> {
    let label = |metric: &Metric, name: &str| {
        let labels = metric.get_label().iter();
        labels.filter(|label| label.name() == name).map(|label| label.value().to_owned()).collect()
    };
    let families = metric.collect();
    let metrics = families.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
    metrics
        .map(|metric| {
            // The counters are whole numbers that prometheus hands out as floating ones.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "see above"
            )]
            let count = metric.get_counter().get_value() as u64;
            ((label(metric, first), label(metric, second)), count)
        })
        .collect()
}

fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::SystemClock, store::memory::MemoryStore};

    #[test]
    fn totals_tell_what_was_counted() {
        let metrics = Metrics::default();
        metrics.answered("stripe", "accepted", Duration::from_millis(2));
        metrics.answered("github", "accepted", Duration::from_millis(2));
        metrics.answered("stripe", "duplicate", Duration::from_secs(2));
        metrics.attempted("billing", "failed", Duration::from_millis(2));
        let totals = metrics.totals();
        let pair = |first: &str, second: &str| (first.to_owned(), second.to_owned());
        assert_eq!(totals.requests[&pair("stripe", "duplicate")], 1);
        assert_eq!(totals.attempts[&pair("billing", "failed")], 1);
        assert_eq!(totals.acks, [0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[tokio::test]
    async fn the_fixed_names_are_there() {
        let metrics = Metrics::default();
        metrics.answered("stripe", "accepted", Duration::from_millis(2));
        metrics.attempted("billing", "done", Duration::from_millis(2));
        metrics.key_begun("payments", "begun");
        metrics.key_ended("payments", "completed");
        let mut now = StoreNow::default();
        now.stats.handlers.entry("billing".to_owned()).or_default().queued = 3;
        now.waiting.insert("billing".to_owned(), Duration::from_millis(2500));
        now.keys.insert("payments".to_owned(), KeyCounts { in_progress: 0, unknown: 2 });
        let store = MemoryStore::new(SystemClock::start());
        metrics.store_call("admit", async {}).await;
        let text = metrics.text(Some(&now), &store);
        for line in [
            "hookonce_requests_total{source=\"stripe\",status=\"accepted\"} 1",
            "hookonce_deliveries_total{handler=\"billing\",outcome=\"done\"} 1",
            "hookonce_deliveries{handler=\"billing\",state=\"queued\"} 3",
            "hookonce_ack_seconds_count{source=\"stripe\"} 1",
            "hookonce_attempt_seconds_count{handler=\"billing\"} 1",
            "hookonce_keys_total{api=\"payments\",outcome=\"begun\"} 1",
            "hookonce_key_calls_total{api=\"payments\",outcome=\"completed\"} 1",
            "hookonce_keys{api=\"payments\",state=\"unknown\"} 2",
            "hookonce_oldest_due_seconds{handler=\"billing\"} 2.5",
            "hookonce_store_seconds_count{verb=\"admit\"} 1",
            "hookonce_store_steps_back_total 0",
            concat!("hookonce_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }
}
