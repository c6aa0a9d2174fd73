//! Lemon Squeezy: `X-Signature: <hex>`, HMAC-SHA256 over the body.
//!
//! <https://docs.lemonsqueezy.com/help/webhooks/signing-requests>
//!
//! Identity: the digest of the body, which is the same over attempts and holds the time of the
//! change. There is a `/meta/webhook_id`, but nothing says that it is an event's own: an id that
//! two events shared would lose one of them. The type is `/meta/event_name`, which is signed,
//! unlike the header `X-Event-Name`.

use std::time::Duration;

use serde::Deserialize;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Encoding, Recipe},
};
use crate::{
    event::{Digest, Named},
    refusal::Refusal,
    request::Verified,
};

/// Lemon Squeezy's rules.
#[derive(Debug)]
pub struct LemonSqueezy;

impl Provider for LemonSqueezy {
    fn name(&self) -> &'static str {
        "lemonsqueezy"
    }

    fn title(&self) -> &'static str {
        "Lemon Squeezy"
    }

    fn docs(&self) -> &'static str {
        "https://docs.lemonsqueezy.com/help/webhooks/signing-requests"
    }

    fn secret_variable(&self) -> &'static str {
        "LEMONSQUEEZY_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over the body"
    }

    fn identity(&self) -> &'static str {
        "the digest of the body, which an attempt does not change"
    }

    /// By itself for three minutes; the rest is for asking again.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 3)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe::of_body("X-Signature", "", Encoding::Hex);
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let event: Event<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
        let event_type = event.meta.and_then(|meta| meta.event_name.usable());
        let content = || Digest::of([request.body.as_ref()]);
        Ok(vec![naming::by_signed_id(None, event_type, request.body.clone(), content)])
    }
}

#[derive(Debug, Default, Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    meta: Option<Meta<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct Meta<'a> {
    #[serde(borrow, default)]
    event_name: Scalar<'a>,
}
