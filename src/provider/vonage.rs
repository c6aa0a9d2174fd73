//! Vonage (Messages, Dispatch, Voice): `Authorization: Bearer <JWT>`, HS256; its claim
//! `payload_hash` covers the body.
//!
//! <https://developer.vonage.com/en/getting-started/concepts/webhooks#decoding-signed-webhooks>
//!
//! The key is the account's signature secret, as text. A token without `payload_hash` is refused:
//! it would fit every body. A GET has no body for it to cover, so only POST is taken; choose it in
//! the application's settings. `exp` and `nbf` count where they are there; Vonage names no age at
//! which a token is too old. The SMS API's own `sig` parameter is another scheme, and not this one.
//!
//! Identity: the digest of the body. The token's `jti` names the token: it is not said that a retry
//! keeps it, and by its name a token made anew would make a new event. `/message_uuid` comes once
//! for each status of a message.
//!
//! The type is `/status` (`delivered`), or `/message_type` of an inbound message.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    NotSignable, Provider, Scheme, Settings,
    naming::Scalar,
    scheme::{
        jwt::{self, TokenAlgorithm, Tokens},
        only,
    },
};
use crate::{
    clock::Timestamp,
    event::{Digest, Identity, Named},
    refusal::{Refusal, SignatureProblem},
    request::{Unverified, Verified},
    secret,
};

/// Vonage's rules.
#[derive(Debug)]
pub struct Vonage;

impl Provider for Vonage {
    fn name(&self) -> &'static str {
        "vonage"
    }

    fn title(&self) -> &'static str {
        "Vonage"
    }

    fn docs(&self) -> &'static str {
        "https://developer.vonage.com/en/getting-started/concepts/webhooks#decoding-signed-webhooks"
    }

    fn secret_variable(&self) -> &'static str {
        "VONAGE_SIGNATURE_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "JWT (HS256) over the body"
    }

    fn identity(&self) -> &'static str {
        "the digest of the body, which is signed"
    }

    fn resends_for(&self) -> Duration {
        Duration::from_hours(24)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let tokens = Tokens::new(&[TokenAlgorithm::Hs256], settings)?;
        Ok(Box::new(VonageScheme { tokens, leeway: settings.tolerance.unwrap_or_default() }))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let body = request.body.clone();
        let message: Message<'_> = serde_json::from_slice(&body).unwrap_or_default();
        let event_type = message.status.usable().or_else(|| message.message_type.usable());
        Ok(vec![Named {
            event_id: message.message_uuid.usable().or_else(|| message.uuid.usable()),
            event_type,
            identity: Some(Identity::of([Digest::of([body.as_ref()]).short().as_str()])),
            digest: None,
            body: body.clone(),
        }])
    }
}

#[derive(Debug)]
struct VonageScheme {
    tokens: Tokens,
    leeway: Duration,
}

impl Scheme for VonageScheme {
    fn verify(&self, request: &Unverified, now: Timestamp) -> Result<(), SignatureProblem> {
        let form = |what: &str| SignatureProblem::Form(what.to_owned());
        let token = only(request, "Authorization")?.strip_prefix("Bearer ");
        let token = token.ok_or_else(|| form("header `Authorization` holds no bearer token"))?;
        let claims: Claims = self.tokens.claims(token)?;
        jwt::check_dates(claims.nbf, claims.exp, self.leeway, now)?;
        let own = hex::encode(Sha256::digest(&request.body));
        if secret::equal(own.as_bytes(), claims.payload_hash.as_bytes()) {
            return Ok(());
        }
        Err(form("the body is not the one the token was made for"))
    }

    fn sign(&self, draft: &mut Unverified, now: Timestamp) -> Result<(), NotSignable> {
        let token = self.tokens.sign(&Claims {
            iss: Some("Vonage".to_owned()),
            iat: Some(now.as_seconds()),
            nbf: None,
            exp: None,
            payload_hash: hex::encode(Sha256::digest(&draft.body)),
        })?;
        draft.headers.set("Authorization", format!("Bearer {token}"));
        Ok(())
    }
}

#[derive(Deserialize, Serialize)]
struct Claims {
    iss: Option<String>,
    iat: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    payload_hash: String,
}

#[derive(Debug, Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    message_uuid: Scalar<'a>,
    #[serde(borrow, default)]
    uuid: Scalar<'a>,
    #[serde(borrow, default)]
    status: Scalar<'a>,
    #[serde(borrow, default)]
    message_type: Scalar<'a>,
}
