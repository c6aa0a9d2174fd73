//! PagerDuty (v3): `X-PagerDuty-Signature: v1=<hex>`, HMAC-SHA256 over the body.
//!
//! <https://developer.pagerduty.com/docs/verifying-webhook-signatures>
//!
//! While a secret is rotated there is one `v1` for each; entries of other versions are ignored.
//!
//! Identity: `/event/id`, which is signed. The type is `/event/event_type` (`incident.triggered`).
//! The test event `pagey.ping` is an ordinary one.

use std::time::Duration;

use serde::Deserialize;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::Recipe,
};
use crate::{
    event::{Digest, Named},
    refusal::Refusal,
    request::Verified,
};

/// PagerDuty's rules.
#[derive(Debug)]
pub struct PagerDuty;

impl Provider for PagerDuty {
    fn name(&self) -> &'static str {
        "pagerduty"
    }

    fn title(&self) -> &'static str {
        "PagerDuty"
    }

    fn docs(&self) -> &'static str {
        "https://developer.pagerduty.com/docs/verifying-webhook-signatures"
    }

    fn secret_variable(&self) -> &'static str {
        "PAGERDUTY_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over the body"
    }

    fn identity(&self) -> &'static str {
        "`/event/id`, which is signed"
    }

    /// It does not say; most senders stop after three days.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 3)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe::of_body_in_items("X-PagerDuty-Signature", "v1");
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let message: Message<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
        let event = message.event.unwrap_or_default();
        let (id, event_type) = (event.id.usable(), event.event_type.usable());
        let content = || Digest::of([request.body.as_ref()]);
        Ok(vec![naming::by_signed_id(id, event_type, request.body.clone(), content)])
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
    #[serde(borrow, default)]
    event_type: Scalar<'a>,
}
