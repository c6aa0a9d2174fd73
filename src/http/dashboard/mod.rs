//! The dashboard: pages for people. They are made here, whole, and work without JavaScript; the one
//! script only saves clicks. What a sender wrote is shown as text, never as anything else: the templates
//! escape it, and the headers below forbid whatever would slip through.

mod body;
mod dead;
mod event;
mod events;
mod form;
mod handlers;
mod keys;
mod login;
mod overview;
mod plot;
mod refusals;
mod tail;

use std::time::Duration;

use actix_web::{
    HttpResponse,
    http::{StatusCode, Uri, header},
    middleware::DefaultHeaders,
    web,
};
use askama::Template;

use super::guard::{Caller, Role};
use crate::{
    admin::{Admin, AdminError},
    clock::Timestamp,
};

/// The pages, and what their forms ask for.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/", web::get().to(overview::page))
        .route("/events", web::get().to(events::page))
        .route("/events/{id}", web::get().to(event::page))
        .route("/events/{id}/replay", web::post().to(event::replay))
        .route("/events/{id}/erase", web::post().to(event::erase))
        .route("/events/{id}/admit", web::post().to(event::admit))
        .route("/deliveries/{id}/redrive", web::post().to(event::redrive))
        .route("/deliveries/{id}/unblock", web::post().to(event::unblock))
        .route("/dead", web::get().to(dead::page))
        .route("/dead/redrive", web::post().to(dead::begin))
        .route("/dead/stop", web::post().to(dead::stop))
        .route("/handlers", web::get().to(handlers::page))
        .route("/handlers/{name}/pause", web::post().to(handlers::pause))
        .route("/handlers/{name}/resume", web::post().to(handlers::resume))
        .route("/handlers/{name}/limits", web::post().to(handlers::limit))
        .route("/refusals", web::get().to(refusals::page))
        .route("/refusals/{id}", web::get().to(refusals::one))
        .route("/refusals/{id}/readmit", web::post().to(refusals::readmit))
        .route("/keys", web::get().to(keys::page))
        .route("/keys/{id}/resolve", web::post().to(keys::resolve))
        .route("/tail", web::get().to(tail::page))
        .route("/login", web::get().to(login::page))
        .route("/login", web::post().to(login::log_in))
        .route("/logout", web::post().to(login::log_out))
        .route("/assets/{name}", web::get().to(asset));
}

/// The pages in the navigation.
const PAGES: [(&str, &str); 7] = [
    ("/", "Overview"),
    ("/events", "Events"),
    ("/dead", "Dead letters"),
    ("/handlers", "Handlers"),
    ("/refusals", "Refusals"),
    ("/keys", "Keys"),
    ("/tail", "Live"),
];

/// What a browser is told about every answer of the admin listener: nothing in it runs but our own
/// script, nothing is sent elsewhere, nobody frames it, and a site that opens it keeps no hold of its window.
///
/// The referrer stays `same-origin`: with none at all a browser says `Origin: null` in our own forms.
pub(super) fn headers() -> DefaultHeaders {
    DefaultHeaders::new()
        .add((header::CONTENT_SECURITY_POLICY, POLICY))
        .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .add((header::X_FRAME_OPTIONS, "DENY"))
        .add((header::REFERRER_POLICY, "same-origin"))
        .add(("cross-origin-resource-policy", "same-origin"))
        .add(("cross-origin-opener-policy", "same-origin"))
}

const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; \
    connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

type Asked = web::Data<Admin>;

/// What stands around the content of every page.
struct Frame {
    /// The path of the page in the navigation.
    here: &'static str,
    /// Who reads it. `None`: nobody in particular, so there is no navigation.
    caller: Option<Caller>,
    now: Timestamp,
}

impl Frame {
    fn new(admin: &Admin, caller: Caller, here: &'static str) -> Self {
        Self { here, caller: Some(caller), now: admin.app.clock.now() }
    }

    /// A page for nobody in particular.
    fn bare() -> Self {
        Self { here: "", caller: None, now: Timestamp::default() }
    }

