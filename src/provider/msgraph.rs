//! Microsoft Graph: the `clientState` of the subscription in each element of `/value`.
//!
//! <https://learn.microsoft.com/en-us/graph/change-notifications-delivery-webhooks>
//!
//! Nothing is signed: who knows the secret may say anything, so it must travel by HTTPS only. Every
//! element must show it; a request without elements shows nothing, and is refused. The tokens that
//! come with encrypted content (`/validationTokens`) are not looked at: the secret counts for those
//! as well.
//!
//! Each element is an event of its own. Identity: `/subscriptionId` and `/id`, trusted as the
//! secret is; where there is no id, subscription, resource, change and the etag of what changed;
//! without an etag the same bytes can be a new change, so there is no identity.
//!
//! The type is `/changeType` (`created`), or `/lifecycleEvent`.
//!
//! The URL is tested with a POST whose `validationToken` is sent back, decoded, as plain text.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    NotSignable, Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Algorithm, KeyForm, keys::Keys},
};
use crate::{
    clock::Timestamp,
    event::Named,
    receipt::Reply,
    refusal::{Refusal, SignatureProblem},
    request::{Unverified, Verified},
};

/// Microsoft Graph's rules.
#[derive(Debug)]
pub struct MicrosoftGraph;

impl Provider for MicrosoftGraph {
    fn name(&self) -> &'static str {
        "msgraph"
    }

    fn title(&self) -> &'static str {
        "Microsoft Graph"
    }

    fn docs(&self) -> &'static str {
        "https://learn.microsoft.com/en-us/graph/change-notifications-delivery-webhooks"
    }

    fn secret_variable(&self) -> &'static str {
        "MSGRAPH_CLIENT_STATE"
    }

    fn signs_with(&self) -> &'static str {
        "nothing: it shows the secret in `/value/*/clientState`"
    }

    fn identity(&self) -> &'static str {
        "`/value/*`: subscription and `/id`, or subscription, resource, change and etag, trusted \
         as the secret is; otherwise none"
    }

    /// Four hours.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(4)
    }

    fn handshake(&self) -> &'static str {
        "POST with `validationToken`, which is sent back"
    }

    fn batch(&self) -> &'static str {
        "`/value`"
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        if settings.tolerance.is_some() {
            return Err(vec!["tolerance: Microsoft Graph signs no time; take it out".to_owned()]);
        }
        let keys = Keys::new(Algorithm::Token, KeyForm::Text, settings)?;
        Ok(Box::new(ClientState { keys }))
    }

    fn unsigned_handshake(
        &self,
        request: &Unverified,
        _: &Settings,
    ) -> Result<Option<Reply>, Refusal> {
        let token = request.query_parameter("validationToken");
        let Some(token) = token.filter(|_| request.method == "POST") else {
            return Ok(None);
        };
        let misshapen = || Refusal::Malformed("`validationToken` is empty or too long".to_owned());
        naming::usable(token).map(|token| Some(Reply::echo(token))).ok_or_else(misshapen)
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let body = &request.body;
        let batch: Batch<'_> = serde_json::from_slice(body)
            .map_err(|_| Refusal::Malformed("the body has no `/value`".to_owned()))?;
        Ok(batch.value.into_iter().map(|raw| event(body, raw)).collect())
    }
}

/// A secret in each element of the body.
#[derive(Debug)]
struct ClientState {
    keys: Keys,
}

impl Scheme for ClientState {
    fn verify(&self, request: &Unverified, _: Timestamp) -> Result<(), SignatureProblem> {
        let form = |what: &str| SignatureProblem::Form(what.to_owned());
        let batch: Batch<'_> =
            serde_json::from_slice(&request.body).map_err(|_| form("the body has no `/value`"))?;
        if batch.value.is_empty() {
            return Err(form("`/value` is empty, so no secret is shown"));
        }
        for raw in batch.value {
            let notification = serde_json::from_str::<Notification<'_>>(raw.get());
            let state =
                notification.ok().and_then(|it| it.client_state).filter(|it| !it.is_empty());
            let state = state.ok_or_else(|| form("an element has no `/clientState`"))?;
            if !self.keys.made_any(&[state.into_bytes()], &[]) {
                return Err(SignatureProblem::NoMatch);
            }
        }
        Ok(())
    }

    fn sign(&self, draft: &mut Unverified, _: Timestamp) -> Result<(), NotSignable> {
        let missing = || NotSignable("the body has no `/value`".to_owned());
        let mut body: Value = serde_json::from_slice(&draft.body).map_err(|_| missing())?;
        let elements = body.get_mut("value").and_then(Value::as_array_mut).ok_or_else(missing)?;
        let state = self.keys.sign(&[]).expect("a token shows itself");
        let state = Value::from(String::from_utf8_lossy(&state));
        for element in elements.iter_mut().filter_map(Value::as_object_mut) {
            element.insert("clientState".to_owned(), state.clone());
        }
        draft.body = body.to_string().into();
        Ok(())
    }
}

#[derive(Debug, Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    value: Vec<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Notification<'a> {
    client_state: Option<String>,
    #[serde(borrow, default)]
    id: Scalar<'a>,
    #[serde(borrow, default)]
    subscription_id: Scalar<'a>,
    #[serde(borrow, default)]
    resource: Scalar<'a>,
    #[serde(borrow, default)]
    change_type: Scalar<'a>,
    #[serde(borrow, default)]
    lifecycle_event: Scalar<'a>,
    #[serde(borrow, default)]
    resource_data: Option<ResourceData<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct ResourceData<'a> {
    #[serde(borrow, default, rename = "@odata.etag")]
    etag: Scalar<'a>,
}

fn event(body: &Bytes, raw: &RawValue) -> Named {
    let it: Notification<'_> = serde_json::from_str(raw.get()).unwrap_or_default();
    let kind = it.lifecycle_event.as_deref().or_else(|| it.change_type.as_deref());
    let event_type = kind.and_then(naming::usable);
    let id = it.id.as_deref().and_then(naming::usable);
    let bytes = naming::element(body, raw);
    let subscription = it.subscription_id.as_deref().unwrap_or_default();
    let etag = it.resource_data.as_ref().and_then(|data| data.etag.as_deref());
    match (&id, etag) {
        (Some(id), _) => {
            let fields = [id, subscription, "id"];
            naming::by_signed_fields(Some(id.clone()), event_type, bytes, fields)
        }
        (None, Some(etag)) => {
            let resource = it.resource.as_deref().unwrap_or_default();
            let fields = [subscription, resource, kind.unwrap_or_default(), etag];
            naming::by_signed_fields(None, event_type, bytes, fields)
        }
        (None, None) => naming::never_the_same(None, event_type, bytes),
    }
}
