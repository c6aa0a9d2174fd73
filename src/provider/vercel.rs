//! Vercel: `x-vercel-signature: <hex>`, HMAC-SHA1 over the body.
//!
//! <https://vercel.com/docs/webhooks/webhooks-api>
//!
//! Identity: `/id`, which is signed. The type is `/type` (`deployment.created`).

use std::time::Duration;

use serde::Deserialize;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Algorithm, Encoding, Recipe},
};
use crate::{
    event::{Digest, Named},
    refusal::Refusal,
    request::Verified,
};

/// Vercel's rules.
#[derive(Debug)]
pub struct Vercel;

impl Provider for Vercel {
    fn name(&self) -> &'static str {
        "vercel"
    }

    fn title(&self) -> &'static str {
        "Vercel"
    }

    fn docs(&self) -> &'static str {
        "https://vercel.com/docs/webhooks/webhooks-api"
    }

    fn secret_variable(&self) -> &'static str {
        "VERCEL_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA1 over the body"
    }

    fn identity(&self) -> &'static str {
        "`/id`, which is signed"
    }

    /// By itself for a day.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe {
            algorithm: Algorithm::HmacSha1,
            ..Recipe::of_body("x-vercel-signature", "", Encoding::Hex)
        };
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let event: Event<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
        let (id, event_type) = (event.id.usable(), event.event_type.usable());
        let content = || Digest::of([request.body.as_ref()]);
        Ok(vec![naming::by_signed_id(id, event_type, request.body.clone(), content)])
    }
}

#[derive(Debug, Default, Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    id: Scalar<'a>,
    #[serde(borrow, default, rename = "type")]
    event_type: Scalar<'a>,
}
