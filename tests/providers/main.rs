//! Every provider against its fixtures, against vectors made with the providers' own libraries, and
//! against everything that can be done to a request on its way.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests are no server: they may panic, and they read the clock they need"
)]

mod case;
mod identity;
mod keys;
mod list;
mod publisher;
mod shadow;
mod tamper;
mod verdicts;

use hookonce::{
    clock::Timestamp,
    fixture::Fixture,
    provider::{PROVIDERS, Provider},
    source::Source,
};

/// Every fixture with its provider.
fn fixtures() -> impl Iterator<Item = (&'static dyn Provider, Fixture)> {
    let of = |provider: &&'static dyn Provider| {
        let provider = *provider;
        Fixture::all(provider.name()).into_iter().map(move |fixture| (provider, fixture))
    };
    PROVIDERS.iter().flat_map(of)
}

/// The source that a fixture was sent to.
fn source_of(provider: &'static dyn Provider, fixture: &Fixture) -> Source {
    Source::new(provider.name(), provider, fixture.settings.clone())
        .expect("the head has the settings it needs")
}

/// The time at which a fixture was sent.
fn now_of(fixture: &Fixture) -> Timestamp {
    fixture.now.expect("the head tells the time")
}
