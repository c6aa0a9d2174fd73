//! Which headers go on from a client to the upstream, and from the upstream to a client.

use std::net::IpAddr;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::request::Headers;

/// Headers that say how we were called: only a trusted proxy is believed.
const ABOUT_THE_CLIENT: [&str; 2] = ["forwarded", "x-real-ip"];

/// Who called, and how.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// The address the connection came from.
    pub peer: Option<IpAddr>,
    /// Whether that is a proxy whose `X-Forwarded-*` count.
    pub is_trusted: bool,
    /// `http` or `https`, as the client used it.
    pub scheme: String,
    /// The host that the client called.
    pub host: String,
}

/// The headers of a client's request as they are sent on. `Host` is left to whoever sends them.
pub(super) fn to_upstream(headers: &Headers, client: &Client) -> HeaderMap {
    let is_claim =
        |name: &str| name.starts_with("x-forwarded-") || ABOUT_THE_CLIENT.contains(&name);
    let mut sent = HeaderMap::new();
    for (name, value) in headers.beyond_this_hop() {
        let stays_here = name == "host" || (is_claim(name) && !client.is_trusted);
        if !stays_here {
            append(&mut sent, name, value);
        }
    }
    let so_far = sent.get_all("x-forwarded-for").iter().map(HeaderValue::as_bytes);
    let mut addresses: Vec<Vec<u8>> = so_far.map(<[u8]>::to_vec).collect();
    addresses.extend(client.peer.map(|peer| peer.to_string().into_bytes()));
    for (name, value) in [
        ("x-forwarded-for", addresses.join(&b", "[..]).as_slice()),
        ("x-forwarded-proto", client.scheme.as_bytes()),
        ("x-forwarded-host", client.host.as_bytes()),
    ] {
        sent.remove(name);
        if !value.is_empty() {
            append(&mut sent, name, value);
        }
    }
    sent
}

/// The headers of the upstream's answer as the client gets them.
pub(super) fn to_client(headers: &HeaderMap) -> Headers {
    let all: Headers = headers
        .iter()
        .map(|(name, value)| (name.as_str(), bytes::Bytes::copy_from_slice(value.as_bytes())))
        .collect();
    all.beyond_this_hop()
        .map(|(name, value)| (name, bytes::Bytes::copy_from_slice(value)))
        .collect()
}

fn append(headers: &mut HeaderMap, name: &str, value: &[u8]) {
    if let (Ok(name), Ok(value)) =
        (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value))
    {
        // It fails beyond more headers than any server lets in.
        headers.try_append(name, value).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &'static str)]) -> Headers {
        pairs.iter().copied().collect()
    }

    fn sent(pairs: &[(&str, &'static str)], is_trusted: bool) -> Vec<String> {
        let client = Client {
            peer: "192.0.2.1".parse().ok(),
            is_trusted,
            scheme: "https".to_owned(),
            host: "api.example.com".to_owned(),
        };
        let sent = to_upstream(&headers(pairs), &client);
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        let mut lines: Vec<_> = sent.iter().map(line).collect();
        lines.sort();
        lines
    }

    const OURS: [&str; 3] = [
        "x-forwarded-for: 192.0.2.1",
        "x-forwarded-host: api.example.com",
        "x-forwarded-proto: https",
    ];

    #[test]
    fn what_is_about_the_connection_stays_here() {
        let lines = sent(
            &[
                ("Connection", "close, X-Private"),
                ("X-Private", "1"),
                ("X_Private", "1"),
                ("Transfer_Encoding", "chunked"),
                ("Keep-Alive", "1"),
                ("TE", "trailers"),
                ("Transfer-Encoding", "chunked"),
                ("Upgrade", "h2c"),
                ("Proxy-Authorization", "1"),
                ("Host", "client.example.com"),
                ("Authorization", "Bearer alice"),
                ("Idempotency-Key", "\"k1\""),
            ],
            false,
        );
        let expected = ["authorization: Bearer alice", "idempotency-key: \"k1\""];
        assert_eq!(lines, [&expected[..], &OURS].concat());
    }

    #[test]
    fn only_a_trusted_proxy_says_where_a_request_came_from() {
        let claims = [
            ("X-Forwarded-For", "198.51.100.7"),
            ("X-Forwarded-Proto", "ftp"),
            ("X-Forwarded-Port", "1"),
            ("Forwarded", "for=198.51.100.7"),
            ("X-Real-IP", "198.51.100.7"),
        ];
        assert_eq!(sent(&claims, false), OURS);
        let believed = sent(&claims, true);
        assert!(believed.contains(&"x-forwarded-for: 198.51.100.7, 192.0.2.1".to_owned()));
        assert!(believed.contains(&"x-forwarded-port: 1".to_owned()));
    }

    #[test]
    fn repeated_headers_of_an_answer_stay_in_order() {
        let mut answer = HeaderMap::new();
        for value in ["a=1", "b=2"] {
            append(&mut answer, "set-cookie", value.as_bytes());
        }
        append(&mut answer, "connection", b"x-gone");
        append(&mut answer, "x-gone", b"1");
        let given = to_client(&answer);
        assert_eq!(given, headers(&[("set-cookie", "a=1"), ("set-cookie", "b=2")]));
    }
}
