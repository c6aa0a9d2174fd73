//! Slack: `X-Slack-Signature: v0=<hex>`, HMAC-SHA256 over `v0:<X-Slack-Request-Timestamp>:<body>`.
//!
//! <https://docs.slack.dev/authentication/verifying-requests-from-slack>
//!
//! A time in the future is refused beyond the tolerance, as Slack's page and its Python library do;
//! its JavaScript library looks at the past only.
//!
//! Identity: `/event_id` of an event, which is signed. Slash commands and interactions are forms
//! without an id; Slack does not send them again, each holds a `trigger_id` of its own, and their
//! digest is their identity. Whether a body is JSON or a form is told from the body: the content
//! type is not signed.
//!
//! The type is `/event/type` (`app_mention`), the `/type` of what is no event (`app_rate_limited`)
//! or of an interaction's `payload` (`block_actions`), or the command itself (`/deploy`).
//!
//! The URL is tested with a signed `url_verification`, answered with its challenge as plain text,
//! and that of a slash command with `ssl_check=1`: signed as a POST, bare as a GET.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use serde::Deserialize;
use url::form_urlencoded;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Algorithm, Encoding, KeyForm, Part, Placement, Recipe, Time},
};
use crate::{
    event::{Digest, Named},
    receipt::Reply,
    refusal::Refusal,
    request::{Unverified, Verified},
    secret::Secret,
};

/// Slack's rules.
#[derive(Debug)]
pub struct Slack;

impl Provider for Slack {
    fn name(&self) -> &'static str {
        "slack"
    }

    fn title(&self) -> &'static str {
        "Slack"
    }

    fn docs(&self) -> &'static str {
        "https://docs.slack.dev/authentication/verifying-requests-from-slack"
    }

    fn secret_variable(&self) -> &'static str {
        "SLACK_SIGNING_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over time and body"
    }

    fn identity(&self) -> &'static str {
        "`/event_id`, which is signed; commands and interactions: the digest of the body"
    }

    /// At once, after a minute and after five more.
    fn resends_for(&self) -> Duration {
        Duration::from_mins(7)
    }

    fn handshake(&self) -> &'static str {
        "signed `url_verification`; `ssl_check`"
    }

    fn development_secret(&self, random: [u8; 24]) -> Secret {
        let (half, _) = random.split_at(16);
        Secret::new(hex::encode(half))
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe {
            algorithm: Algorithm::HmacSha256,
            key: KeyForm::Text,
            signature: Placement::Whole {
                header: "X-Slack-Signature".to_owned(),
                prefix: "v0=".to_owned(),
            },
            encoding: Encoding::Hex,
            time: Some(Time::header("X-Slack-Request-Timestamp")),
            signed: vec![Part::text("v0:"), Part::Time, Part::text(":"), Part::Body],
        };
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn unsigned_handshake(
        &self,
        request: &Unverified,
        _: &Settings,
    ) -> Result<Option<Reply>, Refusal> {
        let asked = request.method == "GET"
            && request.query_parameter("ssl_check").is_some_and(|value| value == "1");
        Ok(asked.then(|| Reply::ok("text/plain", Bytes::new())))
    }

    fn signed_handshake(&self, request: &Verified, _: &Settings) -> Result<Option<Reply>, Refusal> {
        match Content::of(&request.body) {
            Content::Json(message) if message.kind.as_deref() == Some("url_verification") => {
                let challenge = message.challenge.usable().ok_or_else(|| {
                    Refusal::Malformed("`url_verification` without a challenge".to_owned())
                })?;
                Ok(Some(Reply::ok("text/plain", challenge)))
            }
            Content::Form(form) if form.ssl_check.as_deref() == Some("1") => {
                Ok(Some(Reply::ok("text/plain", Bytes::new())))
            }
            Content::Json(_) | Content::Form(_) => Ok(None),
        }
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let (id, event_type) = match Content::of(&request.body) {
            Content::Json(message) => {
                let inner = message.event.and_then(|event| event.kind.usable());
                (message.event_id.usable(), inner.or_else(|| message.kind.usable()))
            }
            Content::Form(form) => (None, form.event_type()),
        };
        let content = || Digest::of([request.body.as_ref()]);
        Ok(vec![naming::by_signed_id(id, event_type, request.body.clone(), content)])
    }

    fn retry_marker(&self, request: &Verified) -> Option<String> {
        let number = request.headers.only("x-slack-retry-num").ok()?;
        let reason = request.headers.only("x-slack-retry-reason").unwrap_or("no reason given");
        naming::usable(format!("x-slack-retry-num: {number} ({reason})"))
    }
}

enum Content<'a> {
    Json(Message<'a>),
    Form(Form<'a>),
}

#[derive(Debug, Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Scalar<'a>,
    #[serde(borrow, default)]
    event_id: Scalar<'a>,
    #[serde(borrow, default)]
    challenge: Scalar<'a>,
    #[serde(borrow, default)]
    event: Option<InnerEvent<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct InnerEvent<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Scalar<'a>,
}

#[derive(Debug, Default)]
struct Form<'a> {
    ssl_check: Option<Cow<'a, str>>,
    command: Option<Cow<'a, str>>,
    payload: Option<Cow<'a, str>>,
}

impl<'a> Content<'a> {
    fn of(body: &'a [u8]) -> Self {
        match serde_json::from_slice(body) {
            Ok(message) => Self::Json(message),
            Err(_) => Self::Form(Form::of(body)),
        }
    }
}

impl<'a> Form<'a> {
    fn of(body: &'a [u8]) -> Self {
        let mut form = Self::default();
        for (name, value) in form_urlencoded::parse(body) {
            match name.as_ref() {
                "ssl_check" => form.ssl_check = Some(value),
                "command" => form.command = Some(value),
                "payload" => form.payload = Some(value),
                _ => {}
            }
        }
        form
    }

    fn event_type(self) -> Option<String> {
        if let Some(payload) = &self.payload {
            let payload: InnerEvent<'_> = serde_json::from_str(payload).unwrap_or_default();
            return payload.kind.usable();
        }
        self.command.and_then(naming::usable)
    }
}
