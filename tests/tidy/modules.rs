//! Who may know whom.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::project::{self, File};

/// The modules of the library from the bottom to the top: each may use those of the layers below its
/// own and nothing else. The nouns may use each other, being one picture.
const LAYERS: &[&[&str]] = &[
    &["private"],
    &["clock", "limits", "seal", "secret"],
    &[
        "control", "delivery", "event", "id", "key", "order", "rate", "receipt", "refusal",
        "request", "retry", "shutdown", "tls",
    ], // the nouns
    &["handed_over", "handler", "provider", "store"], // the seams
    &["api", "errands", "keyring", "leases", "notice", "schedule", "telemetry", "unwritten"],
    &["source"],
    &["refusal_log", "setup"],
    &["app"],
    &["receive", "work", "idempotency", "outbound", "controls", "notifier", "prune"], // the paths
    &["doctor"],
    &["admin"], // what people ask for
    &["catalogue", "config", "fixture", "http", "verify"],
    &["configured"],
    &["hookonce"],
    &["reload"],
    &["lib"],
];

const NOUNS: usize = 2;

#[test]
fn nobody_looks_upwards() {
    for File { path, text } in sources() {
        let module = module_of(&path);
        if matches!(module.as_str(), "main" | "cli") {
            continue; // the program stands on top of the library
        }
        let own = layer(&module).unwrap_or_else(|| panic!("{path}: put `{module}` into LAYERS"));
        for used in used_modules(&text).into_iter().filter(|used| *used != module) {
            let theirs = layer(&used).unwrap_or_else(|| panic!("{path}: put `{used}` into LAYERS"));
            assert!(
                theirs < own || (theirs == NOUNS && own == NOUNS),
                "{path} uses `crate::{used}`, which is not below `{module}`"
            );
        }
    }
}

/// What only some places may name, and why nobody else.
const KNOWN_IN: &[(&str, &[&str], &str)] = &[
    ("actix_web", &["src/http/", "src/hookonce/"], "the rest must not care what serves it"),
    ("rusqlite", &["src/store/sqlite/"], "a store is known by its verbs"),
    ("tokio_postgres", &["src/store/postgres/"], "a store is known by its verbs"),
    ("redis::cmd", &["src/store/redis/"], "a store is known by its verbs"),
    ("env::var", &["src/config/environment.rs"], "everything else is told"),
    ("SystemTime::now", &["src/clock.rs"], "tests must own time"),
    ("std::time::Instant", &["src/clock.rs"], "tests must own time"),
    ("prometheus", &["src/telemetry/metrics.rs"], "every metric is named in one place"),
    (
        "opentelemetry",
        &["src/telemetry/otlp.rs"],
        "what is traced does not depend on who collects it",
    ),
    ("\"/api/v1/", &["src/http/admin.rs"], "what is in its list is served and documented"),
    ("clap", &["src/cli/", "src/main.rs"], "the library has no command line"),
    ("anyhow", &["src/cli/"], "the library's errors have types"),
    ("Verified::vouch", &["src/provider/mod.rs"], "there is one way to a verified request"),
    (
        "tokio::spawn",
        &["src/shutdown.rs", "src/store/postgres/", "src/store/redis/"],
        "every task is waited for",
    ),
];

#[test]
fn some_things_are_known_in_one_place_only() {
    for File { path, text } in sources() {
        let code = code_of(&text);
        for (what, places, why) in KNOWN_IN {
            let may = places.iter().any(|place| path.starts_with(place));
            assert!(may || !code.contains(what), "{path} names `{what}`: {why}");
        }
    }
    for (what, places, _) in KNOWN_IN {
        let all = sources();
        for place in *places {
            let mut here = all.iter().filter(|file| file.path.starts_with(place));
            assert!(
                here.any(|file| code_of(&file.text).contains(what)),
                "{place} does not name `{what}` any more: take it out of KNOWN_IN"
            );
        }
    }
}

/// Files longer than a reader likes, each with its reason.
const LONG: &[(&str, &str)] = &[
    (
        "src/store/memory.rs",
        "the reference model: all verbs beside each other, to be read against the trait",
    ),
    ("src/config/keys/list.rs", "a table: every key, in the order of the reference"),
];

