//! What the library's user says of a source and of a handler.

use std::{sync::Arc, time::Duration};

use crate::{
    limits,
    order::{OnDead, OrderBy, OrderRule},
    provider::Settings,
    rate::Rate,
    retry::Retry,
    secret::Secret,
    source::OnBadSignature,
};

/// A source to receive from: whose rules, and which secrets.
#[derive(Clone, Debug)]
pub struct SourceSpec {
    pub(super) provider: String,
    pub(super) settings: Settings,
    pub(super) on_bad_signature: OnBadSignature,
}

/// A source that follows the rules of the provider of this name (`stripe`, `github`, …).
pub fn from(provider: impl Into<String>) -> SourceSpec {
    SourceSpec {
        provider: provider.into(),
        settings: Settings { fetch_keys: true, ..Settings::default() },
        on_bad_signature: OnBadSignature::default(),
    }
}

impl SourceSpec {
    /// A secret; several while rotating.
    #[must_use]
    pub fn secret(mut self, secret: impl Into<String>) -> Self {
        self.settings.secrets.push(Secret::new(secret));
        self
    }

    /// A public key, where the provider signs with a private one.
    #[must_use]
    pub fn public_key(mut self, key: impl Into<String>) -> Self {
        self.settings.public_keys.push(key.into());
        self
    }

    /// Whether a key that is not among the public keys is fetched from where the provider publishes it, if
    /// it does. It is, unless told otherwise; [`spawn_workers`](super::Hookonce::spawn_workers) starts what fetches them.
    #[must_use]
    pub fn fetch_keys(mut self, fetch_keys: bool) -> Self {
        self.settings.fetch_keys = fetch_keys;
        self
    }

    /// Shadow mode: what does not verify is admitted all the same, marked [`Event::shadow`]. It is
    /// for moving an existing endpoint over, and anybody can trigger the handlers meanwhile.
    ///
    /// [`Event::shadow`]: crate::event::Event::shadow
    #[must_use]
    pub fn shadow(mut self) -> Self {
        self.on_bad_signature = OnBadSignature::Shadow;
        self
    }

    /// What this provider needs besides, by its name in the configuration.
    #[must_use]
    pub fn setting(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.extra.insert(key.into(), value.into());
        self
    }
}

/// Which events a handler wants, and how it is run.
#[derive(Clone, Debug)]
pub struct Interest {
    pub(super) source: String,
    pub(super) events: Vec<String>,
    pub(super) timeout: Duration,
    pub(super) concurrency: usize,
    pub(super) rate: Option<Rate>,
    pub(super) retry: Retry,
    pub(super) order: Option<Arc<OrderRule>>,
}

/// The events of `source` whose type has one of these forms: `*` stands for any run of characters.
pub fn on<'a>(source: impl Into<String>, events: impl IntoIterator<Item = &'a str>) -> Interest {
    Interest {
        source: source.into(),
        events: events.into_iter().map(str::to_owned).collect(),
        timeout: limits::ATTEMPT_TIMEOUT,
        concurrency: limits::CONCURRENCY,
        rate: None,
        retry: Retry::default(),
        order: None,
    }
}

impl Interest {
    /// How long one attempt may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many attempts may run at once.
    #[must_use]
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.clamp(1, limits::CONCURRENCY_MAX);
        self
    }

    /// How often attempts may begin in this process.
    #[must_use]
    pub fn rate(mut self, rate: Rate) -> Self {
        self.rate = Some(rate);
        self
    }

    /// How often and when it is tried again.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// What is about the same thing runs one after another, in the order of admission: see [`order`](crate::order).
    #[must_use]
    pub fn order(mut self, by: OrderBy, on_dead: OnDead) -> Self {
        self.order = Some(Arc::new(OrderRule { by, on_dead }));
        self
    }
}
