//! The table of providers: what `hookonce providers` prints and docs/providers.md holds.

use std::time::Duration;

use serde::Serialize;

use crate::{
    provider::{PROVIDERS, Provider, place::PublishesKeys},
    source::window_min,
};

/// The heads of the table's columns, in order.
pub const COLUMNS: [&str; 6] =
    ["provider", "signs with", "known by", "window", "handshake", "batch"];

/// What is to be known about a provider at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its name in configuration and URLs.
    pub name: &'static str,
    /// Its name as people write it.
    pub title: &'static str,
    /// Its way of signing.
    pub signs_with: &'static str,
    /// What makes two of its requests the same event.
    pub identity: &'static str,
    /// The shortest window of its sources.
    pub window: String,
    /// How it tests a URL; empty if it does not.
    pub handshake: &'static str,
    /// What holds the several events that a request may have; empty if each is one event.
    pub batch: &'static str,
    /// Where its keys are fetched from; empty if they are not.
    pub keys_from: &'static str,
    /// The environment variable of its secret.
    pub secret_variable: &'static str,
    /// The environment variable of its public key; none where it signs with a shared secret.
    pub public_key_variable: Option<String>,
    /// Its own page about signatures.
    pub docs: &'static str,
}

/// Every provider, in the order of the alphabet.
pub fn rows() -> Vec<Row> {
    PROVIDERS.iter().map(|provider| Row::of(*provider)).collect()
}

impl Row {
    /// What there is to know about this one.
    pub fn of(provider: &dyn Provider) -> Self {
        Self {
            name: provider.name(),
            title: provider.title(),
            signs_with: provider.signs_with(),
            identity: provider.identity(),
            window: in_words(window_min(provider)),
            handshake: provider.handshake(),
            batch: provider.batch(),
            keys_from: provider.publishes_keys().map_or("", PublishesKeys::published_at),
            secret_variable: provider.secret_variable(),
            public_key_variable: provider.public_key_variable(),
            docs: provider.docs(),
        }
    }

    /// What stands in the columns of the table, as [`COLUMNS`] has them.
    pub fn cells(&self) -> [&str; 6] {
        [self.name, self.signs_with, self.identity, &self.window, self.handshake, self.batch]
    }
}

/// A span in the largest unit of which it is a whole number.
pub fn in_words(span: Duration) -> String {
    const UNITS: [(&str, u64); 3] = [("days", 24 * 60 * 60), ("hours", 60 * 60), ("minutes", 60)];
    let seconds = span.as_secs();
    let whole = UNITS.into_iter().find(|(_, unit)| seconds.is_multiple_of(*unit));
    let (name, unit) = whole.unwrap_or(("seconds", 1));
    format!("{} {name}", seconds / unit)
}
