//! Twitch EventSub: `Twitch-Eventsub-Message-Signature: sha256=<hex>`, HMAC-SHA256 over
//! `<Twitch-Eventsub-Message-Id><Twitch-Eventsub-Message-Timestamp><body>`.
//!
//! <https://dev.twitch.tv/docs/eventsub/handling-webhook-events/>
//!
//! A time more than ten minutes off is refused, as Twitch's page asks; the community's library
//! looks at it only later, in its handler.
//!
//! Identity: the id in the header, which is signed. `drop.entitlement.grant` comes in batches,
//! whose events are known by `/id` of each.
//!
//! The type is `/subscription/type`, or `revocation` where a subscription comes without an event:
//! the header that says so is not signed. A body with a `challenge` tests the URL and is answered
//! with it as plain text.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Algorithm, Encoding, KeyForm, Part, Placement, Recipe, Time, TimeUnit},
};
use crate::{
    event::{Digest, Named},
    receipt::Reply,
    refusal::Refusal,
    request::Verified,
};

const ID: &str = "Twitch-Eventsub-Message-Id";
const TIME: &str = "Twitch-Eventsub-Message-Timestamp";
const TOLERANCE: Duration = Duration::from_mins(10);

/// Twitch EventSub's rules.
#[derive(Debug)]
pub struct Twitch;

impl Provider for Twitch {
    fn name(&self) -> &'static str {
        "twitch"
    }

    fn title(&self) -> &'static str {
        "Twitch EventSub"
    }

    fn docs(&self) -> &'static str {
        "https://dev.twitch.tv/docs/eventsub/handling-webhook-events/"
    }

    fn secret_variable(&self) -> &'static str {
        "TWITCH_EVENTSUB_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over id, time and body"
    }

    fn identity(&self) -> &'static str {
        "`Twitch-Eventsub-Message-Id`, which is signed; in a batch `/events/*/id`"
    }

    /// Not published; a day is more than was ever seen.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24)
    }

    fn handshake(&self) -> &'static str {
        "signed POST with `challenge`, which is sent back"
    }

    fn batch(&self) -> &'static str {
        "`/events` of drops"
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe {
            algorithm: Algorithm::HmacSha256,
            key: KeyForm::Text,
            signature: Placement::Whole {
                header: "Twitch-Eventsub-Message-Signature".to_owned(),
                prefix: "sha256=".to_owned(),
            },
            encoding: Encoding::Hex,
            time: Some(Time {
                unit: TimeUnit::Rfc3339,
                tolerance: TOLERANCE,
                ..Time::header(TIME)
            }),
            signed: vec![Part::header(ID), Part::Time, Part::Body],
        };
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn signed_handshake(&self, request: &Verified, _: &Settings) -> Result<Option<Reply>, Refusal> {
        let message: Message<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
        Ok(message.challenge.usable().map(|challenge| Reply::ok("text/plain", challenge)))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let body = &request.body;
        let message: Message<'_> = serde_json::from_slice(body).unwrap_or_default();
        let event_type = message.subscription.event_type.usable();
        if let Some(events) = message.events {
            let event = |raw: &RawValue| {
                let element: Element<'_> = serde_json::from_str(raw.get()).unwrap_or_default();
                let content = || Digest::of([raw.get().as_bytes()]);
                let (id, bytes) = (element.id.usable(), naming::element(body, raw));
                naming::by_signed_id(id, event_type.clone(), bytes, content)
            };
            return Ok(events.into_iter().map(event).collect());
        }
        let event_type = match message.event {
            Some(_) => event_type,
            None => Some("revocation".to_owned()),
        };
        let id = request.headers.only(ID).ok().and_then(naming::usable);
        let content = || Digest::of([body.as_ref()]);
        Ok(vec![naming::by_signed_id(id, event_type, body.clone(), content)])
    }

    fn retry_marker(&self, request: &Verified) -> Option<String> {
        let count = request.headers.only("Twitch-Eventsub-Message-Retry").ok()?;
        let marker = naming::usable(format!("twitch-eventsub-message-retry: {count}"));
        marker.filter(|_| count != "0")
    }
}

#[derive(Debug, Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    challenge: Scalar<'a>,
    #[serde(borrow, default)]
    subscription: Subscription<'a>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    events: Option<Vec<&'a RawValue>>,
}

#[derive(Debug, Default, Deserialize)]
struct Subscription<'a> {
    #[serde(borrow, default, rename = "type")]
    event_type: Scalar<'a>,
}

#[derive(Debug, Default, Deserialize)]
struct Element<'a> {
    #[serde(borrow, default)]
    id: Scalar<'a>,
}
