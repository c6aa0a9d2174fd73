//! GitLab: `webhook-id`, `webhook-timestamp` and `webhook-signature` as in Standard Webhooks, with
//! a signing token `whsec_…`; or, with `scheme = "token"`, the plain secret in `X-Gitlab-Token`.
//!
//! <https://docs.gitlab.com/user/project/integrations/webhooks/>
//!
//! A source has one of the two. A request that is signed is never accepted for its token alone.
//!
//! Identity: the id in the header, which is signed. With a token nothing is signed: there it is the
//! header `Idempotency-Key`, or from older versions `X-Gitlab-Event-UUID`, and the digest of the
//! body. Without any of them there is no identity: the same push can happen twice (forward, back,
//! forward), and such versions send nothing again.
//!
//! The type is `/object_kind` (`merge_request`), which is signed, or a system hook's `/event_name`.

use std::time::Duration;

use serde::Deserialize;

use super::{
    NotSignable, Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Algorithm, Encoding, KeyForm, Placement, Recipe, RecipeScheme},
    standardwebhooks,
};
use crate::{
    clock::Timestamp,
    event::{Digest, Named},
    refusal::{Refusal, SignatureProblem},
    request::{Unverified, Verified},
    secret::Secret,
};

const SIGNATURE: &str = "webhook-signature";

/// GitLab's rules.
#[derive(Debug)]
pub struct GitLab;

impl Provider for GitLab {
    fn name(&self) -> &'static str {
        "gitlab"
    }

    fn title(&self) -> &'static str {
        "GitLab"
    }

    fn docs(&self) -> &'static str {
        "https://docs.gitlab.com/user/project/integrations/webhooks/"
    }

    fn secret_variable(&self) -> &'static str {
        "GITLAB_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over id, time and body, or nothing: it shows a token in `X-Gitlab-Token`"
    }

    fn identity(&self) -> &'static str {
        "`webhook-id`, which is signed; with a token `Idempotency-Key` or `X-Gitlab-Event-UUID` \
         and the digest of the body"
    }

    /// Never by itself; when asked to, for the two days it keeps a request.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 2)
    }

    fn body_bytes_max(&self) -> usize {
        25 << 20
    }

    fn settings(&self) -> &'static [(&'static str, &'static str)] {
        &[(
            "scheme",
            "`signature` (the default), or `token` for a plain secret in `X-Gitlab-Token`",
        )]
    }

    fn development_secret(&self, random: [u8; 24]) -> Secret {
        standardwebhooks::development_secret(random)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        match settings.text("scheme") {
            None | Some("signature") => {
                Ok(Box::new(standardwebhooks::hmac_recipe("webhook").scheme(settings)?))
            }
            Some("token") => Ok(Box::new(Unsigned { token: token_recipe().scheme(settings)? })),
            Some(_) => Err(vec!["scheme: write `signature` or `token`".to_owned()]),
        }
    }

    fn events(&self, request: &Verified, settings: &Settings) -> Result<Vec<Named>, Refusal> {
        let event: Event<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
        let event_type = event.object_kind.usable().or_else(|| event.event_name.usable());
        let header = |name| request.headers.only(name).ok().and_then(naming::usable);
        let body = request.body.clone();
        let content = Digest::of([request.body.as_ref()]);
        if settings.text("scheme") != Some("token") {
            return Ok(vec![naming::by_signed_id(header("webhook-id"), event_type, body, || {
                content
            })]);
        }
        let id = header("Idempotency-Key").or_else(|| header("X-Gitlab-Event-UUID"));
        Ok(vec![match id {
            Some(_) => naming::by_unsigned_id(id, event_type, body, content),
            None => naming::never_the_same(None, event_type, body),
        }])
    }
}

fn token_recipe() -> Recipe {
    Recipe {
        algorithm: Algorithm::Token,
        key: KeyForm::Text,
        signature: Placement::Whole { header: "X-Gitlab-Token".to_owned(), prefix: String::new() },
        encoding: Encoding::Text,
        time: None,
        signed: Vec::new(),
    }
}

/// The token of a request that has nothing better.
#[derive(Debug)]
struct Unsigned {
    token: RecipeScheme,
}

impl Scheme for Unsigned {
    fn verify(&self, request: &Unverified, now: Timestamp) -> Result<(), SignatureProblem> {
        if request.headers.all(SIGNATURE).next().is_some() {
            let what = "the request is signed; put its signing token into `secrets`, and take \
                        `scheme = \"token\"` out";
            return Err(SignatureProblem::Form(what.to_owned()));
        }
        self.token.verify(request, now)
    }

    fn sign(&self, draft: &mut Unverified, now: Timestamp) -> Result<(), NotSignable> {
        self.token.sign(draft, now)
    }
}

#[derive(Debug, Default, Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    object_kind: Scalar<'a>,
    #[serde(borrow, default)]
    event_name: Scalar<'a>,
}
