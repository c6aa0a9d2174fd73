//! Notion: `X-Notion-Signature: sha256=<hex>`, HMAC-SHA256 over the body. The key is the
//! subscription's `verification_token`.
//!
//! <https://developers.notion.com/reference/webhooks>
//!
//! Upper-case hex is refused: Notion's library takes it, but Notion does not send it, and a
//! signature has one spelling here.
//!
//! A new subscription posts `{"verification_token": …}` without a signature. It is answered with a
//! 200 and shown to the operator: anybody can send one, so it is never taken for the secret.
//!
//! Identity: `/id`, which is signed. The body is not part of it: `/attempt_number` counts up. The
//! type is `/type`.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Encoding, Recipe},
};
use crate::{
    event::{Digest, Named},
    receipt::Reply,
    refusal::Refusal,
    request::{Unverified, Verified},
    secret::Secret,
};

const SIGNATURE: &str = "X-Notion-Signature";

/// Notion's rules.
#[derive(Debug)]
pub struct Notion;

impl Provider for Notion {
    fn name(&self) -> &'static str {
        "notion"
    }

    fn title(&self) -> &'static str {
        "Notion"
    }

    fn docs(&self) -> &'static str {
        "https://developers.notion.com/reference/webhooks"
    }

    fn secret_variable(&self) -> &'static str {
        "NOTION_VERIFICATION_TOKEN"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over the body"
    }

    fn identity(&self) -> &'static str {
        "`/id`, which is signed; the body differs between attempts"
    }

    /// Eight attempts, the last after about a day.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24)
    }

    fn handshake(&self) -> &'static str {
        "unsigned `verification_token`"
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe::of_body(SIGNATURE, "sha256=", Encoding::Hex);
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn unsigned_handshake(
        &self,
        request: &Unverified,
        _: &Settings,
    ) -> Result<Option<Reply>, Refusal> {
        if request.method != "POST" || request.headers.all(SIGNATURE).next().is_some() {
            return Ok(None);
        }
        Ok(token(request).map(|_| Reply::ok("text/plain", Bytes::new())))
    }

    fn handed_over(&self, request: &Unverified) -> Option<Secret> {
        token(request).map(Secret::new)
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let event: Event<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
        let (id, event_type) = (event.id.usable(), event.event_type.usable());
        let content = || Digest::of([request.body.as_ref()]);
        Ok(vec![naming::by_signed_id(id, event_type, request.body.clone(), content)])
    }

    fn retry_marker(&self, request: &Verified) -> Option<String> {
        naming::attempt_in_body(&request.body, "attempt_number", "1")
    }
}

#[derive(Debug, Default, Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    id: Scalar<'a>,
    #[serde(borrow, default, rename = "type")]
    event_type: Scalar<'a>,
}

/// The token that a new subscription sends.
fn token(request: &Unverified) -> Option<String> {
    let handshake: Handshake<'_> = serde_json::from_slice(&request.body).ok()?;
    handshake.verification_token.usable()
}

#[derive(Debug, Default, Deserialize)]
struct Handshake<'a> {
    #[serde(borrow, default)]
    verification_token: Scalar<'a>,
}
