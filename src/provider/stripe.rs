//! Stripe: `Stripe-Signature: t=<seconds>,v1=<hex>`, HMAC-SHA256 over `<t>.<body>`.
//!
//! <https://docs.stripe.com/webhooks/signature>
//!
//! The key is the endpoint's secret as it stands, `whsec_` included. While a secret is rolled there
//! is one `v1` for each; other names (`v0` on test events) are ignored.
//!
//! Identity: `/id`, which is signed. The body is not part of it: `pending_webhooks` counts down
//! between attempts. Thin events (`v2.core.event`) have the same two fields.
//!
//! Decided where Stripe's libraries differ from us or from each other: a time in the future is
//! refused beyond the tolerance as one in the past is, since a captured request would otherwise
//! stay good for as long as its sender liked. Thin events are accepted: the signature is the same.
//! Upper-case hex and spaces after the comma are refused, as the libraries do.

use std::time::Duration;

use serde::Deserialize;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Recipe, TOLERANCE},
};
use crate::{
    event::{Digest, Named},
    refusal::Refusal,
    request::Verified,
    secret::Secret,
};

/// Stripe's rules.
#[derive(Debug)]
pub struct Stripe;

impl Provider for Stripe {
    fn name(&self) -> &'static str {
        "stripe"
    }

    fn title(&self) -> &'static str {
        "Stripe"
    }

    fn docs(&self) -> &'static str {
        "https://docs.stripe.com/webhooks/signature"
    }

    fn secret_variable(&self) -> &'static str {
        "STRIPE_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over time and body"
    }

    fn identity(&self) -> &'static str {
        "`/id`, which is signed; the body may differ between attempts"
    }

    /// Three days by itself; 30 when asked to with its command line tool.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 30)
    }

    fn development_secret(&self, random: [u8; 24]) -> Secret {
        Secret::new(format!("whsec_{}", hex::encode(random)))
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe::of_time_and_body("Stripe-Signature", TOLERANCE);
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let event: Event<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
        let body = request.body.clone();
        let content = || Digest::of([request.body.as_ref()]);
        let (id, event_type) = (event.id.usable(), event.event_type.usable());
        Ok(vec![naming::by_signed_id(id, event_type, body, content)])
    }
}

#[derive(Debug, Default, Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    id: Scalar<'a>,
    #[serde(borrow, default, rename = "type")]
    event_type: Scalar<'a>,
}
