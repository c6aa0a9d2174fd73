//! Taking what is a credential out of a refused request, and putting it back.
//!
//! A credential is what a name says (`Authorization`, `hub.verify_token`), and whatever has a secret
//! of ours in it: somebody has put it where it does not belong, and that may be why it was refused.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{handler::is_credential, request::Headers, secret::Secret};

/// What stands in place of a credential.
const HIDDEN: &str = "…";

/// A secret that is shorter is found in too much that is none.
const SECRET_BYTES_MIN: usize = 8;

/// The parts of a request that may have credentials in them.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) url: String,
    pub(super) target: String,
    pub(super) headers: Headers,
    pub(super) body: Option<Bytes>,
}

/// What was taken out, as it is sealed. Each header has its place, so that putting back gives the
/// request as it came.
#[derive(Default, Serialize, Deserialize)]
struct Taken {
    url: Option<String>,
    target: Option<String>,
    headers: Vec<(usize, String, String)>,
    body: Option<String>,
}

/// Takes the credentials out of `parts`. `None` if there are none.
pub(super) fn take(parts: &mut Parts, secrets: &[Secret]) -> Option<Zeroizing<Vec<u8>>> {
    let has_secret = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let long_enough = secrets.iter().filter(|secret| secret.expose().len() >= SECRET_BYTES_MIN);
        long_enough.into_iter().any(|secret| text.contains(secret.expose()))
    };
    let mut taken = Taken::default();
    for (url, place) in [(&mut parts.url, &mut taken.url), (&mut parts.target, &mut taken.target)] {
        let shown = if has_secret(url.as_bytes()) { HIDDEN.to_owned() } else { without(url) };
        if shown != *url {
            *place = Some(std::mem::replace(url, shown));
        }
    }
    let mut rest = Headers::default();
    for (at, (name, value)) in parts.headers.iter().enumerate() {
        if is_credential(name) || has_secret(value) {
            taken.headers.push((at, name.to_owned(), BASE64_STANDARD.encode(value)));
        } else {
            rest.push(name, Bytes::copy_from_slice(value));
        }
    }
    parts.headers = rest;
    if let Some(body) = parts.body.take_if(|body| has_secret(body)) {
        taken.body = Some(BASE64_STANDARD.encode(body));
    }
    let is_empty = taken.url.is_none() && taken.target.is_none() && taken.body.is_none();
    if is_empty && taken.headers.is_empty() {
        return None;
    }
    Some(Zeroizing::new(serde_json::to_vec(&taken).expect("plain texts can be written as JSON")))
}

/// Puts back what [`take`] took out. `None` if it did not write `taken`.
pub(super) fn put_back(parts: &mut Parts, taken: &[u8]) -> Option<()> {
    let taken: Taken = serde_json::from_slice(taken).ok()?;
    if let Some(url) = taken.url {
        parts.url = url;
    }
    if let Some(target) = taken.target {
        parts.target = target;
    }
    if let Some(body) = taken.body {
        parts.body = Some(BASE64_STANDARD.decode(body).ok()?.into());
    }
    let mut headers: Vec<(String, Bytes)> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_owned(), Bytes::copy_from_slice(value)))
        .collect();
    for (at, name, value) in taken.headers {
        let value = BASE64_STANDARD.decode(value).ok()?;
        headers.insert(at.min(headers.len()), (name, value.into()));
    }
    parts.headers = headers.into_iter().collect();
    Some(())
}

/// The URL, or the path and query, without user and password, and with `…` for the value of every
/// parameter that is a credential by its name.
fn without(url: &str) -> String {
    let (place, query) =
        url.split_once('?').map_or((url, None), |(place, query)| (place, Some(query)));
    let place = match place.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) =
                rest.split_once('/').map_or((rest, None), |(a, p)| (a, Some(p)));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{}", path.map(|path| format!("/{path}")).unwrap_or_default())
        }
        None => place.to_owned(),
    };
    let Some(query) = query else { return place };
    let hidden = |item: &str| match item.split_once('=') {
        Some((name, value)) if is_credential(name) && !value.is_empty() => {
            format!("{name}={HIDDEN}")
        }
        _ => item.to_owned(),
    };
    format!("{place}?{}", query.split('&').map(hidden).collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(url: &str, headers: &[(&str, &str)], body: &'static str) -> Parts {
        Parts {
            url: url.to_owned(),
            target: url.to_owned(),
            headers: headers.iter().map(|(name, value)| (*name, value.to_string())).collect(),
            body: Some(Bytes::from_static(body.as_bytes())),
        }
    }

    #[test]
    fn what_was_taken_out_is_put_back_where_it_was() {
        let before = parts(
            "https://user:pa55@a.example/x?hub.verify_token=swordfish&b=1",
            &[("a", "1"), ("Authorization", "Bearer x"), ("b", "2"), ("X-Gitlab-Token", "y")],
            "{\"clientState\":\"a-secret-of-ours\"}",
        );
        let mut shown = before.clone();
        let taken = take(&mut shown, &[Secret::new("a-secret-of-ours")]).unwrap();
        assert_eq!(shown.url, "https://a.example/x?hub.verify_token=…&b=1");
        assert_eq!(shown.headers.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(shown.body, None);
        put_back(&mut shown, &taken).unwrap();
        assert!(shown == before);
    }

    #[test]
    fn a_request_without_credentials_stays_as_it_is() {
        let before = parts("https://a.example/x?b=1#c", &[("Stripe-Signature", "t=1")], "{}");
        let mut after = before.clone();
        assert!(
            take(&mut after, &[Secret::new("short"), Secret::new("a-secret-of-ours")]).is_none()
        );
        assert!(after == before);
    }

    #[test]
    fn a_provider_that_sends_its_secret_does_so_in_a_header_that_is_a_credential() {
        use crate::{
            clock::Timestamp,
            provider::{PROVIDERS, Settings},
            request::Unverified,
        };
        let mut signed = 0;
        for provider in PROVIDERS {
            let secret = provider.development_secret([7; 24]);
            let settings = Settings { secrets: vec![secret.clone()], ..Settings::default() };
            let Ok(scheme) = provider.scheme(&settings) else { continue };
            let mut draft = Unverified {
                method: "POST".to_owned(),
                url: "https://hooks.example.com/x".to_owned(),
                headers: Headers::default(),
                body: Bytes::from_static(b"{}"),
                received_at: Timestamp::default(),
            };
            if scheme.sign(&mut draft, Timestamp::default()).is_err() {
                continue;
            }
            signed += 1;
            let (url, headers) = (draft.url, draft.headers);
            let mut shown = Parts { target: url.clone(), url, headers, body: None };
            drop(take(&mut shown, &[]));
            let text = String::from_utf8_lossy(&shown.headers.to_lines()).into_owned() + &shown.url;
            assert!(!text.contains(secret.expose()), "{}: {text}", provider.name());
        }
        assert!(signed > 20, "{signed}");
    }

    #[test]
    fn a_secret_of_ours_is_hidden_wherever_it_stands() {
        let mut shown =
            parts("https://a.example/a-secret-of-ours", &[("x", "a-secret-of-ours")], "");
        take(&mut shown, &[Secret::new("a-secret-of-ours")]).unwrap();
        assert_eq!((shown.url.as_str(), shown.headers.iter().count()), (HIDDEN, 0));
    }
}
