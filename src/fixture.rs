//! Requests as a provider sends them, kept as text: for tests, for checking captured requests and
//! for standing in for a provider.
//!
//! A fixture is a raw HTTP request under a head of lines that begin with `#`:
//!
//! ```text
//! # secret: whsec_test
//! # now: 1767225600
//! # expect: accepted id=evt_1 type=invoice.paid
//! # from: made by us
//! POST /webhooks/stripe HTTP/1.1
//! Host: hooks.example.com
//! Stripe-Signature: t=1767225600,v1=…
//!
//! {"id":"evt_1","type":"invoice.paid"}
//! ```
//!
//! The body is everything after the empty line, byte for byte. Further keys of the head: `url`
//! (what the provider called; by default put together from `Host` and the path), `public_key`,
//! `config: KEY = VALUE` (one line each), and `ids`: texts that stand for something which is new in
//! each event.

use std::collections::BTreeMap;

use bytes::Bytes;
use include_dir::{Dir, include_dir};
use rand::{Rng, RngExt as _};

use crate::{
    clock::Timestamp,
    provider::{self, NotSignable, Settings},
    request::{Headers, Unverified},
    secret::Secret,
    source::Source,
};

static EMBEDDED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/fixtures");

/// The shortest text that is replaced wherever it stands: a shorter one could be part of a word.
const ID_BYTES_MIN: usize = 6;

/// A request with what is known about it.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// Its file's name without the ending; empty if it has no file.
    pub name: String,
    /// The settings of its source, as far as its head tells them.
    pub settings: Settings,
    /// When it was sent.
    pub now: Option<Timestamp>,
    /// What must become of it, in the words of [`crate::verify::Checked::summary`].
    pub expect: Option<String>,
    /// Where it comes from.
    pub from: Option<String>,
    /// What else is new in each event, besides the provider's id.
    ids: Vec<String>,
    request: Unverified,
}

/// Why a text is no fixture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the request: {problem}")]
pub struct FixtureError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

impl Fixture {
    /// Reads a fixture, or any captured request: the head may be absent.
    ///
    /// # Errors
    /// The first line that does not belong there.
    pub fn parse(text: &[u8]) -> Result<Self, FixtureError> {
        let mut lines = Lines { rest: text, number: 0 };
        let mut head = Head::default();
        let start = loop {
            let line = lines.next()?;
            match line.strip_prefix('#') {
                Some(entry) => head.add(entry).map_err(|problem| lines.error(problem))?,
                None => break line,
            }
        };
        let mut words = start.split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Err(lines.error("is no request line; write `POST /path HTTP/1.1`"));
        };
        let mut headers = Headers::default();
        loop {
            let line = lines.next()?;
            if line.is_empty() {
                break;
            }
            let halves = line.split_once(':');
            let (name, value) = halves.ok_or_else(|| lines.error("is no header"))?;
            headers.push(name, value.trim().to_owned());
        }
        let host = headers.first("host").unwrap_or("localhost");
        let url = head.url.unwrap_or_else(|| format!("https://{host}{target}"));
        headers.remove("host");
        headers.remove("content-length");
        let request = Unverified {
            method: method.to_ascii_uppercase(),
            url,
            headers,
            body: Bytes::copy_from_slice(lines.rest),
            received_at: head.now.unwrap_or_default(),
        };
        Ok(Self {
            name: String::new(),
            settings: head.settings,
            now: head.now,
            expect: head.expect,
            from: head.from,
            ids: head.ids,
            request,
        })
    }

    /// Every fixture of a provider, by name.
    pub fn all(provider: &str) -> Vec<Self> {
        let files = EMBEDDED.get_dir(provider).into_iter().flat_map(Dir::files);
        let mut fixtures: Vec<_> = files
            .filter(|file| file.path().extension().is_some_and(|ending| ending == "http"))
            .map(|file| {
                let fixture = Self::parse(file.contents()).expect("a test reads every fixture");
                let name = file.path().file_stem().unwrap_or_default();
                Self { name: name.to_string_lossy().into_owned(), ..fixture }
            })
            .collect();
        fixtures.sort_by(|left, right| left.name.cmp(&right.name));
        fixtures
    }

    /// The vectors of our providers, one a line: see [`crate::verify::check_vector`].
    pub fn vectors() -> &'static str {
        let file = EMBEDDED.get_file("vectors.jsonl");
        file.and_then(include_dir::File::contents_utf8).expect("the vectors are embedded as text")
    }

    /// Whether it is one that must be accepted: the others are there to be refused.
    pub fn is_accepted(&self) -> bool {
        self.expect.as_deref().is_some_and(|expect| expect.starts_with("accepted"))
    }

    /// The request as it was sent.
    pub fn request(&self) -> &Unverified {
        &self.request
    }

    /// The request for another URL. The query comes along where `url` has none: some signatures
    /// cover it. The signature is the old one; see [`Fixture::renewed`].
    pub fn request_to(&self, url: &str) -> Unverified {
        let query = self.request.query();
        let url = if query.is_empty() || url.contains('?') {
            url.to_owned()
        } else {
            format!("{url}?{query}")
        };
        Unverified { url, ..self.request.clone() }
    }

    /// A new event like this one, as the provider of `source` would send it to `url` at `now`: with
    /// ids of its own, of the same form, and signed with the first key of `source`.
    ///
    /// # Errors
    /// When the scheme cannot be signed with what the source knows.
    pub fn renewed(
        &self,
        source: &Source,
        url: &str,
        now: Timestamp,
        random: &mut impl Rng,
    ) -> Result<Unverified, NotSignable> {
        let mut request = self.request_to(url);
        request.received_at = now;
        source.scheme.sign(&mut request, now)?;
        for id in self.ids_in(source, &request, now)? {
            replace(&mut request, &id, &like(&id, random));
        }
        source.scheme.sign(&mut request, now)?;
        Ok(request)
    }

    /// The ids that the provider's own file finds, and those that the head names.
    fn ids_in(
        &self,
        source: &Source,
        request: &Unverified,
        now: Timestamp,
    ) -> Result<Vec<String>, NotSignable> {
        let verified = provider::verify(source.scheme.as_ref(), request.clone(), now)
            .map_err(|refusal| NotSignable(format!("its own signature is refused: {refusal}")))?;
        let events = source.events(&verified).unwrap_or_default();
        let mut ids: Vec<_> = events.into_iter().filter_map(|event| event.named.event_id).collect();
        ids.extend(self.ids.iter().cloned());
        ids.sort();
        ids.dedup();
        ids.retain(|id| id.len() >= ID_BYTES_MIN);
        Ok(ids)
    }
}

