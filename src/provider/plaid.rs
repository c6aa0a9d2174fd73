//! Plaid: `Plaid-Verification: <JWT>`, ES256; its claim `request_body_sha256` covers the body.
//!
//! <https://plaid.com/docs/api/webhooks/webhook-verification/>
//!
//! The keys are the JWKs that `/webhook_verification_key/get` gives; one with `expired_at` is
//! retired and not used. That endpoint asks for the API's credentials, which are not kept here, so nothing
//! is fetched: write the keys into `public_keys`. The token says when it was made (`iat`), and holds for five minutes.
//!
//! Identity: the digest of `iat` and the body. There is no id, and equal bodies are often new facts
//! (`SYNC_UPDATES_AVAILABLE` of one item on two days), so the body alone would lose some. A copy of
//! a request is a duplicate; a retry for which Plaid makes a new token is a new event.
//!
//! The type is `/webhook_type` and `/webhook_code`: `TRANSACTIONS.SYNC_UPDATES_AVAILABLE`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    NotSignable, Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{
        TOLERANCE,
        jwt::{self, TokenAlgorithm, Tokens},
        only, public,
    },
};
use crate::{
    clock::Timestamp,
    event::{Digest, Named},
    refusal::{Refusal, SignatureProblem},
    request::{Unverified, Verified},
    secret::{self, Secret},
};

const TOKEN: &str = "Plaid-Verification";

/// Plaid's rules.
#[derive(Debug)]
pub struct Plaid;

impl Provider for Plaid {
    fn name(&self) -> &'static str {
        "plaid"
    }

    fn title(&self) -> &'static str {
        "Plaid"
    }

    fn docs(&self) -> &'static str {
        "https://plaid.com/docs/api/webhooks/webhook-verification/"
    }

    fn secret_variable(&self) -> &'static str {
        "PLAID_STANDIN_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "JWT (ES256) over time and body"
    }

    fn identity(&self) -> &'static str {
        "the digest of the token's `iat` and the body: equal bodies can be new facts"
    }

    fn resends_for(&self) -> Duration {
        Duration::from_hours(24)
    }

    fn development_secret(&self, random: [u8; 24]) -> Secret {
        public::stand_in_secret(random)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let tokens = Tokens::new(&[TokenAlgorithm::Es256], settings)?;
        let tolerance = settings.tolerance.unwrap_or(TOLERANCE);
        Ok(Box::new(PlaidScheme { tokens, tolerance }))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let claims: Option<Claims> = request.headers.only(TOKEN).ok().and_then(jwt::claims);
        let iat = claims.map(|claims| claims.iat).unwrap_or_default();
        let body = request.body.clone();
        let content = || Digest::of([&iat.to_be_bytes()[..], &body]);
        Ok(vec![naming::by_signed_id(None, event_type(&body), body.clone(), content)])
    }
}

#[derive(Debug)]
struct PlaidScheme {
    tokens: Tokens,
    tolerance: Duration,
}

impl Scheme for PlaidScheme {
    fn verify(&self, request: &Unverified, now: Timestamp) -> Result<(), SignatureProblem> {
        let claims: Claims = self.tokens.claims(only(request, TOKEN)?)?;
        let age_seconds = now.as_seconds().saturating_sub(claims.iat);
        if age_seconds.unsigned_abs() > self.tolerance.as_secs() {
            return Err(SignatureProblem::Stale(age_seconds));
        }
        let own = body_digest(&request.body);
        if secret::equal(own.as_bytes(), claims.request_body_sha256.as_bytes()) {
            return Ok(());
        }
        Err(SignatureProblem::Form("the body is not the one the token was made for".to_owned()))
    }

    fn sign(&self, draft: &mut Unverified, now: Timestamp) -> Result<(), NotSignable> {
        let request_body_sha256 = body_digest(&draft.body);
        let token = self.tokens.sign(&Claims { iat: now.as_seconds(), request_body_sha256 })?;
        draft.headers.set(TOKEN, token);
        Ok(())
    }
}

#[derive(Deserialize, Serialize)]
struct Claims {
    iat: i64,
    request_body_sha256: String,
}

fn body_digest(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}

fn event_type(body: &[u8]) -> Option<String> {
    let message: Message<'_> = serde_json::from_slice(body).unwrap_or_default();
    let (family, code) = (message.webhook_type.usable()?, message.webhook_code.usable());
    naming::usable(code.map_or_else(|| family.clone(), |code| format!("{family}.{code}")))
}

#[derive(Debug, Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    webhook_type: Scalar<'a>,
    #[serde(borrow, default)]
    webhook_code: Scalar<'a>,
}
