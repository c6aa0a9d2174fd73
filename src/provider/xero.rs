//! Xero: `x-xero-signature: <base64>`, HMAC-SHA256 over the body. The key is the text as shown,
//! although it looks like base64.
//!
//! <https://developer.xero.com/documentation/guides/webhooks/configuring-your-server/>
//!
//! A request holds many events, each on its own. They have no id. Identity: whose (`/tenantId`),
//! what (`/resourceId`, `/eventCategory`), how (`/eventType`) and when (`/eventDateUtc`), all
//! signed. Without the time the same bytes can be a new fact, so such an event has no identity.
//!
//! The type is category and type: `INVOICE.UPDATE`.
//!
//! The URL is tested with requests without events, some of them wrongly signed: those that hold are
//! answered with an empty 200, the others with 401, as everything else.

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
    request::Verified,
};

/// Xero's rules.
#[derive(Debug)]
pub struct Xero;

impl Provider for Xero {
    fn name(&self) -> &'static str {
        "xero"
    }

    fn title(&self) -> &'static str {
        "Xero"
    }

    fn docs(&self) -> &'static str {
        "https://developer.xero.com/documentation/guides/webhooks/configuring-your-server/"
    }

    fn secret_variable(&self) -> &'static str {
        "XERO_WEBHOOK_KEY"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over the body"
    }

    fn identity(&self) -> &'static str {
        "`/events/*`: tenant, `/resourceId`, category, type and `/eventDateUtc`, which are signed; \
         without a time none"
    }

    /// For a day.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24)
    }

    fn handshake(&self) -> &'static str {
        "signed request without events (intent to receive)"
    }

    fn batch(&self) -> &'static str {
        "`/events`"
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe::of_body("x-xero-signature", "", Encoding::Base64);
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let body = &request.body;
        let Ok(batch) = serde_json::from_slice::<Batch<'_>>(body) else {
            let content = Digest::of([body.as_ref()]);
            return Ok(vec![naming::by_signed_content(None, None, body.clone(), content)]);
        };
        Ok(batch.events.into_iter().map(|raw| event(body, raw)).collect())
    }

    fn reply(&self) -> Option<Reply> {
        Some(Reply::empty())
    }
}

#[derive(Debug, Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(borrow, default)]
    tenant_id: Scalar<'a>,
    #[serde(borrow, default)]
    resource_id: Scalar<'a>,
    #[serde(borrow, default)]
    event_category: Scalar<'a>,
    #[serde(borrow, default)]
    event_type: Scalar<'a>,
    #[serde(borrow, default)]
    event_date_utc: Scalar<'a>,
}

fn event(body: &Bytes, raw: &RawValue) -> Named {
    let event: Event<'_> = serde_json::from_str(raw.get()).unwrap_or_default();
    let names = [&event.event_category, &event.event_type].map(Scalar::as_deref);
    let event_type = naming::usable(names.into_iter().flatten().collect::<Vec<_>>().join("."));
    let id = event.resource_id.as_deref().and_then(naming::usable);
    let bytes = naming::element(body, raw);
    if id.is_none() || event.event_date_utc.as_deref().is_none() {
        return naming::never_the_same(id, event_type, bytes);
    }
    let fields = [
        &event.resource_id,
        &event.tenant_id,
        &event.event_category,
        &event.event_type,
        &event.event_date_utc,
    ];
    let fields = fields.map(|field| field.as_deref().unwrap_or_default());
    naming::by_signed_fields(id, event_type, bytes, fields)
}
