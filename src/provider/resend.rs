//! Resend: Standard Webhooks under Svix's names `svix-id`, `svix-timestamp` and `svix-signature`.
//!
//! <https://resend.com/docs/webhooks/verify-webhooks-requests>
//!
//! Decided where its libraries differ: a signature of another version than `v1` is skipped, as its
//! JavaScript library does; its Python library does not look at the version, and would take a later
//! scheme for this one.
//!
//! Identity: the id in the header, which is signed. The type is `/type`.

use std::time::Duration;

use super::{Provider, Scheme, Settings, standardwebhooks};
use crate::{event::Named, refusal::Refusal, request::Verified, secret::Secret};

/// Resend's rules.
#[derive(Debug)]
pub struct Resend;

impl Provider for Resend {
    fn name(&self) -> &'static str {
        "resend"
    }

    fn title(&self) -> &'static str {
        "Resend"
    }

    fn docs(&self) -> &'static str {
        "https://resend.com/docs/webhooks/verify-webhooks-requests"
    }

    fn secret_variable(&self) -> &'static str {
        "RESEND_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over id, time and body"
    }

    fn identity(&self) -> &'static str {
        "`svix-id`, which is signed"
    }

    /// By itself for about a day; the rest is for asking again.
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
