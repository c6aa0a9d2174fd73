//! `[store]`: where events are kept, how safely and for how long.

use std::{path::Path, time::Duration};

use super::{mistakes::Findings, section::Section};
use crate::{secret::Secret, store::Durability};

/// The store's settings.
#[derive(Clone, Debug)]
pub struct Store {
    /// Its URL, ready to connect to: an SQLite file is already inside the data folder. A secret,
    /// because it may have a password in it.
    pub url: Secret,
    /// What a yes survives, on a store that has a choice.
    pub durability: Durability,
    /// How long finished events are kept.
    pub retention: Duration,
    /// How long events with a dead delivery, and unrouted ones, are kept.
    pub retention_dead: Duration,
    /// How long held events are kept.
    pub retention_held: Duration,
}

const STORES: [&str; 8] = [
    "memory:",
    "sqlite:",
    "redis://",
    "rediss://",
    "redis-cluster://",
    "rediss-cluster://",
    "redis-sentinel://",
    "rediss-sentinel://",
];
const STORES_NOT_YET: [&str; 1] = ["postgres://"];

pub(super) fn resolve(section: &Section<'_>, data_dir: &Path, found: &mut Findings) -> Store {
    section.refuse_unknown_keys(&[], found);
    if section.has("cache") {
        section.mistake("cache", "is not in this version yet: leave it out", found);
    }
    let url = section.text("url", found).unwrap_or_default();
    let is_one_of = |stores: &[&str]| stores.iter().any(|store| url.starts_with(store));
    if is_one_of(&STORES_NOT_YET) {
        let instead = "is a store that is not in this version yet: write \"sqlite:hookonce.db\" or \"redis://127.0.0.1:6379\"";
        section.mistake("url", instead, found);
    } else if !is_one_of(&STORES) || url == "sqlite:" {
        let instead = "names no store: write \"sqlite:hookonce.db\", \"redis://127.0.0.1:6379\" or \"memory:\"";
        section.mistake("url", instead, found);
    }
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
        retention: section.duration("retention", found),
        retention_dead: section.duration("retention_dead", found),
        retention_held: section.duration("retention_held", found),
    }
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

    #[test]
    fn a_relative_file_is_inside_the_data_folder() {
        let data_dir = Path::new("data");
        assert_eq!(inside("sqlite:hookonce.db", data_dir), "sqlite:data/hookonce.db");
        assert_eq!(inside("sqlite:/var/a.db", data_dir), "sqlite:/var/a.db");
        assert_eq!(inside("sqlite:///var/a.db", data_dir), "sqlite:///var/a.db");
        assert_eq!(inside("redis://a", data_dir), "redis://a");
    }
}
