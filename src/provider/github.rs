//! GitHub: `X-Hub-Signature-256: sha256=<hex>`, HMAC-SHA256 over the body.
//!
//! <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>
//!
//! The older `X-Hub-Signature` (SHA-1) is sent beside it and never looked at. Upper-case hex is
//! refused, as GitHub's own library does.
//!
//! Identity: the header `X-GitHub-Delivery`, which a redelivery keeps, and the digest of type and
//! body: neither header is signed, so the id alone could be put on another event. Without the id
//! the digest alone.
//!
//! The type is the header `X-GitHub-Event` alone (`pull_request`); the action is in the body. A
//! ping is an ordinary event of the type `ping`.

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

/// GitHub's rules.
#[derive(Debug)]
pub struct GitHub;

impl Provider for GitHub {
    fn name(&self) -> &'static str {
        "github"
    }

    fn title(&self) -> &'static str {
        "GitHub"
    }

    fn docs(&self) -> &'static str {
        "https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries"
    }

    fn secret_variable(&self) -> &'static str {
        "GITHUB_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over the body"
    }

    fn identity(&self) -> &'static str {
        "`X-GitHub-Delivery`, which is not signed, and the digest of type and body"
    }

    /// Never by itself; when asked to, within three days.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 3)
    }

    fn body_bytes_max(&self) -> usize {
        25 << 20
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe::of_body("X-Hub-Signature-256", "sha256=", Encoding::Hex);
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let header = |name| request.headers.only(name).ok().and_then(naming::usable);
        let event_type = header("X-GitHub-Event");
        let type_bytes = event_type.as_deref().unwrap_or_default().as_bytes();
        let content = Digest::of([type_bytes, request.body.as_ref()]);
        let (id, body) = (header("X-GitHub-Delivery"), request.body.clone());
        Ok(vec![naming::by_unsigned_id(id, event_type, body, content)])
    }
}
