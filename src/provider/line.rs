//! LINE: `x-line-signature: <base64>`, HMAC-SHA256 over the body.
//!
//! <https://developers.line.biz/en/docs/messaging-api/verify-webhook-signature/>
//!
//! A request holds many events, each on its own; the console's test holds none, and is answered
//! 200.
//!
//! Identity: `/webhookEventId` of each event, which is signed. Its bytes are not part of it:
//! `/deliveryContext/isRedelivery` becomes true when LINE sends it again. The type is `/type`.
//!
//! Decided where LINE's libraries differ: the signature is compared as text, as its Python library
//! does; its JavaScript library also takes other spellings of the same base64.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Encoding, Recipe},
};
use crate::{
    event::{Digest, Named},
    refusal::Refusal,
    request::Verified,
    secret::Secret,
};

/// LINE's rules.
#[derive(Debug)]
pub struct Line;

impl Provider for Line {
    fn name(&self) -> &'static str {
        "line"
    }

    fn title(&self) -> &'static str {
        "LINE"
    }

    fn docs(&self) -> &'static str {
        "https://developers.line.biz/en/docs/messaging-api/verify-webhook-signature/"
    }

    fn secret_variable(&self) -> &'static str {
        "LINE_CHANNEL_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over the body"
    }

    fn identity(&self) -> &'static str {
        "`/events/*/webhookEventId`, which is signed; the body may differ between attempts"
    }

    /// Not published; a day is more than was ever seen.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24)
    }

    fn batch(&self) -> &'static str {
        "`/events`"
    }

    fn development_secret(&self, random: [u8; 24]) -> Secret {
        let (half, _) = random.split_at(16);
        Secret::new(hex::encode(half))
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe::of_body("x-line-signature", "", Encoding::Base64);
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let body = &request.body;
        let Ok(batch) = serde_json::from_slice::<Batch<'_>>(body) else {
            let content = Digest::of([body.as_ref()]);
            return Ok(vec![naming::by_signed_content(None, None, body.clone(), content)]);
        };
        Ok(batch.events.into_iter().map(|raw| event(body, raw)).collect())
    }

    /// What one event says of itself is said of all: LINE sends a request again as a whole.
    fn retry_marker(&self, request: &Verified) -> Option<String> {
        let batch: Batch<'_> = serde_json::from_slice(&request.body).ok()?;
        let is_redelivery = |raw: &&RawValue| {
            serde_json::from_str::<Event<'_>>(raw.get())
                .is_ok_and(|event| event.delivery_context.is_redelivery)
        };
        batch.events.iter().any(is_redelivery).then(|| "isRedelivery: true".to_owned())
    }
}

#[derive(Debug, Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
struct Event<'a> {
    #[serde(borrow, default, rename = "webhookEventId")]
    id: Scalar<'a>,
    #[serde(borrow, default, rename = "type")]
    event_type: Scalar<'a>,
    #[serde(default, rename = "deliveryContext")]
    delivery_context: DeliveryContext,
}

#[derive(Debug, Default, Deserialize)]
struct DeliveryContext {
    #[serde(default, rename = "isRedelivery")]
    is_redelivery: bool,
}

fn event(body: &Bytes, raw: &RawValue) -> Named {
    let fields: Event<'_> = serde_json::from_str(raw.get()).unwrap_or_default();
    let (id, event_type) = (fields.id.usable(), fields.event_type.usable());
    let content = || Digest::of([raw.get().as_bytes()]);
    naming::by_signed_id(id, event_type, naming::element(body, raw), content)
}
