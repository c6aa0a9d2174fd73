//! Public keys: what checks a signature that only the provider can make.
//!
//! They come from the configuration in the form the provider hands them out, or in the same form
//! from where it publishes them, see [`crate::keyring`]. Nothing is fetched here.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
    RSA_PKCS1_2048_8192_SHA256, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
    VerificationAlgorithm,
};
use x509_cert::{
    Certificate as X509,
    der::{Decode as _, asn1::ObjectIdentifier},
    spki::SubjectPublicKeyInfoRef,
};

use super::keys::{Algorithm, KeyForm, Keys, read_all};
use crate::{
    clock::Timestamp,
    provider::{NotSignable, Settings},
    refusal::SignatureProblem,
    secret::Secret,
};

/// What every secret of a stand-in begins with.
const STAND_IN: &str = "standin_";

/// The fewest characters that follow it: what is shorter can be guessed.
const STAND_IN_LENGTH_MIN: usize = 32;

/// Who may have signed a request of an asymmetric scheme.
pub enum Signer<K> {
    /// The provider: one of its public keys fits.
    Provider(Vec<K>),
    /// Somebody who stands in for the provider while things are tried out, with an HMAC, since
    /// nobody else has the provider's private key. Never beside the provider itself.
    StandIn(Keys),
}

impl<K> Signer<K> {
    /// The provider, if the source has public keys, of which `read` finds one or more in each text, or
    /// fetches them; or a stand-in, if it has secrets.
    ///
    /// # Errors
    /// Everything that is wrong with the keys, as `key: what to write instead`. A secret that was
    /// not made for a stand-in is an error: it may be a public key in the wrong place, and with that
    /// as the key of an HMAC everybody could sign.
    pub fn new(
        settings: &Settings,
        read: impl Fn(&str) -> Result<Vec<K>, &'static str>,
    ) -> Result<Self, Vec<String>> {
        if settings.secrets.is_empty() {
            if settings.public_keys.is_empty() && settings.fetch_keys {
                return Ok(Self::Provider(Vec::new()));
            }
            if settings.public_keys.is_empty() {
                let none = "public_keys: none is set; write the one the provider shows";
                return Err(vec![none.to_owned()]);
            }
            let texts = settings.public_keys.iter().map(String::as_str);
            return read_all("public_keys", texts, read).map(Self::Provider);
        }
        let strange = |secret: &Secret| {
            let random = secret.expose().strip_prefix(STAND_IN);
            random.is_none_or(|random| random.len() < STAND_IN_LENGTH_MIN)
        };
        if !settings.public_keys.is_empty() || settings.secrets.iter().any(strange) {
            return Err(vec![
                "secrets: this scheme has none; write its keys under `public_keys`".to_owned(),
            ]);
        }
        Keys::new(Algorithm::HmacSha256, KeyForm::Text, settings).map(Self::StandIn)
    }

    /// The keys of the stand-in.
    ///
    /// # Errors
    /// When there is none: only the provider can sign then.
    pub fn stand_in(&self) -> Result<&Keys, NotSignable> {
        match self {
            Self::Provider(_) => {
                Err(NotSignable("its private key is not here, only public ones".to_owned()))
            }
            Self::StandIn(keys) => Ok(keys),
        }
    }
}

/// What was made, unless something else was `wrong`: then everything that is.
pub fn unless_wrong<T>(wrong: Vec<String>, made: Result<T, Vec<String>>) -> Result<T, Vec<String>> {
    match made {
        Ok(made) if wrong.is_empty() => Ok(made),
        Ok(_) => Err(wrong),
        Err(more) => Err([wrong, more].concat()),
    }
}

/// A secret for a stand-in of a provider that signs with a private key.
pub fn stand_in_secret(random: [u8; 24]) -> Secret {
    Secret::new(format!("{STAND_IN}{}", hex::encode(random)))
}

/// Whether a source's requests come from a stand-in. What names one customer among all those that
/// the provider signs for with the same key is not needed then.
pub fn is_stand_in(settings: &Settings) -> bool {
    settings.public_keys.is_empty() && !settings.secrets.is_empty()
}

/// The number of keys is all that may be known.
impl<K> fmt::Debug for Signer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provider(keys) => write!(f, "Provider({})", keys.len()),
            Self::StandIn(keys) => write!(f, "StandIn({keys:?})"),
        }
    }
}

