//! CircleCI: `circleci-signature: v1=<hex>`, HMAC-SHA256 over the body.
//!
//! <https://circleci.com/docs/guides/integration/outbound-webhooks/>
//!
//! Entries of other versions are ignored: only `v1` is defined, so none of them can be a weaker
//! one.
//!
//! Identity: `/id`, which is signed and the same over attempts. The type is `/type`.

use std::time::Duration;

use serde::Deserialize;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::Recipe,
};
use crate::{
    event::{Digest, Named},
    refusal::Refusal,
    request::Verified,
};

/// CircleCI's rules.
#[derive(Debug)]
pub struct CircleCi;

impl Provider for CircleCi {
    fn name(&self) -> &'static str {
        "circleci"
    }

    fn title(&self) -> &'static str {
        "CircleCI"
    }

    fn docs(&self) -> &'static str {
        "https://circleci.com/docs/guides/integration/outbound-webhooks/"
    }

    fn secret_variable(&self) -> &'static str {
        "CIRCLECI_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over the body"
    }

    fn identity(&self) -> &'static str {
        "`/id`, which is signed"
    }

    /// It does not say; most senders stop after three days.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 3)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe::of_body_in_items("circleci-signature", "v1");
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
