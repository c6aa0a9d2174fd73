//! Adyen: HMAC-SHA256 with a key in hex, its base64 in each item of a payment webhook, or with
//! `kind = "platform"` in the header `HmacSignature`, over the body.
//!
//! <https://docs.adyen.com/development-resources/webhooks/secure-webhooks/verify-hmac-signatures>
//!
//! A payment webhook holds items, each an event of its own with its own signature under
//! `/additionalData/hmacSignature`; one that does not hold refuses the whole request. It covers
//! eight fields only, joined with colons: what else an item says (`reason`, `paymentMethod`) is not
//! signed.
//!
//! Identity: `/pspReference`, `/eventCode` and `/success` of an item, all signed; `/eventDate` may
//! differ between attempts. Platform webhooks have no id that is documented to be one: the digest
//! of the body is their identity. The type is `/eventCode`, or `/type`.
//!
//! Accepted requests are answered with `[accepted]`, which older webhooks wait for.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    NotSignable, Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Algorithm, Encoding, KeyForm, Part, Placement, Recipe, keys::Keys},
};
use crate::{
    clock::Timestamp,
    event::{Digest, Named},
    receipt::Reply,
    refusal::{Refusal, SignatureProblem},
    request::{Unverified, Verified},
};

/// Adyen's rules.
#[derive(Debug)]
pub struct Adyen;

impl Provider for Adyen {
    fn name(&self) -> &'static str {
        "adyen"
    }

    fn title(&self) -> &'static str {
        "Adyen"
    }

    fn docs(&self) -> &'static str {
        "https://docs.adyen.com/development-resources/webhooks/secure-webhooks/verify-hmac-signatures"
    }

    fn secret_variable(&self) -> &'static str {
        "ADYEN_HMAC_KEY"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over eight fields of each item, or over the body (`kind = \"platform\"`)"
    }

    fn identity(&self) -> &'static str {
        "`/pspReference`, `/eventCode` and `/success` of each item, which are signed; platform: \
         the digest of the body"
    }

    /// 30 days by itself; the rest is for asking again.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 34)
    }

    fn batch(&self) -> &'static str {
        "`/notificationItems`"
    }

    fn settings(&self) -> &'static [(&'static str, &'static str)] {
        &[(
            "kind",
            "`payments` (items that are signed each, the default) or `platform` (a signed body: \
             Balance Platform, Management and others)",
        )]
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        match settings.text("kind") {
            None | Some("payments") => {
                if settings.tolerance.is_some() {
                    return Err(vec!["tolerance: Adyen signs no time; take it out".to_owned()]);
                }
                let keys = Keys::new(Algorithm::HmacSha256, KeyForm::Hex, settings)?;
                Ok(Box::new(SignedItems { keys }))
            }
            Some("platform") => Ok(Box::new(platform_recipe().scheme(settings)?)),
            Some(_) => Err(vec!["kind: write `payments` or `platform`".to_owned()]),
        }
    }

    fn events(&self, request: &Verified, settings: &Settings) -> Result<Vec<Named>, Refusal> {
        let body = &request.body;
        if settings.text("kind") == Some("platform") {
            return Ok(vec![platform_event(body)]);
        }
        let batch: Batch<'_> = serde_json::from_slice(body)
            .map_err(|_| Refusal::Malformed("the body has no `/notificationItems`".to_owned()))?;
        Ok(batch.items.into_iter().map(|raw| event(body, raw)).collect())
    }

    fn reply(&self) -> Option<Reply> {
        Some(Reply::ok("text/plain", "[accepted]"))
    }
}

fn platform_recipe() -> Recipe {
    Recipe {
        algorithm: Algorithm::HmacSha256,
        key: KeyForm::Hex,
        signature: Placement::Whole { header: "HmacSignature".to_owned(), prefix: String::new() },
        encoding: Encoding::Base64,
        time: None,
        signed: vec![Part::Body],
    }
}

/// A signature in each item of the body.
#[derive(Debug)]
struct SignedItems {
    keys: Keys,
}

impl Scheme for SignedItems {
    fn verify(&self, request: &Unverified, _: Timestamp) -> Result<(), SignatureProblem> {
        let form = |what: &str| SignatureProblem::Form(what.to_owned());
        let batch: Batch<'_> = serde_json::from_slice(&request.body)
            .map_err(|_| form("the body has no `/notificationItems`"))?;
        if batch.items.is_empty() {
            return Err(form("`/notificationItems` is empty, so nothing is signed"));
        }
        for raw in batch.items {
            let item = Item::of(raw).ok_or_else(|| form("an item has not the form of one"))?;
            let data = item.additional_data.as_ref();
            let signature =
                data.and_then(|data| data.hmac_signature.as_deref()).unwrap_or_default();
            let signature = Encoding::Base64.decode(signature);
            let signature = [signature.ok_or_else(|| form("an item's signature is not base64"))?];
            if !self.keys.made_any(&signature, &[item.signed().as_bytes()]) {
                return Err(SignatureProblem::NoMatch);
            }
        }
        Ok(())
    }

