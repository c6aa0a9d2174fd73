//! Who may talk to the admin listener.
//!
//! Any web page can make a browser post to 127.0.0.1, and a name that resolves there makes it read the
//! answer too. So the Host must be one this listener goes by, the Origin (if a browser says one) must
//! be the same, and away from loopback a token is required: as a bearer, or by the session of somebody
//! who has logged in with it.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use actix_web::{
    HttpMessage as _, HttpResponse,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, StatusCode, header},
    middleware::Next,
};

use super::{
    answer, dashboard,
    sessions::{Failures, Sessions, random_text},
};
use crate::{app::App, secret::Secret};

/// The rules of one admin listener, and who has logged in to it.
#[derive(Debug)]
pub(super) struct Guard {
    token: Option<Secret>,
    token_readonly: Option<Secret>,
    app: Arc<App>,
    /// What forms carry where nobody logs in: another site cannot read it, so it cannot forge one.
    form_key: OnceLock<Arc<str>>,
    pub(super) sessions: Sessions,
    pub(super) failures: Failures,
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Everything.
    Operator,
    /// Look.
    Reader,
}

/// Who asks, as the guard has found out. It is in the extensions of every request that needs one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// What they may do.
    pub(super) role: Role,
    /// What a form of theirs must carry.
    pub(super) form_key: Arc<str>,
    /// Whether they have logged in, and so can log out.
    pub(super) has_session: bool,
}

/// The name of the session's cookie.
pub(super) const COOKIE: &str = "hookonce_session";

type Objection = (StatusCode, &'static str);

impl Guard {
    /// A guard that asks for the tokens of this app, if it has any.
    pub(super) fn new(app: Arc<App>) -> Self {
        Self {
            token: app.server.admin_token.clone(),
            token_readonly: app.server.admin_token_readonly.clone(),
            app,
            form_key: OnceLock::new(),
            sessions: Sessions::default(),
            failures: Failures::default(),
        }
    }

    /// What the owner of this token may do.
    pub(super) fn role_of(&self, given: &str) -> Option<Role> {
        let is = |token: &Option<Secret>| token.as_ref().is_some_and(|token| token.matches(given));
        match (is(&self.token), is(&self.token_readonly)) {
            (true, _) => Some(Role::Operator),
            (false, true) => Some(Role::Reader),
            (false, false) => None,
        }
    }

    /// Whether somebody has to log in at all.
    pub(super) fn asks_for_a_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether the session with this id is still open.
    pub(super) fn is_open(&self, session: &str) -> bool {
        self.sessions.find(session, self.app.clock.monotonic()).is_some()
    }

    /// Who asks, or the status and the code to refuse the request with. Nobody in particular asks for
    /// what is open to all.
    fn admit(&self, asked: &Asked<'_>) -> Result<Option<Caller>, Objection> {
        let host = asked.host.map(without_port);
        let host = host.ok_or((StatusCode::BAD_REQUEST, "host_missing"))?;
        // A token cannot be guessed by a web page, so with one any name may be used.
        if !is_loopback(host) && !self.asks_for_a_token() {
            return Err((StatusCode::MISDIRECTED_REQUEST, "host_not_allowed"));
        }
        let same_origin = |origin: &str| {
            origin.split_once("://").is_some_and(|(_, from)| Some(from) == asked.host)
        };
        // A link to a page, from a chat say, writes nothing, and its page reads nothing and cannot frame it.
        let is_link = asked.navigates && !asked.writes && !asked.is_api;
        let comes_from_elsewhere = asked.cross_site && !is_link;
        if asked.origin.is_some_and(|origin| !same_origin(origin)) || comes_from_elsewhere {
            return Err((StatusCode::FORBIDDEN, "origin_not_allowed"));
        }
        if asked.is_open {
            return Ok(None);
        }
        let caller = self.caller(asked).ok_or((StatusCode::UNAUTHORIZED, "token_required"))?;
        if caller.role == Role::Reader && asked.writes && !asked.logs_out {
            return Err((StatusCode::FORBIDDEN, "read_only"));
        }
        Ok(Some(caller))
    }

    fn caller(&self, asked: &Asked<'_>) -> Option<Caller> {
        if !self.asks_for_a_token() {
            let form_key = self.form_key.get_or_init(|| Arc::from(random_text()));
            let form_key = Arc::clone(form_key);
            return Some(Caller { role: Role::Operator, form_key, has_session: false });
        }
        if let Some(given) = asked.bearer {
            let role = self.role_of(given)?;
            return Some(Caller { role, form_key: Arc::from(random_text()), has_session: false });
        }
        // The API has no forms, and so no key in them: by a cookie alone it lets itself be read only.
        if asked.is_api && asked.writes {
            return None;
        }
        let session = self.sessions.find(asked.session?, self.app.clock.monotonic())?;
        let (role, form_key) = (session.role, session.form_key);
        Some(Caller { role, form_key, has_session: true })
    }
}

/// What a request says of itself.
struct Asked<'a> {
    host: Option<&'a str>,
    origin: Option<&'a str>,
    cross_site: bool,
    /// Whether a browser opens it as a page of its own, and in no frame.
    navigates: bool,
    bearer: Option<&'a str>,
    session: Option<&'a str>,
    writes: bool,
    is_api: bool,
    is_open: bool,
    logs_out: bool,
}

