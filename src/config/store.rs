//! `[store]`: where events are kept, how safely and for how long.

use std::{path::Path, time::Duration};

use super::{
    Surroundings,
    environment::{Environment, Problem, fill_in},
    mistakes::Findings,
    section::Section,
    sources::texts_or_files,
};
use crate::{
    secret::Secret,
    store::{Durability, encrypted::EncryptionKeys},
};

/// The store's settings.
#[derive(Clone, Debug)]
pub struct Store {
    /// Its URL, ready to connect to: an SQLite file is already inside the data folder. A secret,
    /// because it may have a password in it.
    pub url: Secret,
    /// What a yes survives, on a store that has a choice.
    pub durability: Durability,
    /// The Redis that caches its marks. A secret, because it may have a password in it.
    pub cache: Option<Secret>,
    /// What contents are encrypted with, if they are.
    pub encryption_keys: EncryptionKeys,
    /// How long finished events are kept.
    pub retention: Duration,
    /// How long events with a dead delivery, and unrouted ones, are kept.
    pub retention_dead: Duration,
    /// How long held events are kept.
    pub retention_held: Duration,
}

/// Where marks can be cached, and which stores gain by it.
const CACHES: [&str; 2] = ["redis://", "rediss://"];
const CACHED_STORES: [&str; 3] = ["sqlite:", "postgres://", "postgresql://"];
const STORES: [&str; 10] = [
    "memory:",
    "sqlite:",
    "redis://",
    "rediss://",
    "redis-cluster://",
    "rediss-cluster://",
    "redis-sentinel://",
    "rediss-sentinel://",
    "postgres://",
    "postgresql://",
];

pub(super) fn resolve(
    section: &Section<'_>,
    data_dir: &Path,
    around: &Surroundings<'_>,
    found: &mut Findings,
) -> Store {
    section.refuse_unknown_keys(&[], found);
    let url = section.text("url", found).unwrap_or_default();
    let is_one_of = |stores: &[&str]| stores.iter().any(|store| url.starts_with(store));
    if !is_one_of(&STORES) || url == "sqlite:" {
        let instead = "names no store: write \"sqlite:hookonce.db\", \"redis://127.0.0.1:6379\", \"postgres://user:password@host/database\" or \"memory:\"";
        section.mistake("url", instead, found);
    } else if let Some(instead) = sqlite_mistake(url) {
        section.mistake("url", instead, found);
    }
    let cache = section.text("cache", found).map(|cache| {
        if !CACHES.iter().any(|scheme| cache.starts_with(scheme)) {
            section.mistake("cache", "is no Redis: write \"redis://127.0.0.1:6379\"", found);
        } else if !CACHED_STORES.iter().any(|store| url.starts_with(store)) {
            let instead = "is for an SQL store, and does nothing for this one: take it out";
            section.mistake("cache", instead, found);
        }
        Secret::new(cache)
    });
    let durability = match section.choice("durability", found) {
        "replicated" => Durability::Replicated,
        "relaxed" => Durability::Relaxed,
        _ => Durability::Always,
    };
    if durability != Durability::Always && !url.starts_with("redis") {
        section.warning("durability", "is for Redis alone: take it out, or choose a Redis", found);
    }
    Store {
        url: Secret::new(inside(url, data_dir)),
        durability,
        cache,
        encryption_keys: encryption_keys(section, around, found),
        retention: section.duration("retention", found),
        retention_dead: section.duration("retention_dead", found),
        retention_held: section.duration("retention_held", found),
    }
}

fn encryption_keys(
    section: &Section<'_>,
    around: &Surroundings<'_>,
    found: &mut Findings,
) -> EncryptionKeys {
    let texts = texts_or_files(section, "encryption_keys", around, found);
    EncryptionKeys::of(texts.iter().map(|(text, _)| text.as_str())).unwrap_or_else(|mistakes| {
        for (at, message) in mistakes {
            if let Some((_, place)) = texts.get(at) {
                found.mistake(*place, section.key_of("encryption_keys"), message);
            }
        }
        EncryptionKeys::default()
    })
}

/// A store's URL as somebody names it elsewhere, ready to connect to, by the rules of `[store]`: with
/// every `${NAME}` filled in, and the file of an SQLite store inside the data folder.
///
/// # Errors
/// What is wrong with it.
pub fn store_url(
    text: &str,
    data_dir: &Path,
    environment: &Environment<'_>,
) -> Result<Secret, Vec<String>> {
    let told = |problems: Vec<Problem>| problems.iter().map(ToString::to_string).collect();
    let url = fill_in(text, environment).map_err::<Vec<String>, _>(told)?;
    if let Some(instead) = sqlite_mistake(&url) {
        return Err(vec![format!("`{url}` {instead}")]);
    }
    Ok(Secret::new(inside(&url, data_dir)))
}

/// What is wrong with the URL of an SQLite store. Many tools write two slashes before a relative file, and
/// some before an absolute one: who means the first must not get a file at the root of the disk.
fn sqlite_mistake(url: &str) -> Option<&'static str> {
    let file = url.strip_prefix("sqlite:")?;
    if file.is_empty() {
        return Some("names no file: write \"sqlite:hookonce.db\"");
    }
    let is_ambiguous = file.starts_with("//") && !file.starts_with("///");
    is_ambiguous.then_some(
        "may mean two files: write \"sqlite:hookonce.db\", or \"sqlite:/path/hookonce.db\" for an absolute one",
    )
}

/// The URL, with the file of an SQLite store inside the data folder unless its path is absolute.
fn inside(url: &str, data_dir: &Path) -> String {
    match url.strip_prefix("sqlite:") {
        Some(file) => format!("sqlite:{}", data_dir.join(file).display()),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn two_slashes_are_refused_wherever_a_store_is_named() {
        for url in ["sqlite:hookonce.db", "sqlite:/var/a.db", "sqlite:///var/a.db", "redis://a"] {
            assert!(store_url(url, Path::new("data"), &|_| None).is_ok(), "{url}");
        }
        for url in ["sqlite://hookonce.db", "sqlite://var/a.db", "sqlite:"] {
            let refused = store_url(url, Path::new("data"), &|_| None).unwrap_err();
            assert!(refused.join("").contains("sqlite:hookonce.db"), "{url}: {refused:?}");
        }
        let file = "[store]\nurl = \"sqlite://hookonce.db\"\n";
        let around = Surroundings { environment: &|_| None, providers: &[], folder: Path::new("") };
        let refused = Config::parse(file, Path::new("a.toml"), &around).unwrap_err();
        assert!(refused.to_string().contains("may mean two files"), "{refused}");
    }

    #[test]
    fn a_relative_file_is_inside_the_data_folder() {
        let data_dir = Path::new("data");
        assert_eq!(inside("sqlite:hookonce.db", data_dir), "sqlite:data/hookonce.db");
        assert_eq!(inside("sqlite:/var/a.db", data_dir), "sqlite:/var/a.db");
        assert_eq!(inside("sqlite:///var/a.db", data_dir), "sqlite:///var/a.db");
        assert_eq!(inside("redis://a", data_dir), "redis://a");
    }
}
