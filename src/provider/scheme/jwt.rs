//! JSON Web Tokens, in the compact form of RFC 7519, as signatures of a request.
//!
//! Each scheme names the algorithms it takes, and each algorithm has keys of its own kind: a token
//! that asks for another one is refused before any key is looked at, so neither `none` nor a public
//! key in the role of a shared secret gets anywhere.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::RsaPublicKeyComponents;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    keys::{Algorithm, KeyForm, Keys},
    public::{Method, PublicKey, Signer},
};
use crate::{
    clock::Timestamp,
    provider::{NotSignable, Settings},
    refusal::SignatureProblem,
};

/// An algorithm of RFC 7518.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAlgorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSA with SHA-256; the source holds public keys.
    Rs256,
    /// ECDSA on P-256 with SHA-256; the source holds public keys.
    Es256,
}

/// The keys of a source that may have signed a token, by the name of their algorithm.
#[derive(Debug)]
pub struct Tokens(Vec<(&'static str, TokenKeys)>);

#[derive(Debug)]
enum TokenKeys {
    Shared(Keys),
    Public(Method, Vec<PublicTokenKey>),
}

impl Tokens {
    /// Tokens signed with one of these algorithms. The first one signs.
    ///
    /// # Errors
    /// Everything that is wrong with the source's keys, as `key: what to write instead`.
    pub fn new(algorithms: &[TokenAlgorithm], settings: &Settings) -> Result<Self, Vec<String>> {
        let keys = algorithms.iter().map(|algorithm| algorithm.keys(settings));
        keys.collect::<Result<_, _>>().map(Self)
    }

    /// What a token says, once its signature holds.
    ///
    /// # Errors
    /// The first step that failed.
    pub fn claims<C: DeserializeOwned>(&self, token: &str) -> Result<C, SignatureProblem> {
        let form = |what: &str| SignatureProblem::Form(what.to_owned());
        let (signed, signature) = token.rsplit_once('.').ok_or_else(|| form("no JWT"))?;
        let (head, _) = signed.split_once('.').ok_or_else(|| form("no JWT"))?;
        let head: Head = part(head).ok_or_else(|| form("the head of the JWT cannot be read"))?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok();
        let signature = signature.ok_or_else(|| form("the JWT's signature is not base64url"))?;
        if head.crit.is_some() {
            return Err(form("the JWT asks for an extension that is not known here"));
        }
        let (_, keys) =
            self.0.iter().find(|(name, _)| *name == head.alg).ok_or_else(|| {
                form("the JWT is signed with another algorithm than this provider's")
            })?;
        if !keys.has(head.kid.as_deref()) {
            return Err(SignatureProblem::UnknownKey);
        }
        if !keys.made(head.kid.as_deref(), signed.as_bytes(), signature) {
            return Err(SignatureProblem::NoMatch);
        }
        claims(token).ok_or_else(|| form("the JWT lacks a claim, or it is of another type"))
    }

    /// A token that says `claims`, signed with the first key.
    ///
    /// # Errors
    /// When there are public keys only.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, NotSignable> {
        let only_public =
            || NotSignable("its private key is not here, only public ones".to_owned());
        let Some((name, TokenKeys::Shared(keys))) = self.0.first() else {
            return Err(only_public());
        };
        let head = Head { alg: (*name).to_owned(), kid: None, crit: None };
        let encode = |json: serde_json::Result<Vec<u8>>| {
            URL_SAFE_NO_PAD.encode(json.expect("a head and claims are plain data"))
        };
        let head = encode(serde_json::to_vec(&head));
        let signed = format!("{head}.{}", encode(serde_json::to_vec(claims)));
        let signature = keys.sign(&[signed.as_bytes()]).ok_or_else(only_public)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// What a token says, whoever signed it: for one that was checked before.
pub fn claims<C: DeserializeOwned>(token: &str) -> Option<C> {
    let mut parts = token.split('.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(claims), Some(_), None) => part(claims),
        _ => None,
    }
}

/// Checks the dates of a token, in Unix seconds, with this leeway for clocks that differ.
///
/// # Errors
/// [`SignatureProblem::Stale`] when it is not valid yet, or not any more.
pub fn check_dates(
    not_before: Option<i64>,
    expires: Option<i64>,
    leeway: Duration,
    now: Timestamp,
) -> Result<(), SignatureProblem> {
    let leeway = i64::try_from(leeway.as_secs()).unwrap_or(i64::MAX);
    let now = now.as_seconds();
    let early = not_before.map(|time| time.saturating_sub(now)).filter(|by| *by > leeway);
    let late = expires.map(|time| now.saturating_sub(time)).filter(|by| *by >= leeway);
    match (early, late) {
        (Some(by), _) => Err(SignatureProblem::Stale(by.saturating_neg())),
        (None, Some(by)) => Err(SignatureProblem::Stale(by)),
        (None, None) => Ok(()),
    }
}

fn part<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

#[derive(Deserialize, Serialize)]
struct Head {
    alg: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crit: Option<Value>,
}

impl TokenAlgorithm {
    fn keys(self, settings: &Settings) -> Result<(&'static str, TokenKeys), Vec<String>> {
        let shared =
            |algorithm| Keys::new(algorithm, KeyForm::Text, settings).map(TokenKeys::Shared);
        let (name, method) = match self {
            Self::Hs256 => return Ok(("HS256", shared(Algorithm::HmacSha256)?)),
            Self::Hs384 => return Ok(("HS384", shared(Algorithm::HmacSha384)?)),
            Self::Hs512 => return Ok(("HS512", shared(Algorithm::HmacSha512)?)),
            Self::Rs256 => ("RS256", Method::RsaSha256),
            Self::Es256 => ("ES256", Method::EcdsaP256Fixed),
        };
        Ok(match Signer::new(settings, |text| PublicTokenKey::read(name, method, text))? {
            Signer::Provider(keys) => (name, TokenKeys::Public(method, keys)),
            Signer::StandIn(keys) => ("HS256", TokenKeys::Shared(keys)),
        })
    }
}

impl TokenKeys {
    /// Whether there is a key that a token with this key id may be signed with.
    fn has(&self, kid: Option<&str>) -> bool {
        match self {
            Self::Shared(_) => true,
            Self::Public(_, keys) => keys.iter().any(|key| key.may_be(kid)),
        }
    }

    fn made(&self, kid: Option<&str>, signed: &[u8], signature: Vec<u8>) -> bool {
        match self {
            Self::Shared(keys) => keys.made_any(&[signature], &[signed]),
            Self::Public(method, keys) => {
                let mut keys = keys.iter().filter(|key| key.may_be(kid));
                keys.any(|key| key.key.made(*method, signed, &signature))
            }
        }
    }
}

/// A public key with its name, as a JWK holds it.
struct PublicTokenKey {
    kid: Option<String>,
    key: PublicKey,
}

impl std::fmt::Debug for PublicTokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublicTokenKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    kid: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// Plaid says here that a key is retired.
    expired_at: Option<Value>,
}

impl PublicTokenKey {
    /// Whether it may be the key of this id. Where one of the two has no id, nothing speaks against it.
    fn may_be(&self, kid: Option<&str>) -> bool {
        kid.is_none() || self.kid.is_none() || self.kid.as_deref() == kid
    }

    /// The keys for this algorithm in a JWK or a set of them. A set may hold others: they are left.
    fn read(alg: &str, method: Method, text: &str) -> Result<Vec<Self>, &'static str> {
        let no_json = "is not a JWK or a JWKS; copy it whole, from the first brace to the last";
        let json: Value = serde_json::from_str(text).map_err(|_| no_json)?;
        let all = match json.get("keys") {
            Some(Value::Array(all)) => all.clone(),
            Some(_) => return Err(no_json),
            None => vec![json],
        };
        let jwk = |json| serde_json::from_value::<Jwk>(json).ok();
        let keys: Vec<_> =
            all.into_iter().filter_map(jwk).filter_map(|jwk| jwk.key(alg, method)).collect();
        if keys.is_empty() {
            return Err("holds no key for this scheme that is in use; get the current one");
        }
        Ok(keys)
    }
}

impl Jwk {
    fn key(self, alg: &str, method: Method) -> Option<PublicTokenKey> {
        let other_alg = self.alg.is_some_and(|named| named != alg);
        if other_alg || self.expired_at.is_some() || self.purpose.is_some_and(|it| it != "sig") {
            return None;
        }
        let number = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
        let key = match (method, self.kty.as_str(), self.crv.as_deref()) {
            (Method::RsaSha256, "RSA", _) => {
                let (n, e) = (number(self.n)?, number(self.e)?);
                PublicKey::RsaNumbers(RsaPublicKeyComponents { n, e })
            }
            (Method::EcdsaP256Fixed, "EC", Some("P-256")) => {
                let (x, y) = (number(self.x)?, number(self.y)?);
                PublicKey::p256(&[&[4][..], &x, &y].concat()).ok()?
            }
            _ => return None,
        };
        Some(PublicTokenKey { kid: self.kid, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn shared(algorithms: &[TokenAlgorithm]) -> Tokens {
        let settings = Settings { secrets: vec![Secret::new("key")], ..Settings::default() };
        Tokens::new(algorithms, &settings).unwrap()
    }

    #[test]
    fn only_the_algorithms_of_the_scheme_count() {
        let token = shared(&[TokenAlgorithm::Hs512]).sign(&Value::Null).unwrap();
        let both = shared(&[TokenAlgorithm::Hs256, TokenAlgorithm::Hs512]);
        assert_eq!(both.claims::<Value>(&token), Ok(Value::Null));
        let other = shared(&[TokenAlgorithm::Hs256]).claims::<Value>(&token);
        assert!(matches!(other, Err(SignatureProblem::Form(_))), "{other:?}");
    }

    #[test]
    fn a_critical_extension_is_refused_although_the_signature_holds() {
        let tokens = shared(&[TokenAlgorithm::Hs256]);
        let TokenKeys::Shared(keys) = &tokens.0[0].1 else { panic!("an HMAC") };
        let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","crit":["b64"]}"#);
        let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode("{}"));
        let signature = URL_SAFE_NO_PAD.encode(keys.sign(&[signed.as_bytes()]).unwrap());
        let problem = tokens.claims::<Value>(&format!("{signed}.{signature}")).unwrap_err();
        assert!(matches!(problem, SignatureProblem::Form(_)), "{problem:?}");
    }

    #[test]
    fn dates_hold_to_the_second() {
        let check = |now| {
            let leeway = Duration::from_secs(1);
            check_dates(Some(100), Some(200), leeway, Timestamp::from_seconds(now))
        };
        assert_eq!(check(98), Err(SignatureProblem::Stale(-2)));
        assert_eq!(check(99), Ok(()));
        assert_eq!(check(200), Ok(()));
        assert_eq!(check(201), Err(SignatureProblem::Stale(1)));
    }

    #[test]
    fn of_a_set_only_the_keys_for_the_scheme_are_taken() {
        let read =
            |text: &str| PublicTokenKey::read("RS256", Method::RsaSha256, text).map(|it| it.len());
        let key = r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#;
        assert_eq!(read(key), Ok(1));
        assert_eq!(read(&format!(r#"{{"keys":[{key},{{"kty":"EC"}},1]}}"#)), Ok(1));
        for text in [
            r#"{"keys":[]}"#,
            r#"{"kty":"RSA","alg":"RS512","n":"AQAB","e":"AQAB"}"#,
            r#"{"kty":"RSA","use":"enc","n":"AQAB","e":"AQAB"}"#,
            r#"{"kty":"RSA","expired_at":1,"n":"AQAB","e":"AQAB"}"#,
            "no json",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
