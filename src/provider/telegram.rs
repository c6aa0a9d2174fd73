//! Telegram: the `secret_token` of `setWebhook` in `X-Telegram-Bot-Api-Secret-Token`.
//!
//! <https://core.telegram.org/bots/api#setwebhook>
//!
//! Nothing is signed: who knows the token may say anything, so it must travel by HTTPS only, as
//! Telegram does anyway.
//!
//! Identity: `/update_id`, trusted as the token is; an update that is sent again keeps it. The type
//! is the name of the one other member (`message`, `callback_query`).
//!
//! The answer has no body: Telegram runs a JSON answer with a `method` in it as a call of its API.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, de::IgnoredAny};

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Algorithm, Encoding, KeyForm, Placement, Recipe},
};
use crate::{
    event::{Digest, Named},
    receipt::Reply,
    refusal::Refusal,
    request::Verified,
};

/// Telegram Bot API's rules.
#[derive(Debug)]
pub struct Telegram;

impl Provider for Telegram {
    fn name(&self) -> &'static str {
        "telegram"
    }

    fn title(&self) -> &'static str {
        "Telegram Bot API"
    }

    fn docs(&self) -> &'static str {
        "https://core.telegram.org/bots/api#setwebhook"
    }

    fn secret_variable(&self) -> &'static str {
        "TELEGRAM_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "nothing: it shows the secret in `X-Telegram-Bot-Api-Secret-Token`"
    }

    fn identity(&self) -> &'static str {
        "`/update_id`, trusted as the secret is"
    }

    /// It keeps an update for a day.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe {
            algorithm: Algorithm::Token,
            key: KeyForm::Text,
            signature: Placement::Whole {
                header: "X-Telegram-Bot-Api-Secret-Token".to_owned(),
                prefix: String::new(),
            },
            encoding: Encoding::Text,
            time: None,
            signed: Vec::new(),
        };
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let update: Update<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
        let event_type = update.others.into_keys().next().and_then(naming::usable);
        let content = || Digest::of([request.body.as_ref()]);
        let (id, body) = (update.update_id.usable(), request.body.clone());
        Ok(vec![naming::by_signed_id(id, event_type, body, content)])
    }

    fn reply(&self) -> Option<Reply> {
        Some(Reply::empty())
    }
}

#[derive(Debug, Default, Deserialize)]
struct Update<'a> {
    #[serde(borrow, default)]
    update_id: Scalar<'a>,
    #[serde(flatten)]
    others: BTreeMap<String, IgnoredAny>,
}
