//! WooCommerce: `X-WC-Webhook-Signature: <base64>`, HMAC-SHA256 over the body.
//!
//! <https://woocommerce.com/document/webhooks/>
//!
//! The shop decodes the HTML entities in its secret (`&amp;`) before it signs, so they are decoded
//! here as well: the secret may be copied from the form or from the database.
//!
//! Identity: the header `X-WC-Webhook-Delivery-ID`, which is not signed, and the digest of topic
//! and body. The id is made of the webhook and the second, so two events in one second share it,
//! and only the digest tells them apart. Nothing is ever sent again.
//!
//! The type is the header `X-WC-Webhook-Topic` (`order.created`).
//!
//! When a webhook is created, the shop posts an unsigned form `webhook_id=N` that must be answered
//! 200.

use std::time::Duration;

use super::{
    Provider, Scheme, Settings, naming,
    scheme::{Algorithm, Encoding, KeyForm, Part, Placement, Recipe},
};
use crate::{
    event::{Digest, Named},
    receipt::Reply,
    refusal::Refusal,
    request::{Unverified, Verified},
};

const SIGNATURE: &str = "X-WC-Webhook-Signature";

/// WooCommerce's rules.
#[derive(Debug)]
pub struct WooCommerce;

impl Provider for WooCommerce {
    fn name(&self) -> &'static str {
        "woocommerce"
    }

    fn title(&self) -> &'static str {
        "WooCommerce"
    }

    fn docs(&self) -> &'static str {
        "https://woocommerce.com/document/webhooks/"
    }

    fn secret_variable(&self) -> &'static str {
        "WOOCOMMERCE_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over the body"
    }

    fn identity(&self) -> &'static str {
        "`X-WC-Webhook-Delivery-ID`, which is not signed, and the digest of topic and body"
    }

    /// Never.
    fn resends_for(&self) -> Duration {
        Duration::ZERO
    }

    fn handshake(&self) -> &'static str {
        "unsigned form `webhook_id=N`"
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe {
            algorithm: Algorithm::HmacSha256,
            key: KeyForm::Text,
            signature: Placement::Whole { header: SIGNATURE.to_owned(), prefix: String::new() },
            encoding: Encoding::Base64,
            time: None,
            signed: vec![Part::Body],
        };
        Ok(Box::new(recipe.scheme(&settings.with_secrets(without_entities))?))
    }

    fn unsigned_handshake(
        &self,
        request: &Unverified,
        _: &Settings,
    ) -> Result<Option<Reply>, Refusal> {
        let number = request.body.strip_prefix(b"webhook_id=").unwrap_or_default();
        let is_test = request.method == "POST"
            && request.headers.all(SIGNATURE).next().is_none()
            && !number.is_empty()
            && number.iter().all(u8::is_ascii_digit);
        Ok(is_test.then(Reply::empty))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let header = |name| request.headers.only(name).ok().and_then(naming::usable);
        let event_type = header("X-WC-Webhook-Topic");
        let type_bytes = event_type.as_deref().unwrap_or_default().as_bytes();
        let content = Digest::of([type_bytes, request.body.as_ref()]);
        let (id, body) = (header("X-WC-Webhook-Delivery-ID"), request.body.clone());
        Ok(vec![naming::by_unsigned_id(id, event_type, body, content)])
    }
}

/// What PHP's `wp_specialchars_decode` makes of a text: each entity once, so `&amp;lt;` is `&lt;`.
fn without_entities(mut text: &str) -> String {
    const ENTITIES: [(&str, char); 12] = [
        ("&amp;", '&'),
        ("&#038;", '&'),
        ("&#x26;", '&'),
        ("&lt;", '<'),
        ("&#060;", '<'),
        ("&gt;", '>'),
        ("&#062;", '>'),
        ("&quot;", '"'),
        ("&#034;", '"'),
        ("&#x22;", '"'),
        ("&#039;", '\''),
        ("&#x27;", '\''),
    ];
    let mut decoded = String::with_capacity(text.len());
    while let Some(first) = text.chars().next() {
        let entity = ENTITIES.iter().find_map(|(entity, stands_for)| {
            text.strip_prefix(entity).map(|rest| (*stands_for, rest))
        });
        let (next, rest) = entity.unwrap_or_else(|| (first, text.split_at(first.len_utf8()).1));
        decoded.push(next);
        text = rest;
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_is_decoded_once() {
        for (text, decoded) in [
            ("a &amp; b", "a & b"),
            ("&amp;lt;", "&lt;"),
            ("&#039;&quot;&gt;&lt;", "'\"><"),
            ("wc <secret> & more é&", "wc <secret> & more é&"),
        ] {
            assert_eq!(without_entities(text), decoded);
        }
    }
}
