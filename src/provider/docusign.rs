//! DocuSign Connect: `X-DocuSign-Signature-1: <base64>` and on to `-100`, one for each active key,
//! HMAC-SHA256 over the body.
//!
//! <https://developers.docusign.com/platform/webhooks/connect/hmac/>
//!
//! Any of the headers may fit any of the secrets, so that keys can be changed one by one.
//!
//! Identity: there is no id, so `/event`, `/data/envelopeId`, `/data/recipientId`,
//! `/generatedDateTime` and `/configurationId` together, all signed. The body is not part of it:
//! `/retryCount` counts up. Messages of another form (XML, aggregates) have the digest of the body.
//! The type is `/event`.

use std::time::Duration;

use serde::Deserialize;

use super::{
    NotSignable, Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Algorithm, Encoding, KeyForm, keys::Keys, only},
};
use crate::{
    clock::Timestamp,
    event::{Digest, Identity, Named},
    limits,
    refusal::{Refusal, SignatureProblem},
    request::{Unverified, Verified},
};

const FIRST: &str = "X-DocuSign-Signature-1";

/// DocuSign Connect's rules.
#[derive(Debug)]
pub struct DocuSign;

impl Provider for DocuSign {
    fn name(&self) -> &'static str {
        "docusign"
    }

    fn title(&self) -> &'static str {
        "DocuSign Connect"
    }

    fn docs(&self) -> &'static str {
        "https://developers.docusign.com/platform/webhooks/connect/hmac/"
    }

    fn secret_variable(&self) -> &'static str {
        "DOCUSIGN_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over the body"
    }

    fn identity(&self) -> &'static str {
        "`/event`, `/data/envelopeId`, `/data/recipientId`, `/generatedDateTime` and \
         `/configurationId`, which are signed"
    }

    /// By itself for 15 days.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 15)
    }

    /// Documents may be in it.
    fn body_bytes_max(&self) -> usize {
        25 << 20
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        if settings.tolerance.is_some() {
            return Err(vec!["tolerance: this provider signs no time; take it out".to_owned()]);
        }
        let keys = Keys::new(Algorithm::HmacSha256, KeyForm::Text, settings)?;
        Ok(Box::new(DocuSignScheme { keys }))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let message: Message<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
        let data = message.data.unwrap_or_default();
        let (envelope, at) = (data.envelope_id.usable(), message.generated_at.usable());
        // These two are not in every message.
        let recipient = data.recipient_id.usable().unwrap_or_default();
        let configuration = message.configuration_id.usable().unwrap_or_default();
        let (event_type, body) = (message.event.usable(), request.body.clone());
        let content = || Digest::of([request.body.as_ref()]);
        let mut named = naming::by_signed_id(None, event_type, body, content);
        if let (Some(kind), Some(envelope), Some(at)) = (&named.event_type, &envelope, &at) {
            let fields = [kind, envelope, &recipient, at, &configuration];
            named.identity = Some(Identity::of(fields.map(String::as_str)));
        }
        Ok(vec![named])
    }

    fn retry_marker(&self, request: &Verified) -> Option<String> {
        naming::attempt_in_body(&request.body, "retryCount", "0")
    }
}

/// A signature over the body for each active key, each in a numbered header of its own.
#[derive(Debug)]
struct DocuSignScheme {
    keys: Keys,
}

impl Scheme for DocuSignScheme {
    fn verify(&self, request: &Unverified, _: Timestamp) -> Result<(), SignatureProblem> {
        let mut signatures = Vec::new();
        for (name, _) in request.headers.iter().filter(|(name, _)| is_numbered(name)) {
            signatures.extend(Encoding::Base64.decode(only(request, name)?));
            if signatures.len() == limits::SIGNATURES_TRIED_MAX {
                break;
            }
        }
        if signatures.is_empty() {
            only(request, FIRST)?;
            return Err(SignatureProblem::Form("no signature is base64".to_owned()));
        }
        if self.keys.made_any(&signatures, &[&request.body]) {
            Ok(())
        } else {
            Err(SignatureProblem::NoMatch)
        }
    }

    fn sign(&self, draft: &mut Unverified, _: Timestamp) -> Result<(), NotSignable> {
        let signature = self.keys.sign(&[&draft.body]).expect("an HMAC key signs");
        let old: Vec<_> = draft.headers.iter().map(|(name, _)| name.to_owned()).collect();
        for name in old.iter().filter(|name| is_numbered(name)) {
            draft.headers.remove(name);
        }
        draft.headers.set(FIRST, Encoding::Base64.encode(&signature));
        Ok(())
    }
}

/// Whether this header, in lower case, holds one of the signatures: `x-docusign-signature-1` to
/// `-100`.
fn is_numbered(name: &str) -> bool {
    let number = name.strip_prefix("x-docusign-signature-").and_then(|it| it.parse::<u8>().ok());
    number.is_some_and(|number| (1..=100).contains(&number))
}

#[derive(Debug, Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    event: Scalar<'a>,
    #[serde(borrow, default, rename = "configurationId")]
    configuration_id: Scalar<'a>,
    #[serde(borrow, default, rename = "generatedDateTime")]
    generated_at: Scalar<'a>,
    #[serde(borrow, default)]
    data: Option<Data<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct Data<'a> {
    #[serde(borrow, default, rename = "envelopeId")]
    envelope_id: Scalar<'a>,
    #[serde(borrow, default, rename = "recipientId")]
    recipient_id: Scalar<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_headers_are_numbered_from_1_to_100() {
        for name in ["x-docusign-signature-1", "x-docusign-signature-100"] {
            assert!(is_numbered(name), "{name}");
        }
        for name in ["x-docusign-signature-0", "x-docusign-signature-101", "x-docusign-signature-"]
        {
            assert!(!is_numbered(name), "{name}");
        }
    }
}
