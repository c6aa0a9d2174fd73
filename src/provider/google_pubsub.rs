//! Google Cloud Pub/Sub push: `Authorization: Bearer <JWT>`, an OpenID Connect token, RS256.
//!
//! <https://docs.cloud.google.com/pubsub/docs/authenticate-push-subscriptions>
//!
//! The keys are Google's JWKS, fetched from <https://www.googleapis.com/oauth2/v3/certs> or written into
//! `public_keys`; each of its customers gets tokens signed with them, for any audience. So `audience` and `service_account_email` must be
//! set, and the token must be for that one, from that one.
//!
//! The token does not cover the body: whoever sees one can send another body with it for an hour.
//! What the body, or an unwrapped message's headers, say is trusted as the token is.
//!
//! Identity: `/message/messageId` and `/subscription`; of an unwrapped message the headers
//! `x-goog-pubsub-message-id` and `x-goog-pubsub-subscription-name`, which come if the subscription
//! writes metadata. Without them there is none, and nothing is deduplicated: a message may well be
//! published twice with the same bytes.
//!
//! The type is the attribute `eventType` (Cloud Storage), or `ce-type` (CloudEvents).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    NotSignable, Provider, Scheme, Settings,
    naming::{self, Scalar},
    place::{Place, PublishesKeys},
    scheme::{
        jwt::{self, TokenAlgorithm, Tokens},
        only, public,
    },
};
use crate::{
    clock::Timestamp,
    event::{Identity, Named},
    refusal::{Refusal, SignatureProblem},
    request::{Unverified, Verified},
    secret::Secret,
};

const ISSUERS: [&str; 2] = ["https://accounts.google.com", "accounts.google.com"];

/// The rules of Google Cloud Pub/Sub's push subscriptions.
#[derive(Debug)]
pub struct GooglePubSub;

impl Provider for GooglePubSub {
    fn name(&self) -> &'static str {
        "google_pubsub"
    }

    fn title(&self) -> &'static str {
        "Google Cloud Pub/Sub"
    }

    fn docs(&self) -> &'static str {
        "https://docs.cloud.google.com/pubsub/docs/authenticate-push-subscriptions"
    }

    fn secret_variable(&self) -> &'static str {
        "GOOGLE_PUBSUB_STANDIN_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "JWT (RS256), which does not cover the body"
    }

    fn identity(&self) -> &'static str {
        "`/message/messageId` and `/subscription`, trusted as the token is; \
         unwrapped without metadata: none"
    }

    /// As long as a subscription may keep a message.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 31)
    }

    fn body_bytes_max(&self) -> usize {
        // A message may have 10 MB, and base64 makes four bytes of three.
        14 << 20
    }

    fn settings(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("audience", "the audience that the push subscription asks its tokens for"),
            ("service_account_email", "the service account that the push subscription acts as"),
        ]
    }

    fn development_secret(&self, random: [u8; 24]) -> Secret {
        public::stand_in_secret(random)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let mut wrong = Vec::new();
        let mut named = |key: &str| {
            let text = settings.extra.get(key).cloned().unwrap_or_default();
            if text.is_empty() && !public::is_stand_in(settings) {
                wrong.push(format!("{key}: is not set; write what the push subscription has"));
            }
            text
        };
        let (audience, email) = (named("audience"), named("service_account_email"));
        let tokens = Tokens::new(&[TokenAlgorithm::Rs256], settings);
        let tokens = public::unless_wrong(wrong, tokens)?;
        let leeway = settings.tolerance.unwrap_or_default();
        Ok(Box::new(GoogleScheme { tokens, audience, email, leeway }))
    }

    fn publishes_keys(&self) -> Option<&'static dyn PublishesKeys> {
        Some(&Self)
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let body = request.body.clone();
        let envelope: Envelope<'_> = serde_json::from_slice(&body).unwrap_or_default();
        let message = envelope.message.unwrap_or_default();
        let header = |name| request.headers.only(name).ok().and_then(naming::usable);
        let wrapped = message.message_id.usable();
        let (id, subscription) = if wrapped.is_some() {
            (wrapped, envelope.subscription.usable())
        } else {
            let subscription = header("x-goog-pubsub-subscription-name");
            (header("x-goog-pubsub-message-id"), subscription)
        };
        let attributes = message.attributes.unwrap_or_default();
        let identity =
            id.as_deref().map(|id| Identity::of([id, subscription.as_deref().unwrap_or_default()]));
        Ok(vec![Named {
            event_type: attributes.event_type.usable().or_else(|| attributes.ce_type.usable()),
            event_id: id,
            identity,
            digest: None,
            body: body.clone(),
        }])
    }

    fn retry_marker(&self, request: &Verified) -> Option<String> {
        naming::attempt_in_body(&request.body, "deliveryAttempt", "1")
    }
}

impl PublishesKeys for GooglePubSub {
    fn published_at(&self) -> &'static str {
        "`https://www.googleapis.com/oauth2/v3/certs`"
    }

    fn key_place(&self, _: &Unverified, _: &Settings) -> Option<Place> {
        Some(Place::new("www.googleapis.com", "/oauth2/v3/certs"))
    }

    fn keys_in(&self, found: &str) -> Result<Vec<String>, String> {
        Ok(vec![found.to_owned()])
    }
}

#[derive(Debug)]
struct GoogleScheme {
    tokens: Tokens,
    audience: String,
    email: String,
    leeway: Duration,
}

impl Scheme for GoogleScheme {
    fn verify(&self, request: &Unverified, now: Timestamp) -> Result<(), SignatureProblem> {
        let form = |what: &str| SignatureProblem::Form(what.to_owned());
        let token = only(request, "Authorization")?.strip_prefix("Bearer ");
        let token = token.ok_or_else(|| form("header `Authorization` holds no bearer token"))?;
        let claims: Claims = self.tokens.claims(token)?;
        jwt::check_dates(Some(claims.iat), Some(claims.exp), self.leeway, now)?;
        if !ISSUERS.contains(&claims.iss.as_str()) {
            return Err(form("the token is not from Google's accounts"));
        }
        if claims.aud != self.audience {
            return Err(form("the token is for another audience"));
        }
        if claims.email != self.email || !claims.email_verified {
            return Err(form("the token is of another service account"));
        }
        Ok(())
    }

    fn sign(&self, draft: &mut Unverified, now: Timestamp) -> Result<(), NotSignable> {
        let token = self.tokens.sign(&Claims {
            iss: "https://accounts.google.com".to_owned(),
            aud: self.audience.clone(),
            email: self.email.clone(),
            email_verified: true,
            iat: now.as_seconds(),
            exp: now.as_seconds().saturating_add(3600),
        })?;
        draft.headers.set("Authorization", format!("Bearer {token}"));
        Ok(())
    }
}

#[derive(Deserialize, Serialize)]
struct Claims {
    iss: String,
    aud: String,
    email: String,
    email_verified: bool,
    iat: i64,
    exp: i64,
}

#[derive(Debug, Default, Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(borrow, default)]
    subscription: Scalar<'a>,
}

#[derive(Debug, Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default, rename = "messageId")]
    message_id: Scalar<'a>,
    #[serde(borrow, default)]
    attributes: Option<Attributes<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct Attributes<'a> {
    #[serde(borrow, default, rename = "eventType")]
    event_type: Scalar<'a>,
    #[serde(borrow, default, rename = "ce-type")]
    ce_type: Scalar<'a>,
}
