//! Whatever is done to a signed request on its way, it is refused.

use std::collections::BTreeSet;

use bytes::Bytes;
use hookonce::{
    clock::Timestamp,
    fixture::Fixture,
    provider::Provider,
    request::Unverified,
    secret::Secret,
    source::Source,
    verify::{self, check},
};
use url::form_urlencoded;

use crate::{fixtures, now_of, source_of};

/// Of a longer body every n-th byte is flipped, so that the whole run takes seconds.
const BODY_BYTES_FLIPPED_MAX: usize = 1024;

/// A request that its source accepts, with one signature in it.
struct Case {
    name: String,
    provider: &'static dyn Provider,
    fixture: Fixture,
    source: Source,
    now: Timestamp,
    request: Unverified,
}

impl Case {
    /// Every fixture that passes for being signed.
    fn all() -> Vec<Self> {
        let signed = |(_, fixture): &(_, Fixture)| {
            let expect = fixture.expect.as_deref().unwrap_or_default();
            let unsigned = fixture.name.starts_with("unsigned_"); // a handshake before any secret
            fixture.request().method == "POST" && !expect.starts_with("refused") && !unsigned
        };
        let case = |(provider, fixture): (&'static dyn Provider, Fixture)| {
            let (source, now) = (source_of(provider, &fixture), now_of(&fixture));
            let mut request = fixture.request().clone();
            // What has several signatures gets one: the others may be changed without harm.
            if source.scheme.sign(&mut request, now).is_err() {
                let value = request.headers.first("webhook-signature").expect("only v1a is public");
                let last = value.rsplit(' ').next().unwrap_or_default().to_owned();
                request.headers.set("webhook-signature", last);
            }
            let name = format!("{}/{}", provider.name(), fixture.name);
            Self { name, provider, fixture, source, now, request }
        };
        let cases: Vec<_> = fixtures().filter(signed).map(case).collect();
        assert!(cases.len() > 30, "only {} cases", cases.len());
        cases
    }

    /// The headers that carry the signature, or are covered by it.
    fn signing_headers(&self) -> Vec<&'static str> {
        let names: &[_] = match self.provider.name() {
            "bitbucket" | "intercom" => &["x-hub-signature"],
            "calendly" => &["calendly-webhook-signature"],
            "circleci" => &["circleci-signature"],
            "clerk" | "resend" => &["svix-id", "svix-timestamp", "svix-signature"],
            "coinbase_commerce" => &["x-cc-webhook-signature"],
            "docusign" => &["x-docusign-signature-1"],
            "github" => &["x-hub-signature-256"],
            "heroku" => &["heroku-webhook-hmac-sha256"],
            "hmac" => {
                &["x-signature", "x-hub-signature-256", "x-sig", "x-mac", "x-time", "x-event"]
            }
            "lemonsqueezy" => &["x-signature"],
            "linear" => &["linear-signature"],
            "mux" => &["mux-signature"],
            "notion" => &["x-notion-signature"],
            "paddle" => &["paddle-signature"],
            "pagerduty" => &["x-pagerduty-signature"],
            "razorpay" => &["x-razorpay-signature"],
            "sentry" => &["sentry-hook-signature"],
            "shopify" => &["x-shopify-hmac-sha256", "shopify-hmac-sha256"],
            "slack" => &["x-slack-signature", "x-slack-request-timestamp"],
            "square" => &["x-square-hmacsha256-signature"],
            "stripe" => &["stripe-signature"],
            "twilio" => &["x-twilio-signature"],
            "typeform" => &["typeform-signature"],
            "vercel" => &["x-vercel-signature"],
            "workos" => &["workos-signature"],
            "zendesk" => &["x-zendesk-webhook-signature", "x-zendesk-webhook-signature-timestamp"],
            "svix" if self.has("svix-signature") => {
                &["svix-id", "svix-timestamp", "svix-signature"]
            }
            "bird" | "openai" | "standardwebhooks" | "svix" => {
                &["webhook-id", "webhook-timestamp", "webhook-signature"]
            }
            other => panic!("name the signing headers of {other}"),
        };
        names.iter().copied().filter(|name| self.has(name)).collect()
    }

    fn has(&self, header: &str) -> bool {
        self.request.headers.all(header).next().is_some()
    }

    fn accepts(&self, request: Unverified, now: Timestamp) -> bool {
        check(&self.source, request, now).is_accepted()
    }

    /// Asserts that the request is refused after `change`.
    fn refuses(&self, what: &str, change: impl FnOnce(&mut Unverified)) {
        let mut request = self.request.clone();
        change(&mut request);
        assert!(!self.accepts(request, self.now), "{} accepted: {what}", self.name);
    }

    /// The same source with these secrets, or public keys.
    fn with_keys(&self, keys: &[&str]) -> Source {
        let mut settings = self.fixture.settings.clone();
        if settings.secrets.is_empty() {
            settings.public_keys = keys.iter().map(|key| (*key).to_owned()).collect();
        } else {
            settings.secrets = keys.iter().map(|key| Secret::new(*key)).collect();
        }
        verify::source(self.provider, settings).expect("the keys have the right form")
    }
}

