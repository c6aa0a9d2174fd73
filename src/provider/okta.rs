//! Okta event hooks: the configured secret in a header, `Authorization` if not told otherwise.
//!
//! <https://developer.okta.com/docs/concepts/event-hooks/>
//!
//! Nothing is signed: who knows the secret may say anything, so the secret must travel by HTTPS
//! only.
//!
//! A request holds many events under `/data/events`, each on its own. Identity: `/uuid` of each,
//! trusted as the secret is. The type is `/eventType` (`user.session.start`).
//!
//! The URL is tested with a GET that carries `x-okta-verification-challenge`, which is sent back as
//! JSON. Accepted requests are answered with an empty 200, as Okta asks.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Algorithm, Encoding, KeyForm, Placement, Recipe},
};
use crate::{
    event::{Digest, Named},
    receipt::Reply,
    refusal::Refusal,
    request::{Unverified, Verified},
};

const CHALLENGE: &str = "x-okta-verification-challenge";

/// Okta event hooks's rules.
#[derive(Debug)]
pub struct Okta;

impl Provider for Okta {
    fn name(&self) -> &'static str {
        "okta"
    }

    fn title(&self) -> &'static str {
        "Okta event hooks"
    }

    fn docs(&self) -> &'static str {
        "https://developer.okta.com/docs/concepts/event-hooks/"
    }

    fn secret_variable(&self) -> &'static str {
        "OKTA_EVENT_HOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "nothing: it shows the secret in `Authorization`"
    }

    fn identity(&self) -> &'static str {
        "`/data/events/*/uuid`, trusted as the secret is"
    }

    /// Once more, at once.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(1)
    }

    fn handshake(&self) -> &'static str {
        "GET with `x-okta-verification-challenge`, which is sent back as JSON"
    }

    fn batch(&self) -> &'static str {
        "`/data/events`"
    }

    fn settings(&self) -> &'static [(&'static str, &'static str)] {
        &[("header", "the header with the secret; default `Authorization`")]
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe {
            algorithm: Algorithm::Token,
            key: KeyForm::Text,
            signature: Placement::Whole {
                header: settings.text("header").unwrap_or("Authorization").to_owned(),
                prefix: String::new(),
            },
            encoding: Encoding::Text,
            time: None,
            signed: Vec::new(),
        };
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn unsigned_handshake(
        &self,
        request: &Unverified,
        _: &Settings,
    ) -> Result<Option<Reply>, Refusal> {
        let challenge = request.headers.only(CHALLENGE).ok();
        let answer =
            |text| Reply::ok("application/json", json!({ "verification": text }).to_string());
        Ok(challenge.filter(|_| request.method == "GET").map(answer))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let body = &request.body;
        let Ok(batch) = serde_json::from_slice::<Batch<'_>>(body) else {
            let content = Digest::of([body.as_ref()]);
            return Ok(vec![naming::by_signed_content(None, None, body.clone(), content)]);
        };
        Ok(batch.data.events.into_iter().map(|raw| event(body, raw)).collect())
    }

    fn reply(&self) -> Option<Reply> {
        Some(Reply::empty())
    }
}

#[derive(Debug, Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Debug, Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    uuid: Scalar<'a>,
    #[serde(borrow, default, rename = "eventType")]
    event_type: Scalar<'a>,
}

fn event(body: &Bytes, raw: &RawValue) -> Named {
    let fields: Event<'_> = serde_json::from_str(raw.get()).unwrap_or_default();
    let (id, event_type) = (fields.uuid.usable(), fields.event_type.usable());
    let content = || Digest::of([raw.get().as_bytes()]);
    naming::by_signed_id(id, event_type, naming::element(body, raw), content)
}
