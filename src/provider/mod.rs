//! The companies whose rules we know: how each signs, what it calls an event, how it says hello.
//!
//! Adding one takes a file in this folder, its two lines below, and its fixtures. Nothing here does
//! I/O, reads a clock or knows a store; a provider sees the secrets of one source only.

pub mod naming;
pub mod place;
pub mod scheme;

pub mod adyen;
pub mod asana;
pub mod aws_sns;
pub mod bird;
pub mod bitbucket;
pub mod braintree;
pub mod calendly;
pub mod circleci;
pub mod clerk;
pub mod coinbase_commerce;
pub mod discord;
pub mod docusign;
pub mod dropbox;
pub mod github;
pub mod gitlab;
pub mod google_pubsub;
pub mod heroku;
pub mod hmac;
pub mod hubspot;
pub mod intercom;
pub mod lemonsqueezy;
pub mod line;
pub mod linear;
pub mod mailgun;
pub mod messagebird;
pub mod meta;
pub mod mollie;
pub mod msgraph;
pub mod mux;
pub mod notion;
pub mod okta;
pub mod openai;
pub mod paddle;
pub mod pagerduty;
pub mod paypal;
pub mod plaid;
pub mod postmark;
pub mod razorpay;
pub mod resend;
pub mod sendgrid;
pub mod sentry;
pub mod shopify;
pub mod slack;
pub mod square;
pub mod standardwebhooks;
pub mod stripe;
pub mod svix;
pub mod telegram;
pub mod twilio;
pub mod twitch;
pub mod typeform;
pub mod vercel;
pub mod vonage;
pub mod woocommerce;
pub mod workos;
pub mod x_twitter;
pub mod xero;
pub mod zendesk;
pub mod zoom;

use std::{collections::BTreeMap, fmt, time::Duration};

use self::place::{Confirmation, PublishesKeys};
use crate::{
    clock::Timestamp,
    event::Named,
    limits,
    receipt::Reply,
    refusal::{Refusal, SignatureProblem},
    request::{Unverified, Verified},
    secret::Secret,
};

/// Every provider, in the order of the alphabet.
pub static PROVIDERS: &[&dyn Provider] = &[
    &adyen::Adyen,
    &asana::Asana,
    &aws_sns::AwsSns,
    &bird::Bird,
    &bitbucket::Bitbucket,
    &braintree::Braintree,
    &calendly::Calendly,
    &circleci::CircleCi,
    &clerk::Clerk,
    &coinbase_commerce::CoinbaseCommerce,
    &discord::Discord,
    &docusign::DocuSign,
    &dropbox::Dropbox,
    &github::GitHub,
    &gitlab::GitLab,
    &google_pubsub::GooglePubSub,
    &heroku::Heroku,
    &hmac::GenericHmac,
    &hubspot::HubSpot,
    &intercom::Intercom,
    &lemonsqueezy::LemonSqueezy,
    &line::Line,
    &linear::Linear,
    &mailgun::Mailgun,
    &messagebird::MessageBird,
    &meta::Meta,
    &mollie::Mollie,
    &msgraph::MicrosoftGraph,
    &mux::Mux,
    &notion::Notion,
    &okta::Okta,
    &openai::OpenAi,
    &paddle::Paddle,
    &pagerduty::PagerDuty,
    &paypal::PayPal,
    &plaid::Plaid,
    &postmark::Postmark,
    &razorpay::Razorpay,
    &resend::Resend,
    &sendgrid::SendGrid,
    &sentry::Sentry,
    &shopify::Shopify,
    &slack::Slack,
    &square::Square,
    &standardwebhooks::StandardWebhooks,
    &stripe::Stripe,
    &svix::Svix,
    &telegram::Telegram,
    &twilio::Twilio,
    &twitch::Twitch,
    &typeform::Typeform,
    &vercel::Vercel,
    &vonage::Vonage,
    &woocommerce::WooCommerce,
    &workos::WorkOs,
    &x_twitter::XTwitter,
    &xero::Xero,
    &zendesk::Zendesk,
    &zoom::Zoom,
];

