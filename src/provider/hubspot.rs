//! HubSpot: `X-HubSpot-Signature-v3: <base64>`, HMAC-SHA256 over method, URL, body and the
//! milliseconds in `X-HubSpot-Request-Timestamp`; or the older `X-HubSpot-Signature: <hex>`,
//! SHA-256 over secret, method, URL and body (`X-HubSpot-Signature-Version: v2`) or over secret and
//! body (`v1`).
//!
//! <https://developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation>
//!
//! Where there is a v3 signature it alone counts. In its URL the escapes of `:/?@!$'()*,;` are
//! decoded first, as HubSpot's page says. To a SHA-256 that begins with a secret bytes can be added
//! without knowing it, but never without a byte 0x80: a v1 or v2 body must be empty or JSON, and
//! neither can end in what would be added.
//!
//! Decided where HubSpot's libraries differ from us: a time in the future is refused beyond the
//! tolerance as one in the past is, since a captured request would otherwise stay good for longer.
//!
//! A request holds up to 100 events, each on its own. Identity: `/eventId`, which HubSpot does not
//! promise to be unique, with `/portalId`, `/subscriptionId`, `/occurredAt` and `/objectId`, all
//! signed. The bytes are not part of it: `/attemptNumber` counts up. A GET (a card asking for its
//! content) has no events in it and no identity: each is a new question.
//!
//! The type is `/subscriptionType` (`contact.creation`).

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::{
    NotSignable, Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{
        Algorithm, Encoding, KeyForm, Part, Placement, Recipe, RecipeScheme, Time, TimeUnit, only,
    },
};
use crate::{
    clock::Timestamp,
    event::{Digest, Named},
    refusal::{Refusal, SignatureProblem},
    request::{Unverified, Verified},
    secret::{self, Secret},
};

const SIGNATURE_V3: &str = "X-HubSpot-Signature-v3";
const SIGNATURE: &str = "X-HubSpot-Signature";
const VERSION: &str = "X-HubSpot-Signature-Version";

/// HubSpot's rules.
#[derive(Debug)]
pub struct HubSpot;

impl Provider for HubSpot {
    fn name(&self) -> &'static str {
        "hubspot"
    }

    fn title(&self) -> &'static str {
        "HubSpot"
    }

    fn docs(&self) -> &'static str {
        "https://developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation"
    }

    fn secret_variable(&self) -> &'static str {
        "HUBSPOT_CLIENT_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over method, URL, body and time (v3), or SHA-256 with the secret in front \
         (v1, v2)"
    }

    fn identity(&self) -> &'static str {
        "`/*`: portal, subscription, `/eventId`, time and object, which are signed; the body \
         differs between attempts"
    }

    /// Ten times within a day.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24)
    }

    fn batch(&self) -> &'static str {
        "the array that the body is"
    }

    fn methods(&self) -> &'static [&'static str] {
        &["POST", "GET"]
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let time = Time::header("X-HubSpot-Request-Timestamp");
        let recipe = Recipe {
            algorithm: Algorithm::HmacSha256,
            key: KeyForm::Text,
            signature: Placement::Whole { header: SIGNATURE_V3.to_owned(), prefix: String::new() },
            encoding: Encoding::Base64,
            time: Some(Time { unit: TimeUnit::Millis, ..time }),
            signed: vec![Part::Method, Part::Url, Part::Body, Part::Time],
        };
        let (v3, secrets) = (recipe.scheme(settings)?, settings.secrets.clone());
        Ok(Box::new(AnyVersion { v3, secrets }))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let body = &request.body;
        if request.method == "GET" {
            return Ok(vec![naming::never_the_same(None, None, body.clone())]);
        }
        let Ok(events) = serde_json::from_slice::<Vec<&RawValue>>(body) else {
            let content = Digest::of([body.as_ref()]);
            return Ok(vec![naming::by_signed_content(None, None, body.clone(), content)]);
        };
        Ok(events.into_iter().map(|raw| event(body, raw)).collect())
    }

    fn retry_marker(&self, request: &Verified) -> Option<String> {
        let events: Vec<Event<'_>> = serde_json::from_slice(&request.body).ok()?;
        let attempt = events.iter().map(|event| event.attempt_number).max()?;
        (attempt > 0).then(|| format!("attemptNumber: {attempt}"))
    }
}

/// The version that the request asks for; v3 if it has a signature of that.
#[derive(Debug)]
struct AnyVersion {
    v3: RecipeScheme,
    secrets: Vec<Secret>,
}

