//! The files of this project, as the tests read them.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file of ours with its text.
pub(crate) struct File {
    /// Its path from the project's folder, with `/`.
    pub(crate) path: String,
    /// What is in it.
    pub(crate) text: String,
}

/// All files under `folder` whose name ends so, in the order of their paths.
pub(crate) fn files(folder: &str, ending: &str) -> Vec<File> {
    let mut found = Vec::new();
    collect(&root().join(folder), ending, &mut found);
    found.sort();
    assert!(!found.is_empty(), "there is no *{ending} under {folder}/");
    found.iter().map(|path| File { path: name(path), text: read_path(path) }).collect()
}

/// All Rust files.
pub(crate) fn rust_files() -> Vec<File> {
    ["src", "tests", "benches", "examples"]
        .into_iter()
        .filter(|folder| root().join(folder).is_dir())
        .flat_map(|folder| files(folder, ".rs"))
        .collect()
}

/// All pages for people.
pub(crate) fn pages() -> Vec<File> {
    let mut pages = files("docs", ".md");
    pages.push(File { path: "README.md".to_owned(), text: read("README.md") });
    pages
}

/// The text of one file, named by its path from the project's folder.
pub(crate) fn read(path: &str) -> String {
    read_path(&root().join(path))
}

/// Whether there is such a file or folder.
pub(crate) fn exists(path: &str) -> bool {
    root().join(path).exists()
}

/// Holds a file against what it should be: `UPDATE=1` writes it.
pub(crate) fn expect_fresh(path: &str, is: &str, should_be: &str) {
    if is == should_be {
        return;
    }
    #[expect(clippy::disallowed_methods, reason = "a test is asked by its environment to write")]
    let update = std::env::var("UPDATE").is_ok();
    assert!(update, "{path} is stale: `UPDATE=1 cargo test --test tidy` writes it again");
    fs::write(root().join(path), should_be).expect("the file can be written");
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn name(path: &Path) -> String {
    let inside = path.strip_prefix(root()).expect("it was found inside");
    inside.to_str().expect("our names are text").replace('\\', "/")
}

fn read_path(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    String::from_utf8_lossy(&bytes).into_owned() // a fixture's body may be no text
}

fn collect(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("its entries can be read").path();
        if path.is_dir() {
            collect(&path, ending, found);
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
}
