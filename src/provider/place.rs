//! Addresses at a provider that are called from here, and never while a request waits.
//!
//! Providers do no I/O: they only name a place. Each is put together from parts that were checked
//! one by one, so that nothing a stranger sends can lead elsewhere.

use std::fmt;

use url::form_urlencoded;

use super::Settings;
use crate::request::Unverified;

/// An address at a provider: always HTTPS, on the usual port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    host: String,
    path: String,
    query: String,
}

impl Place {
    /// The place `path` at `host`. Whoever makes one has checked that the host is the provider's, and
    /// that the path has the form that the provider gives it.
    pub fn new(host: impl Into<String>, path: impl Into<String>) -> Self {
        Self { host: host.into(), path: path.into(), query: String::new() }
    }

    /// The same place, asked with these parameters.
    #[must_use]
    pub fn with_query(self, pairs: &[(&str, &str)]) -> Self {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        Self { query, ..self }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("https://{}", self.behind_the_scheme())
    }

    /// Its address below another one: for a server that stands in for the provider.
    pub fn url_below(&self, base: &str) -> String {
        format!("{}/{}", base.trim_end_matches('/'), self.behind_the_scheme())
    }

    fn behind_the_scheme(&self) -> String {
        let Self { host, path, query } = self;
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{host}{path}{mark}{query}")
    }
}

/// Without the query: there may be a token in it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.host, self.path)
    }
}

/// As it is displayed.
impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({self})")
    }
}

/// How a provider publishes the keys it signs with, at places that need no credentials.
pub trait PublishesKeys: Send + Sync {
    /// Where, in a few words: for the table of providers.
    fn published_at(&self) -> &'static str;

    /// The place of the key that this request names. `None`: it names none that the provider would
    /// publish for this source. Of the request no more goes into it than a name whose form was checked.
    fn key_place(&self, request: &Unverified, settings: &Settings) -> Option<Place>;

    /// The keys in what was found there, each in the form of an entry of `public_keys`.
    ///
    /// # Errors
    /// Why nothing in it is a key of the provider.
    fn keys_in(&self, found: &str) -> Result<Vec<String>, String>;
}

/// What to do about a request that asks for a confirmation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// This place is to be called.
    At(Place),
    /// Nothing is called, for this reason, which says what to set.
    Withheld(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_sent_and_never_shown() {
        let place = Place::new("a.example", "/in").with_query(&[("Token", "a b&c")]);
        assert_eq!(place.url(), "https://a.example/in?Token=a+b%26c");
        assert_eq!(
            place.url_below("http://127.0.0.1:1/"),
            "http://127.0.0.1:1/a.example/in?Token=a+b%26c"
        );
        assert_eq!(
            format!("{place} {place:?}"),
            "https://a.example/in Place(https://a.example/in)"
        );
    }
}
