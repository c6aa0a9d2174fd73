//! WorkOS: `WorkOS-Signature: t=<milliseconds>, v1=<hex>`, HMAC-SHA256 over `<t>.<body>`.
//!
//! <https://workos.com/docs/events/data-syncing/webhooks>
//!
//! There is a space after the comma. The time may be off by three minutes.
//!
//! Identity: `/id`, which is signed. The type is `/event` (`user.created`).

use std::time::Duration;

use serde::Deserialize;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Encoding, Part, Placement, Recipe, Time, TimeUnit},
};
use crate::{
    event::{Digest, Named},
    refusal::Refusal,
    request::Verified,
};

/// WorkOS's rules.
#[derive(Debug)]
pub struct WorkOs;

impl Provider for WorkOs {
    fn name(&self) -> &'static str {
        "workos"
    }

    fn title(&self) -> &'static str {
        "WorkOS"
    }

    fn docs(&self) -> &'static str {
        "https://workos.com/docs/events/data-syncing/webhooks"
    }

    fn secret_variable(&self) -> &'static str {
        "WORKOS_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over time and body"
    }

    fn identity(&self) -> &'static str {
        "`/id`, which is signed"
    }

    /// By itself for up to three days.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 3)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe {
            signature: Placement::Items {
                header: "WorkOS-Signature".to_owned(),
                separator: ',',
                name: " v1".to_owned(), // the space after the comma is the item's
            },
            time: Some(Time {
                unit: TimeUnit::Millis,
                tolerance: Duration::from_mins(3),
                ..Time::item("t")
            }),
            signed: vec![Part::Time, Part::text("."), Part::Body],
            ..Recipe::of_body("", "", Encoding::Hex)
        };
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let event: Event<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
        let (id, event_type) = (event.id.usable(), event.event.usable());
        let content = || Digest::of([request.body.as_ref()]);
        Ok(vec![naming::by_signed_id(id, event_type, request.body.clone(), content)])
    }
}

#[derive(Debug, Default, Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    id: Scalar<'a>,
    #[serde(borrow, default)]
    event: Scalar<'a>,
}