/// The provider of this name.
pub fn find(name: &str) -> Option<&'static dyn Provider> {
    PROVIDERS.iter().copied().find(|provider| provider.name() == name)
}

/// One company's rules.
pub trait Provider: fmt::Debug + Send + Sync {
    /// Its name in configuration, URLs, metrics and folders: `[a-z0-9_]+`.
    fn name(&self) -> &'static str;

    /// Its name as people write it.
    fn title(&self) -> &'static str;

    /// Its own page about signatures.
    fn docs(&self) -> &'static str;

    /// The environment variable that holds its secret when there is no configuration file.
    fn secret_variable(&self) -> &'static str;

    /// The environment variable that holds its public key when there is no configuration file, where
    /// it signs with a private one.
    fn public_key_variable(&self) -> Option<String> {
        let name = self.secret_variable().strip_suffix("_STANDIN_SECRET")?;
        Some(format!("{name}_PUBLIC_KEY"))
    }

    /// Its way of signing, in a few words: for the table of providers.
    fn signs_with(&self) -> &'static str;

    /// Which fields make an event's identity, and why: for the table of providers.
    fn identity(&self) -> &'static str;

    /// How long it may send the same event again, by itself or when asked to.
    fn resends_for(&self) -> Duration;

    /// How it tests a URL, in a few words; empty if it does not.
    fn handshake(&self) -> &'static str {
        ""
    }

    /// What holds the events of a request that may have several; empty if each request is one event.
    fn batch(&self) -> &'static str {
        ""
    }

    /// The methods it sends events with, in upper case.
    fn methods(&self) -> &'static [&'static str] {
        &["POST"]
    }

    /// The longest body it sends.
    fn body_bytes_max(&self) -> usize {
        limits::BODY_BYTES_MAX
    }

    /// The keys it takes in its source's configuration besides the ones every source has, each with what it means.
    fn settings(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// A secret for trying things out, of the form it gives out itself, made from 24 random bytes.
    fn development_secret(&self, random: [u8; 24]) -> Secret {
        Secret::new(hex::encode(random))
    }

    /// Its scheme with a source's secrets and settings in it.
    ///
    /// # Errors
    /// Everything that is wrong with the settings, each as `key: what to write instead`.
    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>>;

    /// Answers a test of the URL that comes before any secret is known.
    ///
    /// # Errors
    /// When it is such a test, but not a well-formed one.
    fn unsigned_handshake(
        &self,
        _request: &Unverified,
        _settings: &Settings,
    ) -> Result<Option<Reply>, Refusal> {
        Ok(None)
    }

    /// Answers a test of the URL that is signed as everything else.
    ///
    /// # Errors
    /// When it is such a test, but not a well-formed one.
    fn signed_handshake(
        &self,
        _request: &Verified,
        _settings: &Settings,
    ) -> Result<Option<Reply>, Refusal> {
        Ok(None)
    }

    /// The secret that a test of the URL hands over. Anybody can send one, so it is shown to a person and
    /// never used.
    fn handed_over(&self, _request: &Unverified) -> Option<Secret> {
        None
    }

    /// How it publishes the keys it signs with, if it does.
    fn publishes_keys(&self) -> Option<&'static dyn PublishesKeys> {
        None
    }

    /// What a signed request asks to be confirmed by a call of the provider, if it does.
    fn confirmation(&self, _request: &Verified, _settings: &Settings) -> Option<Confirmation> {
        None
    }

    /// The events in a request: one, or for a batch each of them.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] when a signed request lacks what the provider promises.
    fn events(&self, request: &Verified, settings: &Settings) -> Result<Vec<Named>, Refusal>;

    /// What the request says about being a retry, as `name: value`.
    fn retry_marker(&self, _request: &Verified) -> Option<String> {
        None
    }

    /// The answer it expects to an accepted request. `None`: any 2xx will do, and ours is JSON.
    fn reply(&self) -> Option<Reply> {
        None
    }
}

