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
        let signed = |(provider, fixture): &(&'static dyn Provider, Fixture)| {
            let expect = fixture.expect.as_deref().unwrap_or_default();
            let source = source_of(*provider, fixture);
            let handshake = source.unsigned_handshake(fixture.request());
            let is_signed = handshake.is_ok_and(|reply| reply.is_none());
            fixture.request().method == "POST" && !expect.starts_with("refused") && is_signed
        };
        let case = |(provider, fixture): (&'static dyn Provider, Fixture)| {
            let (source, now) = (source_of(provider, &fixture), now_of(&fixture));
            let mut request = fixture.request().clone();
            // What has several signatures gets one: the others may be changed without harm.
            if source.scheme.sign(&mut request, now).is_err()
                && let Some(value) = request.headers.first("webhook-signature")
            {
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
            "aws_sns" => &[],
            "discord" => &["x-signature-ed25519", "x-signature-timestamp"],
            "google_pubsub" | "vonage" => &["authorization"],
            "messagebird" => &["messagebird-signature-jwt"],
            "paypal" => &[
                "paypal-auth-algo",
                "paypal-transmission-id",
                "paypal-transmission-sig",
                "paypal-transmission-time",
            ],
            "plaid" => &["plaid-verification"],
            "sendgrid" => &[
                "x-twilio-email-event-webhook-signature",
                "x-twilio-email-event-webhook-timestamp",
            ],
            "github" | "meta" => &["x-hub-signature-256"],
            // What signs is in the body, or there is a header for it elsewhere.
            "braintree" | "mailgun" | "msgraph" => &[],
            "adyen" => &["hmacsignature"],
            "asana" => &["x-hook-signature"],
            "dropbox" => &["x-dropbox-signature"],
            "gitlab" => &["webhook-id", "webhook-timestamp", "webhook-signature", "x-gitlab-token"],
            "hubspot" => &[
                "x-hubspot-request-timestamp",
                "x-hubspot-signature-v3",
                "x-hubspot-signature",
                "x-hubspot-signature-version",
            ],
            "line" => &["x-line-signature"],
            "mollie" => &["x-mollie-signature"],
            "okta" if self.has("x-hook-key") => &["x-hook-key"],
            "okta" | "postmark" => &["authorization"],
            "telegram" => &["x-telegram-bot-api-secret-token"],
            "twitch" => &[
                "twitch-eventsub-message-id",
                "twitch-eventsub-message-timestamp",
                "twitch-eventsub-message-signature",
            ],
            "woocommerce" => &["x-wc-webhook-signature"],
            "x_twitter" => &["x-twitter-webhooks-signature"],
            "xero" => &["x-xero-signature"],
            "zoom" => &["x-zm-request-timestamp", "x-zm-signature"],
            "bitbucket" | "intercom" => &["x-hub-signature"],
            "calendly" => &["calendly-webhook-signature"],
            "circleci" => &["circleci-signature"],
            "clerk" | "resend" => &["svix-id", "svix-timestamp", "svix-signature"],
            "coinbase_commerce" => &["x-cc-webhook-signature"],
            "docusign" => &["x-docusign-signature-1"],
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

    /// Whether the signature covers the body. Where it does not, only a token is shown.
    fn covers_body(&self) -> bool {
        match self.provider.name() {
            "google_pubsub" | "mailgun" | "msgraph" | "okta" | "postmark" | "telegram" => false,
            "adyen" => self.has("hmacsignature"),
            "gitlab" => self.has("webhook-signature"),
            _ => true,
        }
    }

    /// The values inside the body that the signature consists of or covers, where it is in there.
    fn signed_values(&self) -> Vec<String> {
        let pointers: &[_] = match self.provider.name() {
            "mailgun" => &["/signature/timestamp", "/signature/token", "/signature/signature"],
            "msgraph" => &["/value/0/clientState"],
            "adyen" if !self.has("hmacsignature") => &[
                "/notificationItems/0/NotificationRequestItem/additionalData/hmacSignature",
                "/notificationItems/0/NotificationRequestItem/pspReference",
                "/notificationItems/0/NotificationRequestItem/amount/currency",
                "/notificationItems/0/NotificationRequestItem/eventCode",
                "/notificationItems/0/NotificationRequestItem/success",
            ],
            _ => return Vec::new(),
        };
        let body: serde_json::Value = serde_json::from_slice(&self.request.body).expect("JSON");
        let value = |pointer: &&str| body.pointer(pointer)?.as_str().map(str::to_owned);
        pointers.iter().map(|pointer| value(pointer).expect("it is there")).collect()
    }

    /// How far the signed time may be off. `None`: no time is signed.
    fn tolerance_seconds(&self) -> Option<i64> {
        let signed = self.fixture.settings.extra.get("signed");
        match self.provider.name() {
            "bird" | "clerk" | "mux" | "openai" | "plaid" | "resend" => Some(300),
            "slack" | "standardwebhooks" | "stripe" | "svix" => Some(300),
            "paddle" => Some(5),
            "linear" => Some(60),
            "calendly" | "workos" => Some(180),
            "gitlab" => self.has("webhook-timestamp").then_some(300),
            "hubspot" => self.has("x-hubspot-request-timestamp").then_some(300),
            "mailgun" => Some(86_400),
            "twitch" => Some(600),
            "zoom" => Some(5_400),
            _ => signed.is_some_and(|it| it.contains("{timestamp}")).then_some(300),
        }
    }

    /// Whether the signature covers the URL.
    fn covers_url(&self) -> bool {
        let signed = self.fixture.settings.extra.get("signed");
        match self.provider.name() {
            "messagebird" | "square" | "twilio" => true,
            "hubspot" => self.request.headers.first("x-hubspot-signature-version") != Some("v1"),
            _ => signed.is_some_and(|it| it.contains("{url}")),
        }
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
        Source::new(self.provider.name(), self.provider, settings)
            .expect("the keys have the right form")
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
    for case in Case::all().into_iter().filter(Case::covers_body) {
        let body = case.request.body.clone();
        let step = body.len().div_ceil(BODY_BYTES_FLIPPED_MAX).max(1);
        for (what, flipped) in flips(&body, step) {
            let signs_form = ["braintree", "twilio"].contains(&case.provider.name());
            if signs_form && is_same_form(&body, &flipped) {
                continue; // `%2B` and `%2b` are the same: it is the decoded form that is signed
            }
            if case.provider.name() == "aws_sns" && is_same_message(&body, &flipped) {
                continue; // SNS signs the decoded values of some members
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

#[test]
fn no_bit_of_what_is_signed_inside_a_body_may_change() {
    for case in Case::all() {
        for value in case.signed_values() {
            let body = std::str::from_utf8(&case.request.body).expect("the body is text");
            let (before, after) = body.split_once(&value).expect("the value stands there as it is");
            for (what, flipped) in flips(value.as_bytes(), 1) {
                let body = [before.as_bytes(), &flipped, after.as_bytes()].concat();
                case.refuses(&format!("{value}: {what}"), |request| request.body = body.into());
            }
            let emptied = [before, after].concat();
            case.refuses("emptied", |request| request.body = emptied.into());
        }
    }
}

fn is_same_form(left: &[u8], right: &[u8]) -> bool {
    let pairs = |form| form_urlencoded::parse(form).collect::<BTreeSet<_>>();
    pairs(left) == pairs(right)
}

fn is_same_message(left: &[u8], right: &[u8]) -> bool {
    let members = |body| {
        let json = serde_json::from_slice::<serde_json::Value>(body).unwrap_or_default();
        let of = |name: &str| json.get(name).cloned();
        ["Type", "MessageId", "TopicArn", "Subject", "Message", "Timestamp"]
            .map(of)
            .into_iter()
            .chain(["SubscribeURL", "Token", "SignatureVersion", "Signature"].map(of))
            .collect::<Vec<_>>()
    };
    members(left) == members(right)
}

#[test]
fn no_bit_of_a_signed_url_may_change() {
    for case in Case::all() {
        if !case.covers_url() {
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
            if header != "x-mollie-signature" {
                // Mollie doubles it by itself, while a secret is rotated.
                case.refuses(&format!("{header} doubled"), |request| {
                    request.headers.push(header, value.clone());
                });
            }
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

/// A public key that another fixture of the provider has.
fn other_public_key(provider: &dyn Provider, own: &str) -> String {
    let fixtures = Fixture::all(provider.name()).into_iter();
    let mut keys = fixtures.flat_map(|fixture| fixture.settings.public_keys);
    let v1a = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    keys.find(|key| key != own).unwrap_or_else(|| v1a.to_owned())
}

#[test]
fn only_the_configured_keys_sign_and_each_of_them_does() {
    for case in Case::all() {
        let secret = case.fixture.settings.secrets.first().map(|secret| secret.expose().to_owned());
        let (own, other) = match secret {
            Some(own) => (own, case.provider.development_secret([7; 24]).expose().to_owned()),
            None => {
                let own = case.fixture.settings.public_keys[0].clone();
                (own.clone(), other_public_key(case.provider, &own))
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
        if ["aws_sns", "google_pubsub", "messagebird", "paypal"].contains(&case.provider.name()) {
            continue; // their tokens and certificates have dates of their own
        }
        let tolerance = case.tolerance_seconds();
        for years_off in [-1_000_000_000, 1_000_000_000] {
            assert_eq!(accepts(years_off), tolerance.is_none(), "{}", case.name);
        }
        if let Some(seconds) = tolerance {
            let verdicts = [-seconds - 1, -seconds, seconds, seconds + 1].map(accepts);
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
            let identity = &new.named.identity;
            assert!(identity.is_none() || *identity != old.named.identity, "{}", case.name);
            assert_eq!(old.named.event_type, new.named.event_type, "{}", case.name);
            let is_copy = old.named.digest.is_some() && old.named.digest == new.named.digest;
            assert!(!is_copy, "{}", case.name);
        }
    }
}
