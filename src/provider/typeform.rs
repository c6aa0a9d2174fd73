//! Typeform: `Typeform-Signature: sha256=<base64>`, HMAC-SHA256 over the body.
//!
//! <https://www.typeform.com/developers/webhooks/secure-your-webhooks/>
//!
//! After `sha256=` others write hex; Typeform writes base64. The line end at the end of the body is
//! signed with it.
//!
//! Identity: `/event_id`, which is signed. The type is `/event_type` (`form_response`).

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

/// Typeform's rules.
#[derive(Debug)]
pub struct Typeform;

impl Provider for Typeform {
    fn name(&self) -> &'static str {
        "typeform"
    }

    fn title(&self) -> &'static str {
        "Typeform"
    }

    fn docs(&self) -> &'static str {
        "https://www.typeform.com/developers/webhooks/secure-your-webhooks/"
    }

    fn secret_variable(&self) -> &'static str {
        "TYPEFORM_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over the body"
    }

    fn identity(&self) -> &'static str {
        "`/event_id`, which is signed"
    }

    /// It does not say; most senders stop after three days.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 3)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe::of_body("Typeform-Signature", "sha256=", Encoding::Base64);
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
