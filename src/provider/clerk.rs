//! Clerk: Standard Webhooks under Svix's names `svix-id`, `svix-timestamp` and `svix-signature`.
//!
//! <https://clerk.com/docs/guides/development/webhooks/syncing>
//!
//! Only these names count, as in Clerk's own library.
//!
//! Identity: the id in the header, which is signed. The type is `/type`.

use std::time::Duration;

use super::{Provider, Scheme, Settings, standardwebhooks};
use crate::{event::Named, refusal::Refusal, request::Verified, secret::Secret};

/// Clerk's rules.
#[derive(Debug)]
pub struct Clerk;

impl Provider for Clerk {
    fn name(&self) -> &'static str {
        "clerk"
    }

    fn title(&self) -> &'static str {
        "Clerk"
    }

    fn docs(&self) -> &'static str {
        "https://clerk.com/docs/guides/development/webhooks/syncing"
    }

    fn secret_variable(&self) -> &'static str {
        "CLERK_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over id, time and body"
    }

    fn identity(&self) -> &'static str {
        "`svix-id`, which is signed"
    }

    /// By itself for 27.6 hours, as Svix does; the rest is for asking again.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 4)
    }

    fn development_secret(&self, random: [u8; 24]) -> Secret {
        standardwebhooks::development_secret(random)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        Ok(Box::new(standardwebhooks::recipe("svix", settings)?.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        Ok(vec![standardwebhooks::event("svix-id", request)])
    }
}
