//! How entries of the list of keys are written.

use std::time::Duration;

use super::{Fallback, Key, Kind};

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);

pub(super) const fn key(
    section: &'static str,
    name: &'static str,
    kind: Kind,
    fallback: Fallback,
    doc: &'static str,
) -> Key {
    Key { section, name, kind, fallback, doc }
}

pub(super) const fn span(least: Duration, most: Duration) -> Kind {
    Kind::Duration { least, most }
}

pub(super) const fn choice(words: &'static [&'static str]) -> Kind {
    Kind::Choice(words)
}

/// A table with a certificate and its key.
pub(super) const fn tls_pair(name: &'static str, doc: &'static str) -> Key {
    key("server", name, Kind::Table, Fallback::Told("plain HTTP"), doc)
}

pub(super) const fn tls_cert(section: &'static str) -> Key {
    let doc = "A PEM file with the certificate, and those that lead from it to an authority. Both files are looked at every 10 s and on reload; a pair that cannot be used leaves the old one in place.";
    key(section, "cert", Kind::File, Fallback::Unset, doc)
}

pub(super) const fn tls_key(section: &'static str) -> Key {
    key(section, "key", Kind::File, Fallback::Unset, "A PEM file with its private key.")
}
