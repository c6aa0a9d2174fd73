//! Other URLs that the provider may have called: what the request, a proxy and the configuration name.

use std::collections::HashSet;

use super::Case;
use crate::app::first_item;

/// Where a URL is taken apart.
struct Url<'a> {
    scheme: &'a str,
    authority: &'a str,
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> Url<'a> {
    fn of(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (place, query) =
            rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
        let at = place.find('/').unwrap_or(place.len());
        let (authority, path) = place.split_at_checked(at)?;
        Some(Self { scheme, authority, path, query })
    }
}

/// How many URLs are tried: a sender chooses the headers that name them.
const URLS_TRIED_MAX: usize = 200;

/// Every other URL to try, the likelier first.
pub(super) fn others(case: &Case<'_>) -> Vec<String> {
    let Some(used) = Url::of(&case.request.url) else { return Vec::new() };
    let header = |name: &str| case.request.headers.first(name).map(first_item);
    let (target, target_query) = match case.opened.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (case.opened.target.as_str(), None),
    };
    let schemes = [header("x-forwarded-proto").unwrap_or(used.scheme), "https", "http"];
    let authorities = authorities(case, used.authority);
    let mut queries = vec![used.query, target_query, None];
    queries.dedup();

    let mut seen = HashSet::from([case.request.url.clone()]);
    let mut urls = Vec::new();
    for path in paths(case, used.path, target) {
        for query in &queries {
            let query = query.map(|query| format!("?{query}")).unwrap_or_default();
            for authority in &authorities {
                for scheme in schemes {
                    let url = format!("{scheme}://{authority}{path}{query}");
                    if seen.insert(url.clone()) {
                        urls.push(url);
                    }
                }
            }
        }
    }
    urls.truncate(URLS_TRIED_MAX);
    urls
}

/// Hosts that it may have been called by, each with its port and without.
fn authorities<'a>(case: &'a Case<'_>, used: &'a str) -> Vec<&'a str> {
    let header = |name: &str| case.request.headers.first(name).map(first_item);
    let public_url = case.today.server.public_url.as_deref().and_then(Url::of);
    let mut authorities = vec![used];
    authorities.extend(header("x-forwarded-host"));
    authorities.extend(header("host"));
    authorities.extend(public_url.map(|url| url.authority));
    let bare: Vec<_> = authorities.iter().filter_map(|all| without_port(all)).collect();
    authorities.extend(bare);
    authorities
}

/// Paths that it may have been called by, each with a slash at its end and without.
fn paths(case: &Case<'_>, used: &str, target: &str) -> Vec<String> {
    const OF_PROXIES: [&str; 4] =
        ["x-original-uri", "x-original-url", "x-rewrite-url", "x-forwarded-uri"];
    let header = |name: &str| case.request.headers.first(name).map(first_item);
    let behind = |prefix: &str| format!("{}{target}", prefix.trim_end_matches('/'));
    let without_query = |uri: &str| uri.split('?').next().unwrap_or_default().to_owned();
    let other_end = |path: &String| match path.strip_suffix('/') {
        Some(bare) => bare.to_owned(),
        None => format!("{path}/"),
    };
    let mut paths = vec![used.to_owned(), target.to_owned()];
    paths.extend(header("x-forwarded-prefix").map(behind));
    paths.extend(OF_PROXIES.iter().filter_map(|name| header(name)).map(without_query));
    let others: Vec<_> = paths.iter().map(other_end).collect();
    paths.extend(others);
    paths
}

/// What to change so that `url` is the one that is used.
pub(super) fn fix(case: &Case<'_>, url: &str) -> String {
    let name = &case.source.name;
    let whole = shown(url);
    let (Some(url), false) = (Url::of(url), case.source.url.is_some()) else {
        return format!("set `sources.{name}.url` to \"{whole}\"");
    };
    let is_sent_on_as_it_is = case.opened.target.split('?').next() == Some(url.path);
    if !is_sent_on_as_it_is {
        return format!("set `sources.{name}.url` to \"{whole}\"");
    }
    let base = format!("{}://{}", url.scheme, without_user(url.authority));
    let header = |name: &str| case.request.headers.first(name).map(first_item);
    let forwarded = header("x-forwarded-proto").is_some_and(|scheme| scheme == url.scheme)
        && header("x-forwarded-host").or_else(|| header("host")) == Some(url.authority);
    match (&case.today.server.public_url, case.row.peer) {
        (None, Some(peer)) if forwarded => format!(
            "if that is your address, set `server.public_url` to \"{base}\"; or, if {peer} is your own proxy, add it to `server.trusted_proxies`"
        ),
        _ => format!("if that is your address, set `server.public_url` to \"{base}\""),
    }
}