/// Lets a request through, or answers it.
pub(super) async fn check<B: MessageBody>(
    guard: Arc<Guard>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let text = |name: header::HeaderName| request.headers().get(name)?.to_str().ok();
    // As the router reads it: of `/%61pi/` it makes `/api/`.
    let path = request.match_info().as_str();
    let fetch = |name: &'static str| text(header::HeaderName::from_static(name));
    let asked = Asked {
        host: text(header::HOST).or_else(|| request.uri().host()),
        origin: text(header::ORIGIN),
        cross_site: fetch("sec-fetch-site") == Some("cross-site"),
        navigates: fetch("sec-fetch-mode") == Some("navigate")
            && fetch("sec-fetch-dest") == Some("document"),
        bearer: text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")),
        session: session_of(request.headers()),
        writes: !matches!(*request.method(), Method::GET | Method::HEAD),
        is_api: is_api(path),
        is_open: matches!(path, "/healthz" | "/readyz" | "/login") || dashboard::is_asset(path),
        logs_out: path == "/logout",
    };
    let refused = match guard.admit(&asked) {
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            return Ok(next.call(request).await?.map_into_left_body());
        }
        Err((StatusCode::UNAUTHORIZED, _)) if !asked.writes && !asked.is_api => {
            dashboard::ask_to_log_in(request.uri())
        }
        Err((status, code)) => {
            let mut response = HttpResponse::build(status);
            if status == StatusCode::UNAUTHORIZED {
                response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
            }
            answer::problem(&mut response, status, code)
        }
    };
    Ok(request.into_response(refused.map_into_boxed_body()).map_into_right_body())
}

/// Whether programs ask for this path, not people.
fn is_api(path: &str) -> bool {
    path.starts_with("/api/") || path == "/metrics" || path == "/openapi.json"
}

/// The id of the session that a request is part of.
pub(super) fn session_of(headers: &header::HeaderMap) -> Option<&str> {
    session_in(headers.get(header::COOKIE)?.to_str().ok()?)
}

