//! Coinbase Commerce: `X-CC-Webhook-Signature: <hex>`, HMAC-SHA256 over the body.
//!
//! <https://docs.cdp.coinbase.com/commerce/docs/webhooks-security>
//!
//! Identity: `/event/id`, which is signed. The `/id` beside it, `/attempt_number` and
//! `/scheduled_for` are the attempt's own and change with each. The type is `/event/type`
//! (`charge:confirmed`).

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

/// Coinbase Commerce's rules.
#[derive(Debug)]
pub struct CoinbaseCommerce;

impl Provider for CoinbaseCommerce {
    fn name(&self) -> &'static str {
        "coinbase_commerce"
    }

    fn title(&self) -> &'static str {
        "Coinbase Commerce"
    }

    fn docs(&self) -> &'static str {
        "https://docs.cdp.coinbase.com/commerce/docs/webhooks-security"
    }

    fn secret_variable(&self) -> &'static str {
        "COINBASE_COMMERCE_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over the body"
    }

    fn identity(&self) -> &'static str {
        "`/event/id`, which is signed; the body differs between attempts"
    }

    /// By itself for three days.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 3)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe::of_body("X-CC-Webhook-Signature", "", Encoding::Hex);
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let message: Message<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
        let event = message.event.unwrap_or_default();
        let (id, event_type) = (event.id.usable(), event.event_type.usable());
        let content = || Digest::of([request.body.as_ref()]);
        Ok(vec![naming::by_signed_id(id, event_type, request.body.clone(), content)])
    }

    fn retry_marker(&self, request: &Verified) -> Option<String> {
        naming::attempt_in_body(&request.body, "attempt_number", "1")
    }
}

#[derive(Debug, Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    event: Option<Event<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    id: Scalar<'a>,
    #[serde(borrow, default, rename = "type")]
    event_type: Scalar<'a>,
}
