//! A request that is accepted, and what is to be known of it to tamper with it.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use hookonce::{
    clock::Timestamp, fixture::Fixture, provider::Provider, request::Unverified, secret::Secret,
    source::Source, verify::check,
};

use crate::{fixtures, now_of, source_of};

/// A request that its source accepts, with one signature in it.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) provider: &'static dyn Provider,
    pub(crate) fixture: Fixture,
    pub(crate) source: Source,
    pub(crate) now: Timestamp,
    pub(crate) request: Unverified,
    /// How many forgeries of it were refused.
    refused: AtomicUsize,
}

impl Case {
    /// Every fixture that passes for being signed.
    pub(crate) fn all() -> Vec<Self> {
        let signed = |(provider, fixture): &(&'static dyn Provider, Fixture)| {
            let expect = fixture.expect.as_deref().unwrap_or_default();
            let source = source_of(*provider, fixture);
            let handshake = source.unsigned_handshake(fixture.request());
            let is_signed = handshake.is_ok_and(|reply| reply.is_none());
            fixture.request().method == "POST" && !expect.starts_with("refused") && is_signed
        };
        let case = |(provider, fixture): (&'static dyn Provider, Fixture)| {
            let (source, now) = (source_of(provider, &fixture), now_of(&fixture));
            let mut request = fixture.request().clone();
            // What has several signatures gets one: the others may be changed without harm.
            if source.scheme.sign(&mut request, now).is_err()
                && let Some(value) = request.headers.first("webhook-signature")
            {
                let last = value.rsplit(' ').next().unwrap_or_default().to_owned();
                request.headers.set("webhook-signature", last);
            }
            let name = format!("{}/{}", provider.name(), fixture.name);
            Self { name, provider, fixture, source, now, request, refused: AtomicUsize::new(0) }
        };
        let cases: Vec<_> = fixtures().filter(signed).map(case).collect();
        assert!(cases.len() > 30, "only {} cases", cases.len());
        cases
    }

    /// Those whose provider we can sign for, each once more as another event, a day later, of which the
    /// signature is our own.
    pub(crate) fn renewed() -> Vec<Self> {
        let mut random = rand::rng();
        let renewed = |case: Self| {
            let now = case.now.plus(Duration::from_hours(24));
            let url = case.request.url.clone();
            let request = case.fixture.renewed(&case.source, &url, now, &mut random).ok()?;
            let name = format!("{} renewed", case.name);
            Some(Self { name, now, request, ..case })
        };
        Self::all().into_iter().filter_map(renewed).collect()
    }

