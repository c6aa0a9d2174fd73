//! Mux: `Mux-Signature: t=<seconds>,v1=<hex>`, HMAC-SHA256 over `<t>.<body>`.
//!
//! <https://www.mux.com/docs/core/verify-webhook-signatures>
//!
//! A time in the future is refused beyond the tolerance as one in the past is: Mux's library looks
//! at the past only, and would let a captured request stay good for as long as its sender liked.
//!
//! Identity: `/id`, which is signed. The body is not part of it: `/attempts` grows. The type is
//! `/type`.

use std::time::Duration;

use serde::{Deserialize, de::IgnoredAny};

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Recipe, TOLERANCE},
};
use crate::{
    event::{Digest, Named},
    refusal::Refusal,
    request::Verified,
};

/// Mux's rules.
#[derive(Debug)]
pub struct Mux;

impl Provider for Mux {
    fn name(&self) -> &'static str {
        "mux"
    }

    fn title(&self) -> &'static str {
        "Mux"
    }

    fn docs(&self) -> &'static str {
        "https://www.mux.com/docs/core/verify-webhook-signatures"
    }

    fn secret_variable(&self) -> &'static str {
        "MUX_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over time and body"
    }

    fn identity(&self) -> &'static str {
        "`/id`, which is signed; the body may differ between attempts"
    }

    /// By itself for a day.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe::of_time_and_body("Mux-Signature", TOLERANCE);
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let event: Event<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
        let (id, event_type) = (event.id.usable(), event.event_type.usable());
        let content = || Digest::of([request.body.as_ref()]);
        Ok(vec![naming::by_signed_id(id, event_type, request.body.clone(), content)])
    }

    fn retry_marker(&self, request: &Verified) -> Option<String> {
        let history: History = serde_json::from_slice(&request.body).ok()?;
        let attempts = history.attempts.len();
        (attempts > 0).then(|| format!("attempts: {attempts} before this one"))
    }
}

#[derive(Debug, Default, Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    id: Scalar<'a>,
    #[serde(borrow, default, rename = "type")]
    event_type: Scalar<'a>,
}

/// What was tried before.
#[derive(Debug, Deserialize)]
struct History {
    attempts: Vec<IgnoredAny>,
}