/// An asymmetric way of signing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// RSA, PKCS #1 v1.5, with SHA-1: SNS still signs so unless told otherwise. An outsider needs a
    /// second preimage to forge one, and that is still out of reach.
    RsaSha1,
    /// RSA, PKCS #1 v1.5, with SHA-256.
    RsaSha256,
    /// ECDSA on P-256 with SHA-256, the signature in DER.
    EcdsaP256Der,
    /// ECDSA on P-256 with SHA-256, the signature as two numbers of 32 bytes.
    EcdsaP256Fixed,
}

/// A public key.
#[derive(Debug)]
pub enum PublicKey {
    /// A point on P-256, uncompressed.
    P256(Vec<u8>),
    /// An RSA key in the form of PKCS #1.
    Rsa(Vec<u8>),
    /// An RSA key as its two numbers.
    RsaNumbers(RsaPublicKeyComponents<Vec<u8>>),
}

impl PublicKey {
    /// The key in a `SubjectPublicKeyInfo`, the form that OpenSSL writes public keys in.
    ///
    /// # Errors
    /// What to do about it, when it is no key on P-256.
    pub fn p256_of_spki(der: &[u8]) -> Result<Self, &'static str> {
        const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
        let no_key = "is no public key in base64 or PEM; copy it whole";
        let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| no_key)?;
        let point = info.subject_public_key.as_bytes().ok_or(no_key)?;
        if info.algorithm.oid != EC {
            return Err("is not an ECDSA key on P-256; copy it again");
        }
        Self::p256(point)
    }

    /// The key at an uncompressed point.
    ///
    /// # Errors
    /// What to do about it, when it has not the form of such a point.
    pub fn p256(point: &[u8]) -> Result<Self, &'static str> {
        if point.len() == 65 && point.starts_with(&[4]) {
            Ok(Self::P256(point.to_vec()))
        } else {
            Err("is not an ECDSA key on P-256; copy it again")
        }
    }

    /// Whether this key made the signature over `message` with `method`.
    pub fn made(&self, method: Method, message: &[u8], signature: &[u8]) -> bool {
        let fits = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
        };
        match (self, method) {
            (Self::P256(key), Method::EcdsaP256Der) => fits(&ECDSA_P256_SHA256_ASN1, key),
            (Self::P256(key), Method::EcdsaP256Fixed) => fits(&ECDSA_P256_SHA256_FIXED, key),
            (Self::Rsa(key), _) => method.rsa().is_some_and(|rsa| fits(rsa, key)),
            (Self::RsaNumbers(key), _) => {
                method.rsa().is_some_and(|rsa| key.verify(rsa, message, signature).is_ok())
            }
            (Self::P256(_), Method::RsaSha1 | Method::RsaSha256) => false,
        }
    }
}

impl Method {
    fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Self::RsaSha1 => Some(&RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY),
            Self::RsaSha256 => Some(&RSA_PKCS1_2048_8192_SHA256),
            Self::EcdsaP256Der | Self::EcdsaP256Fixed => None,
        }
    }
}

/// A certificate with an RSA key. Whoever pins it vouches for it, or TLS does for the place it was
/// fetched from, so its issuer does not count; its dates do.
#[derive(Debug)]
pub struct Certificate {
    key: PublicKey,
    common_name: Option<String>,
    from: u64,
    until: u64,
}

impl Certificate {
    /// The certificate in `text`.
    ///
    /// # Errors
    /// What to do about it, when it is none.
    pub fn read(text: &str) -> Result<Vec<Self>, &'static str> {
        const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
        let none = "is no certificate; copy one whole, with the lines around it";
        let certificate = X509::from_der(&der_of(text)?).map_err(|_| none)?;
        let certificate = certificate.tbs_certificate();
        let info = certificate.subject_public_key_info();
        if info.algorithm.oid != RSA {
            return Err("is not a certificate with an RSA key; copy it again");
        }
        let key = info.subject_public_key.as_bytes().ok_or(none)?;
        let validity = certificate.validity();
        let subject = certificate.subject();
        Ok(vec![Self {
            key: PublicKey::Rsa(key.to_vec()),
            common_name: common_name(subject),
            from: validity.not_before.to_unix_duration().as_secs(),
            until: validity.not_after.to_unix_duration().as_secs(),
        }])
    }
}

