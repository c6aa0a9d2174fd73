//! Zendesk: `X-Zendesk-Webhook-Signature: <base64>`, HMAC-SHA256 over the header
//! `X-Zendesk-Webhook-Signature-Timestamp` and the body.
//!
//! <https://developer.zendesk.com/documentation/webhooks/verifying/>
//!
//! The secret is used as text, although it looks like base64. The time is signed, and Zendesk
//! names no tolerance, so its age counts only where the source sets a `tolerance`. Tests from Zendesk's own pages are
//! signed with a secret that is the same for everybody: never add it to a source.
//!
//! A webhook may use any of five methods; a GET and a DELETE have no body.
//!
//! Identity: `/id` of an event (`/type` begins with `zen:event-type:`), which is signed. The body
//! of a trigger or automation is its author's: there the header `X-Zendesk-Webhook-Invocation-Id`,
//! which is not signed, and the digest of the body. The type is `/type` of an event; the others
//! have none.

use std::time::Duration;

use serde::Deserialize;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{ANY_AGE, Encoding, Part, Recipe, Time, TimeUnit},
};
use crate::{
    event::{Digest, Named},
    refusal::Refusal,
    request::Verified,
};

const TIME: &str = "X-Zendesk-Webhook-Signature-Timestamp";

/// Zendesk's rules.
#[derive(Debug)]
pub struct Zendesk;

impl Provider for Zendesk {
    fn name(&self) -> &'static str {
        "zendesk"
    }

    fn title(&self) -> &'static str {
        "Zendesk"
    }

    fn docs(&self) -> &'static str {
        "https://developer.zendesk.com/documentation/webhooks/verifying/"
    }

    fn secret_variable(&self) -> &'static str {
        "ZENDESK_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over time and body"
    }

    fn identity(&self) -> &'static str {
        "`/id` of an event, which is signed; otherwise `X-Zendesk-Webhook-Invocation-Id`, \
         which is not, and the digest of the body"
    }

    /// A few times, within minutes.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24)
    }

    fn methods(&self) -> &'static [&'static str] {
        &["POST", "GET", "PUT", "PATCH", "DELETE"]
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe {
            time: Some(Time { unit: TimeUnit::Rfc3339, tolerance: ANY_AGE, ..Time::header(TIME) }),
            signed: vec![Part::Time, Part::Body],
            ..Recipe::of_body("X-Zendesk-Webhook-Signature", "", Encoding::Base64)
        };
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let header = |name| request.headers.only(name).ok().and_then(naming::usable);
        let (event, body) = (Event::of(&request.body), request.body.clone());
        if let Some(Event { id, event_type }) = event {
            let content = || Digest::of([request.body.as_ref()]);
            return Ok(vec![naming::by_signed_id(id.usable(), event_type.usable(), body, content)]);
        }
        let id = header("X-Zendesk-Webhook-Invocation-Id");
        // An attempt may be signed at another time. Without an id nothing else tells two events
        // apart that have the same body, or none.
        let time = if id.is_none() { header(TIME) } else { None }.unwrap_or_default();
        let content = Digest::of([time.as_bytes(), request.body.as_ref()]);
        Ok(vec![naming::by_unsigned_id(id, None, body, content)])
    }
}

#[derive(Debug, Default, Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    id: Scalar<'a>,
    #[serde(borrow, default, rename = "type")]
    event_type: Scalar<'a>,
}

impl<'a> Event<'a> {
    /// The event in a body of Zendesk's own form. The body of a trigger is its author's, and an id
    /// in it may be a ticket's.
    fn of(body: &'a [u8]) -> Option<Self> {
        let event: Self = serde_json::from_slice(body).ok()?;
        event.event_type.as_deref()?.starts_with("zen:event-type:").then_some(event)
    }
}
