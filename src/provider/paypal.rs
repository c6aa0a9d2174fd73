//! PayPal: `PAYPAL-TRANSMISSION-SIG: <base64>`, RSA with SHA-256 over `<transmission id>|<time>|
//! <webhook id>|<CRC32 of the body>`.
//!
//! <https://developer.paypal.com/api/rest/webhooks/rest/#link-selfverificationmethod>
//!
//! The webhook's id is not in the request: it is configured as `webhook_id`, and is what keeps out
//! what PayPal signed for others. `PAYPAL-CERT-URL` names its certificate and must be an address of
//! PayPal's certificates, and the one in `cert_url` where that is set; PayPal's Python library fetches
//! whatever address comes in, which is why it has to check the chain. The certificate is written into
//! `public_keys`, or fetched: from one of the two hosts below, by a path of which only the
//! certificate's name comes from the request. TLS says that the host is PayPal's, and the
//! certificate's subject must be PayPal too; its own chain is not checked once more. No tolerance is documented for the time, so none is checked.
//!
//! A CRC is no hash: who has seen one signed request can make up other bodies with the same CRC. The
//! provider's scheme gives no more; for a payment, ask PayPal's API by the id before acting on it.
//!
//! Identity: `/id`, which the CRC covers; each attempt may have a transmission id of its own.
//! Without one the digest of the body.
//!
//! The type is `/event_type` (`PAYMENT.SALE.COMPLETED`).

use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::{
    NotSignable, Provider, Scheme, Settings,
    naming::{self, Scalar},
    place::{Place, PublishesKeys},
    scheme::{
        Encoding, only,
        public::{self, Certificate, Method, Signer},
    },
};
use crate::{
    clock::Timestamp,
    event::{Digest, Named},
    refusal::{Refusal, SignatureProblem},
    request::{Unverified, Verified},
    secret::Secret,
};

const TRANSMISSION_ID: &str = "PAYPAL-TRANSMISSION-ID";
const TRANSMISSION_TIME: &str = "PAYPAL-TRANSMISSION-TIME";
const SIGNATURE: &str = "PAYPAL-TRANSMISSION-SIG";
const CERT_URL: &str = "PAYPAL-CERT-URL";
const AUTH_ALGO: &str = "PAYPAL-AUTH-ALGO";

/// Where PayPal publishes its certificates.
const CERT_HOSTS: [&str; 2] = ["api.paypal.com", "api.sandbox.paypal.com"];
const CERT_FOLDER: &str = "/v1/notifications/certs/";

/// Where a stand-in says its certificate lives.
const STAND_IN_CERT_URL: &str = "https://api.paypal.com/v1/notifications/certs/CERT-00000000";

/// PayPal's rules.
#[derive(Debug)]
pub struct PayPal;

impl Provider for PayPal {
    fn name(&self) -> &'static str {
        "paypal"
    }

    fn title(&self) -> &'static str {
        "PayPal"
    }

    fn docs(&self) -> &'static str {
        "https://developer.paypal.com/api/rest/webhooks/rest/#link-selfverificationmethod"
    }

    fn secret_variable(&self) -> &'static str {
        "PAYPAL_STANDIN_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "RSA with SHA-256 over transmission id, time, webhook id and CRC32 of the body"
    }

    fn identity(&self) -> &'static str {
        "`/id`, which is signed"
    }

    /// Three days by itself; for asking it to, no end is named, so a month.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 30)
    }

    fn settings(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("webhook_id", "the webhook's id, as PayPal shows it"),
            ("cert_url", "where the pinned certificate lives; default any address of PayPal's"),
        ]
    }

    fn development_secret(&self, random: [u8; 24]) -> Secret {
        public::stand_in_secret(random)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let mut wrong = Vec::new();
        if settings.tolerance.is_some() {
            wrong.push("tolerance: PayPal names none for its time; take it out".to_owned());
        }
        let webhook_id = settings.extra.get("webhook_id").cloned().unwrap_or_default();
        if webhook_id.is_empty() && !public::is_stand_in(settings) {
            wrong.push("webhook_id: is not set; write the id that PayPal shows".to_owned());
        }
        let cert_url = settings.extra.get("cert_url").filter(|text| !text.is_empty()).cloned();
        if cert_url.as_deref().is_some_and(|url| !is_certificate_url(url)) {
            wrong.push("cert_url: is no address of PayPal's; copy a `PAYPAL-CERT-URL`".to_owned());
        }
        let signer = public::unless_wrong(wrong, Signer::new(settings, Certificate::read))?;
        Ok(Box::new(PayPalScheme { signer, webhook_id, cert_url }))
    }

    fn publishes_keys(&self) -> Option<&'static dyn PublishesKeys> {
        Some(&Self)
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let body = request.body.clone();
        let message: Message<'_> = serde_json::from_slice(&body).unwrap_or_default();
        let (id, event_type) = (message.id.usable(), message.event_type.usable());
        let content = || Digest::of([body.as_ref()]);
        Ok(vec![naming::by_signed_id(id, event_type, body.clone(), content)])
    }
}

