//! Twilio: `X-Twilio-Signature: <base64>`, HMAC-SHA1 over the URL and the parameters of the form.
//!
//! <https://www.twilio.com/docs/usage/webhooks/webhooks-security>
//!
//! A form adds name and value of each parameter to the URL, sorted by name, each distinct value of
//! a repeated name once. Any other body is not signed itself: its SHA-256 is the parameter
//! `bodySHA256` of the signed URL, and a body without it is refused. With the header
//! `X-Twilio-Webhooks-Signature-Settings: …,algorithm=HMAC_SHA256` (a shared key) the HMAC is
//! SHA-256.
//!
//! The URL is the one that Twilio called, letter for letter, less its fragment. As in Twilio's
//! libraries, it also fits without its port, or with the default port written out. What one of them
//! does besides, trying the URL as a URL parser would rewrite it, is not done: it would accept what
//! the provider did not sign.
//!
//! Identity: the header `I-Twilio-Idempotency-Token`, which is not signed, and the digest of the
//! signed content; without a token the digest alone. Nothing signed changes between attempts. The
//! elements of a JSON array (Event Streams) are events of their own, each under its signed `/id`.
//!
//! Callbacks have no type, so we name them after what they report: `message.delivered` from
//! `MessageStatus` or `SmsStatus`, `call.completed` from `CallStatus`; JSON after its `/type`.

use std::{borrow::Cow, collections::BTreeSet, time::Duration};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use url::form_urlencoded;

use super::{
    NotSignable, Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Algorithm, Encoding, KeyForm, keys::Keys, only},
};
use crate::{
    clock::Timestamp,
    event::{Digest, Named},
    receipt::Reply,
    refusal::{Refusal, SignatureProblem},
    request::{Unverified, Verified},
    secret::{self, Secret},
};

const SIGNATURE: &str = "X-Twilio-Signature";
const SIGNATURE_SETTINGS: &str = "X-Twilio-Webhooks-Signature-Settings";
const BODY_DIGEST: &str = "bodySHA256";

/// Twilio's rules.
#[derive(Debug)]
pub struct Twilio;

impl Provider for Twilio {
    fn name(&self) -> &'static str {
        "twilio"
    }

    fn title(&self) -> &'static str {
        "Twilio"
    }

    fn docs(&self) -> &'static str {
        "https://www.twilio.com/docs/usage/webhooks/webhooks-security"
    }

    fn secret_variable(&self) -> &'static str {
        "TWILIO_AUTH_TOKEN"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA1 (shared keys: SHA-256) over URL and form, or URL and digest of the body"
    }

    fn identity(&self) -> &'static str {
        "`I-Twilio-Idempotency-Token`, which is not signed, and the digest of what is; \
         Event Streams: `/id`"
    }

    /// Callbacks once; Event Streams for four hours.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(4)
    }

    fn methods(&self) -> &'static [&'static str] {
        &["POST", "GET"]
    }

    fn development_secret(&self, random: [u8; 24]) -> Secret {
        let (half, _) = random.split_at(16);
        Secret::new(hex::encode(half))
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        if settings.tolerance.is_some() {
            return Err(vec!["tolerance: Twilio signs no time; take it out".to_owned()]);
        }
        let keys = |algorithm| Keys::new(algorithm, KeyForm::Text, settings);
        let (sha1, sha256) = (keys(Algorithm::HmacSha1)?, keys(Algorithm::HmacSha256)?);
        Ok(Box::new(TwilioScheme { sha1, sha256 }))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        if !is_form(request)
            && let Some(elements) = elements(&request.body)
        {
            return Ok(elements);
        }
        let parameters = parameters(request);
        let content = Digest::of(message(without_fragment(&request.url), &parameters));
        let token = request.headers.only("I-Twilio-Idempotency-Token").ok();
        let (id, body) = (token.and_then(naming::usable), request.body.clone());
        Ok(vec![naming::by_unsigned_id(id, event_type(request), body, content)])
    }

    fn reply(&self) -> Option<Reply> {
        let twiml = &b"<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response/>"[..];
        Some(Reply::ok("text/xml", Bytes::from_static(twiml)))
    }
}

/// A message in Twilio's form that each key signs with the algorithm the request asks for.
#[derive(Debug)]
struct TwilioScheme {
    sha1: Keys,
    sha256: Keys,
}

