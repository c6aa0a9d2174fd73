//! Who may talk to the admin listener.
//!
//! Any web page can make a browser post to 127.0.0.1, and a name that resolves there makes it read the
//! answer too. So the Host must be one this listener goes by, the Origin (if a browser says one) must
//! be the same, and away from loopback a token is required.

use std::net::IpAddr;

use actix_web::{
    HttpResponse,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    error::InternalError,
    http::{StatusCode, header},
    middleware::Next,
};

use super::answer;
use crate::secret::Secret;

/// The rules of one admin listener.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    token: Option<Secret>,
}

impl Guard {
    /// A guard that asks for `token`, if there is one.
    pub(super) fn new(token: Option<Secret>) -> Self {
        Self { token }
    }

    /// The status and the code to refuse a request with, if it is to be refused.
    fn objection(&self, asked: &Asked<'_>) -> Option<(StatusCode, &'static str)> {
        let Some(host) = asked.host.map(without_port) else {
            return Some((StatusCode::BAD_REQUEST, "host_missing"));
        };
        // A token cannot be guessed by a web page, so with one any name may be used.
        let name_is_ours = is_loopback(host) || self.token.is_some();
        if !name_is_ours {
            return Some((StatusCode::MISDIRECTED_REQUEST, "host_not_allowed"));
        }
        let same_origin = |origin: &str| {
            origin.split_once("://").is_some_and(|(_, from)| Some(from) == asked.host)
        };
        if asked.origin.is_some_and(|origin| !same_origin(origin)) || asked.cross_site {
            return Some((StatusCode::FORBIDDEN, "origin_not_allowed"));
        }
        let token_fits = self.token.as_ref().is_none_or(|token| {
            asked.bearer.is_some_and(|given| token.matches(given)) || asked.is_health
        });
        (!token_fits).then_some((StatusCode::UNAUTHORIZED, "token_required"))
    }
}

/// What a request says of itself.
struct Asked<'a> {
    host: Option<&'a str>,
    origin: Option<&'a str>,
    cross_site: bool,
    bearer: Option<&'a str>,
    is_health: bool,
}

/// Lets a request through, or answers it.
pub(super) async fn check(
    guard: Guard,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let text = |name: header::HeaderName| request.headers().get(name)?.to_str().ok();
    let asked = Asked {
        host: text(header::HOST).or_else(|| request.uri().host()),
        origin: text(header::ORIGIN),
        cross_site: text(header::HeaderName::from_static("sec-fetch-site")) == Some("cross-site"),
        bearer: text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")),
        is_health: matches!(request.path(), "/healthz" | "/readyz"),
    };
    match guard.objection(&asked) {
        None => next.call(request).await,
        Some((status, code)) => {
            let mut response = HttpResponse::build(status);
            if status == StatusCode::UNAUTHORIZED {
                response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
            }
            Err(InternalError::from_response(code, answer::problem(&mut response, status, code))
                .into())
        }
    }
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

    fn asked(host: &str) -> Asked<'_> {
        Asked { host: Some(host), origin: None, cross_site: false, bearer: None, is_health: false }
    }

    fn code(guard: &Guard, asked: &Asked<'_>) -> Option<&'static str> {
        guard.objection(asked).map(|(_, code)| code)
    }

    #[test]
    fn loopback_names_need_no_token() {
        let guard = Guard::new(None);
        for host in ["localhost:8081", "127.0.0.1:8081", "[::1]:8081", "127.0.0.1"] {
            assert_eq!(code(&guard, &asked(host)), None, "{host}");
        }
    }

    #[test]
    fn a_name_that_only_resolves_to_us_is_refused() {
        for host in ["evil.example:8081", "127.0.0.1.evil.example", "localhost.evil.example"] {
            assert_eq!(code(&Guard::new(None), &asked(host)), Some("host_not_allowed"), "{host}");
        }
    }

    #[test]
    fn a_web_page_cannot_post() {
        let guard = Guard::new(None);
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
    fn with_a_token_it_must_be_the_right_one() {
        let guard = Guard::new(Some(Secret::new("s3cret")));
        let with = |bearer| Asked { bearer, ..asked("admin.example") };
        assert_eq!(code(&guard, &with(None)), Some("token_required"));
        assert_eq!(code(&guard, &with(Some("s3cre"))), Some("token_required"));
        assert_eq!(code(&guard, &with(Some("s3cret"))), None);
        let health = Asked { is_health: true, ..asked("admin.example") };
        assert_eq!(code(&guard, &health), None);
    }
}