/// `bytes` with each of the bits of every `step`-th byte flipped in turn.
fn flips(bytes: &[u8], step: usize) -> impl Iterator<Item = (String, Bytes)> {
    (0..bytes.len()).step_by(step).flat_map(move |at| {
        (0..8).map(move |bit| {
            let mut flipped = bytes.to_vec();
            if let Some(byte) = flipped.get_mut(at) {
                *byte ^= 1 << bit;
            }
            (format!("bit {bit} of byte {at} flipped"), flipped.into())
        })
    })
}

#[test]
fn what_is_not_tampered_with_is_accepted() {
    for case in Case::all() {
        assert!(case.accepts(case.request.clone(), case.now), "{}", case.name);
    }
}

#[test]
fn no_bit_of_a_signing_header_may_change() {
    for case in Case::all() {
        for header in case.signing_headers() {
            let value = case.request.headers.all(header).next().expect("it is there").to_vec();
            for (what, value) in flips(&value, 1) {
                case.refuses(&what, |request| request.headers.set(header, value));
            }
        }
    }
}

#[test]
fn no_bit_of_the_body_may_change() {
    for case in Case::all() {
        let body = case.request.body.clone();
        let step = body.len().div_ceil(BODY_BYTES_FLIPPED_MAX).max(1);
        for (what, flipped) in flips(&body, step) {
            if case.provider.name() == "twilio" && is_same_form(&body, &flipped) {
                continue; // `%2B` and `%2b` are the same: Twilio signs the decoded form
            }
            case.refuses(&what, |request| request.body = flipped);
        }
        case.refuses("a byte more", |request| request.body = [&body[..], b"x"].concat().into());
        if let Some((_, shorter)) = body.split_last() {
            case.refuses("a byte less", |request| request.body = shorter.to_vec().into());
            case.refuses("no body", |request| request.body = Bytes::new());
        }
    }
}

fn is_same_form(left: &[u8], right: &[u8]) -> bool {
    let pairs = |form| form_urlencoded::parse(form).collect::<BTreeSet<_>>();
    pairs(left) == pairs(right)
}

#[test]
fn no_bit_of_a_signed_url_may_change() {
    for case in Case::all() {
        let signed =
            case.fixture.settings.extra.get("signed").is_some_and(|it| it.contains("{url}"));
        if !signed && !matches!(case.provider.name(), "square" | "twilio") {
            continue;
        }
        for (what, url) in flips(case.request.url.as_bytes(), 1) {
            if let Ok(url) = String::from_utf8(url.to_vec()) {
                case.refuses(&format!("URL: {what}"), |request| request.url = url);
            }
        }
    }
}