/// What a source's configuration gives its provider.
#[derive(Clone, Default)]
pub struct Settings {
    /// Shared secrets, several while rotating.
    pub secrets: Vec<Secret>,
    /// Keys, certificates or a JWKS of asymmetric schemes, as text.
    pub public_keys: Vec<String>,
    /// Whether a key that is not among them is fetched where the provider publishes its own.
    pub fetch_keys: bool,
    /// How far a signed time may be off. `None`: as the provider says.
    pub tolerance: Option<Duration>,
    /// The keys of [`Provider::settings`].
    pub extra: BTreeMap<String, String>,
}

impl Settings {
    /// The text of an extra key; an empty one is as if it were not there.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.extra.get(key).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// The same settings with each secret in the form that `write` gives it.
    fn with_secrets(&self, write: impl Fn(&str) -> String) -> Self {
        let secrets = self.secrets.iter().map(|secret| Secret::new(write(secret.expose())));
        Self { secrets: secrets.collect(), ..self.clone() }
    }
}

/// Shows which keys there are and no value: a `verify_token`, say, is a secret.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("secrets", &self.secrets.len())
            .field("public_keys", &self.public_keys.len())
            .field("fetch_keys", &self.fetch_keys)
            .field("tolerance", &self.tolerance)
            .field("extra", &self.extra.keys())
            .finish()
    }
}

/// A way of signing, with the keys of one source in it.
pub trait Scheme: fmt::Debug + Send + Sync {
    /// Whether the request was signed with one of the keys, as of `now`.
    ///
    /// It compares in constant time, tries every signature with every key, and looks at nothing
    /// but what the scheme covers.
    ///
    /// # Errors
    /// The first step that failed.
    fn verify(&self, request: &Unverified, now: Timestamp) -> Result<(), SignatureProblem>;

    /// Signs a request as the provider would at `now`, with the first key: it sets the headers, or
    /// whatever else, that carry the signature.
    ///
    /// # Errors
    /// When the scheme cannot be signed with what the source knows (a public key, say).
    fn sign(&self, draft: &mut Unverified, now: Timestamp) -> Result<(), NotSignable>;
}

/// Why a request cannot be signed as the provider would.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot sign as this provider: {0}")]
pub struct NotSignable(pub String);

/// Checks a request against a source's scheme. This is the only way to a [`Verified`] request.
///
/// # Errors
/// [`Refusal::Signature`] with the step that failed.
pub fn verify(
    scheme: &dyn Scheme,
    request: Unverified,
    now: Timestamp,
) -> Result<Verified, Refusal> {
    scheme.verify(&request, now)?;
    Ok(Verified::vouch(request))
}

/// What a request that does not verify says happened, for a source in shadow mode.
///
/// This is the only way from an [`Unverified`] to a [`Named`], and none of them can be taken for what
/// a verified request says: each has an identity of its own ([`Identity::in_shadow`]), and no digest.
/// Where equal bytes can be a new fact, there is no identity here either.
///
/// # Errors
/// [`Refusal::Malformed`] when the request does not say what the provider promises it says.
///
/// [`Identity::in_shadow`]: crate::event::Identity::in_shadow
pub fn named_in_shadow(
    provider: &dyn Provider,
    request: &Unverified,
    settings: &Settings,
) -> Result<Vec<Named>, Refusal> {
    // A provider names what verified requests say. This one is none: it is shown to the naming, so
    // that it is named by the same rules, and does not get out of this function.
    let named = provider.events(&Verified::vouch(request.clone()), settings)?;
    let in_shadow = |named: Named| Named {
        identity: named.identity.map(|identity| identity.in_shadow(&named.body)),
        digest: None,
        ..named
    };
    Ok(named.into_iter().map(in_shadow).collect())
}
