//! Heroku: `Heroku-Webhook-Hmac-SHA256: <base64>`, HMAC-SHA256 over the body.
//!
//! <https://devcenter.heroku.com/articles/app-webhooks>
//!
//! Identity: `/id`, which is signed: the notification, of which there is one for each subscription.
//! The type is put together from `/resource` and `/action` (`release.update`).

use std::time::Duration;

use serde::Deserialize;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Encoding, Recipe},
};
use crate::{
    event::{Digest, Named},
    refusal::Refusal,
    request::Verified,
};

/// Heroku's rules.
#[derive(Debug)]
pub struct Heroku;

impl Provider for Heroku {
    fn name(&self) -> &'static str {
        "heroku"
    }

    fn title(&self) -> &'static str {
        "Heroku"
    }

    fn docs(&self) -> &'static str {
        "https://devcenter.heroku.com/articles/app-webhooks"
    }

    fn secret_variable(&self) -> &'static str {
        "HEROKU_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over the body"
    }

    fn identity(&self) -> &'static str {
        "`/id`, which is signed"
    }

    /// At the level `sync` until it is accepted or Heroku gives up; it does not say when.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 3)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe::of_body("Heroku-Webhook-Hmac-SHA256", "", Encoding::Base64);
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let event: Event<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
        let event_type = match (event.resource.usable(), event.action.usable()) {
            (Some(resource), Some(action)) => naming::usable(format!("{resource}.{action}")),
            (resource, _) => resource,
        };
        let content = || Digest::of([request.body.as_ref()]);
        let body = request.body.clone();
        Ok(vec![naming::by_signed_id(event.id.usable(), event_type, body, content)])
    }
}

#[derive(Debug, Default, Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    id: Scalar<'a>,
    #[serde(borrow, default)]
    resource: Scalar<'a>,
    #[serde(borrow, default)]
    action: Scalar<'a>,
}
