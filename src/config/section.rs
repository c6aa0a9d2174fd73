//! Reads one section, key by key: what is there, whether it is within its bounds, what it falls back to.
//!
//! A value that is wrong is noted as a mistake and read as if it were not there, so that reading goes
//! on and the next mistake is found in the same run.

use std::time::Duration;

use bytesize::ByteSize;

use super::{
    keys::{self, Fallback, Key, Kind},
    mistakes::{Findings, Place},
    raw::{Entry, Table, Value},
    values::{nearest, written, written_size},
};

/// A section of the file.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    /// Its section in [`keys::KEYS`], such as `sources.NAME`.
    pattern: &'static str,
    /// Its key in the file, such as `sources.stripe`.
    key: &'a str,
    /// Where it begins; `None` when the file does not have it.
    place: Option<Place>,
    table: &'a Table,
}

impl<'a> Section<'a> {
    /// The section `[name]`, which has no keys if the file does not have it.
    pub(super) fn top(root: &'a Table, name: &'static str, found: &mut Findings) -> Self {
        let absent = Self { pattern: name, key: name, place: None, table: Table::EMPTY };
        root.get(name).and_then(|entry| Self::of(name, entry, found)).unwrap_or(absent)
    }

    /// The sections `[group.NAME]` with their names, in the order of the file.
    pub(super) fn named(
        root: &'a Table,
        pattern: &'static str,
        found: &mut Findings,
    ) -> Vec<(&'a str, Self)> {
        let group = pattern.split('.').next().unwrap_or_default();
        let Some(entry) = root.get(group) else { return Vec::new() };
        let Value::Table(table) = &entry.value else {
            found.mistake(entry.place, group, not_a_section(entry, pattern));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (name, entry) in table.in_order() {
            if !is_name(name) {
                found.mistake(
                    entry.key_place,
                    &entry.key,
                    "is not a good name: write up to 64 of a-z, 0-9, _ and -, beginning with a letter or a digit",
                );
            }
            sections.extend(Self::of(pattern, entry, found).map(|section| (name, section)));
        }
        sections
    }

    fn of(pattern: &'static str, entry: &'a Entry, found: &mut Findings) -> Option<Self> {
        let Value::Table(table) = &entry.value else {
            found.mistake(entry.place, &entry.key, not_a_section(entry, pattern));
            return None;
        };
        Some(Self { pattern, key: &entry.key, place: Some(entry.key_place), table })
    }

    /// The section that stands under a key of this one, such as `retry`.
    pub(super) fn inner(&self, name: &str, found: &mut Findings) -> Option<Self> {
        let entry = self.table.get(name)?;
        let is_inner =
            |key: &&Key| key.section.strip_prefix(self.pattern) == Some(&format!(".{name}"));
        let pattern = keys::KEYS.iter().find(is_inner)?.section;
        Self::of(pattern, entry, found)
    }

    /// Notes every key that is neither in the list nor one of `extra`.
    pub(super) fn refuse_unknown_keys(&self, extra: &[&'static str], found: &mut Findings) {
        let mut known: Vec<&str> = keys::of_section(self.pattern).map(|key| key.name).collect();
        known.extend(extra);
        for (name, entry) in self.table.in_order() {
            if !known.contains(&name) {
                found.mistake(entry.key_place, &entry.key, unknown(name, &known));
            }
        }
    }

    /// Whether the file has the key, rightly or wrongly written.
    pub(super) fn has(&self, name: &str) -> bool {
        self.table.get(name).is_some()
    }

    /// The whole key `name` of this section.
    pub(super) fn key_of(&self, name: &str) -> String {
        format!("{}.{name}", self.key)
    }

    /// Notes a mistake about a key: at its value, or at the head of the section if it has none.
    pub(super) fn mistake(&self, name: &str, message: impl Into<String>, found: &mut Findings) {
        found.mistake(self.place_of(name), self.key_of(name), message);
    }

    /// Notes a mistake about the section as a whole.
    pub(super) fn mistake_as_a_whole(&self, message: impl Into<String>, found: &mut Findings) {
        found.mistake(self.place, self.key, message);
    }

    /// Notes something odd about a key.
    pub(super) fn warning(&self, name: &str, message: impl Into<String>, found: &mut Findings) {
        found.warning(self.place_of(name), self.key_of(name), message);
    }

    /// Notes something odd about the section as a whole.
    pub(super) fn warning_as_a_whole(&self, message: impl Into<String>, found: &mut Findings) {
        found.warning(self.place, self.key, message);
    }

    /// A text, as written or as it falls back.
    pub(super) fn text(&self, name: &'static str, found: &mut Findings) -> Option<&'a str> {
        self.parsed(name, found, Some)
    }

    /// A text that `parse` makes something of.
    pub(super) fn parsed<T>(
        &self,
        name: &'static str,
        found: &mut Findings,
        parse: impl Fn(&'a str) -> Option<T>,
    ) -> Option<T> {
        let written = self.read(name, found, |value, kind| match value {
            Value::Text(text) if text.trim().is_empty() => {
                Err(format!("is empty: write {}", kind.wanted()))
            }
            Value::Text(text) => parse(text).ok_or_else(|| not_wanted(kind)),
            other => Err(wrong_type(other, kind)),
        });
        written.or_else(|| match key(self.pattern, name).fallback {
            Fallback::Text(text) => parse(text),
            _ => None,
        })
    }

    /// A word of the few that a key takes.
    pub(super) fn choice(&self, name: &'static str, found: &mut Findings) -> &'a str {
        let key = key(self.pattern, name);
        let Kind::Choice(words) = key.kind else { unreachable!("{name} takes no word") };
        let word = self.text(name, found).unwrap_or_default();
        if !word.is_empty() && !words.contains(&word) {
            self.mistake(name, not_wanted(key.kind), found);
        }
        word
    }

    /// A duration, as written or as it falls back.
    pub(super) fn duration(&self, name: &'static str, found: &mut Findings) -> Duration {
        let Fallback::Duration(fallback) = key(self.pattern, name).fallback else {
            unreachable!("{name} falls back to no duration");
        };
        self.duration_if_written(name, found).unwrap_or(fallback)
    }

    /// A duration, if the file has it.
    pub(super) fn duration_if_written(
        &self,
        name: &'static str,
        found: &mut Findings,
    ) -> Option<Duration> {
        self.read(name, found, |value, kind| {
            let Value::Text(text) = value else { return Err(wrong_type(value, kind)) };
            let duration = humantime::parse_duration(text).map_err(|_| not_wanted(kind))?;
            match kind {
                Kind::Duration { least, .. } if duration < least => {
                    Err(format!("is too short: write at least \"{}\"", written(least)))
                }
                Kind::Duration { most, .. } if duration > most => {
                    Err(format!("is too long: write at most \"{}\"", written(most)))
                }
                _ => Ok(duration),
            }
        })
    }

    /// A number of bytes, if the file has it.
    pub(super) fn size_if_written(
        &self,
        name: &'static str,
        found: &mut Findings,
    ) -> Option<usize> {
        self.read(name, found, |value, kind| {
            let bytes = match value {
                Value::Text(text) => {
                    text.parse::<ByteSize>().map_err(|_| not_wanted(kind))?.as_u64()
                }
                Value::Integer(bytes) => u64::try_from(*bytes).map_err(|_| not_wanted(kind))?,
                other => return Err(wrong_type(other, kind)),
            };
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            match kind {
                Kind::Size { least, .. } if bytes < least => {
                    Err(format!("is too small: write at least \"{}\"", written_size(least)))
                }
                Kind::Size { most, .. } if bytes > most => {
                    Err(format!("is too large: write at most \"{}\"", written_size(most)))
                }
                _ => Ok(bytes),
            }
        })
    }

    /// A number, as written or as it falls back.
    pub(super) fn integer<T: TryFrom<u64>>(&self, name: &'static str, found: &mut Findings) -> T {
        let Fallback::Integer(fallback) = key(self.pattern, name).fallback else {
            unreachable!("{name} falls back to no number");
        };
        let number = self.integer_if_written(name, found).or_else(|| T::try_from(fallback).ok());
        number.expect("what KEYS falls back to fits the type that is read")
    }

    /// A number, if the file has it.
    pub(super) fn integer_if_written<T: TryFrom<u64>>(
        &self,
        name: &'static str,
        found: &mut Findings,
    ) -> Option<T> {
        let number = self.read(name, found, |value, kind| match (value, kind) {
            (Value::Integer(number), Kind::Integer { least, most }) => u64::try_from(*number)
                .ok()
                .filter(|number| (least..=most).contains(number))
                .ok_or_else(|| not_wanted(kind)),
            (other, _) => Err(wrong_type(other, kind)),
        })?;
        let number = T::try_from(number).ok();
        Some(number.expect("the bounds in KEYS fit the type that is read"))
    }

    /// Whether a yes is written.
    pub(super) fn flag_if_written(&self, name: &'static str, found: &mut Findings) -> Option<bool> {
        self.read(name, found, |value, kind| match value {
            Value::Flag(flag) => Ok(*flag),
            other => Err(wrong_type(other, kind)),
        })
    }

    /// A list of texts with their places, if the file has it.
    pub(super) fn texts_if_written(
        &self,
        name: &'static str,
        found: &mut Findings,
    ) -> Option<Vec<(&'a str, Place)>> {
        let kind = key(self.pattern, name).kind;
        let items = self.read(name, found, |value, kind| match value {
            Value::List(items) if items.is_empty() => {
                Err("is empty: leave it out, or say what".to_owned())
            }
            Value::List(items) => Ok(items),
            other => Err(wrong_type(other, kind)),
        })?;
        let mut texts = Vec::new();
        for item in items {
            match &item.value {
                Value::Text(text) if text.trim().is_empty() => {
                    found.mistake(item.place, &item.key, "has an empty text in it");
                }
                Value::Text(text) => texts.push((text.as_str(), item.place)),
                Value::Broken => {}
                other => found.mistake(
                    item.place,
                    &item.key,
                    format!("has {} in it: write {}", other.told(), kind.wanted()),
                ),
            }
        }
        Some(texts)
    }

    /// A value that may be a text, a number, or true or false, as text: what only the provider knows.
    pub(super) fn setting(&self, name: &str, found: &mut Findings) -> Option<String> {
        let entry = self.table.get(name)?;
        match &entry.value {
            Value::Text(text) => Some(text.clone()),
            Value::Integer(number) => Some(number.to_string()),
            Value::Flag(flag) => Some(flag.to_string()),
            Value::Broken => None,
            other => {
                let message = format!("is {}: write a text in quotes", other.told());
                found.mistake(entry.place, &entry.key, message);
                None
            }
        }
    }

    /// The entries of a table whose names are free, such as `headers`.
    pub(super) fn free_table(
        &self,
        name: &'static str,
        found: &mut Findings,
    ) -> Vec<(&'a str, &'a Entry)> {
        let table = self.read(name, found, |value, kind| match value {
            Value::Table(table) => Ok(table),
            other => Err(wrong_type(other, kind)),
        });
        table.map(Table::in_order).unwrap_or_default()
    }

    /// Where a key's value is, or else the head of the section.
    fn place_of(&self, name: &str) -> Option<Place> {
        self.table.get(name).map(|entry| entry.place).or(self.place)
    }

    /// What `parse` makes of a value that is there; its error is the mistake.
    fn read<T>(
        &self,
        name: &'static str,
        found: &mut Findings,
        parse: impl FnOnce(&'a Value, Kind) -> Result<T, String>,
    ) -> Option<T> {
        let entry = self.table.get(name)?;
        if matches!(entry.value, Value::Broken) {
            return None;
        }
        let read = parse(&entry.value, key(self.pattern, name).kind);
        read.map_err(|problem| found.mistake(entry.place, &entry.key, problem)).ok()
    }
}

/// What is said about a key that nobody knows.
pub(super) fn unknown(name: &str, known: &[&str]) -> String {
    if let Some(meant) = nearest(name, known.iter().copied()) {
        return format!("is not known here: did you mean `{meant}`?");
    }
    match keys::KEYS.iter().find(|key| key.name == name) {
        Some(key) => format!("is not known here: it belongs in [{}]", key.section),
        None => format!("is not known here: take it out (known are {})", known.join(", ")),
    }
}

fn key(section: &str, name: &str) -> &'static Key {
    let key = keys::of_section(section).find(|key| key.name == name);
    key.expect("every key that is read is in KEYS")
}

fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && name.chars().all(|char| {
            char.is_ascii_lowercase() || char.is_ascii_digit() || matches!(char, '_' | '-')
        })
}

fn not_a_section(entry: &Entry, pattern: &str) -> String {
    format!("is {}: write it as a section, [{pattern}]", entry.value.told())
}

fn wrong_type(value: &Value, kind: Kind) -> String {
    format!("is {}: write {}", value.told(), kind.wanted())
}

fn not_wanted(kind: Kind) -> String {
    format!("cannot be understood: write {}", kind.wanted())
}
