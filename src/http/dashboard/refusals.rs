//! Refused requests, what the doctor says about each, and admitting one after all.

use actix_web::{HttpResponse, http::StatusCode, web};
use askama::Template;
use serde::Deserialize;

use super::{
    Asked, Frame,
    form::{Button, Named, Posted, filled},
    not_told, page as made, see,
};
use crate::{
    admin::{ReadmittedStatus, RefusalPage, RefusalQuery, RefusalRecord, RefusalView},
    http::guard::Caller,
    refusal::RefusalId,
};

#[derive(Template)]
#[template(path = "refusals.html")]
struct RefusalsPage {
    frame: Frame,
    source: Option<String>,
    sources: Vec<String>,
    refusals: Vec<RefusalView>,
    older: Option<RefusalId>,
}

impl RefusalsPage {
    fn is(&self, name: &str) -> bool {
        self.source.as_deref() == Some(name)
    }

    fn source(&self) -> &str {
        self.source.as_deref().unwrap_or_default()
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Filter {
    source: Option<String>,
    before: Option<String>,
}

pub(super) async fn page(admin: Asked, caller: Caller, filter: web::Query<Filter>) -> HttpResponse {
    let frame = Frame::new(&admin, caller, "/refusals");
    let source = filled(filter.source.as_ref()).map(str::to_owned);
    let before = filter.before.as_deref().and_then(|before| before.parse().ok());
    let query = RefusalQuery { source: source.clone(), before, ..RefusalQuery::default() };
    match admin.refusals(query).await {
        Ok(RefusalPage { refusals, next: older }) => {
            let sources = admin.app.setup().sources.keys().map(ToString::to_string).collect();
            made(StatusCode::OK, &RefusalsPage { frame, source, sources, refusals, older })
        }
        Err(error) => not_told(frame, &error),
    }
}

#[derive(Template)]
#[template(path = "refusal.html")]
struct OneRefusalPage {
    frame: Frame,
    refusal: RefusalRecord,
    /// Why it was refused again, if it just was.
    again: Option<String>,
}

pub(super) async fn one(admin: Asked, caller: Caller, Named(id): Named<RefusalId>) -> HttpResponse {
    shown(admin, caller, id, StatusCode::OK, None).await
}

async fn shown(
    admin: Asked,
    caller: Caller,
    id: RefusalId,
    status: StatusCode,
    again: Option<String>,
) -> HttpResponse {
    let frame = Frame::new(&admin, caller, "/refusals");
    match admin.refusal(id).await {
        Ok(refusal) => made(status, &OneRefusalPage { frame, refusal, again }),
        Err(error) => not_told(frame, &error),
    }
}

pub(super) async fn readmit(
    admin: Asked,
    caller: Caller,
    Named(id): Named<RefusalId>,
    _asked: Posted<Button>,
) -> HttpResponse {
    match admin.readmit(id).await {
        Ok(readmitted) if readmitted.status == ReadmittedStatus::Refused => {
            let again = readmitted.problem.unwrap_or_else(|| "it does not hold".to_owned());
            shown(admin, caller, id, StatusCode::CONFLICT, Some(again)).await
        }
        Ok(_) => see(&format!("/refusals/{id}")),
        Err(error) => not_told(Frame::new(&admin, caller, "/refusals"), &error),
    }
}
