//! Mailgun: `/signature` in the body, HMAC-SHA256 in hex over its `timestamp` and its `token`.
//!
//! <https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks>
//!
//! The event is not signed: a captured signature fits any body. So its time is refused beyond a
//! day, which leaves room for eight hours of retries (it is not known whether they are signed
//! anew); a source may ask for less with `tolerance`. Mailgun's page gives no number.
//!
//! Identity: `/event-data/id`, trusted as the signature is. Neither time nor token is part of it:
//! they may change between attempts. The type is `/event-data/event`.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    NotSignable, Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Algorithm, Encoding, KeyForm, Part, Placement, Recipe, RecipeScheme, Time},
};
use crate::{
    clock::Timestamp,
    event::{Digest, Named},
    refusal::{Refusal, SignatureProblem},
    request::{Headers, Unverified, Verified},
};

const TOLERANCE: Duration = Duration::from_hours(24);

/// Mailgun's rules.
#[derive(Debug)]
pub struct Mailgun;

impl Provider for Mailgun {
    fn name(&self) -> &'static str {
        "mailgun"
    }

    fn title(&self) -> &'static str {
        "Mailgun"
    }

    fn docs(&self) -> &'static str {
        "https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks"
    }

    fn secret_variable(&self) -> &'static str {
        "MAILGUN_SIGNING_KEY"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over a time and a token, not over the event"
    }

    fn identity(&self) -> &'static str {
        "`/event-data/id`, trusted as the signature is, which does not cover it"
    }

    /// Eight hours.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(8)
    }

    fn body_bytes_max(&self) -> usize {
        25 << 20
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe {
            algorithm: Algorithm::HmacSha256,
            key: KeyForm::Text,
            signature: Placement::Whole { header: "signature".to_owned(), prefix: String::new() },
            encoding: Encoding::Hex,
            time: Some(Time { tolerance: TOLERANCE, ..Time::header("timestamp") }),
            signed: vec![Part::Time, Part::header("token")],
        };
        Ok(Box::new(SignedToken { recipe: recipe.scheme(settings)? }))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let Body { event, .. } = serde_json::from_slice(&request.body).unwrap_or_default();
        let content = || Digest::of([request.body.as_ref()]);
        let (id, event_type) = (event.id.usable(), event.event.usable());
        Ok(vec![naming::by_signed_id(id, event_type, request.body.clone(), content)])
    }
}

/// The recipe for a request that has in its headers what Mailgun puts into the body.
#[derive(Debug)]
struct SignedToken {
    recipe: RecipeScheme,
}

impl Scheme for SignedToken {
    fn verify(&self, request: &Unverified, now: Timestamp) -> Result<(), SignatureProblem> {
        let missing = || SignatureProblem::Form("the body has no `/signature`".to_owned());
        let moved = with_signature_in_headers(request).ok_or_else(missing)?;
        self.recipe.verify(&moved, now)
    }

    fn sign(&self, draft: &mut Unverified, now: Timestamp) -> Result<(), NotSignable> {
        let missing = || NotSignable("the body has no `/signature`".to_owned());
        let mut moved = with_signature_in_headers(draft).ok_or_else(missing)?;
        self.recipe.sign(&mut moved, now)?;
        let mut body: Value = serde_json::from_slice(&draft.body).map_err(|_| missing())?;
        for name in ["timestamp", "token", "signature"] {
            let value = moved.headers.first(name).unwrap_or_default();
            *body
                .pointer_mut("/signature")
                .and_then(|it| it.get_mut(name))
                .ok_or_else(missing)? = json!(value);
        }
        draft.body = body.to_string().into();
        Ok(())
    }
}

fn with_signature_in_headers(request: &Unverified) -> Option<Unverified> {
    let body: Body<'_> = serde_json::from_slice(&request.body).ok()?;
    let signature = body.signature?;
    let headers: Option<Headers> = [
        ("timestamp", signature.timestamp.as_deref()),
        ("token", signature.token.as_deref()),
        ("signature", signature.signature.as_deref()),
    ]
    .into_iter()
    .map(|(name, value)| value.map(|value| (name, value.to_owned())))
    .collect();
    Some(Unverified { headers: headers?, ..request.clone() })
}

#[derive(Debug, Default, Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    signature: Option<Signature<'a>>,
    #[serde(borrow, default, rename = "event-data")]
    event: Event<'a>,
}

#[derive(Debug, Deserialize)]
struct Signature<'a> {
    #[serde(borrow, default)]
    timestamp: Scalar<'a>,
    #[serde(borrow, default)]
    token: Scalar<'a>,
    #[serde(borrow, default)]
    signature: Scalar<'a>,
}

#[derive(Debug, Default, Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    id: Scalar<'a>,
    #[serde(borrow, default)]
    event: Scalar<'a>,
}
