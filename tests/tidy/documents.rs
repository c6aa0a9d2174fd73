//! Pages for people: true, whole, and fresh where they are made from the code.

use std::{
    fmt::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use hookonce::{
    catalogue::{self, COLUMNS, Row, in_words},
    config::{Config, Surroundings},
    provider::PROVIDERS,
};

use crate::project::{self, File, expect_fresh};

#[test]
fn the_page_of_providers_is_fresh() {
    let is = if project::exists("docs/providers.md") {
        project::read("docs/providers.md")
    } else {
        String::new()
    };
    expect_fresh("docs/providers.md", &is, &page_of_providers());
}

#[test]
fn the_readme_lists_the_providers_and_the_commands() {
    let mut providers = "| `provider` | who | signs with |\n| --- | --- | --- |\n".to_owned();
    for provider in PROVIDERS {
        let (name, title, docs) = (provider.name(), provider.title(), provider.docs());
        writeln!(providers, "| `{name}` | [{title}]({docs}) | {} |", provider.signs_with())
            .unwrap();
    }
    let mut listed = "| command | what for |\n| --- | --- |\n".to_owned();
    for (name, about) in commands() {
        writeln!(listed, "| `hookonce {name}` | {about} |").unwrap();
    }
    let is = project::read("README.md");
    let should_be = with_part(&with_part(&is, "providers", &providers), "commands", &listed);
    expect_fresh("README.md", &is, &should_be);
}

#[test]
fn the_readme_shows_the_example_as_it_is() {
    let example = plain_lines(&project::read("examples/embedded.rs"));
    let readme = project::read("README.md");
    let shown = blocks(&readme, "rust");
    assert_eq!(shown.len(), 1, "README.md shows one piece of Rust");
    for block in shown {
        let block = plain_lines(&block);
        assert!(example.contains(&block), "this is not in examples/embedded.rs:\n{block}");
    }
}

#[test]
fn every_configuration_that_is_shown_loads() {
    let environment = |_: &str| Some("whsec_c2hvd24gaW4gYSBwYWdlIGZvciBwZW9wbGU=".to_owned());
    for File { path, text } in project::pages() {
        for block in blocks(&text, "toml") {
            let folder = Path::new(".");
            let around = Surroundings { environment: &environment, providers: PROVIDERS, folder };
            // A page may show a handler without repeating the source that it is about.
            let source = match block.contains("[sources.") {
                true => "",
                false => "[sources.stripe]\nsecrets = [\"shown\"]\n",
            };
            let whole = format!("{block}\n{source}");
            if let Err(mistakes) = Config::parse(&whole, Path::new(&path), &around) {
                panic!("{path} shows what does not load: {mistakes}\n{block}");
            }
        }
    }
}

#[test]
fn every_page_has_one_title() {
    for File { path, text } in project::pages() {
        let titles = outside_of_blocks(&text).lines().filter(|line| line.starts_with("# ")).count();
        assert_eq!(titles, 1, "{path}");
    }
}

#[test]
fn every_link_leads_somewhere() {
    for File { path, text } in project::pages() {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("https://") || link.starts_with('#') {
                continue;
            }
            let file = link.split('#').next().unwrap_or_default();
            let target = Path::new(folder).join(file);
            assert!(project::exists(&target.to_string_lossy()), "{path} links to {link}");
        }
    }
}

#[test]
fn every_file_that_is_named_is_there() {
    for File { path, text } in project::pages() {
        for name in outside_of_blocks(&text).split('`').skip(1).step_by(2) {
            let ours = ["src/", "tests/", "docs/", "examples/", "benches/", "fixtures/", ".ci/"];
            let is_file = ours.iter().any(|folder| name.starts_with(folder));
            let is_pattern = name.contains(['<', '*', '…', ' ']);
            assert!(!is_file || is_pattern || project::exists(name), "{path} names {name}");
        }
    }
}

#[test]
fn every_command_that_is_named_is_there() {
    let known = commands();
    for File { path, text } in project::pages() {
        for named in text.split("`hookonce ").skip(1) {
            let name = named.split([' ', '`']).next().unwrap_or_default();
            let is_known = known.iter().any(|(command, _)| command == name);
            assert!(is_known, "{path} names `hookonce {name}`");
        }
    }
}

#[test]
fn the_architecture_is_short_enough_to_be_read() {
    assert!(project::read("docs/ARCHITECTURE.md").lines().count() <= 150);
}

#[test]
fn every_metric_is_explained() {
    let page = project::read("docs/OPERATIONS.md");
    let code = project::read("src/telemetry/metrics.rs");
    let named = |text: &str| -> Vec<String> {
        let mut names: Vec<_> = text
            .split(|char: char| !char.is_ascii_lowercase() && char != '_')
            .filter(|word| word.starts_with("hookonce_") && !word.ends_with('_'))
            .map(|word| word.trim_end_matches("_count").to_owned())
            .collect();
        names.sort();
        names.dedup();
        names
    };
    assert_eq!(named(&page), named(&code), "docs/OPERATIONS.md and src/telemetry/metrics.rs");
}