impl Scheme for TwilioScheme {
    fn verify(&self, request: &Unverified, _: Timestamp) -> Result<(), SignatureProblem> {
        let header = only(request, SIGNATURE)?;
        let keys = self.keys(request)?;
        let form = |what: &str| SignatureProblem::Form(what.to_owned());
        let signature = Encoding::Base64.decode(header);
        let signature = [signature.ok_or_else(|| form("the signature is not base64"))?];
        if !is_form(request) {
            match request.query_parameter(BODY_DIGEST) {
                Some(given) if secret::equal(given.as_bytes(), body_digest(request).as_bytes()) => {
                }
                Some(_) => return Err(form("the body is not the one `bodySHA256` was made of")),
                None if request.body.is_empty() => {}
                None => return Err(form("the URL has no `bodySHA256` that covers the body")),
            }
        }
        let parameters = parameters(request);
        let fits = |url: &String| keys.made_any(&signature, &message(url, &parameters));
        if spellings(&request.url).iter().any(fits) {
            return Ok(());
        }
        Err(SignatureProblem::NoMatch)
    }

    fn sign(&self, draft: &mut Unverified, _: Timestamp) -> Result<(), NotSignable> {
        if !is_form(draft) && !draft.body.is_empty() {
            draft.url = with_body_digest(&draft.url, &body_digest(draft));
        }
        let keys = self.keys(draft).map_err(|problem| NotSignable(problem.to_string()))?;
        let parameters = parameters(draft);
        let message = message(without_fragment(&draft.url), &parameters);
        let signature = keys.sign(&message).expect("an HMAC key signs");
        draft.headers.set(SIGNATURE, Encoding::Base64.encode(&signature));
        Ok(())
    }
}

impl TwilioScheme {
    /// The keys for the algorithm that the request names. It is not signed, but both are HMACs
    /// with the same keys: naming the other one does not help a forger.
    fn keys(&self, request: &Unverified) -> Result<&Keys, SignatureProblem> {
        if request.headers.all(SIGNATURE_SETTINGS).next().is_none() {
            return Ok(&self.sha1);
        }
        let mut items = only(request, SIGNATURE_SETTINGS)?.split(',').map(str::trim);
        let algorithm = items.find_map(|item| item.strip_prefix("algorithm="));
        match algorithm.unwrap_or("HMAC_SHA1").to_ascii_uppercase().as_str() {
            "HMAC_SHA1" => Ok(&self.sha1),
            "HMAC_SHA256" => Ok(&self.sha256),
            _ => Err(SignatureProblem::Form(format!(
                "header `{SIGNATURE_SETTINGS}` names another algorithm than HMAC_SHA1 or \
                 HMAC_SHA256"
            ))),
        }
    }
}

/// What is signed: the URL, then the parameters.
fn message<'a>(url: &'a str, parameters: &'a [Cow<'_, str>]) -> Vec<&'a [u8]> {
    let mut message = vec![url.as_bytes()];
    message.extend(parameters.iter().map(|part| part.as_bytes()));
    message
}

/// The signed parameters of a form as `name`, `value`, `name`, `value` …, sorted, each pair once.
fn parameters(request: &Unverified) -> Vec<Cow<'_, str>> {
    if !is_form(request) {
        return Vec::new();
    }
    let pairs: BTreeSet<_> = form_urlencoded::parse(&request.body).collect();
    pairs.into_iter().flat_map(|(name, value)| [name, value]).collect()
}