    fn sign(&self, draft: &mut Unverified, _: Timestamp) -> Result<(), NotSignable> {
        let problem = |_| NotSignable("the body has no `/notificationItems`".to_owned());
        let batch: Batch<'_> = serde_json::from_slice(&draft.body).map_err(problem)?;
        let signature = |raw: &&RawValue| {
            let signature = self.keys.sign(&[Item::of(raw)?.signed().as_bytes()]);
            Some(Encoding::Base64.encode(&signature.expect("an HMAC key signs")))
        };
        let signatures: Option<Vec<_>> = batch.items.iter().map(signature).collect();
        let signatures =
            signatures.ok_or_else(|| NotSignable("an item has not the form of one".to_owned()))?;
        let mut body: Value = serde_json::from_slice(&draft.body).map_err(problem)?;
        for (at, signature) in signatures.into_iter().enumerate() {
            let place = format!("/notificationItems/{at}/NotificationRequestItem");
            let item = body.pointer_mut(&place).and_then(Value::as_object_mut);
            let data = item.map(|item| item.entry("additionalData").or_insert_with(|| json!({})));
            if let Some(Value::Object(data)) = data {
                data.insert("hmacSignature".to_owned(), signature.into());
            }
        }
        draft.body = body.to_string().into();
        Ok(())
    }
}

#[derive(Debug, Deserialize)]
struct Batch<'a> {
    #[serde(borrow, rename = "notificationItems")]
    items: Vec<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Wrapper<'a> {
    #[serde(borrow, rename = "NotificationRequestItem")]
    item: Item<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    #[serde(borrow, default)]
    psp_reference: Scalar<'a>,
    #[serde(borrow, default)]
    original_reference: Scalar<'a>,
    #[serde(borrow, default)]
    merchant_account_code: Scalar<'a>,
    #[serde(borrow, default)]
    merchant_reference: Scalar<'a>,
    #[serde(borrow, default)]
    amount: Option<Amount<'a>>,
    #[serde(borrow, default)]
    event_code: Scalar<'a>,
    #[serde(borrow, default)]
    success: Scalar<'a>,
    #[serde(borrow, default)]
    additional_data: Option<AdditionalData<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct Amount<'a> {
    #[serde(borrow, default)]
    value: Scalar<'a>,
    #[serde(borrow, default)]
    currency: Scalar<'a>,
}

#[derive(Debug, Default, Deserialize)]
struct AdditionalData<'a> {
    #[serde(borrow, default, rename = "hmacSignature")]
    hmac_signature: Scalar<'a>,
}

impl<'a> Item<'a> {
    fn of(raw: &'a RawValue) -> Option<Self> {
        serde_json::from_str::<Wrapper<'a>>(raw.get()).ok().map(|wrapper| wrapper.item)
    }

    /// What is signed: colons inside a field are not escaped, and what is missing is empty.
    fn signed(&self) -> String {
        let none = Amount::default();
        let amount = self.amount.as_ref().unwrap_or(&none);
        let fields = [
            &self.psp_reference,
            &self.original_reference,
            &self.merchant_account_code,
            &self.merchant_reference,
            &amount.value,
            &amount.currency,
            &self.event_code,
            &self.success,
        ];
        fields.map(|field| field.as_deref().unwrap_or_default()).join(":")
    }
}

fn event(body: &Bytes, raw: &RawValue) -> Named {
    let bytes = naming::element(body, raw);
    let item = Item::of(raw).unwrap_or_default();
    let event_type = item.event_code.as_deref().and_then(naming::usable);
    let Some(reference) = item.psp_reference.as_deref().and_then(naming::usable) else {
        let content = Digest::of([item.signed().as_bytes()]);
        return naming::by_signed_content(None, event_type, bytes, content);
    };
    let fields = [&item.psp_reference, &item.event_code, &item.success];
    let fields = fields.map(|field| field.as_deref().unwrap_or_default());
    naming::by_signed_fields(Some(reference), event_type, bytes, fields)
}

#[derive(Debug, Default, Deserialize)]
struct PlatformEvent<'a> {
    #[serde(borrow, default)]
    data: PlatformData<'a>,
    #[serde(borrow, default, rename = "type")]
    event_type: Scalar<'a>,
}

#[derive(Debug, Default, Deserialize)]
struct PlatformData<'a> {
    #[serde(borrow, default)]
    id: Scalar<'a>,
}

fn platform_event(body: &Bytes) -> Named {
    let event: PlatformEvent<'_> = serde_json::from_slice(body).unwrap_or_default();
    let (id, event_type) = (event.data.id.usable(), event.event_type.usable());
    naming::by_signed_content(id, event_type, body.clone(), Digest::of([body.as_ref()]))
}
