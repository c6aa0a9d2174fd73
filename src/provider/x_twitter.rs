//! X: `x-twitter-webhooks-signature: sha256=<base64>`, HMAC-SHA256 over the body.
//!
//! <https://docs.x.com/x-api/webhooks/introduction>
//!
//! The URL is tested, again and again, with a GET that carries a `crc_token`; the answer is that
//! token signed with the key of the deliveries, in the form of their signature. So whoever chooses
//! the token would be given the signature of a body. Therefore only tokens of letters, digits and
//! `-_.=+/` are signed, and a delivery that does not begin with `{` is refused: no text can be
//! both.
//!
//! Identity: the digest of the body. There is no id that all kinds of activity have, and each holds
//! the ids and the times of what happened. The type is the name of the member that holds the
//! activity (`tweet_create_events`).

use std::{collections::BTreeMap, time::Duration};

use serde::de::IgnoredAny;
use serde_json::json;

use super::{
    Provider, Scheme, Settings, naming,
    scheme::{Algorithm, Encoding, KeyForm, Recipe, keys::Keys},
};
use crate::{
    event::{Digest, Named},
    receipt::Reply,
    refusal::Refusal,
    request::{Unverified, Verified},
};

const TOKEN_BYTES_MAX: usize = 128;

/// X (Twitter)'s rules.
#[derive(Debug)]
pub struct XTwitter;

impl Provider for XTwitter {
    fn name(&self) -> &'static str {
        "x_twitter"
    }

    fn title(&self) -> &'static str {
        "X (Twitter)"
    }

    fn docs(&self) -> &'static str {
        "https://docs.x.com/x-api/webhooks/introduction"
    }

    fn secret_variable(&self) -> &'static str {
        "X_TWITTER_CONSUMER_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over the body"
    }

    fn identity(&self) -> &'static str {
        "the digest of the body, which holds the ids of what happened"
    }

    /// Three times within five minutes; for five days when asked to replay.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 5)
    }

    fn handshake(&self) -> &'static str {
        "GET with `crc_token`, which is signed and sent back"
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe::of_body("x-twitter-webhooks-signature", "sha256=", Encoding::Base64);
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn unsigned_handshake(
        &self,
        request: &Unverified,
        settings: &Settings,
    ) -> Result<Option<Reply>, Refusal> {
        let Some(token) = request.query_parameter("crc_token").filter(|_| request.method == "GET")
        else {
            return Ok(None);
        };
        if !is_plain(&token) {
            return Err(Refusal::Handshake("the `crc_token` could be a body".to_owned()));
        }
        let keys = Keys::new(Algorithm::HmacSha256, KeyForm::Text, settings).ok();
        let signature = keys.and_then(|keys| keys.sign(&[token.as_bytes()]));
        let signature = Encoding::Base64.encode(&signature.expect("a source has keys that sign"));
        let answer = json!({ "response_token": format!("sha256={signature}") });
        Ok(Some(Reply::ok("application/json", answer.to_string())))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        if !request.body.starts_with(b"{") {
            let what = "a body that is no JSON object may be the answer to a test of the URL";
            return Err(Refusal::Malformed(what.to_owned()));
        }
        let members: BTreeMap<String, IgnoredAny> =
            serde_json::from_slice(&request.body).unwrap_or_default();
        let is_activity = |name: &String| name.ends_with("_events") || name.ends_with("_event");
        let event_type = members.into_keys().find(is_activity).and_then(naming::usable);
        let content = Digest::of([request.body.as_ref()]);
        Ok(vec![naming::by_signed_content(None, event_type, request.body.clone(), content)])
    }
}

/// Whether a token may be signed: see the top of this file.
fn is_plain(token: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=+/".contains(&byte);
    !token.is_empty() && token.len() <= TOKEN_BYTES_MAX && token.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_a_body_is_not_signed() {
        assert!(is_plain("OWZlZGQxNDAtNTk3Yi00OTI0LWI4ODctZDFhNTdkMzFhYzFh+/_.="));
        let long = "a".repeat(TOKEN_BYTES_MAX + 1);
        for token in ["", "{}", "[1]", "\"a\"", "a b", "a:b", "a\n", "é", &long] {
            assert!(!is_plain(token), "{token:?}");
        }
    }
}