#[test]
fn every_refusal_is_explained() {
    let page = project::read("docs/OPERATIONS.md");
    let code = project::read("src/refusal.rs");
    let codes = code.split("pub fn code(").nth(1).and_then(|rest| rest.split("\n    }").next());
    let codes: Vec<_> = codes.expect("there is `code`").split('"').skip(1).step_by(2).collect();
    assert!(codes.len() > 5, "{codes:?}");
    for code in codes {
        assert!(
            page.contains(&format!("`{code}`")),
            "docs/OPERATIONS.md does not explain `{code}`"
        );
    }
}

#[test]
fn what_is_not_released_is_in_the_changelog() {
    let page = project::read("docs/CHANGELOG.md");
    let mut releases = page.lines().filter_map(|line| line.strip_prefix("## ["));
    assert_eq!(releases.next(), Some("Unreleased]"), "the first one");
}

#[test]
fn the_image_is_built_with_the_rust_we_ask_for() {
    let manifest = project::read("Cargo.toml");
    let asked = manifest.split("rust-version = \"").nth(1).and_then(|rest| rest.split('"').next());
    let image = format!("FROM rust:{}-", asked.expect("there is a rust-version"));
    assert!(project::read("Dockerfile").contains(&image), "Dockerfile: {image}…");
}

fn page_of_providers() -> String {
    let line = |cells: [&str; 6]| {
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        format!("| {} |\n", cells.join(" | "))
    };
    let mut page = PROVIDERS_HEAD.to_owned();
    page.push_str(&line(COLUMNS));
    page.push_str(&line(["---"; 6]));
    for row in catalogue::rows() {
        page.push_str(&line(row.cells()));
    }
    for provider in PROVIDERS {
        let row = Row::of(*provider);
        let (resends, window) = (in_words(provider.resends_for()), &row.window);
        write!(
            page,
            "\n## {}\n\n- **`provider`:** `{}`, described at <{}>\n- **Signs with:** {}\n\
             - **The same event again is known by:** {}\n\
             - **Sends again:** for up to {resends}; the shortest `window` is {window}\n\
             - **Methods:** {}; a body of up to {} MiB\n- **Secret without a configuration file:** `{}`\n",
            provider.title(),
            provider.name(),
            provider.docs(),
            provider.signs_with(),
            provider.identity(),
            provider.methods().join(", "),
            provider.body_bytes_max() >> 20,
            provider.secret_variable(),
        )
        .unwrap();
        if let Some(variable) = &row.public_key_variable {
            writeln!(page, "- **Public key without a configuration file:** `{variable}`").unwrap();
        }
        for (what, told) in [
            ("Publishes its keys at", row.keys_from),
            ("Tests the URL with", row.handshake),
            ("Several events in one request", row.batch),
        ] {
            if !told.is_empty() {
                writeln!(page, "- **{what}:** {told}").unwrap();
            }
        }
        if !provider.settings().is_empty() {
            page.push_str("\n| key | what it says |\n| --- | --- |\n");
            for (key, meaning) in provider.settings() {
                writeln!(page, "| `{key}` | {} |", meaning.replace('|', "\\|")).unwrap();
            }
        }
    }
    page
}

const PROVIDERS_HEAD: &str = "\
<!-- Made from the list in src/provider/mod.rs: `UPDATE=1 cargo test --test tidy` writes it. -->

# Providers

What hookonce knows of each provider. A source takes the keys in its provider's table besides those of every source, which are \
in [config.md](config.md). A provider that is not here and signs with an HMAC can be described with `hmac`; one that follows \
Standard Webhooks is received with `standardwebhooks`.

What makes two requests the same event is written with JSON pointers (`/id` is the field `id` of the body) and with names of \
headers. Where the id is not signed, the signed content counts too: the same id with other content is another event.

`hookonce providers` prints this table. The window is the shortest that a source may have; a batch is what holds the events of a \
request that may have several.

";

/// The commands of the program, each with what it is for.
fn commands() -> Vec<(String, String)> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_hookonce"));
    let help = program.arg("--help").stdin(Stdio::null()).output().expect("the program runs");
    let help = String::from_utf8(help.stdout).expect("help is text");
    let listed = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next());
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in listed.expect("it lists its commands").lines() {
        match line.strip_prefix("  ").filter(|line| !line.starts_with(' ')) {
            Some(line) => {
                let (name, about) = line.split_once(' ').expect("each says what it is for");
                commands.push((name.to_owned(), about.trim().to_owned()));
            }
            None => {
                let (_, about) =
                    commands.last_mut().expect("a command stands before its second line");
                write!(about, " {}", line.trim()).unwrap();
            }
        }
    }
    commands.retain(|(name, _)| name != "help");
    commands
}

/// A page with this text between the marks `<!-- NAME -->` and `<!-- /NAME -->`.
fn with_part(page: &str, name: &str, part: &str) -> String {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (head, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("there is no {begin}"));
    let (_, tail) = rest.split_once(&end).unwrap_or_else(|| panic!("there is no {end}"));
    format!("{head}{begin}{part}{end}{tail}")
}

/// The blocks of code in this language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let inside = page.split(&fence).skip(1).filter_map(|rest| rest.split("```").next());
    inside.map(str::to_owned).collect()
}

fn outside_of_blocks(page: &str) -> String {
    page.split("```").step_by(2).collect()
}

/// Lines without what stands before and behind them.
fn plain_lines(code: &str) -> String {
    code.lines().map(|line| format!("{}\n", line.trim())).collect()
}
