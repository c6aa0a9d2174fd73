//! Bird: Standard Webhooks, with a secret `whsec_<base64>`.
//!
//! <https://docs.bird.com/api>
//!
//! This is what Bird's own library for Python (`messagebird-sdk`) checks. Two older ways to sign are refused
//! here: the JWT of the classic API (`MessageBird-Signature-JWT`), and `MessageBird-Signature` over
//! time, URL and body, which the pages of its notifications API still show.
//!
//! Identity: the id in the header, which is signed. The type is `/type`.

use std::time::Duration;

use super::{Provider, Scheme, Settings, standardwebhooks};
use crate::{event::Named, refusal::Refusal, request::Verified, secret::Secret};

/// Bird's rules.
#[derive(Debug)]
pub struct Bird;

impl Provider for Bird {
    fn name(&self) -> &'static str {
        "bird"
    }

    fn title(&self) -> &'static str {
        "Bird"
    }

    fn docs(&self) -> &'static str {
        "https://docs.bird.com/api"
    }

    fn secret_variable(&self) -> &'static str {
        "BIRD_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over id, time and body"
    }

    fn identity(&self) -> &'static str {
        "`webhook-id`, which is signed"
    }

    /// It does not say; as long as others that sign this way.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 4)
    }

    fn development_secret(&self, random: [u8; 24]) -> Secret {
        standardwebhooks::development_secret(random)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        Ok(Box::new(standardwebhooks::recipe("webhook", settings)?.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        Ok(vec![standardwebhooks::event("webhook-id", request)])
    }
}
