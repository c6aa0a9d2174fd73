//! Calendly: `Calendly-Webhook-Signature: t=<seconds>,v1=<hex>`, HMAC-SHA256 over `<t>.<body>`.
//!
//! <https://developer.calendly.com/api-docs/4c305798a61d3-webhook-signatures>
//!
//! The time may be off by three minutes, as in Calendly's sample. The sample looks at the past
//! only; a time in the future is refused as well, since a captured request would otherwise stay
//! good for as long as its sender liked. Of several `v1` any may fit.
//!
//! Identity: `/event`, `/payload/uri` and `/created_at` together: there is no id, and one booking
//! is created and canceled. All three are signed. The type is `/event` (`invitee.created`).

use std::time::Duration;

use serde::Deserialize;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::Recipe,
};
use crate::{
    event::{Digest, Identity, Named},
    refusal::Refusal,
    request::Verified,
};

/// Calendly's rules.
#[derive(Debug)]
pub struct Calendly;

impl Provider for Calendly {
    fn name(&self) -> &'static str {
        "calendly"
    }

    fn title(&self) -> &'static str {
        "Calendly"
    }

    fn docs(&self) -> &'static str {
        "https://developer.calendly.com/api-docs/4c305798a61d3-webhook-signatures"
    }

    fn secret_variable(&self) -> &'static str {
        "CALENDLY_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over time and body"
    }

    fn identity(&self) -> &'static str {
        "`/event`, `/payload/uri` and `/created_at`, which are signed"
    }

    /// By itself for a day, or until a day after what was booked.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 2)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe::of_time_and_body("Calendly-Webhook-Signature", Duration::from_mins(3));
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let event: Event<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
        let uri = event.payload.and_then(|payload| payload.uri.usable());
        let (event_type, created_at) = (event.event.usable(), event.created_at.usable());
        let content = || Digest::of([request.body.as_ref()]);
        let mut named = naming::by_signed_id(None, event_type, request.body.clone(), content);
        if let (Some(kind), Some(uri), Some(at)) = (&named.event_type, &uri, &created_at) {
            named.identity = Some(Identity::of([kind, uri, at].map(String::as_str)));
        }
        Ok(vec![named])
    }
}

#[derive(Debug, Default, Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    event: Scalar<'a>,
    #[serde(borrow, default)]
    created_at: Scalar<'a>,
    #[serde(borrow, default)]
    payload: Option<Payload<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct Payload<'a> {
    #[serde(borrow, default)]
    uri: Scalar<'a>,
}
