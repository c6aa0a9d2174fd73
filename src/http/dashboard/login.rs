//! Logging in with a token, once, for a session; and out again.

use std::net::IpAddr;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web,
};
use askama::Template;
use serde::Deserialize;

use super::{
    Asked, Frame,
    form::{Button, Posted},
    page as made, see,
};
use crate::{
    http::guard::{COOKIE, Guard, session_of},
    limits,
};

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    frame: Frame,
    next: &'a str,
    problem: Option<String>,
}

/// What the form asks for, and where its reader was going.
#[derive(Debug, Deserialize)]
pub(super) struct Login {
    #[serde(default)]
    token: String,
    next: Option<String>,
}

/// The form.
pub(super) fn form(status: StatusCode, next: &str, problem: Option<String>) -> HttpResponse {
    made(status, &LoginPage { frame: Frame::bare(), next, problem })
}

pub(super) async fn page(asked: web::Query<Login>) -> HttpResponse {
    form(StatusCode::OK, on_this_site(asked.next.as_deref()), None)
}

/// Opens a session for whoever knows a token.
///
/// Its form has no key, for there is nobody yet that it could be made for. A page of another site that
/// wants its visitors logged in here is stopped by its Origin.
///
/// Who has given too many wrong tokens waits, and a right one does not end that: let in at once, it would tell
/// a guesser as much as if there were no limit. So nobody else may be counted along, and behind a proxy that
/// takes `trusted_proxies`. A bearer's token has no such limit: one program with an old token would shut out
/// all others at its address. What protects both is that a token is long.
pub(super) async fn log_in(
    request: HttpRequest,
    admin: Asked,
    guard: web::Data<Guard>,
    form_sent: web::Form<Login>,
) -> HttpResponse {
    let next = on_this_site(form_sent.next.as_deref());
    if !guard.asks_for_a_token() {
        return see(next);
    }
    let now = admin.app.clock.monotonic();
    let Some(from) = sender(&request, &admin) else {
        return HttpResponse::BadRequest().finish();
    };
    if let Some(wait) = guard.failures.wait(from, now) {
        let problem = format!("Too many wrong tokens: try again in {} s.", wait.as_secs() + 1);
        return form(StatusCode::TOO_MANY_REQUESTS, next, Some(problem));
    }
    let Some(role) = guard.role_of(form_sent.token.trim()) else {
        guard.failures.count(from, now);
        if let Some(more) = admin.app.may_say("a wrong token") {
            tracing::warn!(%from, lines.held_back = more, "somebody gave a wrong token to the dashboard");
        }
        let problem = "That is not the token.".to_owned();
        return form(StatusCode::FORBIDDEN, next, Some(problem));
    };
    tracing::info!(%from, ?role, "somebody logged in to the dashboard");
    let id = guard.sessions.open(role, now);
    let seconds = limits::SESSION_LIFE.as_secs();
    let mut response = see(next);
    set_cookie(&mut response, &request, &admin, &format!("{id}; Max-Age={seconds}"));
    response
}

/// The address that somebody logs in from.
fn sender(request: &HttpRequest, admin: &Asked) -> Option<IpAddr> {
    let lines = request.headers().get_all("x-forwarded-for");
    // A line that is no text names nobody, and what stands before it is not believed.
    let lines: Vec<&str> = lines.map(|line| line.to_str().unwrap_or("?")).collect();
    Some(admin.app.server.sender(request.peer_addr()?.ip(), &lines))
}

/// Ends the session.
pub(super) async fn log_out(
    request: HttpRequest,
    admin: Asked,
    guard: web::Data<Guard>,
    _asked: Posted<Button>,
) -> HttpResponse {
    if let Some(id) = session_of(request.headers()) {
        guard.sessions.close(id);
    }
    let mut response = see("/login");
    set_cookie(&mut response, &request, &admin, "; Max-Age=0");
    response
}

/// Hands out the cookie: no script reads it, and who came by HTTPS has it sent by nothing else.
///
/// `Lax`, not `Strict`: a browser then sends it along with a link that was followed from another site, and
/// with nothing else from there. A link only reads; all that writes is a POST, which needs the key of its form
/// and is refused where it says that it comes from elsewhere.
fn set_cookie(response: &mut HttpResponse, request: &HttpRequest, admin: &Asked, value: &str) {
    let proto = request.headers().get("x-forwarded-proto");
    let came_by_https = request.app_config().secure()
        || (admin.app.server.trusts(request.peer_addr().map(|peer| peer.ip()))
            && proto.is_some_and(|proto| proto.as_bytes() == b"https"));
    let secure = if came_by_https { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Lax{secure}");
    if let Ok(cookie) = header::HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
}

/// Where to go after the login: a path here, whatever the link said.
fn on_this_site(next: Option<&str>) -> &str {
    let is_path = |next: &&str| {
        let after = next.strip_prefix('/');
        let is_plain = next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        is_plain && after.is_some_and(|rest| !rest.starts_with('/'))
    };
    next.filter(is_path).unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_nowhere_else() {
        assert_eq!(on_this_site(Some("/events?state=dead")), "/events?state=dead");
        for elsewhere in
            ["https://evil.example", "//evil.example", "/\\evil.example", "/a\r\nb", ""]
        {
            assert_eq!(on_this_site(Some(elsewhere)), "/", "{elsewhere}");
        }
    }
}
