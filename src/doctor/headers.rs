//! Headers that are missing, doubled or altered, and whose they are otherwise.

use std::sync::LazyLock;

use super::{Case, Finding, Kind};
use crate::{
    clock::Timestamp,
    provider::{PROVIDERS, Scheme, Settings},
    refusal::{SignatureProblem, Step},
    request::{HeaderProblem, Headers, Unverified},
};

/// What may have happened to a header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) altered: &'static str,
    pub(super) tried: &'static str,
}

impl Case<'_> {
    /// A header that verifying needs is not there once, as text.
    pub(super) fn bad_header(&self) -> Finding {
        if let Some(finding) = self.wrong_source().or_else(|| self.other_provider()) {
            return finding;
        }
        match self.row.step {
            Step::HeaderDoubled => self.doubled(),
            Step::HeaderMissing => self.missing(),
            _ => self.found(
                Kind::HeaderMalformed,
                format!(
                    "{}: likely a proxy has changed it, or it is not from {}",
                    self.row.problem,
                    self.title()
                ),
                format!("compare what the proxy passes on with {}", self.docs()),
            ),
        }
    }

    fn missing(&self) -> Finding {
        let cause = format!(
            "{}: likely {} was given no secret for this endpoint, a proxy drops the header, or somebody else sent this",
            self.row.problem,
            self.title()
        );
        let fix = format!(
            "set the secret at {}, and have the proxy pass its headers on: {}",
            self.title(),
            self.docs()
        );
        let mut finding = self.found(Kind::HeaderMissing, cause, fix);
        let needed = needed(self.source.scheme.as_ref(), &self.request.headers);
        finding.evidence.push(format!("still needed: {}", needed.join(", ")));
        finding
    }

    fn doubled(&self) -> Finding {
        let cause = format!(
            "{}: likely two proxies each add it, or one joins what it should replace",
            self.row.problem
        );
        let fix = "have the proxy pass the provider's header on, and add none".to_owned();
        let mut finding = self.found(Kind::HeaderDoubled, cause, fix);
        for (keep_first, which) in [(true, "first"), (false, "last")] {
            let headers = once(&self.request.headers, keep_first);
            if self.holds(&Unverified { headers, ..self.request.clone() }) {
                finding.proved = true;
                finding.evidence.push(format!("with the {which} of them alone it is accepted"));
                break;
            }
        }
        finding
    }

    /// Whether the headers are those of another provider.
    pub(super) fn other_provider(&self) -> Option<Finding> {
        static KNOWN: LazyLock<Vec<(&str, Vec<String>)>> = LazyLock::new(headers_of_providers);
        let there = |name: &String| self.request.headers.all(name).next().is_some();
        let own = needed(self.source.scheme.as_ref(), &Headers::default());
        if own.iter().any(there) {
            return None; // at least one header is what we look for: it is not clear that it is another's
        }
        let mut fitting: Vec<_> = KNOWN
            .iter()
            .filter(|(title, names)| *title != self.title() && names.iter().all(there))
            .collect();
        let most = fitting.iter().map(|(_, names)| names.len()).max()?;
        fitting.retain(|(_, names)| names.len() == most);
        let (_, names) = fitting.first()?;
        let titles: Vec<_> = fitting.iter().map(|(title, _)| *title).take(3).collect();
        let cause = format!(
            "it has no header of {}'s, but those of {}: likely it was sent to the wrong URL",
            self.title(),
            titles.join(" or ")
        );
        let fix = format!(
            "give {} a source of its own, and its URL to them; or correct `sources.{}.provider`",
            titles.join(" or "),
            self.source.name
        );
        let mut finding = self.found(Kind::OtherProvider, cause, fix);
        finding.evidence.push(format!("it has {}", names.join(", ")));
        Some(finding)
    }
}

