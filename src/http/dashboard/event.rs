//! One event: what came, what was known about it, where it went; and the buttons.

use actix_web::{HttpResponse, http::StatusCode, web};
use askama::Template;
use serde::Deserialize;

use super::{
    Asked, Frame,
    body::{Shown, shown},
    form::{Button, Named, Posted, filled},
    not_told, page as made, see, span,
};
use crate::{
    admin::{Admin, AdminError, DeliveryView, EraseRequest, EventView, ReplayRequest, Selection},
    clock::Timestamp,
    delivery::{DeliveryId, State},
    event::{EventId, EventState},
    http::guard::Caller,
};

#[derive(Template)]
#[template(path = "event.html")]
struct EventPage {
    frame: Frame,
    event: EventView,
    body: Shown,
    /// The handlers it may be replayed to.
    handlers: Vec<String>,
    /// What a button has just done.
    done: Option<&'static str>,
}

impl EventPage {
    fn is_held(&self) -> bool {
        self.event.row.state == EventState::Held
    }

    fn is_dead(&self, shown: &DeliveryView) -> bool {
        shown.delivery.state == State::Dead
    }

    fn is_open(&self, shown: &DeliveryView) -> bool {
        matches!(shown.delivery.state, State::Queued | State::Leased)
    }

    fn took(&self, took_ms: &Option<u64>) -> String {
        took_ms.map(|took| format!("{took} ms")).unwrap_or_default()
    }

    /// How long after the first request another one came.
    fn after(&self, at: &Timestamp) -> String {
        span(at.since(self.event.row.received_at))
    }

    /// For how long its mark lives, from when it was received.
    fn window(&self) -> Option<String> {
        let until = self.event.mark_until?;
        Some(span(until.since(self.event.row.received_at)))
    }
}

/// What a button of this page has done, as a word in its address.
#[derive(Debug, Deserialize)]
pub(super) struct Done {
    done: Option<String>,
}

impl Done {
    fn text(&self) -> Option<&'static str> {
        match self.done.as_deref()? {
            "replayed" => Some("It is being delivered again, under a new key."),
            "redriven" => Some("It is queued again, under its old key and with a fresh budget."),
            "erased" => Some("It is erased. Its ids and its mark stay."),
            "unblocked" => Some("Those behind it in line go on. Redriven, it goes last."),
            "admitted" => Some("It is admitted, and on its way to its handlers."),
            _ => None,
        }
    }
}

pub(super) async fn page(
    admin: Asked,
    caller: Caller,
    Named(id): Named<EventId>,
    done: web::Query<Done>,
) -> HttpResponse {
    let frame = Frame::new(&admin, caller, "/events");
    match admin.event(id).await {
        Ok(event) => {
            let body = shown(&event);
            let handlers = admin.app.setup().handlers.keys().map(ToString::to_string).collect();
            made(StatusCode::OK, &EventPage { frame, event, body, handlers, done: done.text() })
        }
        Err(error) => not_told(frame, &error),
    }
}

/// What the form for a replay asks for.
#[derive(Debug, Deserialize)]
pub(super) struct Replay {
    handler: Option<String>,
    reason: Option<String>,
}

pub(super) async fn replay(
    admin: Asked,
    caller: Caller,
    Named(id): Named<EventId>,
    ask: Posted<Replay>,
) -> HttpResponse {
    let owned = |field: &Option<String>| filled(field.as_ref()).map(str::to_owned);
    let ask = ReplayRequest { handler: owned(&ask.0.handler), reason: owned(&ask.0.reason) };
    let done = admin.replay(id, ask).await;
    led_back(&admin, caller, done, &format!("/events/{id}?done=replayed"))
}

pub(super) async fn admit(
    admin: Asked,
    caller: Caller,
    Named(id): Named<EventId>,
    _asked: Posted<Button>,
) -> HttpResponse {
    let done = admin.admit(id).await;
    led_back(&admin, caller, done, &format!("/events/{id}?done=admitted"))
}

/// What the form for erasing asks for.
#[derive(Debug, Deserialize)]
pub(super) struct Erase {
    reason: Option<String>,
}

pub(super) async fn erase(
    admin: Asked,
    caller: Caller,
    Named(id): Named<EventId>,
    ask: Posted<Erase>,
) -> HttpResponse {
    let ask = EraseRequest { reason: ask.0.reason.unwrap_or_default() };
    let done = admin.erase(id, ask).await;
    led_back(&admin, caller, done, &format!("/events/{id}?done=erased"))
}

/// Where to go back to after a redrive: the page of this event, or the list of dead letters.
#[derive(Debug, Deserialize)]
pub(super) struct Redrive {
    event: Option<EventId>,
}

pub(super) async fn redrive(
    admin: Asked,
    caller: Caller,
    Named(id): Named<DeliveryId>,
    ask: Posted<Redrive>,
) -> HttpResponse {
    let done = admin.redrive(Selection { ids: vec![id], handler: None }).await;
    let back = match ask.0.event {
        Some(event) => format!("/events/{event}?done=redriven"),
        None => "/dead".to_owned(),
    };
    led_back(&admin, caller, done, &back)
}

pub(super) async fn unblock(
    admin: Asked,
    caller: Caller,
    Named(id): Named<DeliveryId>,
    ask: Posted<Unblock>,
) -> HttpResponse {
    let done = admin.unblock_one(id).await;
    led_back(&admin, caller, done, &format!("/events/{}?done=unblocked", ask.0.event))
}

/// The page of the event to go back to.
#[derive(Debug, Deserialize)]
pub(super) struct Unblock {
    event: EventId,
}

/// The page to see next: the one to go back to, or what went wrong.
pub(super) fn led_back<T>(
    admin: &Admin,
    caller: Caller,
    done: Result<T, AdminError>,
    back: &str,
) -> HttpResponse {
    match done {
        Ok(_) => see(back),
        Err(error) => not_told(Frame::new(admin, caller, "/events"), &error),
    }
}