    fn pages(&self) -> &'static [(&'static str, &'static str)] {
        if self.caller.is_some() { &PAGES } else { &[] }
    }

    fn is_here(&self, path: &str) -> bool {
        self.here == path
    }

    fn can_write(&self) -> bool {
        self.caller.as_ref().is_some_and(|caller| caller.role == Role::Operator)
    }

    fn has_session(&self) -> bool {
        self.caller.as_ref().is_some_and(|caller| caller.has_session)
    }

    fn form_key(&self) -> &str {
        self.caller.as_ref().map_or("", |caller| &caller.form_key)
    }

    /// How long ago something was, in the largest unit that fits; how far ahead, for what is to come.
    fn ago(&self, at: &Timestamp) -> String {
        match (self.now.since(*at), at.since(self.now)) {
            (past, Duration::ZERO) if past < Duration::from_secs(1) => "now".to_owned(),
            (past, Duration::ZERO) => format!("{} ago", span(past)),
            (_, ahead) => format!("in {}", span(ahead)),
        }
    }
}

/// A span of time in its largest unit.
fn span(span: Duration) -> String {
    match span.as_secs() {
        0 => format!("{} ms", span.as_millis()),
        seconds @ 1..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds @ 3600..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// A page, made of its template.
fn page<T: Template>(status: StatusCode, template: &T) -> HttpResponse {
    match template.render() {
        Ok(html) => HttpResponse::build(status)
            .content_type("text/html; charset=utf-8")
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .body(html),
        Err(error) => {
            tracing::error!(%error, "a page of the dashboard cannot be made");
            HttpResponse::InternalServerError().finish()
        }
    }
}

/// Leads the browser on to another page of ours.
fn see(path: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((header::LOCATION, path)).finish()
}

/// A page that says what went wrong.
#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    frame: Frame,
    title: &'static str,
    problem: String,
}

/// The page for an error.
fn not_told(frame: Frame, error: &AdminError) -> HttpResponse {
    let (status, title) = match error {
        AdminError::NotFound(_) => (StatusCode::NOT_FOUND, "Not found"),
        AdminError::Conflict(_) => (StatusCode::CONFLICT, "Not as it stands now"),
        AdminError::Invalid(_) | AdminError::NotReloaded(_) => {
            (StatusCode::BAD_REQUEST, "That does not work")
        }
        AdminError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "The store does not answer"),
    };
    page(status, &ProblemPage { frame, title, problem: error.to_string() })
}

/// The page for every path that is none of ours.
pub(super) async fn nothing_here(admin: Asked, caller: Option<Caller>) -> HttpResponse {
    let frame = caller.map_or_else(Frame::bare, |caller| Frame::new(&admin, caller, ""));
    let problem = "there is no such page".to_owned();
    page(StatusCode::NOT_FOUND, &ProblemPage { frame, title: "Not found", problem })
}

/// What somebody gets to see who has to log in first.
pub(super) fn ask_to_log_in(wanted: &Uri) -> HttpResponse {
    let next = wanted.path_and_query().map_or("/", |wanted| wanted.as_str());
    login::form(StatusCode::UNAUTHORIZED, next, None)
}

/// The files that pages refer to: name, type, content.
const ASSETS: [(&str, &str, &str); 3] = [
    ("style.css", "text/css; charset=utf-8", include_str!("pages/style.css")),
    ("script.js", "text/javascript; charset=utf-8", include_str!("pages/script.js")),
    ("icon.svg", "image/svg+xml", include_str!("pages/icon.svg")),
];

/// Whether this path is that of a file which pages refer to: those are no secret.
pub(super) fn is_asset(path: &str) -> bool {
    let name = path.strip_prefix("/assets/");
    name.is_some_and(|wanted| ASSETS.iter().any(|(name, ..)| *name == wanted))
}

async fn asset(wanted: web::Path<String>) -> HttpResponse {
    match ASSETS.iter().find(|(name, ..)| *name == *wanted) {
        Some((_, content_type, content)) => HttpResponse::Ok()
            .content_type(*content_type)
            .insert_header((header::CACHE_CONTROL, "no-cache"))
            .body(*content),
        None => HttpResponse::NotFound().finish(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_told_in_its_largest_unit() {
        let frame = Frame { now: Timestamp::from_seconds(100_000), ..Frame::bare() };
        let ago = |seconds: i64| frame.ago(&Timestamp::from_seconds(100_000 - seconds));
        assert_eq!(ago(0), "now");
        assert_eq!(ago(59), "59 s ago");
        assert_eq!(ago(3599), "59 min ago");
        assert_eq!(ago(7200), "2 h ago");
        assert_eq!(ago(-90), "in 1 min");
    }

    #[test]
    fn only_our_own_files_are_open_to_everybody() {
        assert!(is_asset("/assets/style.css"));
        for path in ["/assets/", "/assets/../events", "/assets/style.css/x", "/events"] {
            assert!(!is_asset(path), "{path}");
        }
    }
}
