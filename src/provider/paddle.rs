//! Paddle Billing: `Paddle-Signature: ts=<seconds>;h1=<hex>`, HMAC-SHA256 over `<ts>:<body>`.
//!
//! <https://developer.paddle.com/webhooks/signature-verification>
//!
//! The key is the destination's secret as it stands, `pdl_ntfset_` included. The time may be off by
//! five seconds, as in Paddle's libraries: the clock must be a good one.
//!
//! Decided where its libraries differ: while a secret is rotated any `h1` may fit (one keeps only
//! the last), other items are ignored (one fails on them), and a time in the future is refused
//! beyond the tolerance (one looks at the past only).
//!
//! Identity: `/event_id`, which is signed and the same over attempts and replays.
//! `/notification_id` is new in each replay. The type is `/event_type`.

use std::time::Duration;

use serde::Deserialize;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Encoding, Part, Placement, Recipe, Time},
};
use crate::{
    event::{Digest, Named},
    refusal::Refusal,
    request::Verified,
    secret::Secret,
};

/// Paddle Billing's rules.
#[derive(Debug)]
pub struct Paddle;

impl Provider for Paddle {
    fn name(&self) -> &'static str {
        "paddle"
    }

    fn title(&self) -> &'static str {
        "Paddle Billing"
    }

    fn docs(&self) -> &'static str {
        "https://developer.paddle.com/webhooks/signature-verification"
    }

    fn secret_variable(&self) -> &'static str {
        "PADDLE_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over time and body"
    }

    fn identity(&self) -> &'static str {
        "`/event_id`, which is signed"
    }

    /// By itself for three days; the rest is for asking again.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 30)
    }

    fn development_secret(&self, random: [u8; 24]) -> Secret {
        Secret::new(format!("pdl_ntfset_{}", hex::encode(random)))
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe {
            signature: Placement::Items {
                header: "Paddle-Signature".to_owned(),
                separator: ';',
                name: "h1".to_owned(),
            },
            time: Some(Time { tolerance: Duration::from_secs(5), ..Time::item("ts") }),
            signed: vec![Part::Time, Part::text(":"), Part::Body],
            ..Recipe::of_body("", "", Encoding::Hex)
        };
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let event: Event<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
        let (id, event_type) = (event.event_id.usable(), event.event_type.usable());
        let content = || Digest::of([request.body.as_ref()]);
        Ok(vec![naming::by_signed_id(id, event_type, request.body.clone(), content)])
    }
}

#[derive(Debug, Default, Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    event_id: Scalar<'a>,
    #[serde(borrow, default)]
    event_type: Scalar<'a>,
}
