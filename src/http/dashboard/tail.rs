//! The live page. What happens comes from `/api/v1/tail`; without JavaScript it is the newest events.

use actix_web::{HttpResponse, http::StatusCode};
use askama::Template;

use super::{Asked, Frame, not_told, page as made};
use crate::{admin::EventQuery, http::guard::Caller, store::EventRow};

#[derive(Template)]
#[template(path = "tail.html")]
struct TailPage {
    frame: Frame,
    events: Vec<EventRow>,
}

/// How many events are there when it opens.
const EVENTS_SHOWN: usize = 20;

pub(super) async fn page(admin: Asked, caller: Caller) -> HttpResponse {
    let frame = Frame::new(&admin, caller, "/tail");
    let query = EventQuery { limit: Some(EVENTS_SHOWN), ..EventQuery::default() };
    match admin.events(query).await {
        Ok(found) => made(StatusCode::OK, &TailPage { frame, events: found.events }),
        Err(error) => not_told(frame, &error),
    }
}