/// Whether the body is a form. The content type is not signed, but who changes it gains nothing: a
/// form read as another body lacks `bodySHA256`, and another body read as a form has other
/// parameters.
fn is_form(request: &Unverified) -> bool {
    let content_type = request.headers.first("content-type").unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    request.method != "GET" && essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn body_digest(request: &Unverified) -> String {
    hex::encode(Sha256::digest(&request.body))
}

fn without_fragment(url: &str) -> &str {
    url.split('#').next().unwrap_or_default()
}

/// The URL as it is, and with its port left out or, if it has none, the default one written out:
/// Twilio has signed either, and proxies drop ports.
fn spellings(url: &str) -> Vec<String> {
    let url = without_fragment(url);
    let mut spellings = vec![url.to_owned()];
    let Some((scheme, rest)) = url.split_once("://") else {
        return spellings;
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let port = authority
        .rsplit_once(':')
        .filter(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    match (port, scheme) {
        (Some((host, _)), _) => spellings.push(format!("{scheme}://{host}{path}")),
        (None, "https") => spellings.push(format!("{scheme}://{authority}:443{path}")),
        (None, "http") => spellings.push(format!("{scheme}://{authority}:80{path}")),
        (None, _) => {}
    }
    spellings
}

/// The URL with this digest as its `bodySHA256`, in place of the one it had.
fn with_body_digest(url: &str, digest: &str) -> String {
    let url = without_fragment(url);
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let others = query.split('&').filter(|item| {
        !item.is_empty() && item.split('=').next().is_some_and(|name| name != BODY_DIGEST)
    });
    let mut items: Vec<_> = others.map(str::to_owned).collect();
    items.push(format!("{BODY_DIGEST}={digest}"));
    format!("{path}?{}", items.join("&"))
}

/// A name for what a request reports: a form in its body, a GET in its query, JSON in its `/type`.
fn event_type(request: &Unverified) -> Option<String> {
    let reported = if is_form(request) { &request.body[..] } else { request.query().as_bytes() };
    let status = |name| {
        form_urlencoded::parse(reported).find(|(known, _)| known == name).map(|(_, status)| status)
    };
    let message = status("MessageStatus").or_else(|| status("SmsStatus"));
    let message = message.map(|status| format!("message.{status}"));
    let call = || status("CallStatus").map(|status| format!("call.{status}"));
    match message.or_else(call) {
        Some(name) => naming::usable(name),
        None => json_fields(&request.body).event_type.usable(),
    }
}

/// The elements of a JSON array, each an event under its own id. They are signed through
/// `bodySHA256`.
fn elements(body: &Bytes) -> Option<Vec<Named>> {
    let elements: Vec<&RawValue> = serde_json::from_slice(body).ok()?;
    let event = |element: &RawValue| {
        let bytes = element.get().as_bytes();
        let fields = json_fields(bytes);
        let (id, event_type) = (fields.id.usable(), fields.event_type.usable());
        naming::by_signed_id(id, event_type, body.slice_ref(bytes), || Digest::of([bytes]))
    };
    Some(elements.into_iter().map(event).collect())
}

fn json_fields(body: &[u8]) -> JsonFields<'_> {
    serde_json::from_slice(body).unwrap_or_default()
}

#[derive(Debug, Default, Deserialize)]
struct JsonFields<'a> {
    #[serde(borrow, default)]
    id: Scalar<'a>,
    #[serde(borrow, default, rename = "type")]
    event_type: Scalar<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_spelled_with_and_without_its_port_and_never_otherwise() {
        let cases = [
            ("https://a.example/x?y=1#rc=2", &["https://a.example:443/x?y=1"][..]),
            ("http://a.example", &["http://a.example:80"]),
            ("https://a.example:8443/x", &["https://a.example/x"]),
            ("https://a.example:443/x", &["https://a.example/x"]),
            ("https://user:pa55@a.example/x:1", &["https://user:pa55@a.example:443/x:1"]),
            ("https://[::1]/x", &["https://[::1]:443/x"]),
            ("https://a.example?b=c:1", &["https://a.example:443?b=c:1"]),
            ("wss://a.example/x", &[]),
            ("not a url", &[]),
        ];
        for (url, others) in cases {
            let spellings = spellings(url);
            assert_eq!(spellings[0], url.split('#').next().unwrap());
            assert_eq!(&spellings[1..], others, "{url}");
        }
    }

    #[test]
    fn the_digest_in_the_url_is_replaced_and_the_rest_kept() {
        let url = with_body_digest("https://a.example/x?b=%20&bodySHA256=old&c#f", "new");
        assert_eq!(url, "https://a.example/x?b=%20&c&bodySHA256=new");
        assert_eq!(
            with_body_digest("https://a.example", "new"),
            "https://a.example?bodySHA256=new"
        );
    }

    #[test]
    fn an_array_holds_events_of_its_own() {
        let body = Bytes::from_static(br#"[{"id":"EZ1","type":"a.b"}, {"id":"EZ2"},{}]"#);
        let events = elements(&body).unwrap();
        let ids: Vec<_> = events.iter().map(|event| event.event_id.as_deref()).collect();
        assert_eq!(ids, [Some("EZ1"), Some("EZ2"), None]);
        assert_eq!(events[1].body, &br#"{"id":"EZ2"}"#[..]);
        assert_eq!(elements(&Bytes::from_static(b"{}")), None);
    }
}