/// Puts `new` in the place of `old` in the query, the headers and the body.
fn replace(request: &mut Unverified, old: &str, new: &str) {
    if let Some((path, query)) = request.url.split_once('?') {
        request.url = format!("{path}?{}", query.replace(old, new));
    }
    request.headers = request
        .headers
        .iter()
        .map(|(name, value)| (name, replace_bytes(value, old.as_bytes(), new.as_bytes())))
        .collect();
    request.body = replace_bytes(&request.body, old.as_bytes(), new.as_bytes()).into();
}

fn replace_bytes(mut text: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(text.len());
    while let Some((first, rest)) = text.split_first() {
        if let Some(after) = text.strip_prefix(old) {
            replaced.extend_from_slice(new);
            text = after;
        } else {
            replaced.push(*first);
            text = rest;
        }
    }
    replaced
}

/// A random text of the same form: digits for digits, letters for letters, hex for hex, and the
/// beginning kept that says what kind of id it is (`evt_`, `SM`).
fn like(id: &str, random: &mut impl Rng) -> String {
    let letters = id.len() - id.trim_start_matches(|first: char| first.is_ascii_alphabetic()).len();
    let kept = id.rfind('_').map_or(letters.min(2), |at| at + 1);
    let (kind, rest) = id.split_at_checked(kept).unwrap_or(("", id));
    let is_hex =
        rest.bytes().filter(u8::is_ascii_alphanumeric).all(|byte| byte.is_ascii_hexdigit())
            && rest.bytes().any(|byte| byte.is_ascii_lowercase())
            && !rest.bytes().any(|byte| byte.is_ascii_uppercase());
    let fresh = rest.chars().map(|old| match old {
        '0'..='9' | 'a'..='f' if is_hex => char::from_digit(random.random_range(0..16), 16),
        '0' => Some(random.random_range('0'..='9')),
        '1'..='9' => Some(random.random_range('1'..='9')), // a JSON number cannot begin with 0
        'a'..='z' => Some(random.random_range('a'..='z')),
        'A'..='Z' => Some(random.random_range('A'..='Z')),
        other => Some(other),
    });
    std::iter::once(kind.to_owned()).chain(fresh.flatten().map(String::from)).collect()
}

