//! Bitbucket Cloud: `X-Hub-Signature: sha256=<hex>`, HMAC-SHA256 over the body.
//!
//! <https://support.atlassian.com/bitbucket-cloud/docs/manage-webhooks/>
//!
//! The header has the name that others use for SHA-1; here it holds a SHA-256.
//!
//! Identity: the header `X-Request-UUID` and the digest of type and body: neither header is signed.
//! The type is the header `X-Event-Key` (`repo:push`).

use std::time::Duration;

use super::{
    Provider, Scheme, Settings, naming,
    scheme::{Encoding, Recipe},
};
use crate::{
    event::{Digest, Named},
    refusal::Refusal,
    request::Verified,
};

/// Bitbucket Cloud's rules.
#[derive(Debug)]
pub struct Bitbucket;

impl Provider for Bitbucket {
    fn name(&self) -> &'static str {
        "bitbucket"
    }

    fn title(&self) -> &'static str {
        "Bitbucket Cloud"
    }

    fn docs(&self) -> &'static str {
        "https://support.atlassian.com/bitbucket-cloud/docs/manage-webhooks/"
    }

    fn secret_variable(&self) -> &'static str {
        "BITBUCKET_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over the body"
    }

    fn identity(&self) -> &'static str {
        "`X-Request-UUID`, which is not signed, and the digest of type and body"
    }

    /// About twice, within minutes; the rest is for asking again.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe::of_body("X-Hub-Signature", "sha256=", Encoding::Hex);
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let header = |name| request.headers.only(name).ok().and_then(naming::usable);
        let event_type = header("X-Event-Key");
        let type_bytes = event_type.as_deref().unwrap_or_default().as_bytes();
        let content = Digest::of([type_bytes, request.body.as_ref()]);
        let (id, body) = (header("X-Request-UUID"), request.body.clone());
        Ok(vec![naming::by_unsigned_id(id, event_type, body, content)])
    }

    fn retry_marker(&self, request: &Verified) -> Option<String> {
        let number = request.headers.only("x-attempt-number").ok().filter(|it| *it != "1")?;
        naming::usable(format!("x-attempt-number: {number}"))
    }
}