impl Scheme for AnyVersion {
    fn verify(&self, request: &Unverified, now: Timestamp) -> Result<(), SignatureProblem> {
        if !is_older(request) {
            return self.v3.verify(&with_decoded_url(request), now);
        }
        let form = |what: &str| SignatureProblem::Form(what.to_owned());
        let parts = older_message(request)?;
        let signature = Encoding::Hex.decode(only(request, SIGNATURE)?);
        let signature = signature.ok_or_else(|| form("the signature is not hex"))?;
        let is_json = serde_json::from_slice::<IgnoredAny>(&request.body).is_ok();
        if !is_json && !request.body.is_empty() {
            return Err(form("the body is not JSON, which an older signature needs"));
        }
        let made = |secret: &Secret| secret::equal(&older_signature(secret, &parts), &signature);
        if self.secrets.iter().any(made) { Ok(()) } else { Err(SignatureProblem::NoMatch) }
    }

    fn sign(&self, draft: &mut Unverified, now: Timestamp) -> Result<(), NotSignable> {
        if is_older(draft) {
            let problem = |problem: SignatureProblem| NotSignable(problem.to_string());
            let parts = older_message(draft).map_err(problem)?;
            let secret = self.secrets.first().expect("a source has a secret");
            let signature = Encoding::Hex.encode(&older_signature(secret, &parts));
            draft.headers.set(SIGNATURE, signature);
            return Ok(());
        }
        let mut decoded = with_decoded_url(draft).into_owned();
        self.v3.sign(&mut decoded, now)?;
        draft.headers = decoded.headers;
        Ok(())
    }
}

/// Whether a request has an older signature and no newer one.
fn is_older(request: &Unverified) -> bool {
    let has = |name| request.headers.all(name).next().is_some();
    has(SIGNATURE) && !has(SIGNATURE_V3)
}

/// What the older versions put behind the secret.
fn older_message(request: &Unverified) -> Result<Vec<&[u8]>, SignatureProblem> {
    match only(request, VERSION)? {
        "v1" => Ok(vec![&request.body]),
        "v2" => Ok(vec![request.method.as_bytes(), request.url.as_bytes(), &request.body]),
        _ => Err(SignatureProblem::Form(format!("header `{VERSION}` is neither v1 nor v2"))),
    }
}

fn older_signature(secret: &Secret, parts: &[&[u8]]) -> Vec<u8> {
    let mut hash = Sha256::new_with_prefix(secret.expose());
    for part in parts {
        hash.update(part);
    }
    hash.finalize().to_vec()
}

/// The request with the URL as version 3 signs it.
fn with_decoded_url(request: &Unverified) -> Cow<'_, Unverified> {
    const ESCAPES: [(&str, &str); 12] = [
        ("%3A", ":"),
        ("%2F", "/"),
        ("%3F", "?"),
        ("%40", "@"),
        ("%21", "!"),
        ("%24", "$"),
        ("%27", "'"),
        ("%28", "("),
        ("%29", ")"),
        ("%2A", "*"),
        ("%2C", ","),
        ("%3B", ";"),
    ];
    if !request.url.contains('%') {
        return Cow::Borrowed(request);
    }
    let mut url = request.url.clone();
    for (escape, stands_for) in ESCAPES {
        url = url.replace(escape, stands_for);
    }
    Cow::Owned(Unverified { url, ..request.clone() })
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(borrow, default)]
    event_id: Scalar<'a>,
    #[serde(borrow, default)]
    portal_id: Scalar<'a>,
    #[serde(borrow, default)]
    subscription_id: Scalar<'a>,
    #[serde(borrow, default)]
    occurred_at: Scalar<'a>,
    #[serde(borrow, default)]
    object_id: Scalar<'a>,
    #[serde(borrow, default)]
    subscription_type: Scalar<'a>,
    #[serde(default)]
    attempt_number: u32,
}

fn event(body: &Bytes, raw: &RawValue) -> Named {
    let event: Event<'_> = serde_json::from_str(raw.get()).unwrap_or_default();
    let event_type = event.subscription_type.as_deref().and_then(naming::usable);
    let bytes = naming::element(body, raw);
    let Some(id) = event.event_id.as_deref().and_then(naming::usable) else {
        let content = Digest::of([raw.get().as_bytes()]);
        return naming::by_signed_content(None, event_type, bytes, content);
    };
    let fields = [
        &event.event_id,
        &event.portal_id,
        &event.subscription_id,
        &event.occurred_at,
        &event.object_id,
    ];
    let fields = fields.map(|field| field.as_deref().unwrap_or_default());
    naming::by_signed_fields(Some(id), event_type, bytes, fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_documented_escapes_of_a_url_are_decoded() {
        let request = Unverified {
            method: "POST".to_owned(),
            url: "https://a.example/x%2Fy?a=b%40c%20d%3a".to_owned(),
            headers: std::iter::empty::<(&str, &str)>().collect(),
            body: Bytes::new(),
            received_at: Timestamp::default(),
        };
        assert_eq!(with_decoded_url(&request).url, "https://a.example/x/y?a=b@c%20d%3a");
    }
}
