//! The file as it was written: its values with their places, variables filled in, nothing decided yet.

use std::collections::BTreeMap;

use toml::{
    Spanned,
    de::{DeInteger, DeTable, DeValue},
};

use super::{
    environment::{Environment, Problem, fill_in},
    mistakes::{Findings, Place},
};

/// A table of the file. Nothing here implements `Debug`: it holds secrets.
pub(super) struct Table(BTreeMap<String, Entry>);

/// A key of a table, or an item of a list.
pub(super) struct Entry {
    /// The whole key, such as `sources.stripe.secrets`; an item has the key of its list.
    pub(super) key: String,
    /// Where the key is written.
    pub(super) key_place: Place,
    /// Where the value is written; for a table, where its key is.
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A value of the file.
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Flag(bool),
    List(Vec<Entry>),
    Table(Table),
    /// What no key wants, in words.
    Other(&'static str),
    /// A text whose variables could not be filled in, which has been noted.
    Broken,
}

impl Table {
    /// What stands for a section that the file does not have.
    pub(super) const EMPTY: &'static Self = &Self(BTreeMap::new());

    pub(super) fn get(&self, name: &str) -> Option<&Entry> {
        self.0.get(name)
    }

    /// The names and their entries, in the order of the file.
    pub(super) fn in_order(&self) -> Vec<(&str, &Entry)> {
        let mut entries: Vec<_> =
            self.0.iter().map(|(name, entry)| (name.as_str(), entry)).collect();
        entries.sort_by_key(|(_, entry)| entry.key_place);
        entries
    }
}

impl Value {
    /// What it is, in words.
    pub(super) fn told(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Broken => "a text",
            Self::Integer(_) => "a number",
            Self::Flag(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(told) => told,
        }
    }
}

/// Reads a file. `None` when it is no TOML: then nothing else can be said about it.
pub(super) fn parse(
    text: &str,
    environment: &Environment<'_>,
    found: &mut Findings,
) -> Option<Table> {
    read(text, None, environment, found)
}

/// Reads these keys of a file, such as `server.listen`, with all that stands in them, and looks at no
/// other.
pub(super) fn parse_keys(
    text: &str,
    keys: &[&str],
    environment: &Environment<'_>,
    found: &mut Findings,
) -> Option<Table> {
    read(text, Some(keys), environment, found)
}

fn read(
    text: &str,
    keys: Option<&[&str]>,
    environment: &Environment<'_>,
    found: &mut Findings,
) -> Option<Table> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let offset = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
    // The first one alone: after a quote too few the parser stumbles over all that follows.
    if let Some(error) = errors.iter().min_by_key(|error| offset(error)) {
        // Only what the parser says, not its `Display`, which shows the line and the secret in it.
        let message = format!("this is not TOML: {}", error.message());
        found.mistake(place(text, offset(error)), "", message);
        return None;
    }
    let mut reader = Reader { text, keys, environment, found };
    Some(reader.table("", table.get_ref()))
}

struct Reader<'a> {
    text: &'a str,
    /// What is to be read; `None` is everything.
    keys: Option<&'a [&'a str]>,
    environment: &'a Environment<'a>,
    found: &'a mut Findings,
}

impl Reader<'_> {
    fn table(&mut self, parent: &str, table: &DeTable<'_>) -> Table {
        let mut entries = BTreeMap::new();
        for (name, value) in table {
            let key_place = self.place(name);
            let name = name.get_ref().to_string();
            let key = if parent.is_empty() { name.clone() } else { format!("{parent}.{name}") };
            if !self.is_wanted(&key) {
                continue;
            }
            let place = if value.get_ref().is_table() { key_place } else { self.place(value) };
            let value = self.value(&key, place, value.get_ref());
            entries.insert(name, Entry { key, key_place, place, value });
        }
        Table(entries)
    }

    fn value(&mut self, key: &str, place: Place, value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => match fill_in(text, self.environment) {
                Ok(filled) => Value::Text(filled),
                Err(problems) => {
                    for problem in problems {
                        let message = problem.to_string();
                        match problem {
                            Problem::Missing(_) => self.found.missing_variable(place, key, message),
                            Problem::Unreadable => self.found.mistake(place, key, message),
                        }
                    }
                    Value::Broken
                }
            },
            DeValue::Integer(integer) => number(integer),
            DeValue::Boolean(flag) => Value::Flag(*flag),
            DeValue::Table(table) => Value::Table(self.table(key, table)),
            DeValue::Array(items) => {
                let item = |item: &Spanned<DeValue<'_>>| {
                    let place = self.place(item);
                    let value = self.value(key, place, item.get_ref());
                    Entry { key: key.to_owned(), key_place: place, place, value }
                };
                Value::List(items.iter().map(item).collect())
            }
            DeValue::Float(_) => Value::Other("a number with a fraction"),
            DeValue::Datetime(_) => Value::Other("a date"),
        }
    }

    /// Whether a key is one of those to be read, stands in one, or has one standing in it.
    fn is_wanted(&self, key: &str) -> bool {
        let is_in = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.keys.is_none_or(|keys| keys.iter().any(|it| is_in(key, it) || is_in(it, key)))
    }

    fn place<T>(&self, spanned: &Spanned<T>) -> Place {
        place(self.text, spanned.span().start)
    }
}

fn number(integer: &DeInteger<'_>) -> Value {
    match i64::from_str_radix(integer.as_str(), integer.radix()) {
        Ok(number) => Value::Integer(number),
        Err(_) => Value::Other("a number that is far too large"),
    }
}

/// The place of the byte at `offset`.
fn place(text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Place {
        line: before.matches('\n').count() + 1,
        column: before.chars().count() - before.get(..line_start).unwrap_or("").chars().count() + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text = "a = 1\nä = \"ö\" # x";
        for (offset, line, column) in [(0, 1, 1), (4, 1, 5), (6, 2, 1), (11, 2, 5), (99, 2, 12)] {
            assert_eq!(place(text, offset), Place { line, column }, "{offset}");
        }
    }
}
