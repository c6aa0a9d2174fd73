//! Mollie: `X-Mollie-Signature: sha256=<hex>`, HMAC-SHA256 over the body.
//!
//! <https://docs.mollie.com/reference/webhooks-best-practices>
//!
//! While a secret is rotated the header is there twice, once for each secret; either one is enough.
//!
//! Identity: `/id` of the event, which is signed. The older form `id=tr_…` names what has changed,
//! not what happened to it, and is the same each time: it has no identity, and each request is an
//! event of its own. Mollie does not sign that form by itself, and what is not signed is refused
//! here.
//!
//! The type is `/type`.

use std::time::Duration;

use serde::Deserialize;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Algorithm, Encoding, KeyForm, Part, Placement, Recipe},
};
use crate::{
    event::{Digest, Named},
    refusal::Refusal,
    request::Verified,
};

/// Mollie's rules.
#[derive(Debug)]
pub struct Mollie;

impl Provider for Mollie {
    fn name(&self) -> &'static str {
        "mollie"
    }

    fn title(&self) -> &'static str {
        "Mollie"
    }

    fn docs(&self) -> &'static str {
        "https://docs.mollie.com/reference/webhooks-best-practices"
    }

    fn secret_variable(&self) -> &'static str {
        "MOLLIE_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over the body"
    }

    fn identity(&self) -> &'static str {
        "`/id`, which is signed; a form with an `id` has none: it is the same whenever something \
         changed"
    }

    /// Ten attempts within 26 hours.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(26)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe {
            algorithm: Algorithm::HmacSha256,
            key: KeyForm::Text,
            signature: Placement::Each {
                header: "X-Mollie-Signature".to_owned(),
                prefix: "sha256=".to_owned(),
            },
            encoding: Encoding::Hex,
            time: None,
            signed: vec![Part::Body],
        };
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let body = request.body.clone();
        let Ok(event) = serde_json::from_slice::<Event<'_>>(&request.body) else {
            return Ok(vec![naming::never_the_same(None, None, body)]);
        };
        let content = || Digest::of([request.body.as_ref()]);
        let (id, event_type) = (event.id.usable(), event.event_type.usable());
        Ok(vec![naming::by_signed_id(id, event_type, body, content)])
    }
}

#[derive(Debug, Default, Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    id: Scalar<'a>,
    #[serde(borrow, default, rename = "type")]
    event_type: Scalar<'a>,
}
