//! No secret matched: what would have had to be different?

use serde_json::Value;

use super::{Case, Finding, Kind, bodies, headers, secrets, urls};
use crate::{limits, refusal::Step, request::Unverified, source::Proof};

impl Case<'_> {
    /// Tries one thing after the other, the surest first. The first that holds is the cause.
    pub(super) fn no_match(&self) -> Finding {
        self.wrong_source()
            .or_else(|| self.secret_spelling())
            .or_else(|| self.url_mismatch())
            .or_else(|| self.body_altered())
            .or_else(|| self.header_altered())
            .or_else(|| self.body_empty())
            .or_else(|| self.test_mode())
            .unwrap_or_else(|| self.nothing_matched())
    }

    /// Whether another source accepts it: of the same provider, or of another one.
    pub(super) fn wrong_source(&self) -> Option<Finding> {
        let others = self.today.sources.values().filter(|other| other.name != self.source.name);
        let mut others: Vec<_> = others.collect();
        others.sort_by_key(|other| other.provider.name() != self.source.provider.name());
        let right = others.into_iter().find(|other| {
            let request = self.today.request(other, self.row, self.opened);
            matches!(other.verify(request, self.as_of), Ok(Proof::Holds(_)))
        })?;
        let (here, there, title) = (&self.source.name, &right.name, right.provider.title());
        let send = format!("have {title} send it to {}", right.path);
        let (cause, fix) = if right.provider.name() == self.source.provider.name() {
            (
                format!("it was signed with the secret of source `{there}` and sent to `{here}`"),
                format!("{send}, or add that secret to `sources.{here}.secrets`"),
            )
        } else {
            (format!("it is {title}'s, for source `{there}`, and was sent to `{here}`"), send)
        };
        let evidence = format!("source `{there}` accepts it as it is");
        Some(self.proved(Kind::WrongSource, (cause, fix), evidence))
    }

    fn secret_spelling(&self) -> Option<Finding> {
        let (number, how) = secrets::spelling_that_fits(self)?;
        let name = &self.source.name;
        let cause =
            format!("a secret of source `{name}` is right but for its spelling: {}", how.wrong);
        let fix = format!("{} in `sources.{name}.secrets`", how.fix);
        let evidence = format!(
            "secret {number} of {} made the signature when it was {}",
            self.source.settings.secrets.len(),
            how.tried
        );
        Some(self.proved(Kind::SecretSpelling, (cause, fix), evidence))
    }

    fn url_mismatch(&self) -> Option<Finding> {
        if !self.covers_the_url() {
            return None;
        }
        let url = urls::others(self)
            .into_iter()
            .find(|url| self.holds(&Unverified { url: url.clone(), ..self.request.clone() }))?;
        let (signed, used) = (urls::shown(&url), urls::shown(&self.request.url));
        let cause =
            format!("the signature covers the URL, and was made for {signed}, not for {used}");
        let evidence = format!("used {used}; {signed} matches");
        Some(self.proved(Kind::UrlMismatch, (cause, urls::fix(self, &url)), evidence))
    }

    /// Whether the URL makes a difference: tried by signing the same for two of them. What cannot be
    /// signed here is taken to cover it, which costs a few tries.
    fn covers_the_url(&self) -> bool {
        let signed_for = |url: &str| {
            let mut draft = Unverified { url: url.to_owned(), ..self.request.clone() };
            let signed = self.source.scheme.sign(&mut draft, self.as_of);
            signed.ok().map(|()| draft.headers)
        };
        match (signed_for("https://a.example/"), signed_for("https://b.example/")) {
            (Some(one), Some(other)) => one != other,
            _ => true,
        }
    }

    fn body_altered(&self) -> Option<Finding> {
        if !self.opened.has_body || self.request.body.is_empty() {
            return None;
        }
        let (how, _) = bodies::others(&self.request.body).find(|(_, body)| {
            self.holds(&Unverified { body: body.clone(), ..self.request.clone() })
        })?;
        let cause = format!("the body was altered on its way: {}", how.altered);
        let fix = "have the proxy or framework in front pass the body on byte for byte".to_owned();
        let evidence = format!("the signature matches the body {}", how.tried);
        Some(self.proved(Kind::BodyAltered, (cause, fix), evidence))
    }

    fn header_altered(&self) -> Option<Finding> {
        let (name, how) = headers::spelling_that_fits(self)?;
        let cause = format!("header `{name}` was altered on its way: {}", how.altered);
        let fix = "have the proxy in front pass headers on as they are".to_owned();
        let evidence = format!("the signature matches with `{name}` {}", how.tried);
        Some(self.proved(Kind::HeaderMalformed, (cause, fix), evidence))
    }

    fn body_empty(&self) -> Option<Finding> {
        let empty = self.opened.has_body && self.request.body.is_empty();
        if !empty || self.request.method == "GET" {
            return None;
        }
        let cause = "the body is empty: likely a redirect, proxy or load balancer has swallowed it";
        let fix = "have the provider call the final URL (https, no redirect), and look at what stands in between";
        let mut finding = self.found(Kind::BodyEmpty, cause.to_owned(), fix.to_owned());
        finding.evidence.push(format!(
            "a {} with no body came from {}",
            self.row.method,
            self.sender()
        ));
        Some(finding)
    }

    fn test_mode(&self) -> Option<Finding> {
        let body: Value = serde_json::from_slice(&self.request.body).ok()?;
        let says = [
            ("livemode", Value::Bool(false)),
            ("live_mode", Value::Bool(false)),
            ("live", Value::Bool(false)),
            ("test", Value::Bool(true)),
            ("test_mode", Value::Bool(true)),
            ("mode", Value::String("test".to_owned())),
            ("environment", Value::String("sandbox".to_owned())),
        ];
        let (name, value) = says.into_iter().find(|(name, value)| body.get(name) == Some(value))?;
        let cause = format!(
            "no secret matched; the body says that it is of {}'s test mode, so likely source `{}` has the live secret",
            self.title(),
            self.source.name
        );
        let fix = format!(
            "give test mode a source of its own with its secret, or add that secret to `sources.{}.secrets`",
            self.source.name
        );
        let mut finding = self.found(Kind::TestMode, cause, fix);
        finding.evidence.push(format!("`{name}` is {value} in the body, which nothing has proved"));
        Some(finding)
    }

    fn nothing_matched(&self) -> Finding {
        if let Some(finding) = self.other_provider() {
            return finding;
        }
        let name = &self.source.name;
        let (kind, cause) = if self.row.step == Step::Form {
            let cause = format!(
                "{}; likely it is not from {}, or of another version of its signatures",
                self.row.problem,
                self.title()
            );
            (Kind::HeaderMalformed, cause)
        } else {
            let cause = "no secret matched; likely the secret is that of another endpoint or has been rolled, or somebody else sent this";
            (Kind::NoMatch, cause.to_owned())
        };
        let fix = format!(
            "compare `sources.{name}` with what {} shows for this endpoint: {}",
            self.title(),
            self.docs()
        );
        let mut finding = self.found(kind, cause, fix);
        let keys = self.source.settings.secrets.len() + self.source.settings.public_keys.len();
        finding.evidence.push(format!(
            "{keys} keys of this source, and {} other sources, were tried",
            self.today.sources.len() - 1
        ));
        if !self.opened.has_body {
            finding.evidence.push(
                "its body was too long to be kept, so no other form of it was tried".to_owned(),
            );
        }
        if self.request.body.len() > limits::RESPELLED_BODY_BYTES_MAX {
            finding
                .evidence
                .push("its body is too long for other spellings of it to be tried".to_owned());
        }
        if self.covers_the_url() {
            let used = urls::shown(&self.request.url);
            finding.evidence.push(format!(
                "the URL that was used is {used}; others that the request names did not match"
            ));
        }
        finding
    }
}