#[test]
fn a_signing_header_is_there_once_and_whole() {
    for case in Case::all() {
        for header in case.signing_headers() {
            let value = case.request.headers.all(header).next().expect("it is there").to_vec();
            let refuses = |what: &str, value: Vec<u8>| {
                case.refuses(&format!("{header} {what}"), |request| {
                    request.headers.set(header, value);
                });
            };
            case.refuses(&format!("{header} missing"), |request| request.headers.remove(header));
            case.refuses(&format!("{header} doubled"), |request| {
                request.headers.push(header, value.clone());
            });
            refuses("empty", Vec::new());
            refuses("not ASCII", ["é".as_bytes(), &value].concat());
            refuses("with a byte that is no text", [&value[..], b"\xff"].concat());
            refuses("with a letter before it", [b"x", &value[..]].concat());
            for length in 0..value.len() {
                refuses("cut short", value[..length].to_vec());
            }
        }
    }
}

#[test]
fn only_the_configured_keys_sign_and_each_of_them_does() {
    for case in Case::all() {
        let secret = case.fixture.settings.secrets.first().map(|secret| secret.expose().to_owned());
        let (own, other) = match secret {
            Some(own) => (own, case.provider.development_secret([7; 24]).expose().to_owned()),
            None => {
                let own = case.fixture.settings.public_keys[0].clone();
                (own, "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=".to_owned())
            }
        };
        let source = case.with_keys(&[&other]);
        assert!(!check(&source, case.request.clone(), case.now).is_accepted(), "{}", case.name);
        let source = case.with_keys(&[&other, &own]);
        assert!(check(&source, case.request.clone(), case.now).is_accepted(), "{}", case.name);
    }
}

#[test]
fn a_signed_time_holds_for_its_tolerance_both_ways() {
    for case in Case::all() {
        let at = |seconds: i64| Timestamp::from_millis(case.now.as_millis() + seconds * 1000);
        let accepts = |seconds| case.accepts(case.request.clone(), at(seconds));
        let in_settings = || {
            let signed = case.fixture.settings.extra.get("signed")?;
            signed.contains("{timestamp}").then_some(300)
        };
        let tolerance = match case.provider.name() {
            "paddle" => Some(5),
            "linear" => Some(60),
            "calendly" | "workos" => Some(180),
            "bird" | "clerk" | "mux" | "openai" | "resend" => Some(300),
            "slack" | "standardwebhooks" | "stripe" | "svix" => Some(300),
            _ => in_settings(),
        };
        for years_off in [-1_000_000_000, 1_000_000_000] {
            assert_eq!(accepts(years_off), tolerance.is_none(), "{}", case.name);
        }
        if let Some(most) = tolerance {
            let verdicts = [-most - 1, -most, most, most + 1].map(accepts);
            assert_eq!(verdicts, [false, true, true, false], "{}", case.name);
        }
    }
}

#[test]
fn a_renewed_fixture_is_another_event_and_accepted() {
    let mut random = rand::rng();
    for case in Case::all().into_iter().filter(|case| case.fixture.is_accepted()) {
        let later = Timestamp::from_seconds(case.now.as_seconds() + 86_400);
        let url = "https://elsewhere.example/in";
        let renewed = case.fixture.renewed(&case.source, url, later, &mut random);
        let Ok(renewed) = renewed else {
            assert!(case.fixture.settings.secrets.is_empty(), "{}", case.name);
            continue;
        };
        assert!(renewed.url.starts_with(url));
        let events = |request, now| match check(&case.source, request, now) {
            verify::Checked::Accepted(events, _) => events,
            other => panic!("{}: {other:?}", case.name),
        };
        let old = events(case.request.clone(), case.now);
        let new = events(renewed, later);
        assert_eq!(old.len(), new.len());
        for (old, new) in old.iter().zip(&new) {
            assert_ne!(old.named.identity, new.named.identity, "{}", case.name);
            assert_eq!(old.named.event_type, new.named.event_type, "{}", case.name);
            let is_copy = old.named.digest.is_some() && old.named.digest == new.named.digest;
            assert!(!is_copy, "{}", case.name);
        }
    }
}