/// The name of a header, and the change of it that makes the signature hold.
pub(super) fn spelling_that_fits(case: &Case<'_>) -> Option<(String, Change)> {
    let quotes = Change { altered: "quotes were put around it", tried: "without its quotes" };
    let escapes = Change { altered: "it was percent-encoded", tried: "percent-decoded" };
    for name in needed(case.source.scheme.as_ref(), &Headers::default()) {
        let Some(value) = case.request.headers.first(&name) else { continue };
        let decoded =
            url::form_urlencoded::parse(format!("a={}", value.replace('+', "%2B")).as_bytes())
                .next()
                .map(|(_, value)| value.into_owned());
        let unquoted = value.trim_matches(['"', '\'']).to_owned();
        for (change, other) in [(quotes, Some(unquoted)), (escapes, decoded)] {
            let Some(other) = other.filter(|other| other != value) else { continue };
            let mut request = case.request.clone();
            request.headers.set(&name, other);
            if case.holds(&request) {
                return Some((name, change));
            }
        }
    }
    None
}

/// The headers that a scheme asks for beyond those that are there: found by giving it one after the
/// other.
fn needed(scheme: &dyn Scheme, there: &Headers) -> Vec<String> {
    const MOST: usize = 6;
    let now = Timestamp::from_seconds(1_790_000_000);
    let mut draft = Unverified {
        method: "POST".to_owned(),
        url: "https://hooks.example.com/".to_owned(),
        headers: there.clone(),
        body: bytes::Bytes::from_static(b"{}"),
        received_at: now,
    };
    let mut names = Vec::new();
    while names.len() < MOST {
        match scheme.verify(&draft, now) {
            Err(SignatureProblem::Header(name, HeaderProblem::Missing)) => {
                draft.headers.set(&name, "1790000000"); // reads as a time too
                names.push(name);
            }
            _ => break,
        }
    }
    names
}

/// What each provider's requests have in their heads, as far as a scheme can be had without keys of its
/// own. Headers that many use say nothing.
fn headers_of_providers() -> Vec<(&'static str, Vec<String>)> {
    let mut known = Vec::new();
    for provider in PROVIDERS.iter().filter(|provider| provider.name() != "hmac") {
        let settings =
            Settings { secrets: vec![provider.development_secret([7; 24])], ..Settings::default() };
        let Ok(scheme) = provider.scheme(&settings) else { continue };
        let names = needed(scheme.as_ref(), &Headers::default());
        let tells = |name: &String| {
            !["authorization", "signature", "x-signature"]
                .contains(&name.to_ascii_lowercase().as_str())
        };
        if names.iter().any(tells) {
            known.push((provider.title(), names));
        }
    }
    known
}

/// The headers with only the first, or only the last, of each name.
fn once(headers: &Headers, keep_first: bool) -> Headers {
    let mut kept = Headers::default();
    for (name, value) in headers.iter() {
        if !keep_first {
            kept.remove(name);
        } else if kept.all(name).next().is_some() {
            continue;
        }
        kept.push(name, bytes::Bytes::copy_from_slice(value));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_providers_are_known_by_their_headers() {
        let known = headers_of_providers();
        let of = |title: &str| {
            known.iter().find(|(known, _)| *known == title).map(|(_, names)| names.join(","))
        };
        assert_eq!(of("Stripe").as_deref(), Some("Stripe-Signature"));
        assert_eq!(of("GitHub").as_deref(), Some("X-Hub-Signature-256"));
        assert_eq!(of("Twilio").as_deref(), Some("X-Twilio-Signature"));
        assert!(known.len() > 30, "{}", known.len());
    }

    #[test]
    fn of_doubled_headers_the_first_or_the_last_is_kept() {
        let headers: Headers = [("a", "1"), ("b", "2"), ("a", "3")].into_iter().collect();
        let shown = |headers: Headers| -> Vec<_> {
            headers
                .iter()
                .map(|(name, value)| format!("{name}{}", String::from_utf8_lossy(value)))
                .collect()
        };
        assert_eq!(shown(once(&headers, true)), ["a1", "b2"]);
        assert_eq!(shown(once(&headers, false)), ["b2", "a3"]);
    }
}
