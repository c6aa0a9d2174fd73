//! A request as it came in, and the same request once its signature held.

use std::{fmt, ops::Deref};

use bytes::Bytes;

use crate::{clock::Timestamp, limits};

/// The headers of a request, in the order they came, their names in lower case.
///
/// Values are bytes: a provider may send what is not text, and what is stored is what came.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Bytes)>);

/// Headers about one connection (RFC 9110, section 7.6.1), or about the framing of one message.
const ABOUT_THE_CONNECTION: [&str; 10] = [
    "connection",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Why a header that must be there exactly once, as text, is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderProblem {
    /// It is not there.
    Missing,
    /// It is there more than once, so it is not clear which one counts.
    Doubled,
    /// It is empty, too long, or not printable ASCII.
    Malformed,
}

impl Headers {
    /// Adds a header at the end.
    pub fn push(&mut self, name: &str, value: impl Into<Bytes>) {
        self.0.push((name.to_ascii_lowercase(), value.into()));
    }

    /// Replaces every header of this name by one.
    pub fn set(&mut self, name: &str, value: impl Into<Bytes>) {
        self.remove(name);
        self.push(name, value);
    }

    /// Takes every header of this name away.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    /// The value of a header that must be there once, not empty, as printable ASCII.
    ///
    /// For everything a verdict hangs on: a doubled header is refused, since a proxy before us and
    /// a program behind us may each believe another one of the two.
    pub fn only(&self, name: &str) -> Result<&str, HeaderProblem> {
        let mut values = self.all(name);
        let value = values.next().ok_or(HeaderProblem::Missing)?;
        if values.next().is_some() {
            return Err(HeaderProblem::Doubled);
        }
        let text = std::str::from_utf8(value).unwrap_or_default();
        let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if text.is_empty() || !printable || text.len() > limits::HEADER_VALUE_BYTES_MAX {
            return Err(HeaderProblem::Malformed);
        }
        Ok(text)
    }

    /// The first value of a header that only informs, if it is text.
    pub fn first(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.all(name).next()?).ok()
    }

    /// Every value of a header, in order.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_ref())
    }

    /// The headers that are not about this connection: neither by their name nor because `Connection`
    /// names them. Names are compared in lower case, with `_` as `-`.
    pub fn beyond_this_hop(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let named_in_connection: Vec<String> = self
            .all("connection")
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(|name| normal_name(String::from_utf8_lossy(name).trim()))
            .collect();
        self.iter().filter(move |(name, _)| {
            let name = normal_name(name);
            !ABOUT_THE_CONNECTION.contains(&name.as_str()) && !named_in_connection.contains(&name)
        })
    }

    /// The headers as lines of `name: value`, as HTTP writes them: for keeping them.
    pub fn to_lines(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        for (name, value) in self.iter() {
            lines.extend_from_slice(name.as_bytes());
            lines.extend_from_slice(b": ");
            lines.extend_from_slice(value);
            lines.push(b'\n');
        }
        lines
    }

    /// The headers that [`Headers::to_lines`] wrote. A value cannot hold a line end: HTTP has none.
    pub fn from_lines(lines: &[u8]) -> Self {
        let mut headers = Self::default();
        for line in lines.split(|byte| *byte == b'\n') {
            let mut halves = line.splitn(2, |byte| *byte == b':');
            if let (Some(name), Some(value)) = (halves.next(), halves.next()) {
                let value = value.strip_prefix(b" ").unwrap_or(value);
                headers.push(&String::from_utf8_lossy(name), Bytes::copy_from_slice(value));
            }
        }
        headers
    }

    /// Every header in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_ref()))
    }
}

/// A header's name in lower case and with `-` for `_`: many servers (CGI, WSGI, Rack) take both for the
/// same header, so `Hookonce_Source` must not pass where `Hookonce-Source` does not.
pub(crate) fn normal_name(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// Names only: a value may be a credential.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

impl<N: AsRef<str>, V: Into<Bytes>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        let mut all = Self::default();
        for (name, value) in headers {
            all.push(name.as_ref(), value);
        }
        all
    }
}

/// A request that nobody has checked yet. Nothing in it may be believed.
#[derive(Clone)]
pub struct Unverified {
    /// The method, in upper case.
    pub method: String,
    /// The URL the provider called, as it knows it: scheme, host, path and query. Some signatures
    /// cover it, so behind a proxy it is put together from the configuration, not from the request.
    pub url: String,
    /// The headers.
    pub headers: Headers,
    /// The body, byte for byte as it was received.
    pub body: Bytes,
    /// When its last byte was there.
    pub received_at: Timestamp,
}

impl Unverified {
    /// The query of the URL, without its `?`; empty if there is none.
    pub fn query(&self) -> &str {
        let without_fragment = self.url.split('#').next().unwrap_or_default();
        without_fragment.split_once('?').map_or("", |(_, query)| query)
    }

    /// The decoded value of a parameter in the query.
    pub fn query_parameter(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(self.query().as_bytes())
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.into_owned())
    }
}

/// The body and the headers of a request are the sender's business, and may hold credentials.
impl fmt::Debug for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unverified")
            .field("method", &self.method)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A request whose signature held. There is no way to get one but [`crate::provider::verify`].
#[derive(Clone, Debug)]
pub struct Verified(Unverified);

impl Verified {
    /// Vouches for `request`. Only `provider/mod.rs` may call this: after a scheme said yes, or to
    /// have a request named in shadow mode, without letting go of it.
    pub(crate) fn vouch(request: Unverified) -> Self {
        Self(request)
    }
}

impl Deref for Verified {
    type Target = Unverified;

    fn deref(&self) -> &Unverified {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubled_header_is_not_the_only_one() {
        let headers: Headers = [("X-Sig", "a"), ("x-sig", "b")].into_iter().collect();
        assert_eq!(headers.only("X-Sig"), Err(HeaderProblem::Doubled));
        assert_eq!(headers.only("X-Other"), Err(HeaderProblem::Missing));
        assert_eq!(headers.first("x-SIG"), Some("a"));
    }

    #[test]
    fn lines_bring_the_headers_back() {
        let headers: Headers =
            [("a", &b"1: 2"[..]), ("b", b""), ("a", b"\xff")].into_iter().collect();
        assert_eq!(Headers::from_lines(&headers.to_lines()), headers);
    }

    #[test]
    fn what_is_not_printable_is_malformed() {
        for value in ["", "a\tb", "é", "a\u{7f}"] {
            let headers: Headers = [("x", value.to_owned())].into_iter().collect();
            assert_eq!(headers.only("x"), Err(HeaderProblem::Malformed), "{value:?}");
        }
    }
}
