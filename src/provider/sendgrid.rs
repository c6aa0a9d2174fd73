//! Twilio SendGrid's Event Webhook: `X-Twilio-Email-Event-Webhook-Signature: <base64>`, ECDSA on
//! P-256 over `<X-Twilio-Email-Event-Webhook-Timestamp><body>`.
//!
//! <https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features>
//!
//! The key is the verification key that the settings page shows. The body ends with CRLF, which is
//! signed. SendGrid names no tolerance for the time and its libraries check none, so its age counts
//! only where the source sets a `tolerance`: it sends for a day, and it is not said that the time is
//! a new one then. What is sent again is known by its identity.
//!
//! Identity: the body is a JSON array, and each element is an event under its own `/sg_event_id`,
//! which is signed; without one the digest of the element. The signature cannot be part of it: a
//! second valid one can be made from any by whoever sees it.
//!
//! The type is `/event` of the element (`delivered`).

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{ANY_AGE, Algorithm, Encoding, KeyForm, Part, Placement, Recipe, Time, public},
};
use crate::{
    event::{Digest, Named},
    refusal::Refusal,
    request::Verified,
    secret::Secret,
};

/// The rules of SendGrid's Event Webhook.
#[derive(Debug)]
pub struct SendGrid;

impl Provider for SendGrid {
    fn name(&self) -> &'static str {
        "sendgrid"
    }

    fn title(&self) -> &'static str {
        "Twilio SendGrid"
    }

    fn docs(&self) -> &'static str {
        "https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features"
    }

    fn secret_variable(&self) -> &'static str {
        "SENDGRID_STANDIN_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "ECDSA P-256 over time and body"
    }

    fn identity(&self) -> &'static str {
        "`/sg_event_id` of each element, which is signed"
    }

    fn resends_for(&self) -> Duration {
        Duration::from_hours(24)
    }

    fn batch(&self) -> &'static str {
        "the array that the body is"
    }

    fn development_secret(&self, random: [u8; 24]) -> Secret {
        public::stand_in_secret(random)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe {
            algorithm: Algorithm::EcdsaP256,
            key: KeyForm::Pem,
            signature: Placement::Whole {
                header: "X-Twilio-Email-Event-Webhook-Signature".to_owned(),
                prefix: String::new(),
            },
            encoding: Encoding::Base64,
            time: Some(Time {
                tolerance: ANY_AGE,
                ..Time::header("X-Twilio-Email-Event-Webhook-Timestamp")
            }),
            signed: vec![Part::Time, Part::Body],
        };
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let body = &request.body;
        let elements: Vec<&RawValue> = serde_json::from_slice(body)
            .map_err(|_| Refusal::Malformed("the body is no JSON array".to_owned()))?;
        let event = |element: &RawValue| {
            let bytes = element.get().as_bytes();
            let fields: Element<'_> = serde_json::from_slice(bytes).unwrap_or_default();
            let (id, event_type) = (fields.sg_event_id.usable(), fields.event.usable());
            naming::by_signed_id(id, event_type, body.slice_ref(bytes), || Digest::of([bytes]))
        };
        Ok(elements.into_iter().map(event).collect())
    }
}

#[derive(Debug, Default, Deserialize)]
struct Element<'a> {
    #[serde(borrow, default)]
    sg_event_id: Scalar<'a>,
    #[serde(borrow, default)]
    event: Scalar<'a>,
}
