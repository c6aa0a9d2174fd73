//! OpenAI: Standard Webhooks, with a secret `whsec_<base64>`.
//!
//! <https://platform.openai.com/docs/guides/webhooks>
//!
//! A secret without its prefix is taken as text, as in OpenAI's library. An entry without `v1,` is
//! skipped: that library accepts it, but nothing sends it, and it has no version to tell schemes
//! apart.
//!
//! Identity: the id in the header, which is signed and the same over attempts. The type is `/type`.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Provider, Scheme, Settings, standardwebhooks};
use crate::{event::Named, refusal::Refusal, request::Verified, secret::Secret};

const PREFIX: &str = "whsec_";

/// OpenAI's rules.
#[derive(Debug)]
pub struct OpenAi;

impl Provider for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn title(&self) -> &'static str {
        "OpenAI"
    }

    fn docs(&self) -> &'static str {
        "https://platform.openai.com/docs/guides/webhooks"
    }

    fn secret_variable(&self) -> &'static str {
        "OPENAI_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over id, time and body"
    }

    fn identity(&self) -> &'static str {
        "`webhook-id`, which is signed"
    }

    /// By itself for 72 hours; a day for asking again.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 4)
    }

    fn development_secret(&self, random: [u8; 24]) -> Secret {
        standardwebhooks::development_secret(random)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let secrets = settings.secrets.iter().map(encoded).collect();
        let settings = Settings { secrets, ..settings.clone() };
        Ok(Box::new(standardwebhooks::recipe("webhook", &settings)?.scheme(&settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        Ok(vec![standardwebhooks::event("webhook-id", request)])
    }
}

/// The secret as base64 after its prefix. One without the prefix is the key itself.
fn encoded(secret: &Secret) -> Secret {
    if secret.is_blank() || secret.expose().starts_with(PREFIX) {
        return secret.clone();
    }
    Secret::new(format!("{PREFIX}{}", STANDARD.encode(secret.expose())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_without_its_prefix_is_the_key_itself() {
        assert_eq!(encoded(&Secret::new("key")).expose(), "whsec_a2V5");
        assert_eq!(encoded(&Secret::new("whsec_a2V5")).expose(), "whsec_a2V5");
    }
}
