//! Postmark: `Authorization: Basic <base64>`, the name and the password that were put into the URL.
//!
//! <https://postmarkapp.com/developer/webhooks/webhooks-overview>
//!
//! Nothing is signed: who knows the password may say anything, so it must travel by HTTPS only. A
//! secret is written as `name:password`, or as the base64 of it.
//!
//! Identity: `/RecordType` and `/MessageID`, which all events of one message share, with `/ID` (a
//! bounce) or the digest of the body: a message is opened and clicked many times, and each time is
//! told with its own `/ReceivedAt`. An attempt has the same body as the one before it.
//!
//! The type is `/RecordType` (`Bounce`); an inbound message has none and is called `Inbound`.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Algorithm, Encoding, KeyForm, Placement, Recipe},
};
use crate::{
    event::{Digest, Named},
    refusal::Refusal,
    request::Verified,
    secret::Secret,
};

/// Postmark's rules.
#[derive(Debug)]
pub struct Postmark;

impl Provider for Postmark {
    fn name(&self) -> &'static str {
        "postmark"
    }

    fn title(&self) -> &'static str {
        "Postmark"
    }

    fn docs(&self) -> &'static str {
        "https://postmarkapp.com/developer/webhooks/webhooks-overview"
    }

    fn secret_variable(&self) -> &'static str {
        "POSTMARK_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "nothing: it shows a name and a password (HTTP Basic)"
    }

    fn identity(&self) -> &'static str {
        "`/MessageID`, `/RecordType`, `/ID` and what differs between a message's events, trusted \
         as the password is"
    }

    /// By itself for half a day; by hand for as long as it keeps a message, 45 days if not told otherwise.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 45)
    }

    fn development_secret(&self, random: [u8; 24]) -> Secret {
        Secret::new(format!("hookonce:{}", hex::encode(random)))
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe {
            algorithm: Algorithm::Token,
            key: KeyForm::Text,
            signature: Placement::Whole {
                header: "Authorization".to_owned(),
                prefix: "Basic ".to_owned(),
            },
            encoding: Encoding::Text,
            time: None,
            signed: Vec::new(),
        };
        Ok(Box::new(recipe.scheme(&settings.with_secrets(credentials))?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let event: Event<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
        let body = request.body.clone();
        let message_id = event.message_id.usable();
        let event_type = event.record_type.usable();
        let event_type = event_type.or_else(|| message_id.as_ref().map(|_| "Inbound".to_owned()));
        let content = Digest::of([request.body.as_ref()]).short();
        Ok(vec![match (&message_id, &event_type) {
            (Some(message), Some(kind)) => {
                let id = event.id.usable();
                let last = id.as_deref().unwrap_or(&content);
                let fields = [message.clone(), kind.clone(), last.to_owned()];
                let fields = fields.iter().map(String::as_str);
                naming::by_signed_fields(message_id.clone(), event_type.clone(), body, fields)
            }
            _ => {
                let content = Digest::of([request.body.as_ref()]);
                naming::by_signed_content(message_id, event_type, body, content)
            }
        }])
    }
}

#[derive(Debug, Default, Deserialize)]
struct Event<'a> {
    #[serde(borrow, default, rename = "ID")]
    id: Scalar<'a>,
    #[serde(borrow, default, rename = "MessageID")]
    message_id: Scalar<'a>,
    #[serde(borrow, default, rename = "RecordType")]
    record_type: Scalar<'a>,
}

/// What follows `Basic`. Base64 has no colon, so it is clear which of the two was written.
fn credentials(secret: &str) -> String {
    if secret.contains(':') { STANDARD.encode(secret) } else { secret.to_owned() }
}
