//! What a key of the configuration file is, and the one list of them.
//!
//! The list decides which keys are known and what a mistyped one probably meant, which bounds a
//! value has to keep, what it is when the file does not say, and it is what docs/config.md is made of.

use std::{fmt, time::Duration};

use super::values::{written, written_size};

mod list;
mod shapes;

pub use list::KEYS;

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The section it stands in; `NAME` stands for a name that the file chooses.
    pub section: &'static str,
    /// Its name in the section.
    pub name: &'static str,
    /// What is written for it.
    pub kind: Kind,
    /// What it is when the file does not say.
    pub fallback: Fallback,
    /// What it does.
    pub doc: &'static str,
}

/// What is written for a key, and within which bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "bounds: the least and the most that may be written")]
pub enum Kind {
    /// Any text.
    Text,
    /// Several texts.
    Texts,
    /// Several texts, each of which may be `file:PATH`.
    Secrets,
    /// A secret of the form that Standard Webhooks gives them.
    SigningSecret,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A duration.
    Duration { least: Duration, most: Duration },
    /// A number of bytes.
    Size { least: usize, most: usize },
    /// A number.
    Integer { least: u64, most: u64 },
    /// So many in a time.
    Rate,
    /// A place in the event.
    Order,
    /// A yes, where it is written at all.
    Flag,
    /// Yes or no.
    YesNo,
    /// An IP address and a port.
    Address,
    /// Several networks.
    Networks,
    /// An absolute URL.
    Url,
    /// The path of a URL.
    Path,
    /// The name of a header.
    Header,
    /// A folder.
    Directory,
    /// A file.
    File,
    /// A table with a section of its own.
    Table,
}

impl Kind {
    /// What to write, with an example.
    pub fn wanted(self) -> String {
        match self {
            Self::Text => "a text in quotes".to_owned(),
            Self::Texts => "a list of texts, such as [\"one\", \"two\"]".to_owned(),
            Self::Secrets => "a list of texts, such as [\"${NAME_OF_A_VARIABLE}\"]".to_owned(),
            Self::SigningSecret => "whsec_ and 24 to 64 bytes in base64".to_owned(),
            Self::Choice(words) => match words {
                [only] => format!("\"{only}\""),
                several => format!("one of \"{}\"", several.join("\", \"")),
            },
            Self::Duration { .. } => "a duration with its unit, such as \"30s\"".to_owned(),
            Self::Size { .. } => "a size with its unit, such as \"1MiB\"".to_owned(),
            Self::Integer { least, most } => format!("a whole number from {least} to {most}"),
            Self::Rate => "a rate, such as \"50/s\", \"100/m\" or \"20/h\"".to_owned(),
            Self::Order => {
                "a JSON pointer, such as \"/data/object/id\", or \"header:X-Customer\"".to_owned()
            }
            Self::Flag | Self::YesNo => "true or false".to_owned(),
            Self::Address => "an IP address and a port, such as \"127.0.0.1:8081\"".to_owned(),
            Self::Networks => "a list of networks, such as [\"10.0.0.0/8\"]".to_owned(),
            Self::Url => {
                "an absolute URL without a fragment, such as \"https://hooks.example.com/in\""
                    .to_owned()
            }
            Self::Path => "a path, such as \"/webhooks/stripe\"".to_owned(),
            Self::Header => "the name of a header, such as \"Idempotency-Key\"".to_owned(),
            Self::Directory => "the path of a folder".to_owned(),
            Self::File => "the path of a file".to_owned(),
            Self::Table => "a table, such as { name = \"value\" }".to_owned(),
        }
    }
}

/// As the reference shows it, with its bounds.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("text"),
            Self::Texts => f.write_str("list of texts"),
            Self::Secrets => f.write_str("list of texts or files"),
            Self::SigningSecret => f.write_str("`whsec_…`"),
            Self::Choice(words) => write!(f, "`\"{}\"`", words.join("\"` or `\"")),
            Self::Duration { least: Duration::ZERO, most } => {
                write!(f, "duration, up to {}", written(*most))
            }
            Self::Duration { least, most } => {
                write!(f, "duration, {} to {}", written(*least), written(*most))
            }
            Self::Size { least, most } => {
                write!(f, "size, {} to {}", written_size(*least), written_size(*most))
            }
            Self::Integer { least, most } => write!(f, "number, {least} to {most}"),
            Self::Order => f.write_str("JSON pointer, or `header:NAME`"),
            Self::Rate => f.write_str("rate, such as `\"50/s\"`, `\"100/m\"`, `\"20/h\"`"),
            Self::Flag => f.write_str("`true`"),
            Self::YesNo => f.write_str("`true` or `false`"),
            Self::Address => f.write_str("IP address and port"),
            Self::Networks => f.write_str("list of networks"),
            Self::Url => f.write_str("URL"),
            Self::Path => f.write_str("path"),
            Self::Header => f.write_str("name of a header"),
            Self::Directory => f.write_str("folder"),
            Self::File => f.write_str("file, relative to this one"),
            Self::Table => f.write_str("table"),
        }
    }
}

/// What a key is when the file does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// This text, read as if it had been written.
    Text(&'static str),
    /// This duration.
    Duration(Duration),
    /// This number.
    Integer(u64),
    /// Something that depends on the rest: said in words.
    Told(&'static str),
    /// Nothing.
    Unset,
}

/// As the reference shows it.
impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "`\"{text}\"`"),
            Self::Duration(duration) => write!(f, "`\"{}\"`", written(*duration)),
            Self::Integer(number) => write!(f, "`{number}`"),
            Self::Told(words) => f.write_str(words),
            Self::Unset => f.write_str("not set"),
        }
    }
}

/// The keys of a section.
pub(super) fn of_section(section: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.section == section)
}

/// The sections that stand at the top of the file, without the names the file chooses.
pub(super) fn top_sections() -> Vec<&'static str> {
    let mut sections: Vec<&str> =
        KEYS.iter().filter_map(|key| key.section.split('.').next()).collect();
    sections.dedup();
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_there_twice() {
        for (at, key) in KEYS.iter().enumerate() {
            let same = |other: &&Key| other.section == key.section && other.name == key.name;
            assert_eq!(KEYS.iter().position(|other| same(&other)), Some(at), "{}", key.name);
        }
    }

    #[test]
    fn the_keys_of_a_section_stand_together() {
        let mut sections: Vec<_> = KEYS.iter().map(|key| key.section).collect();
        sections.dedup();
        let mut sorted = sections.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sections.len(), sorted.len());
    }

    #[test]
    fn what_a_key_falls_back_to_is_within_its_bounds() {
        for key in KEYS {
            match (key.kind, key.fallback) {
                (Kind::Duration { least, most }, Fallback::Duration(duration)) => {
                    assert!((least..=most).contains(&duration), "{}", key.name);
                }
                (Kind::Integer { least, most }, Fallback::Integer(number)) => {
                    assert!((least..=most).contains(&number), "{}", key.name);
                }
                (Kind::Choice(words), Fallback::Text(word)) => {
                    assert!(words.contains(&word), "{}", key.name);
                }
                (kind, Fallback::Duration(_) | Fallback::Integer(_)) => {
                    panic!("{}: a fallback that {kind:?} cannot have", key.name)
                }
                _ => {}
            }
        }
    }
}
