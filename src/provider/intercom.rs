//! Intercom: `X-Hub-Signature: sha1=<hex>`, HMAC-SHA1 over the body, with the app's client secret.
//!
//! <https://developers.intercom.com/docs/webhooks/setting-up-webhooks>
//!
//! Identity: `/id`, which is signed. The body is not part of it: `/delivery_attempts` counts up.
//! The type is `/topic` (`conversation.user.created`). A `ping` is an ordinary event. When a URL is
//! saved, Intercom is said to try it with a HEAD first, which any 200 satisfies.

use std::time::Duration;

use serde::Deserialize;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Algorithm, Encoding, Recipe},
};
use crate::{
    event::{Digest, Named},
    receipt::Reply,
    refusal::Refusal,
    request::{Unverified, Verified},
};

/// Intercom's rules.
#[derive(Debug)]
pub struct Intercom;

impl Provider for Intercom {
    fn name(&self) -> &'static str {
        "intercom"
    }

    fn title(&self) -> &'static str {
        "Intercom"
    }

    fn docs(&self) -> &'static str {
        "https://developers.intercom.com/docs/webhooks/setting-up-webhooks"
    }

    fn secret_variable(&self) -> &'static str {
        "INTERCOM_CLIENT_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA1 over the body"
    }

    fn identity(&self) -> &'static str {
        "`/id`, which is signed; the body differs between attempts"
    }

    /// Once, after a minute.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24)
    }

    fn handshake(&self) -> &'static str {
        "HEAD, answered with an empty 200"
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe {
            algorithm: Algorithm::HmacSha1,
            ..Recipe::of_body("X-Hub-Signature", "sha1=", Encoding::Hex)
        };
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn unsigned_handshake(
        &self,
        request: &Unverified,
        _: &Settings,
    ) -> Result<Option<Reply>, Refusal> {
        Ok((request.method == "HEAD").then(Reply::empty))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let event: Event<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
        let (id, event_type) = (event.id.usable(), event.topic.usable());
        let content = || Digest::of([request.body.as_ref()]);
        Ok(vec![naming::by_signed_id(id, event_type, request.body.clone(), content)])
    }

    fn retry_marker(&self, request: &Verified) -> Option<String> {
        naming::attempt_in_body(&request.body, "delivery_attempts", "1")
    }
}

#[derive(Debug, Default, Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    id: Scalar<'a>,
    #[serde(borrow, default)]
    topic: Scalar<'a>,
}
