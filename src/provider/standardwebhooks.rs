//! Standard Webhooks: `webhook-id`, `webhook-timestamp` and `webhook-signature: v1,<base64> …`,
//! over `<id>.<timestamp>.<body>`.
//!
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>
//!
//! `v1` is HMAC-SHA256 with a secret `whsec_<base64>`; `v1a` is Ed25519, chosen with `scheme =
//! "v1a"` and checked with `public_keys = ["whpk_<base64>"]`. A source has one or the other: where
//! public keys are configured no HMAC is ever accepted. Entries of other versions are skipped, and
//! so are entries without a comma, on which the libraries differ.
//!
//! Identity: the id in the header, which is signed. The type is `/type`, as the specification
//! recommends.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Algorithm, Encoding, KeyForm, Part, Placement, Recipe, Time},
};
use crate::{
    event::{Digest, Named},
    refusal::Refusal,
    request::Verified,
    secret::Secret,
};

/// The rules of the Standard Webhooks specification.
#[derive(Debug)]
pub struct StandardWebhooks;

impl Provider for StandardWebhooks {
    fn name(&self) -> &'static str {
        "standardwebhooks"
    }

    fn title(&self) -> &'static str {
        "Standard Webhooks"
    }

    fn docs(&self) -> &'static str {
        "https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md"
    }

    fn secret_variable(&self) -> &'static str {
        "STANDARDWEBHOOKS_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 (v1) or Ed25519 (v1a) over id, time and body"
    }

    fn identity(&self) -> &'static str {
        "`webhook-id`, which is signed"
    }

    /// The schedule that the specification gives as its example ends after 75 hours; a day for
    /// asking again.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 4)
    }

    fn settings(&self) -> &'static [(&'static str, &'static str)] {
        &[(
            "scheme",
            "`v1` (HMAC with `secrets`, the default) or `v1a` (Ed25519 with `public_keys`)",
        )]
    }

    fn development_secret(&self, random: [u8; 24]) -> Secret {
        development_secret(random)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        Ok(Box::new(recipe("webhook", settings)?.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        Ok(vec![event("webhook-id", request)])
    }
}

/// How headers that begin with `family` sign: `webhook`, or `svix` where Svix puts its own name.
pub(super) fn recipe(family: &str, settings: &Settings) -> Result<Recipe, Vec<String>> {
    match settings.extra.get("scheme").map(String::as_str) {
        None | Some("v1") => Ok(hmac_recipe(family)),
        Some("v1a") => Ok(recipe_of(family, "v1a", Algorithm::Ed25519, "whpk_")),
        Some(_) => Err(vec!["scheme: write `v1` or `v1a`".to_owned()]),
    }
}

/// How such headers sign with a shared secret.
pub(super) fn hmac_recipe(family: &str) -> Recipe {
    recipe_of(family, "v1", Algorithm::HmacSha256, "whsec_")
}

fn recipe_of(family: &str, version: &str, algorithm: Algorithm, prefix: &'static str) -> Recipe {
    let [id, time] = ["id", "timestamp"].map(|name| format!("{family}-{name}"));
    Recipe {
        algorithm,
        key: KeyForm::Base64 { prefix },
        signature: Placement::List {
            header: format!("{family}-signature"),
            version: version.to_owned(),
        },
        encoding: Encoding::Base64,
        time: Some(Time::header(&time)),
        signed: vec![Part::Header(id), Part::text("."), Part::Time, Part::text("."), Part::Body],
    }
}

/// The event under the id in this header, which must be the one that was signed.
pub(super) fn event(id_header: &str, request: &Verified) -> Named {
    let id = request.headers.only(id_header).ok().and_then(naming::usable);
    let message: Message<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
    let content = || Digest::of([request.body.as_ref()]);
    naming::by_signed_id(id, message.event_type.usable(), request.body.clone(), content)
}

/// A secret of the form that the specification asks for.
pub(super) fn development_secret(random: [u8; 24]) -> Secret {
    Secret::new(format!("whsec_{}", STANDARD.encode(random)))
}

#[derive(Debug, Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default, rename = "type")]
    event_type: Scalar<'a>,
}
