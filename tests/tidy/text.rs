//! What must not stand in a file, and what must.

use hookonce::provider::PROVIDERS;

use crate::project::{self, File};

/// What is left behind by somebody who meant to come back. Split, so that they do not find themselves.
const LEFT_BEHIND: &[(&str, &str)] = &[
    (concat!("FIX", "ME"), "do it now, or write an issue"),
    (concat!("TO", "DO"), "do it now, or write an issue"),
    (concat!("todo", "!("), "do it now"),
    (concat!("#[ig", "nore"), "a test that is not run proves nothing"),
    (concat!("#[should_", "panic"), "say which error it is"),
    (concat!("#[al", "low("), "write #[expect(…, reason = \"…\")]"),
];

#[test]
fn nothing_is_left_behind() {
    for File { path, text } in project::rust_files() {
        for (mark, instead) in LEFT_BEHIND {
            assert!(!text.contains(mark), "{path} has `{mark}`: {instead}");
        }
    }
}

#[test]
fn lines_end_where_they_end() {
    let mut files = project::rust_files();
    files.extend(project::pages());
    files.extend(project::files("src", ".lua"));
    files.extend(project::files("src", ".sql"));
    for File { path, text } in files {
        assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{path} ends in one line break");
        for (number, line) in text.lines().enumerate() {
            let is_clean = line.trim_end() == line && !line.contains('\t');
            assert!(is_clean, "{path}:{}: a tab, or space at the end", number + 1);
        }
    }
}

#[test]
fn every_module_says_what_it_is() {
    let is_of_tests =
        |file: &File| file.path.starts_with("src/") && file.path.ends_with("/tests.rs");
    for File { path, text } in project::rust_files().into_iter().filter(|file| !is_of_tests(file)) {
        let begins = text.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
        assert!(begins.starts_with("//! "), "{path} begins with no `//!`");
    }
    for File { path, text } in project::files("src", ".lua") {
        assert!(text.starts_with("-- "), "{path} does not say what it does");
    }
}

#[test]
fn tests_are_named_by_sentences() {
    for File { path, text } in project::rust_files() {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for pair in lines.windows(2) {
            let (attribute, item) = (pair[0], pair[1]);
            if !attribute.starts_with("#[test]") && !attribute.starts_with("#[tokio::test") {
                continue;
            }
            let name = item.trim_start_matches("async ").trim_start_matches("fn ");
            let name = name.split(['(', '<']).next().unwrap_or_default();
            let is_of_a_macro = name.starts_with('$');
            assert!(is_of_a_macro || name.contains('_'), "{path}: `{name}` claims nothing");
        }
    }
}

#[test]
fn fixtures_say_where_they_come_from() {
    let known = |line: &str, key: &str| line.starts_with(&format!("# {key}: "));
    for provider in PROVIDERS {
        for File { path, text } in project::files(&format!("fixtures/{}", provider.name()), ".http")
        {
            let head: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
            for key in ["now", "expect", "from"] {
                let there = head.iter().filter(|line| known(line, key)).count();
                assert_eq!(there, 1, "{path} has one line `# {key}: …`");
            }
            let has_key =
                head.iter().any(|line| known(line, "secret") || known(line, "public_key"));
            assert!(has_key, "{path} has no `# secret: …`");
        }
    }
}

#[test]
fn every_limit_limits_something() {
    let code: String = project::files("src", ".rs")
        .iter()
        .filter(|file| file.path != "src/limits.rs")
        .map(|file| file.text.as_str())
        .collect();
    let limits = project::read("src/limits.rs");
    for limit in limits.lines().filter_map(|line| line.strip_prefix("pub const ")) {
        let name = limit.split(':').next().unwrap_or_default();
        assert!(code.contains(name), "nothing asks for limits::{name}");
    }
}