/// What the lines with `#` say.
#[derive(Default)]
struct Head {
    settings: Settings,
    url: Option<String>,
    now: Option<Timestamp>,
    expect: Option<String>,
    from: Option<String>,
    ids: Vec<String>,
}

impl Head {
    fn add(&mut self, entry: &str) -> Result<(), &'static str> {
        let (key, value) = entry.split_once(':').ok_or("is no `# key: value`")?;
        let value = value.trim().to_owned();
        match key.trim() {
            "secret" => self.settings.secrets.push(Secret::new(value)),
            "public_key" => self.settings.public_keys.push(value),
            "url" => self.url = Some(value),
            "now" => {
                let seconds = value.parse().map_err(|_| "`now` is no whole number of seconds")?;
                self.now = Some(Timestamp::from_seconds(seconds));
            }
            "expect" => self.expect = Some(value),
            "from" => self.from = Some(value),
            "ids" => self.ids.extend(value.split_whitespace().map(str::to_owned)),
            "config" => {
                let (key, value) = value.split_once('=').ok_or("is no `config: KEY = VALUE`")?;
                let extra: &mut BTreeMap<_, _> = &mut self.settings.extra;
                extra.insert(key.trim().to_owned(), value.trim().to_owned());
            }
            _ => return Err("has a key that fixtures do not have"),
        }
        Ok(())
    }
}

/// Takes line after line off a text, each without its end, until only the body is left.
struct Lines<'a> {
    rest: &'a [u8],
    number: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<&'a str, FixtureError> {
        self.number += 1;
        let mut halves = self.rest.splitn(2, |byte| *byte == b'\n');
        let line = halves.next().unwrap_or_default();
        let Some(rest) = halves.next() else {
            return Err(self.error("the head ends without an empty line"));
        };
        self.rest = rest;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        std::str::from_utf8(line).map_err(|_| self.error("is not UTF-8"))
    }

    fn error(&self, problem: impl Into<String>) -> FixtureError {
        FixtureError { line: self.number, problem: problem.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_captured_request_needs_no_head() {
        let text = b"post /in?a=1 HTTP/1.1\r\nHost: a.example\r\nX-Sig:  v1 \r\n\r\n{}\r\n\xff";
        let fixture = Fixture::parse(text).unwrap();
        let request = fixture.request();
        assert_eq!(request.method, "POST");
        assert_eq!(request.url, "https://a.example/in?a=1");
        assert_eq!(request.headers.only("x-sig"), Ok("v1"));
        assert_eq!(request.body, &b"{}\r\n\xff"[..]);
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        for (text, line) in [
            ("# nonsense\nPOST / HTTP/1.1\n\n", 1),
            ("# secret: x\n# colour: red\nPOST / HTTP/1.1\n\n", 2),
            ("# now: soon\nPOST / HTTP/1.1\n\n", 1),
            ("POST\n\n", 1),
            ("POST / HTTP/1.1\nX\n\n", 2),
            ("POST / HTTP/1.1\nX: y\n", 3),
            ("", 1),
        ] {
            assert_eq!(Fixture::parse(text.as_bytes()).unwrap_err().line, line, "{text:?}");
        }
    }

    #[test]
    fn a_new_id_has_the_form_of_the_old_one() {
        let mut random = rand::rng();
        for (id, kept) in [
            ("evt_1PabcD2eZvKYlo2C", "evt_"),
            ("72d3162e-cc78-11e3-81ab-4c9367dc0958", ""),
            ("SM0123456789abcdef0123456789abcdef", "SM"),
            ("Ev0PV52K21", "Ev"),
        ] {
            let fresh = like(id, &mut random);
            assert_ne!(fresh, id);
            assert_eq!(fresh.len(), id.len());
            assert!(fresh.starts_with(kept), "{fresh}");
            for (old, new) in id.chars().zip(fresh.chars()) {
                assert_eq!(old.is_ascii_alphanumeric(), new.is_ascii_alphanumeric(), "{fresh}");
            }
        }
    }

    #[test]
    fn every_place_of_an_id_is_replaced() {
        assert_eq!(
            replace_bytes(b"id=old,old \xff oldold", b"old", b"new"),
            b"id=new,new \xff newnew"
        );
    }
}
