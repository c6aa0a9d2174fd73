//! Whatever is done to a signed request on its way, it is refused.

use std::{
    collections::BTreeSet,
    sync::Mutex,
    thread::{available_parallelism, scope},
};

use bytes::Bytes;
use hookonce::{
    clock::Timestamp,
    fixture::Fixture,
    provider::Provider,
    verify::{self, check},
};
use url::form_urlencoded;

use crate::case::Case;

/// Of a longer body every n-th byte is flipped, so that the whole run takes seconds.
const BODY_BYTES_FLIPPED_MAX: usize = 1024;

/// What is changed, and who changes it in each case.
type Forger = (&'static str, fn(&Case));

const FORGERS: &[Forger] = &[
    ("a bit of a signing header", flip_signing_headers),
    ("a signing header missing, doubled or not whole", break_signing_headers),
    ("a bit of the body", flip_body),
    ("a bit of what is signed inside a body", flip_signed_values),
    ("a bit of a signed URL", flip_url),
    ("another key", change_keys),
    ("another time", change_time),
];

#[test]
fn what_is_not_tampered_with_is_accepted() {
    for case in Case::all().into_iter().chain(Case::renewed()) {
        assert!(case.accepts(case.request.clone(), case.now), "{}", case.name);
    }
}

#[test]
fn a_million_forgeries_are_refused() {
    const FORGERIES_MIN: usize = 1_000_000;
    let mut total = 0;
    for (what, forge) in FORGERS {
        let cases: Vec<_> = Case::all().into_iter().chain(Case::renewed()).collect();
        on_all_cores(&cases, forge);
        let refused: usize = cases.iter().map(Case::count).sum();
        println!("{refused:>9} forgeries refused: {what}");
        assert!(refused > 0, "{what}");
        total += refused;
    }
    println!("{total:>9} in all");
    assert!(total >= FORGERIES_MIN, "only {total} forgeries were tried");
}

/// Forges each case, as many at once as there are cores.
fn on_all_cores(cases: &[Case], forge: &(dyn Fn(&Case) + Sync)) {
    let waiting = Mutex::new(cases.iter());
    let next = || waiting.lock().unwrap().next();
    scope(|scope| {
        for _ in 0..available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(case) = next() {
                    forge(case);
                }
            });
        }
    });
}

fn flip_signing_headers(case: &Case) {
    for header in case.signing_headers() {
        let value = case.request.headers.all(header).next().expect("it is there").to_vec();
        for (what, value) in flips(&value, 1) {
            case.refuses(&what, |request| request.headers.set(header, value));
        }
    }
}

fn break_signing_headers(case: &Case) {
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

fn flip_body(case: &Case) {
    if !case.covers_body() {
        return;
    }
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

fn flip_signed_values(case: &Case) {
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

fn flip_url(case: &Case) {
    if !case.covers_url() {
        return;
    }
    for (what, url) in flips(case.request.url.as_bytes(), 1) {
        if let Ok(url) = String::from_utf8(url.to_vec()) {
            case.refuses(&format!("URL: {what}"), |request| request.url = url);
        }
    }
}

fn change_keys(case: &Case) {
    let secret = case.fixture.settings.secrets.first().map(|secret| secret.expose().to_owned());
    let (own, other) = match secret {
        Some(own) => (own, case.provider.development_secret([7; 24]).expose().to_owned()),
        None => {
            let own = case.fixture.settings.public_keys[0].clone();
            (own.clone(), other_public_key(case.provider, &own))
        }
    };
    let source = case.with_keys(&[&other]);
    case.is_refused_by(&source, "another key");
    let source = case.with_keys(&[&other, &own]);
    assert!(check(&source, case.request.clone(), case.now).is_accepted(), "{}", case.name);
}

fn change_time(case: &Case) {
    let at = |seconds: i64| Timestamp::from_millis(case.now.as_millis() + seconds * 1000);
    let accepts = |seconds| case.accepts(case.request.clone(), at(seconds));
    if ["aws_sns", "google_pubsub", "messagebird", "paypal"].contains(&case.provider.name()) {
        return; // their tokens and certificates have dates of their own
    }
    let tolerance = case.tolerance_seconds();
    for years_off in [-1_000_000_000, 1_000_000_000] {
        assert_eq!(accepts(years_off), tolerance.is_none(), "{}", case.name);
    }
    if let Some(seconds) = tolerance {
        let verdicts = [-seconds - 1, -seconds, seconds, seconds + 1].map(accepts);
        assert_eq!(verdicts, [false, true, true, false], "{}", case.name);
        case.refuses_at("too old", case.request.clone(), at(seconds + 1));
        case.refuses_at("of the future", case.request.clone(), at(-seconds - 1));
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

/// A public key that another fixture of the provider has.
fn other_public_key(provider: &dyn Provider, own: &str) -> String {
    let fixtures = Fixture::all(provider.name()).into_iter();
    let mut keys = fixtures.flat_map(|fixture| fixture.settings.public_keys);
    let v1a = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    keys.find(|key| key != own).unwrap_or_else(|| v1a.to_owned())
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
