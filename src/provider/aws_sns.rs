//! Amazon SNS: the signature is a member of the JSON body, RSA over a list of the other members'
//! names and values, each followed by a line feed.
//!
//! <https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html>
//!
//! `SignatureVersion` 1 is SHA-1 and 2 is SHA-256. The values are the decoded ones, so the spelling
//! of the JSON does not count. An `UnsubscribeConfirmation` is signed with its token, as the page
//! says; Amazon's JavaScript library leaves the token out and refuses genuine ones. Raw deliveries
//! carry no signature and are refused.
//!
//! `SigningCertURL` must be an address of SNS; with `cert_url` it must name the same certificate, in
//! whatever region. The certificate is written into `public_keys`, or fetched: from SNS in the region of
//! `topic_arn`, by a path of which only the certificate's number comes from the message. TLS says that
//! the host is Amazon's, and the certificate's subject must be SNS. Amazon signs everybody's topics with
//! one certificate, so `topic_arn` must be set, and fit.
//!
//! Identity: `/MessageId`, which is signed.
//!
//! The type is `/Type`. A `SubscriptionConfirmation` is an event like the others, and is confirmed by a
//! call made of `topic_arn` and the token in it; `SubscribeURL` came in with a request and is never
//! called. Should the call fail for good, have SNS ask again, or `aws sns confirm-subscription` with
//! the token in the event.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::{
    NotSignable, Provider, Scheme, Settings, naming,
    place::{Confirmation, Place, PublishesKeys},
    scheme::{
        Encoding,
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

/// The rules of Amazon SNS.
#[derive(Debug)]
pub struct AwsSns;

impl Provider for AwsSns {
    fn name(&self) -> &'static str {
        "aws_sns"
    }

    fn title(&self) -> &'static str {
        "Amazon SNS"
    }

    fn docs(&self) -> &'static str {
        "https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html"
    }

    fn secret_variable(&self) -> &'static str {
        "AWS_SNS_STANDIN_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "RSA with SHA-256 (version 1: SHA-1) over members of the body"
    }

    fn identity(&self) -> &'static str {
        "`/MessageId`, which is signed"
    }

    /// The longest a subscription's own policy may ask for; a dead-letter queue may be sent again
    /// for the two weeks that SQS keeps messages.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 14)
    }

    fn settings(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("topic_arn", "the topic; messages of others are refused"),
            ("cert_url", "where the pinned certificate lives; default any address of SNS"),
        ]
    }

    fn development_secret(&self, random: [u8; 24]) -> Secret {
        public::stand_in_secret(random)
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let mut wrong = Vec::new();
        if settings.tolerance.is_some() {
            wrong.push("tolerance: SNS names none for its time; take it out".to_owned());
        }
        let topic_arn = settings.extra.get("topic_arn").filter(|text| !text.is_empty()).cloned();
        if topic_arn.is_none() && !public::is_stand_in(settings) {
            wrong.push("topic_arn: is not set; Amazon signs for every topic, write yours".into());
        }
        let cert_url = settings.extra.get("cert_url").filter(|text| !text.is_empty());
        let cert_path = cert_url.and_then(|text| certificate_path(text));
        if cert_url.is_some() && cert_path.is_none() {
            wrong.push("cert_url: is no address of SNS; copy a message's `SigningCertURL`".into());
        }
        let signer = public::unless_wrong(wrong, Signer::new(settings, Certificate::read))?;
        Ok(Box::new(SnsScheme { signer, topic_arn, cert_path }))
    }

    fn publishes_keys(&self) -> Option<&'static dyn PublishesKeys> {
        Some(&Self)
    }

    fn confirmation(&self, request: &Verified, settings: &Settings) -> Option<Confirmation> {
        let message = Message::of(&request.body).ok()?;
        if message.kind != "SubscriptionConfirmation" {
            return None;
        }
        if public::is_stand_in(settings) {
            return Some(Confirmation::Withheld(
                "it was signed by a stand-in, not by Amazon: configure the source with `topic_arn`",
            ));
        }
        let token = message.token.as_deref().unwrap_or_default();
        Some(match Topic::of(settings).and_then(|topic| topic.confirmation(token)) {
            Some(place) => Confirmation::At(place),
            None => Confirmation::Withheld("`topic_arn` is no ARN of a topic: write yours"),
        })
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let message = Message::of(&request.body)?;
        let (id, kind) = (naming::usable(&*message.message_id), naming::usable(&*message.kind));
        let content = || Digest::of(message.signed().unwrap_or_default());
        Ok(vec![naming::by_signed_id(id, kind, request.body.clone(), content)])
    }
}

