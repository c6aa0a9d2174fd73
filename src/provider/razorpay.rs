//! Razorpay: `X-Razorpay-Signature: <hex>`, HMAC-SHA256 over the body, with the webhook's own
//! secret.
//!
//! <https://razorpay.com/docs/webhooks/validate-test/>
//!
//! After a change of the secret, retries of older events are still signed with the old one: keep
//! both for a day.
//!
//! Identity: the header `x-razorpay-event-id`, which is not signed, and the digest of the body,
//! which an attempt does not change. The type is `/event` (`payment.captured`).

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

/// Razorpay's rules.
#[derive(Debug)]
pub struct Razorpay;

impl Provider for Razorpay {
    fn name(&self) -> &'static str {
        "razorpay"
    }

    fn title(&self) -> &'static str {
        "Razorpay"
    }

    fn docs(&self) -> &'static str {
        "https://razorpay.com/docs/webhooks/validate-test/"
    }

    fn secret_variable(&self) -> &'static str {
        "RAZORPAY_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over the body"
    }

    fn identity(&self) -> &'static str {
        "`x-razorpay-event-id`, which is not signed, and the digest of the body"
    }

    /// By itself for a day; within 15 when asked to.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 15)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe::of_body("X-Razorpay-Signature", "", Encoding::Hex);
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let message: Message<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
        let id = request.headers.only("x-razorpay-event-id").ok().and_then(naming::usable);
        let (event_type, body) = (message.event.usable(), request.body.clone());
        let content = Digest::of([request.body.as_ref()]);
        Ok(vec![naming::by_unsigned_id(id, event_type, body, content)])
    }
}

#[derive(Debug, Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    event: Scalar<'a>,
}
