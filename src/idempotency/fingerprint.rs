//! What must be the same when a key is sent again.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::KeyedRequest;
use crate::{api::Api, key::Fingerprint, limits};

/// The fingerprint of a request: its query, its body, and the headers that the API names.
pub(super) fn fingerprint(api: &Api, request: &KeyedRequest) -> Fingerprint {
    let body = match api.canonical_json.then(|| canonical(&request.body)).flatten() {
        Some(json) => Cow::Owned(json),
        None => Cow::Borrowed(&*request.body),
    };
    // No value holds a line end, so no two lists of them look alike.
    let named = |name: &String| request.headers.all(name).collect::<Vec<_>>().join(&b'\n');
    let headers: Vec<_> = api.fingerprint_headers.iter().map(named).collect();
    let query = request.query.as_deref().unwrap_or_default().as_bytes();
    Fingerprint::of([query, &*body].into_iter().chain(headers.iter().map(Vec::as_slice)))
}

/// JSON without its spaces and with the names of each object in order; numbers stay as they are
/// written, since two that are equal as floats may be two amounts.
///
/// `None` where it is no JSON, nested too deep, or has a name twice in an object: readers do not agree
/// on which of the two counts, so such a body is only ever the same as itself.
fn canonical(body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len());
    write(serde_json::from_slice(body).ok()?, limits::JSON_DEPTH_MAX, &mut out)?;
    Some(out)
}

fn write(value: &RawValue, depth_left: usize, out: &mut Vec<u8>) -> Option<()> {
    let depth_left = depth_left.checked_sub(1)?;
    let text = value.get();
    match text.as_bytes().first()? {
        b'{' => {
            let Members(mut members) = serde_json::from_str(text).ok()?;
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            if members.windows(2).any(|pair| matches!(pair, [(one, _), (next, _)] if one == next)) {
                return None;
            }
            out.push(b'{');
            for (name, value) in members {
                serde_json::to_writer(&mut *out, &name).ok()?;
                out.push(b':');
                write(value, depth_left, out)?;
                out.push(b',');
            }
            out.push(b'}');
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            out.push(b'[');
            for item in items {
                write(item, depth_left, out)?;
                out.push(b',');
            }
            out.push(b']');
        }
        b'"' => {
            // One character can be written in several ways.
            let decoded: Cow<'_, str> = serde_json::from_str(text).ok()?;
            serde_json::to_writer(out, &decoded).ok()?;
        }
        _ => out.extend_from_slice(text.as_bytes()),
    }
    Some(())
}

/// The members of an object in the order they are written, none of them lost.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idempotency::tests::request;

    fn of(api: &Api, change: impl FnOnce(&mut KeyedRequest)) -> Fingerprint {
        let mut request = request();
        change(&mut request);
        fingerprint(api, &request)
    }

    fn of_body(api: &Api, body: &'static str) -> Fingerprint {
        of(api, |request| request.body = body.into())
    }

    #[test]
    fn query_body_and_named_headers_make_another_fingerprint() {
        let api = Api::new("payments");
        let same = of(&api, |_| {});
        assert_eq!(same, of(&api, |request| request.headers.push("x-request-id", "2")));
        assert_eq!(same, of(&api, |request| request.query = Some(String::new())));
        for other in [
            of(&api, |request| request.query = Some("a=1&b=2".to_owned())),
            of(&api, |request| request.query = Some("b=2&a=1".to_owned())),
            of_body(&api, "{\"amount\": 1 }"),
            of(&api, |request| request.headers.set("content-type", "text/plain")),
            of(&api, |request| request.headers.push("content-type", "text/plain")),
        ] {
            assert_ne!(same, other);
        }
    }

    #[test]
    fn canonical_json_does_not_care_for_order_and_spaces() {
        let api = Api { canonical_json: true, ..Api::new("payments") };
        let same = of_body(&api, r#"{"a": 1, "b": {"c": ["x", null], "d": true}}"#);
        assert_eq!(same, of_body(&api, "{\"b\":{\"d\":true,\"c\":[\"\\u0078\",null]},\n\"a\":1}"));
        for other in [
            r#"{"a": 1.0, "b": {"c": ["x", null], "d": true}}"#,
            r#"{"a": 1, "b": {"c": [null, "x"], "d": true}}"#,
            r#"{"a": 1, "b": {"c": ["x", null], "d": true}, "e": null}"#,
            r#"{"a": "1", "b": {"c": ["x", null], "d": true}}"#,
        ] {
            assert_ne!(same, of_body(&api, other), "{other}");
        }
        let numbers = ["12345678901234567890123", "12345678901234567890124"];
        assert_ne!(of_body(&api, numbers[0]), of_body(&api, numbers[1]));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_only_the_same_as_itself() {
        assert_eq!(canonical(br#"{"a":1,"a":2}"#), None);
        assert_eq!(canonical(br#"{"a":1,"\u0061":2}"#), None);
        assert_eq!(canonical(b"no json"), None);
        assert_eq!(canonical(b""), None);
        assert_eq!(canonical(&[b'['; 100_000]), None);
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        assert_eq!(canonical(deep.as_bytes()), None);
    }
}
