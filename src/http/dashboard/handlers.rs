//! The handlers: how each runs now, pausing one and going on, and how much it may do.

use actix_web::{HttpResponse, http::StatusCode, web};
use askama::Template;
use serde::Deserialize;

use super::{
    Asked, Frame,
    event::led_back,
    form::{Button, Posted, filled},
    not_told, page as made,
};
use crate::{
    admin::{AdminError, HandlerView},
    control::Limits,
    http::guard::Caller,
    rate::Rate,
};

#[derive(Template)]
#[template(path = "handlers.html")]
struct HandlersPage {
    frame: Frame,
    handlers: Vec<HandlerView>,
}

impl HandlersPage {
    fn is_limited_by_hand(&self, handler: &HandlerView) -> bool {
        handler.limits != Limits::default()
    }
}

pub(super) async fn page(admin: Asked, caller: Caller) -> HttpResponse {
    let frame = Frame::new(&admin, caller, "/handlers");
    match admin.handlers().await {
        Ok(list) => made(StatusCode::OK, &HandlersPage { frame, handlers: list.handlers }),
        Err(error) => not_told(frame, &error),
    }
}

pub(super) async fn pause(
    admin: Asked,
    caller: Caller,
    name: web::Path<String>,
    _asked: Posted<Button>,
) -> HttpResponse {
    led_back(&admin, caller, admin.pause(&name).await, "/handlers")
}

pub(super) async fn resume(
    admin: Asked,
    caller: Caller,
    name: web::Path<String>,
    _asked: Posted<Button>,
) -> HttpResponse {
    led_back(&admin, caller, admin.resume(&name).await, "/handlers")
}

/// What the form for limits asks for. A field that is left empty: as configured.
#[derive(Debug, Deserialize)]
pub(super) struct LimitsAsk {
    concurrency: Option<String>,
    rate: Option<String>,
}

pub(super) async fn limit(
    admin: Asked,
    caller: Caller,
    name: web::Path<String>,
    ask: Posted<LimitsAsk>,
) -> HttpResponse {
    let done = match limits(&ask.0) {
        Ok(limits) => admin.limit(&name, limits).await,
        Err(error) => Err(error),
    };
    led_back(&admin, caller, done, "/handlers")
}

fn limits(ask: &LimitsAsk) -> Result<Limits, AdminError> {
    let concurrency = filled(ask.concurrency.as_ref()).map(str::parse).transpose();
    let rate = filled(ask.rate.as_ref()).map(str::parse::<Rate>).transpose();
    let not_a_number = || AdminError::Invalid("`concurrency` is no whole number".to_owned());
    Ok(Limits {
        concurrency: concurrency.map_err(|_| not_a_number())?,
        rate: rate.map_err(|error| AdminError::Invalid(format!("`rate` {error}")))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_left_empty_is_as_configured() {
        let ask = |concurrency: &str, rate: &str| {
            let (concurrency, rate) = (Some(concurrency.to_owned()), Some(rate.to_owned()));
            limits(&LimitsAsk { concurrency, rate })
        };
        assert_eq!(ask("", " "), Ok(Limits::default()));
        let both = Limits { concurrency: Some(4), rate: "50/s".parse().ok() };
        assert_eq!(ask("4", "50/s"), Ok(both));
        assert!(ask("-4", "").is_err() && ask("", "fast").is_err());
    }
}
