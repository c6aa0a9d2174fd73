//! Shopify: `X-Shopify-Hmac-Sha256: <base64>`, HMAC-SHA256 over the body, with the app's client
//! secret. Shopify's newer Events have the same headers without `X-`.
//!
//! <https://shopify.dev/docs/apps/build/webhooks/subscribe/https>
//!
//! For up to an hour after the client secret was rotated the old one still signs: keep both.
//!
//! Decided where Shopify's library is stricter or laxer: base64 without its padding is refused, as
//! there; a request without a topic or a shop is accepted, unlike there, since these headers are
//! not signed and what is signed would be lost.
//!
//! Identity: the header `X-Shopify-Webhook-Id`, which attempts keep, and the digest of type and
//! body: no header is signed. (`X-Shopify-Event-Id` is shared by all that one action of a merchant
//! causes.) The type is the header `X-Shopify-Topic` (`orders/create`), or `Shopify-Topic` and
//! `Shopify-Action` (`Product/update`).

use std::time::Duration;

use super::{
    NotSignable, Provider, Scheme, Settings, naming,
    scheme::{Encoding, Recipe, RecipeScheme},
};
use crate::{
    clock::Timestamp,
    event::{Digest, Named},
    refusal::{Refusal, SignatureProblem},
    request::{Unverified, Verified},
    secret::Secret,
};

const WEBHOOK_SIGNATURE: &str = "X-Shopify-Hmac-Sha256";
const EVENT_SIGNATURE: &str = "Shopify-Hmac-Sha256";

/// Shopify's rules.
#[derive(Debug)]
pub struct Shopify;

impl Provider for Shopify {
    fn name(&self) -> &'static str {
        "shopify"
    }

    fn title(&self) -> &'static str {
        "Shopify"
    }

    fn docs(&self) -> &'static str {
        "https://shopify.dev/docs/apps/build/webhooks/subscribe/https"
    }

    fn secret_variable(&self) -> &'static str {
        "SHOPIFY_CLIENT_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over the body"
    }

    fn identity(&self) -> &'static str {
        "`X-Shopify-Webhook-Id` (Events: `Shopify-Webhook-Id`), which is not signed, and \
         the digest of type and body"
    }

    /// By itself for four hours.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24)
    }

    fn development_secret(&self, random: [u8; 24]) -> Secret {
        let (half, _) = random.split_at(16);
        Secret::new(format!("shpss_{}", hex::encode(half)))
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let of = |header| Recipe::of_body(header, "", Encoding::Base64).scheme(settings);
        Ok(Box::new(EitherFamily { webhook: of(WEBHOOK_SIGNATURE)?, event: of(EVENT_SIGNATURE)? }))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let header = |name| request.headers.only(name).ok().and_then(naming::usable);
        let (id, event_type) = if is_webhook(request) {
            (header("X-Shopify-Webhook-Id"), header("X-Shopify-Topic"))
        } else {
            let event_type = match (header("Shopify-Topic"), header("Shopify-Action")) {
                (Some(topic), Some(action)) => naming::usable(format!("{topic}/{action}")),
                (topic, _) => topic,
            };
            (header("Shopify-Webhook-Id"), event_type)
        };
        let type_bytes = event_type.as_deref().unwrap_or_default().as_bytes();
        let content = Digest::of([type_bytes, request.body.as_ref()]);
        Ok(vec![naming::by_unsigned_id(id, event_type, request.body.clone(), content)])
    }
}

/// Which headers count is decided by the signature alone; the id is read from the same family.
#[derive(Debug)]
struct EitherFamily {
    webhook: RecipeScheme,
    event: RecipeScheme,
}

impl Scheme for EitherFamily {
    fn verify(&self, request: &Unverified, now: Timestamp) -> Result<(), SignatureProblem> {
        if is_webhook(request) {
            self.webhook.verify(request, now)
        } else {
            self.event.verify(request, now)
        }
    }

    fn sign(&self, draft: &mut Unverified, now: Timestamp) -> Result<(), NotSignable> {
        let is_event = draft.headers.all("shopify-webhook-id").next().is_some();
        if is_event && !is_webhook(draft) {
            self.event.sign(draft, now)
        } else {
            self.webhook.sign(draft, now)
        }
    }
}

fn is_webhook(request: &Unverified) -> bool {
    request.headers.all(WEBHOOK_SIGNATURE).next().is_some()
}
