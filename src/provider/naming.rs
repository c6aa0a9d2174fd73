//! What names an event in bytes that are signed but may hold anything.
//!
//! A request whose signature holds must not be lost because a field has another form than
//! documented: where an id is missing or of the wrong type, the digest of the content takes its
//! place.

use std::{borrow::Cow, collections::HashMap, fmt};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    event::{Digest, Identity, Named},
    limits,
};

/// An event whose id is covered by the signature: the id alone is its identity, so the same id over
/// other bytes is still the same event. Without an id, `content` is the identity.
pub fn by_signed_id(
    event_id: Option<String>,
    event_type: Option<String>,
    body: Bytes,
    content: impl FnOnce() -> Digest,
) -> Named {
    let identity = match &event_id {
        Some(id) => Identity::of([id.as_str()]),
        None => content_alone(content()),
    };
    Named { event_id, event_type, identity: Some(identity), digest: None, body }
}

/// An event whose id anybody on the way could have changed: its identity is the id and the content,
/// and the content is kept, so that a copy under another id is noticed.
pub fn by_unsigned_id(
    event_id: Option<String>,
    event_type: Option<String>,
    body: Bytes,
    content: Digest,
) -> Named {
    let identity = match &event_id {
        Some(id) => Identity::of([id.as_str(), content.short().as_str()]),
        None => content_alone(content),
    };
    Named { event_id, event_type, identity: Some(identity), digest: Some(content), body }
}

/// An event that several signed fields name together. `event_id` is what is shown of them.
pub fn by_signed_fields<'a>(
    event_id: Option<String>,
    event_type: Option<String>,
    body: Bytes,
    fields: impl IntoIterator<Item = &'a str>,
) -> Named {
    let identity = Some(Identity::of(fields));
    Named { event_id, event_type, identity, digest: None, body }
}

/// An event that only its signed content names: its provider gives no id, or none to rely on.
pub fn by_signed_content(
    event_id: Option<String>,
    event_type: Option<String>,
    body: Bytes,
    content: Digest,
) -> Named {
    let identity = Some(content_alone(content));
    Named { event_id, event_type, identity, digest: None, body }
}

/// An event that is never the same as another one: the same bytes can be a new fact.
pub fn never_the_same(event_id: Option<String>, event_type: Option<String>, body: Bytes) -> Named {
    Named { event_id, event_type, identity: None, digest: None, body }
}

/// The bytes of one element of a batch, which must have been read from `body`.
pub fn element(body: &Bytes, element: &RawValue) -> Bytes {
    body.slice_ref(element.get().as_bytes())
}

/// The empty first part cannot be an id: an id is never empty.
fn content_alone(content: Digest) -> Identity {
    Identity::of(["", content.short().as_str()])
}

/// `text` as an id or a type, if it can be one: not empty, not too long, without control
/// characters.
pub fn usable<'a>(text: impl Into<Cow<'a, str>>) -> Option<String> {
    let text = text.into();
    let fits = !text.is_empty() && text.len() <= limits::EVENT_ID_BYTES_MAX;
    (fits && !text.contains(char::is_control)).then(|| text.into_owned())
}

/// The retry marker of a provider that counts its attempts in a field of the body, from `first` on:
/// nothing at the first one.
pub fn attempt_in_body(body: &[u8], field: &str, first: &str) -> Option<String> {
    let mut fields: HashMap<Cow<'_, str>, Scalar<'_>> = serde_json::from_slice(body).ok()?;
    let number = fields.remove(field)?.usable().filter(|number| number != first)?;
    usable(format!("{field}: {number}"))
}

/// A JSON text, or a whole number as text. Anything else reads as if it were not there, so that one
/// field of another type does not hide its neighbours.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scalar<'a>(Option<Cow<'a, str>>);

impl Scalar<'_> {
    /// The text, if it can be an id or a type.
    pub fn usable(self) -> Option<String> {
        self.0.and_then(usable)
    }

    /// The text.
    pub fn as_deref(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar(Some(Cow::Borrowed(text))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar(Some(Cow::Owned(text.to_owned()))))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Scalar(Some(Cow::Owned(number.to_string()))))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Scalar(Some(Cow::Owned(number.to_string()))))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Scalar(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Scalar(None))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow, default)]
        id: Scalar<'a>,
        #[serde(borrow, default, rename = "type")]
        event_type: Scalar<'a>,
    }

    #[test]
    fn a_number_is_an_id_and_what_is_no_id_hides_nothing() {
        let cases = [
            (r#"{"id":"evt_1","type":"a"}"#, Some("evt_1")),
            (r#"{"type":"a","id":42,"more":[{}]}"#, Some("42")),
            (r#"{"id":-7,"type":"a"}"#, Some("-7")),
            (r#"{"id":"\u0041","type":"a"}"#, Some("A")),
            (r#"{"id":{"a":[1,null]},"type":"a"}"#, None),
            (r#"{"id":[[1]],"type":"a"}"#, None),
            (r#"{"id":1.5,"type":"a"}"#, None),
            (r#"{"id":true,"type":"a"}"#, None),
            (r#"{"id":null,"type":"a"}"#, None),
            (r#"{"id":"","type":"a"}"#, None),
            (r#"{"id":"a\nb","type":"a"}"#, None),
            (r#"{"type":"a"}"#, None),
        ];
        for (json, id) in cases {
            let envelope: Envelope<'_> = serde_json::from_str(json).unwrap();
            assert_eq!(envelope.id.usable().as_deref(), id, "{json}");
            assert_eq!(envelope.event_type.as_deref(), Some("a"), "{json}");
        }
    }

    #[test]
    fn content_and_id_never_make_the_same_identity() {
        let content = Digest::of([&b"body"[..]]);
        let id = content.short();
        let named = by_signed_id(Some(id), None, Bytes::new(), || content);
        let unnamed = by_signed_id(None, None, Bytes::new(), || content);
        let unsigned = by_unsigned_id(Some(content.short()), None, Bytes::new(), content);
        assert_ne!(named.identity, unnamed.identity);
        assert_ne!(named.identity, unsigned.identity);
        assert_ne!(unnamed.identity, unsigned.identity);
    }
}
