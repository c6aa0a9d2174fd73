//! Braintree: a form with `bt_signature=<public key>|<hex>` and `bt_payload=<base64 of XML>`,
//! HMAC-SHA1 over the payload, with the SHA-1 of the private key as its key.
//!
//! <https://developer.paypal.com/braintree/docs/guides/webhooks/parse>
//!
//! `public_key` is the public half of the API key whose private half is the secret. Signatures come
//! in pairs, joined by `&`, and only those of that public key count; without it, all do.
//!
//! The URL is tested with a GET whose `bt_challenge` is signed with the key of the deliveries. It
//! is signed only if it is 20 to 32 hex digits, as in Braintree's libraries, and a payload that is
//! not the base64 of a `<notification>` is refused: no text can be both.
//!
//! Identity: the digest of the payload. There is no id, and the XML holds what happened to what and
//! when. The type is `/notification/kind`.
//!
//! Decided otherwise than in Braintree's libraries: the payload is checked as it came only, not
//! also with a line feed more.

use std::{borrow::Cow, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use url::form_urlencoded;

use super::{
    NotSignable, Provider, Scheme, Settings, naming,
    scheme::{Algorithm, Encoding, KeyForm, keys::Keys},
};
use crate::{
    clock::Timestamp,
    event::{Digest, Named},
    receipt::Reply,
    refusal::{Refusal, SignatureProblem},
    request::{Unverified, Verified},
};

/// What stands for the public key of a source that has none.
const ANY_PUBLIC_KEY: &str = "any_public_key";

/// Braintree's rules.
#[derive(Debug)]
pub struct Braintree;

impl Provider for Braintree {
    fn name(&self) -> &'static str {
        "braintree"
    }

    fn title(&self) -> &'static str {
        "Braintree"
    }

    fn docs(&self) -> &'static str {
        "https://developer.paypal.com/braintree/docs/guides/webhooks/parse"
    }

    fn secret_variable(&self) -> &'static str {
        "BRAINTREE_PRIVATE_KEY"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA1 over the payload of a form, with the SHA-1 of the private key"
    }

    fn identity(&self) -> &'static str {
        "the digest of `bt_payload`, which is signed and holds what happened and when"
    }

    /// Every hour for a day.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24)
    }

    fn handshake(&self) -> &'static str {
        "GET with `bt_challenge`, which is signed and sent back"
    }

    fn settings(&self) -> &'static [(&'static str, &'static str)] {
        &[("public_key", "the public key of the API key whose private key is the secret")]
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        if settings.tolerance.is_some() {
            return Err(vec!["tolerance: Braintree signs no time; take it out".to_owned()]);
        }
        let public_key = settings.text("public_key").map(str::to_owned);
        Ok(Box::new(SignedForm { keys: keys(settings)?, public_key }))
    }

    fn unsigned_handshake(
        &self,
        request: &Unverified,
        settings: &Settings,
    ) -> Result<Option<Reply>, Refusal> {
        let challenge = request.query_parameter("bt_challenge");
        let Some(challenge) = challenge.filter(|_| request.method == "GET") else {
            return Ok(None);
        };
        if !is_challenge(&challenge) {
            return Err(Refusal::Handshake("the `bt_challenge` could be a payload".to_owned()));
        }
        let public_key = settings.text("public_key").ok_or_else(|| {
            Refusal::Handshake("the answer needs the source's `public_key`; set it".to_owned())
        })?;
        let signature = keys(settings).ok().and_then(|keys| keys.sign(&[challenge.as_bytes()]));
        let signature = Encoding::Hex.encode(&signature.expect("a source has keys that sign"));
        Ok(Some(Reply::ok("text/plain", format!("{public_key}|{signature}"))))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let payload = field(request, "bt_payload").unwrap_or_default();
        let xml = notification(&payload).unwrap_or_default();
        let kind = xml.split_once("<kind>").and_then(|(_, after)| after.split_once("</kind>"));
        let event_type = kind.and_then(|(kind, _)| naming::usable(kind.trim()));
        let content = Digest::of([payload.as_bytes()]);
        Ok(vec![naming::by_signed_content(None, event_type, request.body.clone(), content)])
    }
}

fn keys(settings: &Settings) -> Result<Keys, Vec<String>> {
    Keys::new(Algorithm::HmacSha1, KeyForm::Sha1, settings)
}

/// The signature and the payload of a form.
#[derive(Debug)]
struct SignedForm {
    keys: Keys,
    public_key: Option<String>,
}

impl Scheme for SignedForm {
    fn verify(&self, request: &Unverified, _: Timestamp) -> Result<(), SignatureProblem> {
        let form = |what: &str| SignatureProblem::Form(what.to_owned());
        let field = |name| {
            let what = || form(&format!("the form does not have one `{name}`"));
            field(request, name).ok_or_else(what)
        };
        let (pairs, payload) = (field("bt_signature")?, field("bt_payload")?);
        if notification(&payload).is_none() {
            return Err(form("`bt_payload` is not the base64 of a notification"));
        }
        let signatures: Vec<_> = pairs
            .split('&')
            .take(crate::limits::SIGNATURES_TRIED_MAX)
            .filter_map(|pair| pair.split_once('|'))
            .filter(|(key, _)| self.public_key.as_deref().is_none_or(|ours| ours == *key))
            .filter_map(|(_, signature)| Encoding::Hex.decode(signature))
            .collect();
        if signatures.is_empty() {
            return Err(form("`bt_signature` holds no signature of the source's `public_key`"));
        }
        if self.keys.made_any(&signatures, &[payload.as_bytes()]) {
            Ok(())
        } else {
            Err(SignatureProblem::NoMatch)
        }
    }

    fn sign(&self, draft: &mut Unverified, _: Timestamp) -> Result<(), NotSignable> {
        let payload = field(draft, "bt_payload")
            .ok_or_else(|| NotSignable("the form does not have one `bt_payload`".to_owned()))?;
        let signature = self.keys.sign(&[payload.as_bytes()]).expect("an HMAC key signs");
        let public_key = self.public_key.as_deref().unwrap_or(ANY_PUBLIC_KEY);
        let signature = format!("{public_key}|{}", Encoding::Hex.encode(&signature));
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("bt_signature", &signature)
            .append_pair("bt_payload", &payload)
            .finish();
        draft.body = body.into();
        Ok(())
    }
}

/// A field that must be in the form once.
fn field<'r>(request: &'r Unverified, name: &str) -> Option<Cow<'r, str>> {
    let mut fields = form_urlencoded::parse(&request.body).filter(|(known, _)| known == name);
    match (fields.next(), fields.next()) {
        (Some((_, value)), None) => Some(value),
        _ => None,
    }
}

/// The XML in a payload, which is base64 in lines.
fn notification(payload: &str) -> Option<String> {
    let xml = STANDARD.decode(payload.replace('\n', "")).ok()?;
    let xml = String::from_utf8_lossy(&xml).into_owned();
    xml.contains("<notification>").then_some(xml)
}

fn is_challenge(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (20..=32).contains(&text.len()) && text.bytes().all(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_both_a_challenge_and_a_payload() {
        assert!(is_challenge("20f9f8ed05f77439fe955c977e4c8a53"));
        for text in ["zzzz", "20f9", "20F9F8ED05F77439FE955C977E4C8A53", &"0".repeat(33)] {
            assert!(!is_challenge(text), "{text}");
        }
        let payload = STANDARD.encode("<notification><kind>check</kind></notification>");
        assert!(notification(&payload).is_some());
        assert!(!is_challenge(&payload));
        assert_eq!(notification("20f9f8ed05f77439fe955c977e4c8a53"), None);
    }
}
