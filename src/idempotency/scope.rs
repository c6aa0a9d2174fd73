//! What a key counts within: the API, the method, the path, and who sent it.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Key, KeyedRequest};
use crate::{
    api::{Api, Principal},
    clock::Timestamp,
    key::KeyScope,
    limits,
    provider::scheme::jwt::{Tokens, check_dates},
    request::Headers,
};

/// The scope of a request with this key.
pub(super) fn scope(api: &Api, key: &Key, request: &KeyedRequest, now: Timestamp) -> KeyScope {
    let principal = principal(&api.principal, &request.headers, now);
    KeyScope::new(&api.name, &request.method, &request.path, &principal, key.as_str())
}

/// Who sent it, in bytes that no other client can come by without that one's credential.
///
/// A claim counts only in a token whose signature and dates hold. Every other request is known by its
/// whole credential, so whoever writes somebody else's name into a token is alone with it.
fn principal(principal: &Principal, headers: &Headers, now: Timestamp) -> Vec<u8> {
    match principal {
        Principal::Header(name) => whole(name, headers),
        Principal::Claim { name, tokens } => match claim(name, tokens, headers, now) {
            Some(claim) => [b"claim\0", claim.as_bytes()].concat(),
            None => whole("authorization", headers),
        },
    }
}

/// All values of a header. None of them holds a line end, so no two lists of them look alike.
fn whole(name: &str, headers: &Headers) -> Vec<u8> {
    let mut known_by = b"header\0".to_vec();
    for value in headers.all(name) {
        known_by.extend_from_slice(value);
        known_by.push(b'\n');
    }
    known_by
}

/// The claim, if the token that makes it can be believed.
fn claim(name: &str, tokens: &Tokens, headers: &Headers, now: Timestamp) -> Option<String> {
    let (kind, token) = headers.only("authorization").ok()?.split_once(' ')?;
    if !kind.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let claims: Claims = tokens.claims(token.trim()).ok()?;
    check_dates(claims.nbf, claims.exp, limits::TOKEN_LEEWAY, now).ok()?;
    match claims.others.get(name)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Claims {
    nbf: Option<i64>,
    exp: Option<i64>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        idempotency::tests::request,
        key::KeyId,
        provider::{Settings, scheme::jwt::TokenAlgorithm},
        secret::Secret,
    };

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    fn keyed(key: &str) -> Key {
        Key::read(&[("idempotency-key", key.to_owned())].into_iter().collect(), "idempotency-key")
            .unwrap()
    }

    fn id(api: &Api, authorization: &str) -> KeyId {
        let mut request = request();
        request.headers.set("authorization", authorization.to_owned());
        scope(api, &keyed("k1"), &request, NOW).id()
    }

    fn settings() -> Settings {
        Settings { secrets: vec![Secret::new("a shared secret")], ..Settings::default() }
    }

    #[test]
    fn another_client_has_another_key() {
        let api = Api::new("payments");
        assert_eq!(id(&api, "Bearer alice"), id(&api, "Bearer alice"));
        assert_ne!(id(&api, "Bearer alice"), id(&api, "Bearer bob"));
        let anonymous = scope(&api, &keyed("k1"), &request(), NOW).id();
        assert_ne!(id(&api, "Bearer alice"), anonymous);
        let mut both = request();
        both.headers.push("authorization", "Bearer alice");
        both.headers.push("authorization", "Bearer bob");
        assert_ne!(scope(&api, &keyed("k1"), &both, NOW).id(), id(&api, "Bearer alice"));
    }

    #[test]
    fn a_claim_outlives_its_token_and_counts_only_when_signed() {
        let mut api = Api::new("payments");
        api.principal = Principal::claim("sub", &settings()).unwrap();
        let token = |secret: &str, claims: Value| {
            let settings = Settings { secrets: vec![Secret::new(secret)], ..Settings::default() };
            let tokens = Tokens::new(&[TokenAlgorithm::Hs256], &settings).unwrap();
            format!("Bearer {}", tokens.sign(&claims).unwrap())
        };
        let now = NOW.as_seconds();
        let alice = |iat| serde_json::json!({ "sub": "alice", "iat": iat, "exp": now + 60 });
        let first = id(&api, &token("a shared secret", alice(1)));
        assert_eq!(first, id(&api, &token("a shared secret", alice(2))));
        for other in [
            token("a shared secret", serde_json::json!({ "sub": "bob", "exp": now + 60 })),
            token("a shared secret", serde_json::json!({ "sub": "alice", "exp": now - 3600 })),
            token("a shared secret", serde_json::json!({ "sub": ["alice"] })),
            token("another secret", alice(1)),
            "Bearer alice".to_owned(),
            "claim\0alice".replace('\0', " "),
        ] {
            assert_ne!(first, id(&api, &other), "{other}");
        }
    }
}
