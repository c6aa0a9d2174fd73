//! Asana: `X-Hook-Signature: <hex>`, HMAC-SHA256 over the body.
//!
//! <https://developers.asana.com/docs/webhooks-guide>
//!
//! The secret comes with the first request to the URL, in `X-Hook-Secret`, while the call that
//! creates the webhook is still open. It is sent back, as Asana asks, and never trusted: anybody
//! can send one. It is shown to the operator, and so does the answer to that call; from there it goes
//! into `secrets`.
//!
//! A request holds many events, each on its own. They have no id: an event's bytes are its
//! identity, since they hold what was done to what and when. A heartbeat holds none, so nothing is
//! admitted.
//!
//! The type is the kind of thing and what was done to it: `task.changed`.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Encoding, Recipe},
};
use crate::{
    event::{Digest, Named},
    receipt::Reply,
    refusal::Refusal,
    request::{Unverified, Verified},
    secret::Secret,
};

const SECRET: &str = "X-Hook-Secret";
const SIGNATURE: &str = "X-Hook-Signature";

/// Asana's rules.
#[derive(Debug)]
pub struct Asana;

impl Provider for Asana {
    fn name(&self) -> &'static str {
        "asana"
    }

    fn title(&self) -> &'static str {
        "Asana"
    }

    fn docs(&self) -> &'static str {
        "https://developers.asana.com/docs/webhooks-guide"
    }

    fn secret_variable(&self) -> &'static str {
        "ASANA_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over the body"
    }

    fn identity(&self) -> &'static str {
        "the digest of each event's bytes, which hold its time to the millisecond"
    }

    /// A day; then Asana deletes the webhook.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24)
    }

    fn handshake(&self) -> &'static str {
        "unsigned POST with `X-Hook-Secret`, which is sent back"
    }

    fn batch(&self) -> &'static str {
        "`/events`"
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe::of_body(SIGNATURE, "", Encoding::Hex);
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn unsigned_handshake(
        &self,
        request: &Unverified,
        _: &Settings,
    ) -> Result<Option<Reply>, Refusal> {
        let is_signed = request.headers.all(SIGNATURE).next().is_some();
        let Ok(secret) = request.headers.only(SECRET) else {
            return Ok(None);
        };
        if is_signed || request.method != "POST" {
            return Ok(None);
        }
        Ok(Some(Reply { headers: vec![(SECRET.to_owned(), secret.to_owned())], ..Reply::empty() }))
    }

    fn handed_over(&self, request: &Unverified) -> Option<Secret> {
        request.headers.only(SECRET).ok().map(Secret::new)
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let body = &request.body;
        let Ok(batch) = serde_json::from_slice::<Batch<'_>>(body) else {
            let content = Digest::of([body.as_ref()]);
            return Ok(vec![naming::by_signed_content(None, None, body.clone(), content)]);
        };
        Ok(batch.events.into_iter().map(|raw| event(body, raw)).collect())
    }
}

#[derive(Debug, Deserialize)]
struct Batch<'a> {
    #[serde(borrow, default)]
    events: Vec<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    action: Scalar<'a>,
    #[serde(borrow, default)]
    resource: Option<Resource<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct Resource<'a> {
    #[serde(borrow, default)]
    resource_type: Scalar<'a>,
}

fn event(body: &Bytes, raw: &RawValue) -> Named {
    let fields: Event<'_> = serde_json::from_str(raw.get()).unwrap_or_default();
    let kind = fields.resource.unwrap_or_default().resource_type.usable();
    let event_type = match (kind, fields.action.usable()) {
        (Some(kind), Some(action)) => naming::usable(format!("{kind}.{action}")),
        (kind, action) => kind.or(action),
    };
    let content = Digest::of([raw.get().as_bytes()]);
    naming::by_signed_content(None, event_type, naming::element(body, raw), content)
}