/// The URL as it may be shown: without user, password and query.
pub(super) fn shown(url: &str) -> String {
    match Url::of(url) {
        Some(url) => format!("{}://{}{}", url.scheme, without_user(url.authority), url.path),
        None => String::new(),
    }
}

fn without_user(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

fn without_port(authority: &str) -> Option<&str> {
    let (host, port) = authority.rsplit_once(':')?;
    port.bytes().all(|byte| byte.is_ascii_digit()).then_some(host)
}

#[cfg(test)]
mod tests {
    use crate::{
        clock::Timestamp,
        doctor::{Finding, Kind, Today, diagnose},
        provider::{self, Settings},
        refusal::{RefusalId, Step},
        refusal_log::Opened,
        request::{Headers, Unverified},
        secret::Secret,
        source::Source,
        store::RefusalRow,
    };

    /// What comes out where Twilio has signed for one URL, and the request came to `/webhooks/twilio?a=1`
    /// with these headers beside its host `10.0.0.1:8080`.
    fn found(signed: &str, headers: &[(&str, &str)], configured: Option<&str>) -> Finding {
        let settings = Settings { secrets: vec![Secret::new("token")], ..Settings::default() };
        let twilio = provider::find("twilio").unwrap();
        let mut source = Source::new("twilio", twilio, settings).unwrap();
        source.url = configured.map(str::to_owned);
        let received_at = Timestamp::from_seconds(1_790_000_000);
        let all =
            [("host", "10.0.0.1:8080"), ("content-type", "application/x-www-form-urlencoded")];
        let mut request = Unverified {
            method: "POST".to_owned(),
            url: signed.to_owned(),
            headers: all
                .iter()
                .chain(headers)
                .map(|(name, value)| (*name, value.to_string()))
                .collect::<Headers>(),
            body: "CallStatus=completed".into(),
            received_at,
        };
        source.scheme.sign(&mut request, received_at).unwrap();
        let target = "/webhooks/twilio?a=1".to_owned();
        let row = RefusalRow {
            id: RefusalId::new(received_at),
            source: "twilio".into(),
            step: Step::NoMatch,
            problem: String::new(),
            received_at,
            method: "POST".to_owned(),
            url: String::new(),
            target: target.clone(),
            peer: Some([10, 0, 0, 7].into()),
            body_bytes: Some(request.body.len()),
            body_kept: true,
            left_out: 0,
            readmitted: None,
        };
        let sources = [(source.name.clone(), source.into())].into_iter().collect();
        let server = crate::app::Server::default();
        let opened = Ok(Opened { request, target, has_body: true });
        diagnose(Today { sources: &sources, server: &server }, &row, &opened)
    }

    #[test]
    fn the_url_that_was_signed_is_found_and_what_to_set() {
        let host = ("x-forwarded-host", "hooks.example.com");
        let https = ("x-forwarded-proto", "https");
        let prefix = ("x-forwarded-prefix", "/api/");
        let cases = [
            (
                "https://10.0.0.1:8080/webhooks/twilio?a=1",
                vec![],
                None,
                "\"https://10.0.0.1:8080\"",
            ),
            ("https://10.0.0.1/webhooks/twilio?a=1", vec![], None, "\"https://10.0.0.1"),
            (
                "https://hooks.example.com/webhooks/twilio?a=1",
                vec![host, https],
                None,
                "10.0.0.7 is your own proxy",
            ),
            (
                "https://hooks.example.com/webhooks/twilio/?a=1",
                vec![host],
                None,
                "`sources.twilio.url` to \"https://hooks.example.com/webhooks/twilio/\"",
            ),
            (
                "https://hooks.example.com/api/webhooks/twilio?a=1",
                vec![host, prefix],
                None,
                "`sources.twilio.url` to \"https://hooks.example.com/api/webhooks/twilio\"",
            ),
            (
                "https://hooks.example.com/hook?a=1",
                vec![],
                Some("http://hooks.example.com/hook"),
                "`sources.twilio.url` to \"https://hooks.example.com/hook\"",
            ),
        ];
        for (signed, headers, configured, fix) in cases {
            let found = found(signed, &headers, configured);
            assert_eq!(
                (found.kind, found.proved),
                (Kind::UrlMismatch, true),
                "{signed}: {found:?}"
            );
            assert!(found.fix.contains(fix), "{signed}: {found:?}");
        }
    }

    #[test]
    fn a_url_that_nothing_names_is_not_guessed() {
        let found = found("https://elsewhere.example.com/webhooks/twilio?a=1", &[], None);
        assert_eq!((found.kind, found.proved), (Kind::NoMatch, false), "{found:?}");
    }

    #[test]
    fn user_password_and_query_are_not_shown() {
        let shown = super::shown("https://user:pa55@a.example:8443/x?token=1");
        assert_eq!(shown, "https://a.example:8443/x");
    }
}