/// The first certificate of `found`, whose subject must have a common name that `fits`: a file with a
/// chain has the one that signs first.
///
/// # Errors
/// Why there is none.
pub fn published_certificate(
    found: &str,
    fits: impl Fn(&str) -> bool,
) -> Result<Vec<String>, String> {
    const END: &str = "-----END CERTIFICATE-----";
    let (first, _) = found.split_once(END).ok_or("there is no certificate in PEM")?;
    let first = format!("{first}{END}");
    let [certificate] =
        <[_; 1]>::try_from(Certificate::read(&first)?).expect("one text holds one certificate");
    let name = certificate.common_name.unwrap_or_default();
    if fits(&name) { Ok(vec![first]) } else { Err("its subject is somebody else".to_owned()) }
}

fn common_name(subject: &x509_cert::name::Name) -> Option<String> {
    const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
    let mut attributes = subject.iter();
    let found = attributes.find(|attribute| attribute.oid == COMMON_NAME)?;
    std::str::from_utf8(found.value.value()).ok().map(str::to_owned)
}

impl Signer<Certificate> {
    /// Checks that the signature was made over `message`, given in parts, and that the certificate
    /// of the key that made it is valid at `now`.
    ///
    /// # Errors
    /// The step that failed.
    pub fn check(
        &self,
        method: Method,
        message: &[&[u8]],
        signature: Vec<u8>,
        now: Timestamp,
    ) -> Result<(), SignatureProblem> {
        let certificates = match self {
            Self::Provider(certificates) => certificates,
            Self::StandIn(keys) if keys.made_any(&[signature], message) => return Ok(()),
            Self::StandIn(_) => return Err(SignatureProblem::NoMatch),
        };
        if certificates.is_empty() {
            return Err(SignatureProblem::UnknownKey);
        }
        let message = message.concat();
        let fits = |it: &&Certificate| it.key.made(method, &message, &signature);
        let made: Vec<_> = certificates.iter().filter(fits).collect();
        if made.is_empty() {
            return Err(SignatureProblem::NoMatch);
        }
        let now = u64::try_from(now.as_seconds()).unwrap_or(0);
        if made.iter().any(|it| (it.from..=it.until).contains(&now)) {
            return Ok(());
        }
        Err(SignatureProblem::Form("the certificate is not valid at this time".to_owned()))
    }
}

/// The bytes of a DER structure in base64, with or without the lines of PEM around it.
pub(super) fn der_of(text: &str) -> Result<Vec<u8>, &'static str> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
    STANDARD.decode(lines.collect::<String>()).map_err(|_| "is not base64 or PEM; copy it whole")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(secrets: &[&str], public_keys: &[&str]) -> Settings {
        Settings {
            secrets: secrets.iter().copied().map(Secret::new).collect(),
            public_keys: public_keys.iter().map(|&key| key.to_owned()).collect(),
            ..Settings::default()
        }
    }

    fn signer(settings: &Settings) -> Result<Signer<()>, Vec<String>> {
        Signer::new(settings, |_| Ok(vec![()]))
    }

    #[test]
    fn a_public_key_is_never_the_secret_of_an_hmac() {
        let made = stand_in_secret([1; 24]);
        assert!(matches!(signer(&settings(&[made.expose()], &[])), Ok(Signer::StandIn(_))));
        assert!(matches!(signer(&settings(&[], &["key"])), Ok(Signer::Provider(_))));
        for (secrets, public_keys) in [
            (&["key"][..], &[][..]),
            (&["standin_"], &[]),
            (&[made.expose(), "key"], &[]),
            (&[made.expose()], &["key"]),
            (&[], &[]),
            (&[], &[" "]),
        ] {
            assert!(signer(&settings(secrets, public_keys)).is_err(), "{public_keys:?}");
        }
    }

    #[test]
    fn what_is_no_key_is_an_error() {
        for text in ["", "no base64!", "AAAA", "-----BEGIN CERTIFICATE-----\nAAAA\n"] {
            assert!(Certificate::read(text).is_err(), "{text:?}");
        }
        assert!(PublicKey::p256_of_spki(b"").is_err());
        assert!(PublicKey::p256(&[2; 33]).is_err());
    }
}