impl PublishesKeys for AwsSns {
    fn published_at(&self) -> &'static str {
        "`https://sns.<region>.amazonaws.com`, `/SimpleNotificationService-<hex>.pem`"
    }

    fn key_place(&self, request: &Unverified, settings: &Settings) -> Option<Place> {
        let message = Message::of(&request.body).ok()?;
        let host = Topic::of(settings)?.host();
        let path = message.signing_cert_url.strip_prefix("https://")?.strip_prefix(&*host)?;
        let number = path.strip_prefix("/SimpleNotificationService-")?.strip_suffix(".pem")?;
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_number = (1..=64).contains(&number.len()) && number.bytes().all(hex);
        let path = format!("/SimpleNotificationService-{number}.pem");
        is_number.then(|| Place::new(host, path))
    }

    fn keys_in(&self, found: &str) -> Result<Vec<String>, String> {
        public::published_certificate(found, is_name_of_sns)
    }
}

/// Whether a certificate of this name is one that SNS signs with: `sns.amazonaws.com`, and in some
/// regions `sns-signing.<region>.amazonaws.com` or `sns-<region>.amazonaws.com.cn`.
fn is_name_of_sns(name: &str) -> bool {
    let name = name.strip_suffix(".cn").unwrap_or(name);
    let own = name.strip_suffix(".amazonaws.com").unwrap_or_default();
    own == "sns" || own.starts_with("sns-") || own.starts_with("sns.")
}

/// The topic of a source.
struct Topic<'a> {
    arn: &'a str,
    region: &'a str,
    /// What stands behind `amazonaws.com`: China has a domain of its own.
    country: &'static str,
}

impl<'a> Topic<'a> {
    fn of(settings: &'a Settings) -> Option<Self> {
        let arn = settings.text("topic_arn")?;
        let mut parts = arn.split(':');
        let (Some("arn"), Some(partition), Some("sns"), Some(region)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let country = match partition {
            "aws" | "aws-us-gov" => "",
            "aws-cn" => ".cn",
            _ => return None, // partitions that are cut off from the internet
        };
        is_region(region).then_some(Self { arn, region, country })
    }

    fn host(&self) -> String {
        format!("sns.{}.amazonaws.com{}", self.region, self.country)
    }

    /// <https://docs.aws.amazon.com/sns/latest/api/API_ConfirmSubscription.html>
    fn confirmation(&self, token: &str) -> Option<Place> {
        let plain =
            (1..=2048).contains(&token.len()) && token.bytes().all(|it| it.is_ascii_graphic());
        let pairs = [
            ("Action", "ConfirmSubscription"),
            ("Version", "2010-03-31"),
            ("TopicArn", self.arn),
            ("Token", token),
        ];
        plain.then(|| Place::new(self.host(), "/").with_query(&pairs))
    }
}

fn is_region(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (3..=32).contains(&text.len()) && text.bytes().all(plain)
}

#[derive(Debug)]
struct SnsScheme {
    signer: Signer<Certificate>,
    topic_arn: Option<String>,
    cert_path: Option<String>,
}

impl Scheme for SnsScheme {
    fn verify(&self, request: &Unverified, now: Timestamp) -> Result<(), SignatureProblem> {
        let form = |what: &str| SignatureProblem::Form(what.to_owned());
        let message = Message::of(&request.body)?;
        let path = certificate_path(&message.signing_cert_url);
        let path = path.ok_or_else(|| form("`SigningCertURL` is no address of SNS"))?;
        if self.cert_path.as_ref().is_some_and(|pinned| *pinned != path) {
            return Err(form("`SigningCertURL` names another certificate than the pinned one"));
        }
        if self.topic_arn.as_ref().is_some_and(|own| *own != message.topic_arn) {
            return Err(form("the message is of another topic"));
        }
        let method = match &*message.signature_version {
            "1" => Method::RsaSha1,
            "2" => Method::RsaSha256,
            _ => return Err(form("`SignatureVersion` is neither 1 nor 2")),
        };
        let signature = Encoding::Base64.decode(&message.signature);
        let signature = signature.ok_or_else(|| form("the signature is not base64"))?;
        self.signer.check(method, &message.signed()?, signature, now)
    }

    fn sign(&self, draft: &mut Unverified, _: Timestamp) -> Result<(), NotSignable> {
        let keys = self.signer.stand_in()?;
        let no_message = |problem: SignatureProblem| NotSignable(problem.to_string());
        let mut members: BTreeMap<String, Value> = serde_json::from_slice(&draft.body)
            .map_err(|_| NotSignable("the body is no JSON object".to_owned()))?;
        let mut set = |name: &str, text: &str| members.insert(name.to_owned(), text.into());
        if let Some(topic_arn) = &self.topic_arn {
            set("TopicArn", topic_arn);
        }
        let path = self.cert_path.as_deref().unwrap_or("/SimpleNotificationService-0.pem");
        set("SigningCertURL", &format!("https://sns.us-east-1.amazonaws.com{path}"));
        set("SignatureVersion", "2");
        set("Signature", "");
        let unsigned = Value::from_iter(members.clone()).to_string();
        let message = Message::of(unsigned.as_bytes()).map_err(no_message)?;
        let signature = keys.sign(&message.signed().map_err(no_message)?);
        let signature = Encoding::Base64.encode(&signature.expect("an HMAC key signs"));
        members.insert("Signature".to_owned(), signature.into());
        draft.body = Value::from_iter(members).to_string().into();
        Ok(())
    }
}

/// What SNS says, as far as it counts.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Message<'a> {
    #[serde(borrow, rename = "Type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    message_id: Cow<'a, str>,
    #[serde(borrow)]
    topic_arn: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    subject: Option<Cow<'a, str>>,
    #[serde(borrow)]
    token: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "SubscribeURL")]
    subscribe_url: Option<Cow<'a, str>>,
    #[serde(borrow)]
    signature_version: Cow<'a, str>,
    #[serde(borrow)]
    signature: Cow<'a, str>,
    #[serde(borrow, rename = "SigningCertURL")]
    signing_cert_url: Cow<'a, str>,
}

