//! Sentry (integration platform): `Sentry-Hook-Signature: <hex>`, HMAC-SHA256 over the body, with
//! the integration's client secret.
//!
//! <https://docs.sentry.io/organization/integrations/integration-platform/webhooks/>
//!
//! The header `Sentry-Hook-Timestamp` is not signed and not looked at. The webhooks of the old
//! plugin are not signed at all, and refused.
//!
//! Identity: the header `Request-ID`, which is not signed, and the digest of resource and body. The
//! type is put together from the header `Sentry-Hook-Resource` and `/action` (`issue.created`).

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

/// Sentry's rules.
#[derive(Debug)]
pub struct Sentry;

impl Provider for Sentry {
    fn name(&self) -> &'static str {
        "sentry"
    }

    fn title(&self) -> &'static str {
        "Sentry"
    }

    fn docs(&self) -> &'static str {
        "https://docs.sentry.io/organization/integrations/integration-platform/webhooks/"
    }

    fn secret_variable(&self) -> &'static str {
        "SENTRY_CLIENT_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over the body"
    }

    fn identity(&self) -> &'static str {
        "`Request-ID`, which is not signed, and the digest of type and body"
    }

    /// Not that anybody knows.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe::of_body("Sentry-Hook-Signature", "", Encoding::Hex);
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let header = |name| request.headers.only(name).ok().and_then(naming::usable);
        let message: Message<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
        let resource = header("Sentry-Hook-Resource");
        let resource_bytes = resource.as_deref().unwrap_or_default().as_bytes();
        let content = Digest::of([resource_bytes, request.body.as_ref()]);
        let event_type = match (&resource, message.action.usable()) {
            (Some(resource), Some(action)) => naming::usable(format!("{resource}.{action}")),
            _ => resource,
        };
        let (id, body) = (header("Request-ID"), request.body.clone());
        Ok(vec![naming::by_unsigned_id(id, event_type, body, content)])
    }
}

#[derive(Debug, Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    action: Scalar<'a>,
}
