//! The dead letters: why each died, and queueing them again, one or all.

use actix_web::{HttpResponse, http::StatusCode, web};
use askama::Template;
use serde::Deserialize;
use url::form_urlencoded;
use uuid::Uuid;

use super::{
    Asked, Frame,
    event::led_back,
    form::{Posted, filled, new_wish},
    not_told, page as made,
};
use crate::{
    admin::{DeliveryQuery, RedriveProgress, RedriveState, SlowRedrive},
    delivery::{Delivery, State},
    http::guard::Caller,
};

#[derive(Template)]
#[template(path = "dead.html")]
struct DeadPage {
    frame: Frame,
    /// The handler whose dead letters are shown. None: of all.
    handler: Option<String>,
    /// The handlers that have any, and how many.
    handlers: Vec<(String, u64)>,
    deliveries: Vec<Delivery>,
    older: Option<String>,
    redrives: Vec<RedriveProgress>,
}

impl DeadPage {
    fn wish(&self) -> Uuid {
        new_wish()
    }

    fn is(&self, name: &str) -> bool {
        self.handler.as_deref() == Some(name)
    }

    fn is_running(&self, progress: &RedriveProgress) -> bool {
        progress.state == RedriveState::Running
    }

    fn any_is_running(&self) -> bool {
        self.redrives.iter().any(|progress| self.is_running(progress))
    }

    fn outcome(&self, progress: &RedriveProgress) -> &'static str {
        match progress.state {
            RedriveState::Running => "running",
            RedriveState::Done => "all are queued again",
            RedriveState::Stopped => "stopped",
            RedriveState::Failed => "failed: what is left is still dead",
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Filter {
    handler: Option<String>,
    before: Option<String>,
}

pub(super) async fn page(admin: Asked, caller: Caller, filter: web::Query<Filter>) -> HttpResponse {
    let frame = Frame::new(&admin, caller, "/dead");
    let handler = filled(filter.handler.as_ref()).map(str::to_owned);
    let query = DeliveryQuery {
        handler: handler.clone(),
        state: Some(State::Dead),
        before: filter.before.as_deref().and_then(|before| before.parse().ok()),
        limit: None,
    };
    let (found, stats) = match (admin.deliveries(query).await, admin.stats().await) {
        (Ok(found), Ok(stats)) => (found, stats),
        (Err(error), _) | (_, Err(error)) => return not_told(frame, &error),
    };
    let older = found.next.map(|next| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(handler.iter().map(|handler| ("handler", handler)));
        query.append_pair("before", &next.to_string());
        format!("/dead?{}", query.finish())
    });
    let dead = stats.handlers.into_iter().map(|(name, counts)| (name, counts.dead_now));
    let handlers = dead.filter(|(_, dead)| *dead > 0).collect();
    let (deliveries, redrives) = (found.deliveries, admin.redrives());
    let template = DeadPage { frame, handler, handlers, deliveries, older, redrives };
    made(StatusCode::OK, &template)
}

pub(super) async fn begin(admin: Asked, caller: Caller, ask: Posted<SlowAsk>) -> HttpResponse {
    let SlowAsk { handler, per_second } = ask.0;
    let begun = admin.clone().into_inner();
    let begun = begun.begin_redrive(SlowRedrive { handler, per_second }).await;
    led_back(&admin, caller, begun, "/dead")
}

/// What the form for a redrive at a rate asks for.
#[derive(Debug, Deserialize)]
pub(super) struct SlowAsk {
    handler: String,
    per_second: u32,
}

/// Which redrive to stop.
#[derive(Debug, Deserialize)]
pub(super) struct Stop {
    handler: String,
}

pub(super) async fn stop(admin: Asked, caller: Caller, ask: Posted<Stop>) -> HttpResponse {
    led_back(&admin, caller, admin.stop_redrive(&ask.0.handler), "/dead")
}