impl<'a> Message<'a> {
    fn of(body: &'a [u8]) -> Result<Self, SignatureProblem> {
        // Within a member that is not looked at, the parser would let pass what is no text.
        let text = std::str::from_utf8(body).unwrap_or_default();
        serde_json::from_str(text)
            .map_err(|_| SignatureProblem::Form("the body is no signed message of SNS".to_owned()))
    }

    /// What is signed. The list has no lengths, so that a line feed within a value could move what
    /// is signed from one member to another; only the message itself, which comes first, may have
    /// one.
    fn signed(&self) -> Result<Vec<&[u8]>, SignatureProblem> {
        let problem = |member: &str| {
            let what = "is missing, or is not what SNS would send";
            SignatureProblem::Form(format!("the member `{member}` {what}"))
        };
        let confirms = match &*self.kind {
            "Notification" => false,
            "SubscriptionConfirmation" | "UnsubscribeConfirmation" => true,
            _ => return Err(problem("Type")),
        };
        let mut parts = vec![&b"Message\n"[..], self.message.as_bytes(), b"\n"];
        let members = [
            ("MessageId", Some(&self.message_id), true),
            ("SubscribeURL", self.subscribe_url.as_ref(), confirms),
            ("Subject", self.subject.as_ref(), !confirms && self.subject.is_some()),
            ("Timestamp", Some(&self.timestamp), true),
            ("Token", self.token.as_ref(), confirms),
            ("TopicArn", Some(&self.topic_arn), true),
            ("Type", Some(&self.kind), true),
        ];
        for (name, value, is_signed) in members {
            if is_signed {
                let value = value.filter(|value| !value.contains(char::is_control));
                let value = value.ok_or_else(|| problem(name))?;
                parts.extend([name.as_bytes(), b"\n", value.as_bytes(), b"\n"]);
            }
        }
        Ok(parts)
    }
}

/// The path of a certificate at SNS; `None` for any other address.
fn certificate_path(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let host = url.host_str()?.strip_prefix("sns.")?;
    let region = host.strip_suffix(".cn").unwrap_or(host).strip_suffix(".amazonaws.com")?;
    let bare = url.query().is_none()
        && url.fragment().is_none()
        && url.port().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    let fits = url.scheme() == "https" && is_region(region) && bare && url.path().ends_with(".pem");
    fits.then(|| url.path().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_of_sns_names_a_certificate() {
        for url in [
            "https://sns.us-east-1.amazonaws.com/a.pem",
            "https://sns.cn-north-1.amazonaws.com.cn/a.pem",
        ] {
            assert_eq!(certificate_path(url).as_deref(), Some("/a.pem"), "{url}");
        }
        for url in [
            "http://sns.us-east-1.amazonaws.com/a.pem",
            "https://sns.us-east-1.amazonaws.com/a.pem?x",
            "https://sns.us-east-1.amazonaws.com/a.txt",
            "https://sns.us-east-1.amazonaws.com:8443/a.pem",
            "https://sns.us-east-1.amazonaws.com.evil.example/a.pem",
            "https://sns.us-east-1.amazonaws.com@evil.example/a.pem",
            "https://user@sns.us-east-1.amazonaws.com/a.pem",
            "https://s3.amazonaws.com/sns.us-east-1.amazonaws.com/a.pem",
            "https://sns.a.b.amazonaws.com/a.pem",
            "https://sns.amazonaws.com/a.pem",
            "sns",
        ] {
            assert_eq!(certificate_path(url), None, "{url}");
        }
    }

    #[test]
    fn a_line_feed_cannot_move_what_is_signed() {
        let text = |id: &str| {
            format!(
                r#"{{"Type":"Notification","MessageId":"{id}","TopicArn":"a","Message":"x\ny",
                "Timestamp":"t","SignatureVersion":"2","Signature":"","SigningCertURL":""}}"#
            )
        };
        let (plain, moved) = (text("1"), text(r"1\nSubject\nx"));
        let message: Message<'_> = serde_json::from_str(&plain).unwrap();
        let signed = "Message\nx\ny\nMessageId\n1\nTimestamp\nt\nTopicArn\na\nType\nNotification\n";
        assert_eq!(message.signed().unwrap().concat(), signed.as_bytes());
        let message: Message<'_> = serde_json::from_str(&moved).unwrap();
        assert!(message.signed().is_err());
    }
}