#[test]
fn no_file_is_too_long_to_be_read_at_once() {
    const LINES_MAX: usize = 500;
    for File { path, text } in project::files("src", ".rs") {
        let is_long = text.lines().count() > LINES_MAX;
        let has_a_reason = LONG.iter().any(|(long, _)| *long == path);
        assert!(!is_long || has_a_reason, "{path} has more than {LINES_MAX} lines: take it apart");
        assert!(is_long || !has_a_reason, "{path} is short enough now: take it out of LONG");
    }
}

#[test]
fn every_file_is_reached_from_a_root() {
    let files: BTreeMap<String, String> =
        project::rust_files().into_iter().map(|file| (file.path, file.text)).collect();
    let mut waiting: VecDeque<String> =
        files.keys().filter(|path| is_root(path)).cloned().collect();
    let mut reached: BTreeSet<String> = waiting.iter().cloned().collect();
    while let Some(path) = waiting.pop_front() {
        for declared in declared_files(&path, &files[&path]) {
            if files.contains_key(&declared) && reached.insert(declared.clone()) {
                waiting.push_back(declared);
            }
        }
    }
    let dead: Vec<_> = files.keys().filter(|path| !reached.contains(*path)).collect();
    assert!(dead.is_empty(), "no `mod` line names {dead:?}");
}

/// The files that cargo begins with.
fn is_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["src", file] => matches!(*file, "lib.rs" | "main.rs"),
        [_, _] => true,
        [folder, _, file] => *folder != "src" && *file == "main.rs",
        _ => false,
    }
}

/// The files that the `mod` lines of a file may mean.
fn declared_files(path: &str, text: &str) -> Vec<String> {
    let (folder, file) = path.rsplit_once('/').expect("no Rust file is outside of a folder");
    let owns_its_folder = is_root(path) || file == "mod.rs";
    let home = match owns_its_folder {
        true => folder.to_owned(),
        false => format!("{folder}/{}", file.trim_end_matches(".rs")),
    };
    let mut declared = Vec::new();
    let mut inside = Vec::new(); // the inline modules around a line: `mod store {`
    let mut given = None;
    for line in text.lines().map(str::trim) {
        if let Some(quoted) = line.strip_prefix("#[path = \"") {
            given = quoted.split('"').next().map(|path| joined(folder, path));
        }
        let item = line.trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
        let Some(name) = item.trim_start_matches("pub ").strip_prefix("mod ") else { continue };
        if let Some(name) = name.strip_suffix(" {") {
            inside.push(name.to_owned());
        } else if let Some(name) = name.strip_suffix(';') {
            declared.extend(given.take());
            let around = inside.iter().map(|name| format!("/{name}")).collect::<String>();
            for home in [home.clone(), format!("{home}{around}")] {
                declared.push(format!("{home}/{name}.rs"));
                declared.push(format!("{home}/{name}/mod.rs"));
            }
        }
    }
    declared
}

fn joined(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').collect();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The module of the crate's root that a file belongs to.
fn module_of(path: &str) -> String {
    let inside = path.trim_start_matches("src/");
    inside.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned()
}

/// The modules of the crate's root that a file names outside of its own tests.
fn used_modules(text: &str) -> BTreeSet<String> {
    let code = code_of(text);
    let mut used = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            None => used.extend(first_word(after)),
            Some(group) => used.extend(group_heads(group)),
        }
    }
    used
}

/// The first words of what stands in braces: `a::{b, c}, d::E}` has `a` and `d`.
fn group_heads(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut top = String::new();
    for char in group.chars() {
        match char {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            char if depth == 0 => top.push(char),
            _ => {}
        }
    }
    top.split(',').filter_map(|part| first_word(part.trim())).collect()
}

fn first_word(text: &str) -> Option<String> {
    let word: String =
        text.chars().take_while(|char| char.is_ascii_lowercase() || *char == '_').collect();
    (!word.is_empty()).then_some(word)
}

/// The files of the library and the program, without unit tests that have a file of their own.
fn sources() -> Vec<File> {
    let mut files = project::files("src", ".rs");
    files.retain(|file| !file.path.ends_with("/tests.rs"));
    files
}

/// The lines that are neither comments nor the unit tests, which stand at the end and may use
/// whatever they like.
fn code_of(text: &str) -> String {
    let before_tests = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = before_tests.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}
