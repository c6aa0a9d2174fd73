//! MessageBird: `MessageBird-Signature-JWT: <JWT>`, HS256, HS384 or HS512; its claims `url_hash` and
//! `payload_hash` cover the URL and the body.
//!
//! <https://developers.messagebird.com/api/#verifying-http-requests>
//!
//! The URL is the one that MessageBird called, with its query. `payload_hash` must be there if there
//! is a body, and only then. `nbf` and `exp` hold with a second's leeway. The webhooks of the newer
//! Bird platform are Standard Webhooks: use that provider for them.
//!
//! Identity: the digest of URL and body, which are signed; a status report by GET is its query. The
//! token's `jti` names the token: its dates leave it no time to be sent again, and by its name a
//! token made anew would make a new event.
//!
//! The type is `/type` of the body, or `status` of a report's query.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    NotSignable, Provider, Scheme, Settings,
    naming::{self, Scalar},
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

const TOKEN: &str = "MessageBird-Signature-JWT";
const ISSUER: &str = "MessageBird";

/// How far the clocks may be apart, unless the source says otherwise.
const LEEWAY: Duration = Duration::from_secs(1);

/// MessageBird's rules.
#[derive(Debug)]
pub struct MessageBird;

impl Provider for MessageBird {
    fn name(&self) -> &'static str {
        "messagebird"
    }

    fn title(&self) -> &'static str {
        "MessageBird"
    }

    fn docs(&self) -> &'static str {
        "https://developers.messagebird.com/api/#verifying-http-requests"
    }

    fn secret_variable(&self) -> &'static str {
        "MESSAGEBIRD_SIGNING_KEY"
    }

    fn signs_with(&self) -> &'static str {
        "JWT (HS256, HS384 or HS512) over time, URL and body"
    }

    fn identity(&self) -> &'static str {
        "the digest of URL and body, which are signed"
    }

    /// Nobody says how long; most senders stop after three days.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 3)
    }

    fn methods(&self) -> &'static [&'static str] {
        &["POST", "GET"]
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let algorithms = [TokenAlgorithm::Hs256, TokenAlgorithm::Hs384, TokenAlgorithm::Hs512];
        let tokens = Tokens::new(&algorithms, settings)?;
        let leeway = settings.tolerance.unwrap_or(LEEWAY);
        Ok(Box::new(MessageBirdScheme { tokens, leeway }))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let body = request.body.clone();
        let message: Message<'_> = serde_json::from_slice(&body).unwrap_or_default();
        let reported = |name| request.query_parameter(name).and_then(naming::usable);
        let content = Digest::of([request.url.as_bytes(), &body]);
        Ok(vec![Named {
            event_id: message.id.usable().or_else(|| reported("id")),
            event_type: message.event_type.usable().or_else(|| reported("status")),
            identity: Some(Identity::of([content.short().as_str()])),
            digest: None,
            body: body.clone(),
        }])
    }
}

#[derive(Debug)]
struct MessageBirdScheme {
    tokens: Tokens,
    leeway: Duration,
}

impl Scheme for MessageBirdScheme {
    fn verify(&self, request: &Unverified, now: Timestamp) -> Result<(), SignatureProblem> {
        let claims: Claims = self.tokens.claims(only(request, TOKEN)?)?;
        jwt::check_dates(Some(claims.nbf), Some(claims.exp), self.leeway, now)?;
        let form = |what: &str| Err(SignatureProblem::Form(what.to_owned()));
        if claims.iss != ISSUER {
            return form("the token is not from MessageBird");
        }
        if !secret::equal(digest(request.url.as_bytes()).as_bytes(), claims.url_hash.as_bytes()) {
            return form("the URL is not the one the token was made for");
        }
        match (payload_digest(request), claims.payload_hash) {
            (None, None) => Ok(()),
            (Some(own), Some(given)) if secret::equal(own.as_bytes(), given.as_bytes()) => Ok(()),
            _ => form("the body is not the one the token was made for"),
        }
    }

    fn sign(&self, draft: &mut Unverified, now: Timestamp) -> Result<(), NotSignable> {
        let token = self.tokens.sign(&Claims {
            iss: ISSUER.to_owned(),
            nbf: now.as_seconds(),
            exp: now.as_seconds().saturating_add(60),
            url_hash: digest(draft.url.as_bytes()),
            payload_hash: payload_digest(draft),
        })?;
        draft.headers.set(TOKEN, token);
        Ok(())
    }
}

#[derive(Deserialize, Serialize)]
struct Claims {
    iss: String,
    nbf: i64,
    exp: i64,
    url_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_hash: Option<String>,
}

fn payload_digest(request: &Unverified) -> Option<String> {
    (!request.body.is_empty()).then(|| digest(&request.body))
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[derive(Debug, Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: Scalar<'a>,
    #[serde(borrow, default, rename = "type")]
    event_type: Scalar<'a>,
}
