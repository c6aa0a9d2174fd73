//! Square: `x-square-hmacsha256-signature: <base64>`, HMAC-SHA256 over the notification URL and the
//! body.
//!
//! <https://developer.squareup.com/docs/webhooks/step3validate>
//!
//! The URL is the one that was registered with Square, letter for letter, with its port and query:
//! behind a proxy the source's `url` says it. The older `x-square-signature` (SHA-1) is never
//! looked at.
//!
//! Identity: `/event_id`, which is signed and the same over attempts. The type is `/type`.

use std::time::Duration;

use serde::Deserialize;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Encoding, Part, Recipe},
};
use crate::{
    event::{Digest, Named},
    refusal::Refusal,
    request::Verified,
};

/// Square's rules.
#[derive(Debug)]
pub struct Square;

impl Provider for Square {
    fn name(&self) -> &'static str {
        "square"
    }

    fn title(&self) -> &'static str {
        "Square"
    }

    fn docs(&self) -> &'static str {
        "https://developer.squareup.com/docs/webhooks/step3validate"
    }

    fn secret_variable(&self) -> &'static str {
        "SQUARE_SIGNATURE_KEY"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over URL and body"
    }

    fn identity(&self) -> &'static str {
        "`/event_id`, which is signed"
    }

    /// Eleven retries within a day.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe {
            signed: vec![Part::Url, Part::Body],
            ..Recipe::of_body("x-square-hmacsha256-signature", "", Encoding::Base64)
        };
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let event: Event<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
        let (id, event_type) = (event.event_id.usable(), event.event_type.usable());
        let content = || Digest::of([request.body.as_ref()]);
        Ok(vec![naming::by_signed_id(id, event_type, request.body.clone(), content)])
    }

    fn retry_marker(&self, request: &Verified) -> Option<String> {
        let number = request.headers.only("square-retry-number").ok()?;
        let reason = request.headers.only("square-retry-reason").unwrap_or("no reason given");
        naming::usable(format!("square-retry-number: {number} ({reason})"))
    }
}

#[derive(Debug, Default, Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    event_id: Scalar<'a>,
    #[serde(borrow, default, rename = "type")]
    event_type: Scalar<'a>,
}