impl PublishesKeys for PayPal {
    fn published_at(&self) -> &'static str {
        "`https://api.paypal.com` or `https://api.sandbox.paypal.com`, below `/v1/notifications/certs/`"
    }

    fn key_place(&self, request: &Unverified, settings: &Settings) -> Option<Place> {
        let text = only(request, CERT_URL).ok()?;
        if settings.text("cert_url").is_some_and(|pinned| pinned != text) {
            return None;
        }
        certificate_place(text)
    }

    fn keys_in(&self, found: &str) -> Result<Vec<String>, String> {
        public::published_certificate(found, |name| name.ends_with(".paypal.com"))
    }
}

#[derive(Debug)]
struct PayPalScheme {
    signer: Signer<Certificate>,
    webhook_id: String,
    cert_url: Option<String>,
}

impl Scheme for PayPalScheme {
    fn verify(&self, request: &Unverified, now: Timestamp) -> Result<(), SignatureProblem> {
        let form = |what: &str| SignatureProblem::Form(what.to_owned());
        let signature = Encoding::Base64.decode(only(request, SIGNATURE)?);
        let signature = signature.ok_or_else(|| form("the signature is not base64"))?;
        if only(request, AUTH_ALGO)? != "SHA256withRSA" {
            return Err(form("header `PAYPAL-AUTH-ALGO` is not SHA256withRSA"));
        }
        let url = only(request, CERT_URL)?;
        if !is_certificate_url(url) {
            return Err(form("header `PAYPAL-CERT-URL` is no address of PayPal's certificates"));
        }
        if self.cert_url.as_ref().is_some_and(|pinned| pinned != url) {
            return Err(form("header `PAYPAL-CERT-URL` names another certificate"));
        }
        let message = self.message(request)?;
        self.signer.check(Method::RsaSha256, &[message.as_bytes()], signature, now)
    }

    fn sign(&self, draft: &mut Unverified, now: Timestamp) -> Result<(), NotSignable> {
        let keys = self.signer.stand_in()?;
        if draft.headers.all(TRANSMISSION_ID).next().is_none() {
            draft.headers.set(TRANSMISSION_ID, "00000000-0000-0000-0000-000000000000");
        }
        draft.headers.set(TRANSMISSION_TIME, now.to_string());
        draft.headers.set(AUTH_ALGO, "SHA256withRSA");
        let cert_url = self.cert_url.as_deref().unwrap_or(STAND_IN_CERT_URL);
        draft.headers.set(CERT_URL, cert_url.to_owned());
        let message = self.message(draft).map_err(|problem| NotSignable(problem.to_string()))?;
        let signature = keys.sign(&[message.as_bytes()]).expect("an HMAC key signs");
        draft.headers.set(SIGNATURE, Encoding::Base64.encode(&signature));
        Ok(())
    }
}

impl PayPalScheme {
    /// What is signed. A bar within the id or the time could move what is signed from one to the
    /// other; neither has one.
    fn message(&self, request: &Unverified) -> Result<String, SignatureProblem> {
        let part = |name| {
            let text = only(request, name)?;
            if text.contains('|') {
                return Err(SignatureProblem::Form(format!("header `{name}` holds a bar")));
            }
            Ok(text)
        };
        let (id, time) = (part(TRANSMISSION_ID)?, part(TRANSMISSION_TIME)?);
        let crc = crc32fast::hash(&request.body);
        Ok(format!("{id}|{time}|{}|{crc}", self.webhook_id))
    }
}

/// The place of a certificate of PayPal's; `None` for any other address.
fn certificate_place(text: &str) -> Option<Place> {
    let (host, path) = text.strip_prefix("https://")?.split_once('/')?;
    let host = CERT_HOSTS.into_iter().find(|known| *known == host)?;
    let name = path.strip_prefix(CERT_FOLDER.trim_start_matches('/'))?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_name = (1..=128).contains(&name.len()) && name.bytes().all(plain);
    is_name.then(|| Place::new(host, format!("{CERT_FOLDER}{name}")))
}

fn is_certificate_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        url.scheme() == "https"
            && url.host_str().is_some_and(|host| host.ends_with(".paypal.com"))
            && url.port().is_none()
            && url.username().is_empty()
            && url.password().is_none()
            && url.path().starts_with("/v1/notifications/certs/")
    })
}

#[derive(Debug, Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: Scalar<'a>,
    #[serde(borrow, default)]
    event_type: Scalar<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_of_paypal_names_a_certificate() {
        for url in [
            "https://api.paypal.com/v1/notifications/certs/CERT-1",
            "https://api.sandbox.paypal.com/v1/notifications/certs/CERT-1",
        ] {
            assert!(is_certificate_url(url), "{url}");
        }
        for url in [
            "http://api.paypal.com/v1/notifications/certs/CERT-1",
            "https://api.paypal.com.evil.example/v1/notifications/certs/CERT-1",
            "https://evilpaypal.com/v1/notifications/certs/CERT-1",
            "https://api.paypal.com@evil.example/v1/notifications/certs/CERT-1",
            "https://api.paypal.com:8443/v1/notifications/certs/CERT-1",
            "https://api.paypal.com/other/CERT-1",
            "https://api.paypal.com/v1/notifications/certs/../../../other",
            "cert",
        ] {
            assert!(!is_certificate_url(url), "{url}");
        }
    }
}
