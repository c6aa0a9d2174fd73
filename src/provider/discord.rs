//! Discord: `X-Signature-Ed25519: <hex>`, Ed25519 over `<X-Signature-Timestamp><body>`.
//!
//! <https://docs.discord.com/developers/interactions/overview#validating-security-request-headers>
//!
//! The key is the application's public key, in hex. Discord names no tolerance for the time and its
//! libraries check none, so its age counts only where the source sets a `tolerance`: an event is sent
//! again for ten minutes, and it is not said that the time is a new one then. What is sent again is
//! known by its identity.
//!
//! Identity: `/id` of an interaction, which is signed. Webhook events have no id; each holds the
//! time at which it happened, and the digest of the body is its identity.
//!
//! The type is `/event/type` (`APPLICATION_AUTHORIZED`), or what kind of interaction it is, under
//! the name that Discord's documentation has for its number (`APPLICATION_COMMAND`).
//!
//! The URL is tested with a signed PING: `{"type":1}` of interactions is answered with the same,
//! `{"type":0}` of webhook events with an empty 204. Discord also sends wrong signatures now and
//! then, and wants a 401.
//!
//! Everything else is answered with an empty 204, as webhook events want it. An interaction is
//! answered by its handler through Discord's callback endpoint, within three seconds.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{ANY_AGE, Algorithm, Encoding, KeyForm, Part, Placement, Recipe, Time, public},
};
use crate::{
    event::{Digest, Named},
    receipt::Reply,
    refusal::Refusal,
    request::Verified,
    secret::Secret,
};

/// Discord's rules.
#[derive(Debug)]
pub struct Discord;

impl Provider for Discord {
    fn name(&self) -> &'static str {
        "discord"
    }

    fn title(&self) -> &'static str {
        "Discord"
    }

    fn docs(&self) -> &'static str {
        "https://docs.discord.com/developers/interactions/overview#validating-security-request-headers"
    }

    fn secret_variable(&self) -> &'static str {
        "DISCORD_STANDIN_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "Ed25519 over time and body"
    }

    fn identity(&self) -> &'static str {
        "`/id` of an interaction, which is signed; events: the digest of the body"
    }

    /// Events for ten minutes, interactions never.
    fn resends_for(&self) -> Duration {
        Duration::from_mins(10)
    }

    fn handshake(&self) -> &'static str {
        "signed PING"
    }

    fn development_secret(&self, random: [u8; 24]) -> Secret {
        public::stand_in_secret(random)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe {
            algorithm: Algorithm::Ed25519,
            key: KeyForm::Hex,
            signature: Placement::Whole {
                header: "X-Signature-Ed25519".to_owned(),
                prefix: String::new(),
            },
            encoding: Encoding::Hex,
            time: Some(Time { tolerance: ANY_AGE, ..Time::header("X-Signature-Timestamp") }),
            signed: vec![Part::Time, Part::Body],
        };
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn signed_handshake(&self, request: &Verified, _: &Settings) -> Result<Option<Reply>, Refusal> {
        let message = Message::of(request);
        // The number 1 is a PING among interactions and an event among webhook events.
        Ok(match (message.kind.as_deref(), message.event) {
            (Some("0"), None) => Some(no_content()),
            (Some("1"), None) => Some(Reply::ok("application/json", r#"{"type":1}"#)),
            _ => None,
        })
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let message = Message::of(request);
        let event_type = match message.event {
            Some(event) => event.kind.usable(),
            None => message.kind.usable().map(interaction),
        };
        let content = || Digest::of([request.body.as_ref()]);
        let (id, body) = (message.id.usable(), request.body.clone());
        Ok(vec![naming::by_signed_id(id, event_type, body, content)])
    }

    fn reply(&self) -> Option<Reply> {
        Some(no_content())
    }
}

/// The empty 204 that Discord wants, which must name a content type all the same.
fn no_content() -> Reply {
    Reply { status: 204, ..Reply::ok("application/json", Bytes::new()) }
}

/// The name of a kind of interaction; a number that is new to us stays one.
fn interaction(kind: String) -> String {
    match kind.as_str() {
        "2" => "APPLICATION_COMMAND".to_owned(),
        "3" => "MESSAGE_COMPONENT".to_owned(),
        "4" => "APPLICATION_COMMAND_AUTOCOMPLETE".to_owned(),
        "5" => "MODAL_SUBMIT".to_owned(),
        _ => kind,
    }
}

#[derive(Debug, Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: Scalar<'a>,
    #[serde(borrow, default, rename = "type")]
    kind: Scalar<'a>,
    #[serde(borrow, default)]
    event: Option<InnerEvent<'a>>,
}

#[derive(Debug, Deserialize)]
struct InnerEvent<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Scalar<'a>,
}

impl<'a> Message<'a> {
    fn of(request: &'a Verified) -> Self {
        serde_json::from_slice(&request.body).unwrap_or_default()
    }
}
