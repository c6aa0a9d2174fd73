//! Svix: Standard Webhooks under the names `svix-id`, `svix-timestamp` and `svix-signature`.
//!
//! <https://docs.svix.com/receiving/verifying-payloads/how-manual>
//!
//! Senders that put their own brand in place of Svix's use the `webhook-*` names. Which of the two
//! counts is decided by `svix-signature` alone, and the id is read from the headers whose signature
//! was checked: a header of the other family changes nothing.
//!
//! Identity: the id in the header, which is signed. The type is `/type`. An empty body is accepted:
//! one of Svix's libraries tries to read it as JSON and fails, the others do not.

use std::time::Duration;

use super::{NotSignable, Provider, Scheme, Settings, scheme::RecipeScheme, standardwebhooks};
use crate::{
    clock::Timestamp,
    event::Named,
    refusal::{Refusal, SignatureProblem},
    request::{Unverified, Verified},
    secret::Secret,
};

/// Svix's rules.
#[derive(Debug)]
pub struct Svix;

impl Provider for Svix {
    fn name(&self) -> &'static str {
        "svix"
    }

    fn title(&self) -> &'static str {
        "Svix"
    }

    fn docs(&self) -> &'static str {
        "https://docs.svix.com/receiving/verifying-payloads/how-manual"
    }

    fn secret_variable(&self) -> &'static str {
        "SVIX_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over id, time and body"
    }

    fn identity(&self) -> &'static str {
        "`svix-id` or `webhook-id`, which is signed"
    }

    /// By itself for 27.6 hours; the rest is for asking again.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 4)
    }

    fn settings(&self) -> &'static [(&'static str, &'static str)] {
        standardwebhooks::StandardWebhooks.settings()
    }

    fn development_secret(&self, random: [u8; 24]) -> Secret {
        standardwebhooks::development_secret(random)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let of = |family| standardwebhooks::recipe(family, settings)?.scheme(settings);
        Ok(Box::new(EitherFamily { svix: of("svix")?, webhook: of("webhook")? }))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let id_header = if has_svix_signature(request) { "svix-id" } else { "webhook-id" };
        Ok(vec![standardwebhooks::event(id_header, request)])
    }
}

#[derive(Debug)]
struct EitherFamily {
    svix: RecipeScheme,
    webhook: RecipeScheme,
}

impl EitherFamily {
    fn of(&self, request: &Unverified) -> &RecipeScheme {
        if has_svix_signature(request) { &self.svix } else { &self.webhook }
    }
}

impl Scheme for EitherFamily {
    fn verify(&self, request: &Unverified, now: Timestamp) -> Result<(), SignatureProblem> {
        self.of(request).verify(request, now)
    }

    fn sign(&self, draft: &mut Unverified, now: Timestamp) -> Result<(), NotSignable> {
        let white_label = draft.headers.all("webhook-id").next().is_some();
        if has_svix_signature(draft) || !white_label {
            self.svix.sign(draft, now)
        } else {
            self.webhook.sign(draft, now)
        }
    }
}

fn has_svix_signature(request: &Unverified) -> bool {
    request.headers.all("svix-signature").next().is_some()
}
