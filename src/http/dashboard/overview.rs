//! The first page: how everything stands, and how it went.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix_web::{HttpResponse, http::StatusCode, web};
use askama::Template;
use serde::Deserialize;

use super::{
    Asked, Frame, not_told, page as made,
    plot::{self, Kind, Plot, Stretch},
};
use crate::{
    admin::{Admin, Overview, Readiness},
    clock::Timestamp,
    http::guard::Caller,
    source::Source,
    store::{Counts, Stats},
    telemetry::{history::Point, metrics::Totals},
};

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    frame: Frame,
    readiness: Readiness,
    kept: Option<Kept>,
    refused: u64,
    p50: String,
    p99: String,
    plots: Vec<Plot>,
    is_day: bool,
}

/// What the store knows. Where it does not answer there is none of it: zeros would say that all is well.
struct Kept {
    counts: Counts,
    sources: Vec<SourceRow>,
    handlers: Vec<HandlerRow>,
}

struct SourceRow {
    name: String,
    provider: &'static str,
    is_in_shadow_mode: bool,
    counts: Counts,
    refused: u64,
}

struct HandlerRow {
    name: String,
    is_configured: bool,
    is_paused: bool,
    counts: Counts,
    failed: u64,
    waiting_since: Option<Timestamp>,
}

/// Which stretch of time the plots show.
#[derive(Debug, Deserialize)]
pub(super) struct Asking {
    span: Option<String>,
}

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

pub(super) async fn page(admin: Asked, caller: Caller, asking: web::Query<Asking>) -> HttpResponse {
    let frame = Frame::new(&admin, caller, "/");
    let overview = match admin.overview().await {
        Ok(overview) => overview,
        Err(error) => return not_told(frame, &error),
    };
    let is_day = asking.span.as_deref() == Some("day");
    let (whole, parts) = if is_day { (DAY, 96) } else { (HOUR, 60) };
    let stretch = Stretch::before(overview.now, whole, parts, &overview.points);
    let hour = of_last_hour(&overview);
    let quantile = |share| {
        let time: Option<Duration> = hour.ack_quantile(share);
        time.map_or_else(|| "–".to_owned(), |time| plot::milliseconds(time.as_secs_f64()))
    };
    let kept = overview.stats.as_ref().map(|stats| Kept {
        counts: stats.total,
        sources: source_rows(&admin, stats, &overview.totals),
        handlers: handler_rows(&admin, stats, &overview.totals, &overview.waiting_since),
    });
    let template = OverviewPage {
        frame,
        readiness: overview.readiness,
        kept,
        refused: counted(&overview.totals, None, "refused"),
        p50: quantile(0.5),
        p99: quantile(0.99),
        plots: plots(&stretch),
        is_day,
    };
    made(StatusCode::OK, &template)
}

fn of_last_hour(overview: &Overview) -> Point {
    let from = overview.now.minus(HOUR);
    let mut sum = Point::default();
    for point in overview.points.iter().filter(|point| point.ended_at > from) {
        sum.add(point);
    }
    sum
}

fn plots(stretch: &Stretch) -> Vec<Plot> {
    let requests = [
        Kind { class: "good", name: "accepted", of: |point| Some(amount(point.accepted)) },
        Kind { class: "calm", name: "duplicates", of: |point| Some(amount(point.duplicates)) },
        Kind { class: "warn", name: "refused", of: |point| Some(amount(point.refused)) },
        Kind { class: "bad", name: "unavailable", of: |point| Some(amount(point.unavailable)) },
    ];
    let attempts = [
        Kind { class: "good", name: "done", of: |point| Some(amount(point.done)) },
        Kind { class: "bad", name: "failed", of: |point| Some(amount(point.failed)) },
    ];
    let waiting = [Kind { class: "calm", name: "waiting", of: |point| point.waiting.map(amount) }];
    let acks = [
        Kind { class: "calm", name: "p50", of: |point| seconds(point.ack_quantile(0.5)) },
        Kind { class: "warn", name: "p99", of: |point| seconds(point.ack_quantile(0.99)) },
    ];
    vec![
        stretch.bars("Requests", &requests),
        stretch.bars("Attempts", &attempts),
        stretch.lines("Queue", &waiting, plot::count),
        stretch.lines("Time to answer", &acks, plot::milliseconds),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "a plot has no room for so many digits")]
fn amount(count: u64) -> f64 {
    count as f64
}

fn seconds(time: Option<Duration>) -> Option<f64> {
    time.map(|time| time.as_secs_f64())
}

fn source_rows(admin: &Admin, stats: &Stats, totals: &Totals) -> Vec<SourceRow> {
    let row = |(name, source): (&Arc<str>, &Arc<Source>)| SourceRow {
        name: name.to_string(),
        provider: source.provider.name(),
        is_in_shadow_mode: source.is_in_shadow_mode(),
        counts: stats.sources.get(&**name).copied().unwrap_or_default(),
        refused: counted(totals, Some(name), "refused"),
    };
    let setup = admin.app.setup();
    let mut rows: Vec<SourceRow> = setup.sources.iter().map(row).collect();
    // With a source for every provider, those that nobody uses would bury the others.
    let is_used = |row: &SourceRow| row.counts != Counts::default() || row.refused > 0;
    if rows.len() > SOURCES_SHOWN_UNUSED {
        rows.retain(is_used);
    }
    rows
}

/// How many sources are shown although nothing has come.
const SOURCES_SHOWN_UNUSED: usize = 20;

fn handler_rows(
    admin: &Admin,
    stats: &Stats,
    totals: &Totals,
    waiting_since: &BTreeMap<String, Timestamp>,
) -> Vec<HandlerRow> {
    let setup = admin.app.setup();
    let known = setup.handlers.keys().map(ToString::to_string);
    let mut names: Vec<String> = known.chain(stats.handlers.keys().cloned()).collect();
    names.sort();
    names.dedup();
    let row = |name: String| HandlerRow {
        waiting_since: waiting_since.get(&name).copied(),
        is_configured: setup.handlers.contains_key(name.as_str()),
        is_paused: setup.control(&name).paused,
        counts: stats.handlers.get(&name).copied().unwrap_or_default(),
        failed: ["failed", "rejected", "died"]
            .iter()
            .map(|outcome| totals.attempts.get(&(name.clone(), (*outcome).to_owned())))
            .map(|count| count.copied().unwrap_or(0))
            .sum(),
        name,
    };
    names.into_iter().map(row).collect()
}

/// How often requests were answered so: of one source, or of all.
fn counted(totals: &Totals, source: Option<&str>, status: &str) -> u64 {
    let fits = |((of, was), _): &(&(String, String), &u64)| {
        was == status && source.is_none_or(|source| of == source)
    };
    totals.requests.iter().filter(fits).map(|(_, count)| count).sum()
}
