//! docs/config.md, made of the list of keys.

use std::fmt::{self, Write as _};

use super::keys::{KEYS, Key};

/// A configuration file that shows the most common settings. It loads.
pub const EXAMPLE: &str = include_str!("example.toml");

/// The reference of the configuration file, in Markdown.
pub fn reference() -> String {
    let mut page = String::new();
    write(&mut page).expect("a string takes everything");
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

const HEAD: &str = "\
<!-- Made from the list of keys in src/config/keys/list.rs: `UPDATE=1 cargo test --test it config` writes it. -->

# Configuration

hookonce reads `hookonce.toml` in the working directory, or the file given with `--config FILE`. `hookonce check` reads it and \
looks at the store it names, and makes nothing. A mistake anywhere keeps the server from starting, and every mistake is told in one run, with its place:

```text
hookonce.toml:12:11: sources.stripe.secrets: the environment variable STRIPE_WEBHOOK_SECRET is missing or empty: set it before hookonce starts
hookonce.toml:19:1: handlers.billing.timout: is not known here: did you mean `timeout`?
```

Without a file it runs all the same: on an SQLite store in `hookonce-data`, with a source for every provider and a handler that \
writes every event to the log. A secret comes from the provider's variable, such as `STRIPE_WEBHOOK_SECRET`; where that is not set, a \
development secret is made once and kept in `hookonce-data/development-secrets.toml`.
";

const HOW_TO_WRITE: &str = "\
## How values are written

- **Variables.** `${NAME}` inside any text is replaced by that environment variable, which must be set. `$${` stands for `${`.
- **Durations** have a unit: `\"10ms\"`, `\"5s\"`, `\"2h\"`, `\"31d\"`. So have **sizes**: `\"64KiB\"`, `\"1MiB\"`.
- **Names** of sources and handlers have up to 64 characters of `a-z`, `0-9`, `_` and `-`, and begin with a letter or a digit.
- **Files.** `file:PATH` in `secrets` and `public_keys` is the content of that file, and a relative PATH begins at the folder of the \
configuration file. Whatever is run or written (`command`, `data_dir`) begins at the working directory.
- Besides the keys below, a source takes those of its provider: see [providers.md](providers.md).
";

fn write(page: &mut String) -> fmt::Result {
    write!(page, "{HEAD}\n## An example\n\n```toml\n{EXAMPLE}```\n\n{HOW_TO_WRITE}")?;
    let sections: Vec<&[Key]> = KEYS.chunk_by(|one, next| one.section == next.section).collect();
    for alike in sections.chunk_by(|one, next| take_the_same(one, next)) {
        section(page, alike)?;
    }
    Ok(())
}

/// Whether two sections have the same keys.
fn take_the_same(one: &[Key], other: &[Key]) -> bool {
    let row = |key: &Key| format!("{} {} {} {}", key.name, key.kind, key.fallback, key.doc);
    one.iter().map(row).eq(other.iter().map(row))
}

/// Writes down the keys of these sections, which are the same.
fn section(page: &mut String, alike: &[&[Key]]) -> fmt::Result {
    let keys = alike.first().copied().unwrap_or_default();
    let names = alike.iter().filter_map(|keys| keys.first());
    let names: Vec<_> = names.map(|key| format!("`[{}]`", key.section)).collect();
    writeln!(page, "\n## {}\n", names.join(" and "))?;
    writeln!(
        page,
        "| key | value | if it is left out | what it does |\n| --- | --- | --- | --- |"
    )?;
    for key in keys {
        let Key { name, kind, fallback, doc, .. } = key;
        writeln!(page, "| `{name}` | {kind} | {fallback} | {doc} |")?;
    }
    Ok(())
}