    /// The headers that carry the signature, or are covered by it.
    pub(crate) fn signing_headers(&self) -> Vec<&'static str> {
        let names: &[_] = match self.provider.name() {
            "aws_sns" => &[],
            "discord" => &["x-signature-ed25519", "x-signature-timestamp"],
            "google_pubsub" | "vonage" => &["authorization"],
            "messagebird" => &["messagebird-signature-jwt"],
            "paypal" => &[
                "paypal-auth-algo",
                "paypal-transmission-id",
                "paypal-transmission-sig",
                "paypal-transmission-time",
            ],
            "plaid" => &["plaid-verification"],
            "sendgrid" => &[
                "x-twilio-email-event-webhook-signature",
                "x-twilio-email-event-webhook-timestamp",
            ],
            "github" | "meta" => &["x-hub-signature-256"],
            // What signs is in the body, or there is a header for it elsewhere.
            "braintree" | "mailgun" | "msgraph" => &[],
            "adyen" => &["hmacsignature"],
            "asana" => &["x-hook-signature"],
            "dropbox" => &["x-dropbox-signature"],
            "gitlab" => &["webhook-id", "webhook-timestamp", "webhook-signature", "x-gitlab-token"],
            "hubspot" => &[
                "x-hubspot-request-timestamp",
                "x-hubspot-signature-v3",
                "x-hubspot-signature",
                "x-hubspot-signature-version",
            ],
            "line" => &["x-line-signature"],
            "mollie" => &["x-mollie-signature"],
            "okta" if self.has("x-hook-key") => &["x-hook-key"],
            "okta" | "postmark" => &["authorization"],
            "telegram" => &["x-telegram-bot-api-secret-token"],
            "twitch" => &[
                "twitch-eventsub-message-id",
                "twitch-eventsub-message-timestamp",
                "twitch-eventsub-message-signature",
            ],
            "woocommerce" => &["x-wc-webhook-signature"],
            "x_twitter" => &["x-twitter-webhooks-signature"],
            "xero" => &["x-xero-signature"],
            "zoom" => &["x-zm-request-timestamp", "x-zm-signature"],
            "bitbucket" | "intercom" => &["x-hub-signature"],
            "calendly" => &["calendly-webhook-signature"],
            "circleci" => &["circleci-signature"],
            "clerk" | "resend" => &["svix-id", "svix-timestamp", "svix-signature"],
            "coinbase_commerce" => &["x-cc-webhook-signature"],
            "docusign" => &["x-docusign-signature-1"],
            "heroku" => &["heroku-webhook-hmac-sha256"],
            "hmac" => {
                &["x-signature", "x-hub-signature-256", "x-sig", "x-mac", "x-time", "x-event"]
            }
            "lemonsqueezy" => &["x-signature"],
            "linear" => &["linear-signature"],
            "mux" => &["mux-signature"],
            "notion" => &["x-notion-signature"],
            "paddle" => &["paddle-signature"],
            "pagerduty" => &["x-pagerduty-signature"],
            "razorpay" => &["x-razorpay-signature"],
            "sentry" => &["sentry-hook-signature"],
            "shopify" => &["x-shopify-hmac-sha256", "shopify-hmac-sha256"],
            "slack" => &["x-slack-signature", "x-slack-request-timestamp"],
            "square" => &["x-square-hmacsha256-signature"],
            "stripe" => &["stripe-signature"],
            "twilio" => &["x-twilio-signature"],
            "typeform" => &["typeform-signature"],
            "vercel" => &["x-vercel-signature"],
            "workos" => &["workos-signature"],
            "zendesk" => &["x-zendesk-webhook-signature", "x-zendesk-webhook-signature-timestamp"],
            "svix" if self.has("svix-signature") => {
                &["svix-id", "svix-timestamp", "svix-signature"]
            }
            "bird" | "openai" | "standardwebhooks" | "svix" => {
                &["webhook-id", "webhook-timestamp", "webhook-signature"]
            }
            other => panic!("name the signing headers of {other}"),
        };
        names.iter().copied().filter(|name| self.has(name)).collect()
    }

    /// Whether the signature covers the body. Where it does not, only a token is shown.
    pub(crate) fn covers_body(&self) -> bool {
        match self.provider.name() {
            "google_pubsub" | "mailgun" | "msgraph" | "okta" | "postmark" | "telegram" => false,
            "adyen" => self.has("hmacsignature"),
            "gitlab" => self.has("webhook-signature"),
            _ => true,
        }
    }

    /// The values inside the body that the signature consists of or covers, where it is in there.
    pub(crate) fn signed_values(&self) -> Vec<String> {
        let pointers: &[_] = match self.provider.name() {
            "mailgun" => &["/signature/timestamp", "/signature/token", "/signature/signature"],
            "msgraph" => &["/value/0/clientState"],
            "adyen" if !self.has("hmacsignature") => &[
                "/notificationItems/0/NotificationRequestItem/additionalData/hmacSignature",
                "/notificationItems/0/NotificationRequestItem/pspReference",
                "/notificationItems/0/NotificationRequestItem/amount/currency",
                "/notificationItems/0/NotificationRequestItem/eventCode",
                "/notificationItems/0/NotificationRequestItem/success",
            ],
            _ => return Vec::new(),
        };
        let body: serde_json::Value = serde_json::from_slice(&self.request.body).expect("JSON");
        let value = |pointer: &&str| body.pointer(pointer)?.as_str().map(str::to_owned);
        pointers.iter().map(|pointer| value(pointer).expect("it is there")).collect()
    }

    /// How far the signed time may be off. `None`: no time is signed.
    pub(crate) fn tolerance_seconds(&self) -> Option<i64> {
        let signed = self.fixture.settings.extra.get("signed");
        match self.provider.name() {
            "bird" | "clerk" | "mux" | "openai" | "plaid" | "resend" => Some(300),
            "slack" | "standardwebhooks" | "stripe" | "svix" => Some(300),
            "paddle" => Some(5),
            "linear" => Some(60),
            "calendly" | "workos" => Some(180),
            "gitlab" => self.has("webhook-timestamp").then_some(300),
            "hubspot" => self.has("x-hubspot-request-timestamp").then_some(300),
            "mailgun" => Some(86_400),
            "twitch" => Some(600),
            "zoom" => Some(5_400),
            _ => signed.is_some_and(|it| it.contains("{timestamp}")).then_some(300),
        }
    }

    /// Whether the signature covers the URL.
    pub(crate) fn covers_url(&self) -> bool {
        let signed = self.fixture.settings.extra.get("signed");
        match self.provider.name() {
            "messagebird" | "square" | "twilio" => true,
            "hubspot" => self.request.headers.first("x-hubspot-signature-version") != Some("v1"),
            _ => signed.is_some_and(|it| it.contains("{url}")),
        }
    }

    fn has(&self, header: &str) -> bool {
        self.request.headers.all(header).next().is_some()
    }

    pub(crate) fn accepts(&self, request: Unverified, now: Timestamp) -> bool {
        check(&self.source, request, now).is_accepted()
    }

    /// Asserts that the request is refused after `change`.
    pub(crate) fn refuses(&self, what: &str, change: impl FnOnce(&mut Unverified)) {
        let mut request = self.request.clone();
        change(&mut request);
        self.refuses_at(what, request, self.now);
    }

    /// Asserts that this request is refused at this time.
    pub(crate) fn refuses_at(&self, what: &str, request: Unverified, now: Timestamp) {
        assert!(!self.accepts(request, now), "{} accepted: {what}", self.name);
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Asserts that a source with other keys refuses it.
    pub(crate) fn is_refused_by(&self, source: &Source, what: &str) {
        let checked = check(source, self.request.clone(), self.now);
        assert!(!checked.is_accepted(), "{} accepted: {what}", self.name);
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// How many forgeries of it were refused so far.
    pub(crate) fn count(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// The same source with these secrets, or public keys.
    pub(crate) fn with_keys(&self, keys: &[&str]) -> Source {
        let mut settings = self.fixture.settings.clone();
        if settings.secrets.is_empty() {
            settings.public_keys = keys.iter().map(|key| (*key).to_owned()).collect();
        } else {
            settings.secrets = keys.iter().map(|key| Secret::new(*key)).collect();
        }
        Source::new(self.provider.name(), self.provider, settings)
            .expect("the keys have the right form")
    }
}
