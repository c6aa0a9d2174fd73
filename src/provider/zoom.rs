//! Zoom: `x-zm-signature: v0=<hex>`, HMAC-SHA256 over `v0:<x-zm-request-timestamp>:<body>`.
//!
//! <https://developers.zoom.us/docs/api/webhooks/>
//!
//! Decided where Zoom's own code differs from us: the bytes of the body are signed as they came,
//! while its code writes the JSON anew and so refuses some bodies. A time more than 90 minutes off
//! is refused; its code does not look at it. It is 90 and not 5 because the last retry comes after
//! 85 minutes, and it is not known whether it is signed anew.
//!
//! Identity: the digest of the body: there is no id, and the body holds what happened (`/event`,
//! `/payload/object`) and when (`/event_ts`). The time in the header may change between attempts,
//! and counts for nothing. The type is `/event`.
//!
//! The URL is tested with a signed `endpoint.url_validation`, answered with its token signed by the
//! key of the deliveries. What a delivery signs begins with `v0:`, so a token with a colon is
//! refused, and with it everything but letters, digits and `-_.=+/`.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Algorithm, Encoding, KeyForm, Part, Placement, Recipe, Time, keys::Keys},
};
use crate::{
    event::{Digest, Named},
    receipt::Reply,
    refusal::Refusal,
    request::Verified,
};

const TOLERANCE: Duration = Duration::from_mins(90);
const TOKEN_BYTES_MAX: usize = 128;

/// Zoom's rules.
#[derive(Debug)]
pub struct Zoom;

impl Provider for Zoom {
    fn name(&self) -> &'static str {
        "zoom"
    }

    fn title(&self) -> &'static str {
        "Zoom"
    }

    fn docs(&self) -> &'static str {
        "https://developers.zoom.us/docs/api/webhooks/"
    }

    fn secret_variable(&self) -> &'static str {
        "ZOOM_WEBHOOK_SECRET_TOKEN"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over time and body"
    }

    fn identity(&self) -> &'static str {
        "the digest of the body, which holds what happened and when"
    }

    /// Three times within 85 minutes.
    fn resends_for(&self) -> Duration {
        Duration::from_mins(85)
    }

    fn handshake(&self) -> &'static str {
        "signed `endpoint.url_validation`, whose token is signed and sent back"
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe {
            algorithm: Algorithm::HmacSha256,
            key: KeyForm::Text,
            signature: Placement::Whole {
                header: "x-zm-signature".to_owned(),
                prefix: "v0=".to_owned(),
            },
            encoding: Encoding::Hex,
            time: Some(Time { tolerance: TOLERANCE, ..Time::header("x-zm-request-timestamp") }),
            signed: vec![Part::text("v0:"), Part::Time, Part::text(":"), Part::Body],
        };
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn signed_handshake(
        &self,
        request: &Verified,
        settings: &Settings,
    ) -> Result<Option<Reply>, Refusal> {
        let message: Message<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
        if message.event.as_deref() != Some("endpoint.url_validation") {
            return Ok(None);
        }
        let validation: UrlValidation<'_> =
            serde_json::from_slice(&request.body).unwrap_or_default();
        let token = validation.payload.plain_token.usable().filter(|token| is_plain(token));
        let token = token.ok_or_else(|| {
            Refusal::Handshake("its `plainToken` is missing or could be a delivery".to_owned())
        })?;
        let keys = Keys::new(Algorithm::HmacSha256, KeyForm::Text, settings).ok();
        let signature = keys.and_then(|keys| keys.sign(&[token.as_bytes()]));
        let signature = signature.expect("a source has keys that sign");
        Ok(Some(Reply::ok("application/json", answer(&token, &signature))))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let message: Message<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
        let (event_type, body) = (message.event.usable(), request.body.clone());
        let content = Digest::of([request.body.as_ref()]);
        Ok(vec![naming::by_signed_content(None, event_type, body, content)])
    }
}

#[derive(Debug, Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    event: Scalar<'a>,
}

#[derive(Debug, Default, Deserialize)]
struct UrlValidation<'a> {
    #[serde(borrow, default)]
    payload: UrlValidationPayload<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UrlValidationPayload<'a> {
    #[serde(borrow, default)]
    plain_token: Scalar<'a>,
}

/// Whether a token may be signed: see the top of this file.
fn is_plain(token: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=+/".contains(&byte);
    token.len() <= TOKEN_BYTES_MAX && token.bytes().all(plain)
}

/// The answer as Zoom compares it, with its members in the order of its page.
fn answer(token: &str, signature: &[u8]) -> String {
    let [token, signature] = [token, &Encoding::Hex.encode(signature)].map(|text| json!(text));
    format!("{{\"plainToken\":{token},\"encryptedToken\":{signature}}}")
}