/// The id of the session in a `Cookie` header.
fn session_in(cookies: &str) -> Option<&str> {
    let mut pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, id)| id)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        app::Server,
        clock::{Clock, ManualClock, Timestamp},
        store::memory::MemoryStore,
    };

    fn guard(token: Option<&str>, token_readonly: Option<&str>) -> Guard {
        let clock: Arc<dyn Clock> = ManualClock::at(Timestamp::default());
        let store = Arc::new(MemoryStore::new(Arc::clone(&clock)));
        let mut app = App::new(Vec::new(), Vec::new(), store, clock);
        app.server = Server {
            admin_token: token.map(Secret::new),
            admin_token_readonly: token_readonly.map(Secret::new),
            ..Server::default()
        };
        Guard::new(Arc::new(app))
    }

    fn asked(host: &str) -> Asked<'_> {
        Asked {
            host: Some(host),
            origin: None,
            cross_site: false,
            navigates: false,
            bearer: None,
            session: None,
            writes: false,
            is_api: true,
            is_open: false,
            logs_out: false,
        }
    }

    fn code(guard: &Guard, asked: &Asked<'_>) -> Option<&'static str> {
        guard.admit(asked).err().map(|(_, code)| code)
    }

    #[test]
    fn loopback_names_need_no_token() {
        let guard = guard(None, None);
        for host in ["localhost:8081", "127.0.0.1:8081", "[::1]:8081", "127.0.0.1"] {
            assert_eq!(code(&guard, &asked(host)), None, "{host}");
        }
    }

    #[test]
    fn a_name_that_only_resolves_to_us_is_refused() {
        let guard = guard(None, None);
        for host in ["evil.example:8081", "127.0.0.1.evil.example", "localhost.evil.example"] {
            assert_eq!(code(&guard, &asked(host)), Some("host_not_allowed"), "{host}");
        }
    }

    #[test]
    fn a_web_page_cannot_post() {
        let guard = guard(None, None);
        let evil = Asked { origin: Some("https://evil.example"), ..asked("127.0.0.1:8081") };
        assert_eq!(code(&guard, &evil), Some("origin_not_allowed"));
        let opaque = Asked { origin: Some("null"), ..asked("127.0.0.1:8081") };
        assert_eq!(code(&guard, &opaque), Some("origin_not_allowed"));
        let cross_site = Asked { cross_site: true, ..asked("127.0.0.1:8081") };
        assert_eq!(code(&guard, &cross_site), Some("origin_not_allowed"));
        let own = Asked { origin: Some("http://127.0.0.1:8081"), ..asked("127.0.0.1:8081") };
        assert_eq!(code(&guard, &own), None);
    }

    #[test]
    fn a_link_on_another_site_opens_a_page_and_does_nothing_else() {
        let guard = guard(None, None);
        let link = || Asked {
            cross_site: true,
            navigates: true,
            is_api: false,
            ..asked("127.0.0.1:8081")
        };
        assert_eq!(code(&guard, &link()), None);
        let refused = [
            Asked { writes: true, ..link() },
            Asked { is_api: true, ..link() },
            Asked { navigates: false, ..link() }, // a fetch, an image or a frame
            Asked { origin: Some("https://evil.example"), ..link() },
        ];
        for asked in refused {
            assert_eq!(code(&guard, &asked), Some("origin_not_allowed"));
        }
    }

    #[test]
    fn with_a_token_it_must_be_the_right_one() {
        let guard = guard(Some("s3cret"), None);
        let with = |bearer| Asked { bearer, ..asked("admin.example") };
        assert_eq!(code(&guard, &with(None)), Some("token_required"));
        assert_eq!(code(&guard, &with(Some("s3cre"))), Some("token_required"));
        assert_eq!(code(&guard, &with(Some("s3cret"))), None);
        let health = Asked { is_open: true, ..asked("admin.example") };
        assert_eq!(code(&guard, &health), None);
    }

    #[test]
    fn the_read_only_token_reads() {
        let guard = guard(Some("s3cret"), Some("look"));
        let reads = Asked { bearer: Some("look"), ..asked("admin.example") };
        assert_eq!(code(&guard, &reads), None);
        let writes = Asked { bearer: Some("look"), writes: true, ..asked("admin.example") };
        assert_eq!(code(&guard, &writes), Some("read_only"));
    }

    #[test]
    fn a_session_stands_for_its_token_but_the_api_takes_no_wish_by_cookie() {
        let guard = guard(Some("s3cret"), None);
        let id = guard.sessions.open(Role::Operator, guard.app.clock.monotonic());
        let cookies = format!("other=1; {COOKIE}={id}");
        let session = session_in(&cookies);
        let with = |session| Asked { session, ..asked("admin.example") };
        assert_eq!(code(&guard, &with(session)), None);
        assert_eq!(code(&guard, &with(Some("guessed"))), Some("token_required"));
        let api_wish = Asked { writes: true, ..with(session) };
        assert_eq!(code(&guard, &api_wish), Some("token_required"));
        let form = Asked { writes: true, is_api: false, ..with(session) };
        assert_eq!(code(&guard, &form), None);
    }
}
