//! Meta (WhatsApp, Messenger, Instagram, Pages): `X-Hub-Signature-256: sha256=<hex>`, HMAC-SHA256
//! over the body.
//!
//! <https://developers.facebook.com/docs/graph-api/webhooks/getting-started>
//!
//! The older `X-Hub-Signature` (SHA-1) is sent beside it and never looked at.
//!
//! A request holds many entries, each an event of its own: an entry is the smallest part that still
//! says whose it is. Identity: the signed ids of what an entry holds, a message's `/id` or `/mid`
//! and a status's `/id` and `/status`, if everything in it has one; otherwise the digest of its
//! bytes, in which `/time` tells equal changes apart.
//!
//! The type is `/object` and the field that changed: `whatsapp_business_account.messages`,
//! `page.messaging`.
//!
//! The URL is tested with a GET whose `hub.challenge` is sent back if its `hub.verify_token` is the
//! source's; otherwise the answer is 403, as Meta asks.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{Encoding, Recipe},
};
use crate::{
    event::{Digest, Named},
    receipt::Reply,
    refusal::Refusal,
    request::{Unverified, Verified},
    secret::Secret,
};

/// Meta's rules.
#[derive(Debug)]
pub struct Meta;

impl Provider for Meta {
    fn name(&self) -> &'static str {
        "meta"
    }

    fn title(&self) -> &'static str {
        "Meta"
    }

    fn docs(&self) -> &'static str {
        "https://developers.facebook.com/docs/graph-api/webhooks/getting-started"
    }

    fn secret_variable(&self) -> &'static str {
        "META_APP_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over the body"
    }

    fn identity(&self) -> &'static str {
        "`/entry/*`: the ids of its messages and statuses, which are signed; without them the \
         digest of the entry"
    }

    /// A day and a half; WhatsApp seven days.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 7)
    }

    fn handshake(&self) -> &'static str {
        "GET with `hub.challenge`, which is sent back if its `hub.verify_token` is right"
    }

    fn batch(&self) -> &'static str {
        "`/entry`"
    }

    fn body_bytes_max(&self) -> usize {
        4 << 20
    }

    fn settings(&self) -> &'static [(&'static str, &'static str)] {
        &[("verify_token", "the text that Meta shows when it tests the URL, chosen in its console")]
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe::of_body("X-Hub-Signature-256", "sha256=", Encoding::Hex);
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn unsigned_handshake(
        &self,
        request: &Unverified,
        settings: &Settings,
    ) -> Result<Option<Reply>, Refusal> {
        let asked = request.query_parameter("hub.mode").is_some_and(|mode| mode == "subscribe");
        if request.method != "GET" || !asked {
            return Ok(None);
        }
        let ours = settings.text("verify_token").map(Secret::new).ok_or_else(|| {
            Refusal::Handshake("the source has no `verify_token`; set it".to_owned())
        })?;
        let given = request.query_parameter("hub.verify_token").unwrap_or_default();
        if !ours.matches(&given) {
            return Err(Refusal::Handshake(
                "its `hub.verify_token` is not the source's".to_owned(),
            ));
        }
        let challenge = request.query_parameter("hub.challenge").and_then(naming::usable);
        let missing = || Refusal::Malformed("`hub.challenge` is missing".to_owned());
        challenge.map(|challenge| Some(Reply::echo(challenge))).ok_or_else(missing)
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let body = &request.body;
        let Ok(batch) = serde_json::from_slice::<Batch<'_>>(body) else {
            let content = Digest::of([body.as_ref()]);
            return Ok(vec![naming::by_signed_content(None, None, body.clone(), content)]);
        };
        let object = batch.object.as_deref().unwrap_or_default();
        Ok(batch.entries.into_iter().map(|raw| event(object, body, raw)).collect())
    }
}

#[derive(Debug, Deserialize)]
struct Batch<'a> {
    #[serde(borrow, default)]
    object: Scalar<'a>,
    #[serde(borrow, rename = "entry")]
    entries: Vec<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
struct Entry<'a> {
    #[serde(borrow, default)]
    changes: Vec<Change<'a>>,
    #[serde(borrow, default)]
    messaging: Vec<Messaging<'a>>,
}

#[derive(Debug, Deserialize)]
struct Change<'a> {
    #[serde(borrow, default)]
    field: Scalar<'a>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
struct Value<'a> {
    #[serde(borrow, default)]
    messages: Vec<Message<'a>>,
    #[serde(borrow, default)]
    statuses: Vec<Message<'a>>,
}

#[derive(Debug, Deserialize)]
struct Messaging<'a> {
    #[serde(borrow)]
    message: Option<Message<'a>>,
}

/// A message, or what became of one.
#[derive(Debug, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: Scalar<'a>,
    #[serde(borrow, default)]
    mid: Scalar<'a>,
    #[serde(borrow, default)]
    status: Scalar<'a>,
}

impl Message<'_> {
    /// Its id, and its status if it is one: what becomes of a message has the message's id.
    fn name(&self) -> Option<[String; 2]> {
        let id = self.mid.as_deref().or_else(|| self.id.as_deref())?;
        Some([id, self.status.as_deref().unwrap_or("message")].map(str::to_owned))
    }
}

impl Entry<'_> {
    /// The names of everything in it. `None`: something has none.
    fn names(&self) -> Option<Vec<[String; 2]>> {
        let mut names = Vec::new();
        for change in &self.changes {
            let value: Value<'_> = serde_json::from_str(change.value?.get()).ok()?;
            let messages: Vec<_> = value.messages.iter().chain(&value.statuses).collect();
            if messages.is_empty() {
                return None;
            }
            for message in messages {
                names.push(message.name()?);
            }
        }
        for messaging in &self.messaging {
            names.push(messaging.message.as_ref()?.name()?);
        }
        (!names.is_empty()).then_some(names)
    }

    fn field(&self) -> Option<&str> {
        let first = self.changes.first().and_then(|change| change.field.as_deref());
        first.or_else(|| self.messaging.first().map(|_| "messaging"))
    }
}

fn event(object: &str, body: &Bytes, raw: &RawValue) -> Named {
    let entry: Entry<'_> = serde_json::from_str(raw.get()).unwrap_or_default();
    let event_type = match entry.field() {
        Some(field) => naming::usable(format!("{object}.{field}")),
        None => naming::usable(object),
    };
    let bytes = naming::element(body, raw);
    match entry.names() {
        Some(names) => {
            let id = names.first().and_then(|[id, _]| naming::usable(id.as_str()));
            let fields = names.iter().flatten().map(String::as_str);
            naming::by_signed_fields(id, event_type, bytes, fields)
        }
        None => {
            let content = Digest::of([object.as_bytes(), raw.get().as_bytes()]);
            naming::by_signed_content(None, event_type, bytes, content)
        }
    }
}
