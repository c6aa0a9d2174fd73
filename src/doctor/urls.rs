//! Other URLs that the provider may have called: what the request, a proxy and the configuration name.

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

/// Every other URL to try, the likelier first.
pub(super) fn others(case: &Case<'_>) -> Vec<String> {
    let Some(used) = Url::of(&case.request.url) else { return Vec::new() };
    let header = |name: &str| case.request.headers.first(name).map(first_item);
    let (target, target_query) = match case.opened.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (case.opened.target.as_str(), None),
    };

    let mut authorities = vec![used.authority];
    authorities.extend(header("x-forwarded-host"));
    authorities.extend(header("host"));
    authorities
        .extend(case.today.server.public_url.as_deref().and_then(Url::of).map(|url| url.authority));
    let bare: Vec<_> = authorities.iter().filter_map(|all| without_port(all)).collect();
    authorities.extend(bare);

    let mut paths = vec![used.path.to_owned(), target.to_owned()];
    paths.extend(
        header("x-forwarded-prefix")
            .map(|prefix| format!("{}{target}", prefix.trim_end_matches('/'))),
    );
    for name in ["x-original-uri", "x-original-url", "x-rewrite-url", "x-forwarded-uri"] {
        paths.extend(header(name).map(|uri| uri.split('?').next().unwrap_or_default().to_owned()));
    }
    let slashed: Vec<_> = paths
        .iter()
        .map(|path| match path.strip_suffix('/') {
            Some(bare) => bare.to_owned(),
            None => format!("{path}/"),
        })
        .collect();
    paths.extend(slashed);

    let mut queries = vec![used.query, target_query, None];
    queries.dedup();
    let schemes = [header("x-forwarded-proto").unwrap_or(used.scheme), "https", "http"];
    let mut urls = Vec::new();
    for query in queries {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        for path in &paths {
            for authority in &authorities {
                for scheme in schemes {
                    urls.push(format!("{scheme}://{authority}{path}{query}"));
                }
            }
        }
    }
    let mut seen = std::collections::HashSet::from([case.request.url.clone()]);
    urls.retain(|url| seen.insert(url.clone()));
    urls
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
            "set `server.public_url` to \"{base}\", or add the proxy's address {peer} to `server.trusted_proxies`"
        ),
        _ => format!("set `server.public_url` to \"{base}\""),
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
