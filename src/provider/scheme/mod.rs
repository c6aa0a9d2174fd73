//! The recipe most providers share: a few parts of the request are put one after the other, signed
//! with a key, and the signature is put into a header, often beside the time.
//!
//! A provider's file fills in a [`Recipe`]; everything that has to be right every time (constant
//! time, doubled headers, tolerance both ways, every signature against every key) is done here,
//! once.

pub mod jwt;
pub mod keys;
pub mod public;
#[cfg(test)]
mod tests;
mod usual;

use std::{borrow::Cow, time::Duration};

use self::keys::Keys;
use super::{NotSignable, Scheme, Settings};
use crate::{
    clock::Timestamp,
    limits,
    refusal::SignatureProblem,
    request::{HeaderProblem, Unverified},
};

pub use self::keys::{Algorithm, Encoding, KeyForm};

/// How far a signed time may be off, unless the provider or the source says otherwise.
pub const TOLERANCE: Duration = Duration::from_mins(5);

/// For a provider that names no tolerance and may send an old time again: the time is signed and any
/// age will do, unless the source says otherwise.
pub const ANY_AGE: Duration = Duration::MAX;

/// How a provider signs.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// With what.
    pub algorithm: Algorithm,
    /// How the text of a key stands for its bytes.
    pub key: KeyForm,
    /// Where the signatures are.
    pub signature: Placement,
    /// How a signature is written.
    pub encoding: Encoding,
    /// Where the time of signing is, if there is one. It must be among the signed parts.
    pub time: Option<Time>,
    /// What is signed, in order.
    pub signed: Vec<Part>,
}

/// Where the signatures of a request are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// One signature is the whole of a header after a prefix, which may be empty: `sha256=…`.
    Whole {
        /// The header.
        header: String,
        /// What stands before the signature.
        prefix: String,
    },
    /// Items of a header, in any order: `t=…,v1=…`. The signatures are the values of one name;
    /// other names are ignored. Nothing is trimmed.
    Items {
        /// The header.
        header: String,
        /// What stands between two items.
        separator: char,
        /// The name of a signature.
        name: String,
    },
    /// A list of signatures with spaces in between, each with its version: `v1,… v1,…`. Other
    /// versions are ignored.
    List {
        /// The header.
        header: String,
        /// The version.
        version: String,
    },
    /// One signature after a prefix in each header of this name, of which there may be several; a
    /// proxy may have joined them with commas.
    Each {
        /// The header.
        header: String,
        /// What stands before each signature.
        prefix: String,
    },
}

/// Where the time of signing is, and how it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Time {
    /// Where it is.
    pub place: TimePlace,
    /// How it is written.
    pub unit: TimeUnit,
    /// How far it may be off, both ways, unless the source says otherwise.
    pub tolerance: Duration,
}

/// Where the time of signing is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimePlace {
    /// A header of its own.
    Header(String),
    /// An item of this name in the header of the signatures, which must be [`Placement::Items`].
    Item(String),
}

/// How a time of signing is written: what it counts since the Unix epoch, or as a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Whole seconds.
    Seconds,
    /// Milliseconds.
    Millis,
    /// A date and time after RFC 3339, with any number of decimals.
    Rfc3339,
}

/// A part of what is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The time, as it is written in the request.
    Time,
    /// A fixed text.
    Text(String),
    /// The body, byte for byte.
    Body,
    /// The value of a header that must be there once.
    Header(String),
    /// The URL as the provider knows it.
    Url,
    /// The method.
    Method,
}

impl Recipe {
    /// The scheme with the keys of a source in it.
    ///
    /// # Errors
    /// Everything that is wrong with the source's keys and tolerance, as `key: what to write
    /// instead`.
    pub fn scheme(self, settings: &Settings) -> Result<RecipeScheme, Vec<String>> {
        let mut wrong = Vec::new();
        if settings.tolerance.is_some() && self.time.is_none() {
            wrong.push("tolerance: this provider signs no time; take it out".to_owned());
        }
        wrong.extend(tolerance_problem(settings));
        match Keys::new(self.algorithm, self.key, settings) {
            Ok(keys) if wrong.is_empty() => {
                let tolerance = settings.tolerance;
                Ok(RecipeScheme { recipe: self, keys, tolerance })
            }
            Ok(_) => Err(wrong),
            Err(more) => Err([wrong, more].concat()),
        }
    }
}

/// What is wrong with a source's tolerance, as `key: what to write instead`.
pub fn tolerance_problem(settings: &Settings) -> Option<String> {
    let hours = limits::TOLERANCE_MAX.as_secs() / 3600;
    let too_long = settings.tolerance.is_some_and(|tolerance| tolerance > limits::TOLERANCE_MAX);
    too_long.then(|| format!("tolerance: at most {hours} hours; write a shorter one"))
}

/// A recipe with the keys of one source in it.
#[derive(Debug)]
pub struct RecipeScheme {
    recipe: Recipe,
    keys: Keys,
    tolerance: Option<Duration>,
}

impl Scheme for RecipeScheme {
    fn verify(&self, request: &Unverified, now: Timestamp) -> Result<(), SignatureProblem> {
        let header = &self.recipe.signature.read(request)?;
        let time = match &self.recipe.time {
            Some(time) => {
                let text = self.time_text(time, request, header)?;
                time.check(text, self.tolerance, now)?;
                text
            }
            None => "",
        };
        let message = self.message(request, time)?;
        let decode = |text| self.recipe.encoding.decode(text);
        let signatures: Vec<_> = self
            .recipe
            .signature
            .signatures(header)
            .take(limits::SIGNATURES_TRIED_MAX)
            .filter_map(decode)
            .collect();
        if signatures.is_empty() {
            let name = self.recipe.signature.header();
            return Err(SignatureProblem::Form(format!("header `{name}` holds no signature")));
        }
        if self.keys.made_any(&signatures, &message) {
            Ok(())
        } else {
            Err(SignatureProblem::NoMatch)
        }
    }

    fn sign(&self, draft: &mut Unverified, now: Timestamp) -> Result<(), NotSignable> {
        let time = self.recipe.time.as_ref().map(|time| (time, time.unit.write(now)));
        if let Some((Time { place: TimePlace::Header(name), .. }, text)) = &time {
            draft.headers.set(name, text.clone());
        }
        let time_text = time.as_ref().map_or("", |(_, text)| text);
        let message =
            self.message(draft, time_text).map_err(|problem| NotSignable(problem.to_string()))?;
        let signature = self.keys.sign(&message).ok_or_else(|| {
            NotSignable("its private key is not here, only public ones".to_owned())
        })?;
        let signature = self.recipe.encoding.encode(&signature);
        let value = match &self.recipe.signature {
            Placement::Whole { prefix, .. } | Placement::Each { prefix, .. } => {
                format!("{prefix}{signature}")
            }
            Placement::List { version, .. } => format!("{version},{signature}"),
            Placement::Items { separator, name, .. } => match &time {
                Some((Time { place: TimePlace::Item(time_name), .. }, text)) => {
                    format!("{time_name}={text}{separator}{name}={signature}")
                }
                _ => format!("{name}={signature}"),
            },
        };
        draft.headers.set(self.recipe.signature.header(), value);
        Ok(())
    }
}

impl RecipeScheme {
    /// The time as it is written in the request: the signature covers its spelling.
    fn time_text<'r>(
        &self,
        time: &Time,
        request: &'r Unverified,
        header: &'r str,
    ) -> Result<&'r str, SignatureProblem> {
        match &time.place {
            TimePlace::Header(name) => only(request, name),
            TimePlace::Item(name) => {
                let mut times = self.recipe.signature.items(header, name);
                match (times.next(), times.next()) {
                    (Some(text), None) => Ok(text),
                    (None, _) => Err(SignatureProblem::Form(format!("no item `{name}`"))),
                    (Some(_), Some(_)) => {
                        Err(SignatureProblem::Form(format!("more than one item `{name}`")))
                    }
                }
            }
        }
    }

    /// What is signed, in parts, so that the body is not copied.
    fn message<'r>(
        &'r self,
        request: &'r Unverified,
        time: &'r str,
    ) -> Result<Vec<&'r [u8]>, SignatureProblem> {
        message(&self.recipe.signed, request, time)
    }
}

/// What `parts` stand for in a request.
///
/// # Errors
/// When a header among them is not there once.
pub fn message<'r>(
    parts: &'r [Part],
    request: &'r Unverified,
    time: &'r str,
) -> Result<Vec<&'r [u8]>, SignatureProblem> {
    let bytes = |part: &'r Part| match part {
        Part::Time => Ok(time.as_bytes()),
        Part::Text(text) => Ok(text.as_bytes()),
        Part::Body => Ok(request.body.as_ref()),
        Part::Header(name) => only(request, name).map(str::as_bytes),
        Part::Url => Ok(request.url.as_bytes()),
        Part::Method => Ok(request.method.as_bytes()),
    };
    parts.iter().map(bytes).collect()
}

/// The value of a header that a verdict hangs on.
///
/// # Errors
/// When it is missing, doubled or malformed.
pub fn only<'r>(request: &'r Unverified, name: &str) -> Result<&'r str, SignatureProblem> {
    request.headers.only(name).map_err(|problem| SignatureProblem::Header(name.to_owned(), problem))
}

impl Placement {
    /// The header that holds the signatures.
    pub fn header(&self) -> &str {
        match self {
            Self::Whole { header, .. }
            | Self::Items { header, .. }
            | Self::List { header, .. }
            | Self::Each { header, .. } => header,
        }
    }

    /// The value of that header; of several, where there may be several, joined with commas.
    fn read<'r>(&self, request: &'r Unverified) -> Result<Cow<'r, str>, SignatureProblem> {
        let Self::Each { header, .. } = self else {
            return only(request, self.header()).map(Cow::Borrowed);
        };
        let problem = |problem| SignatureProblem::Header(header.clone(), problem);
        let values: Vec<_> = request
            .headers
            .all(header)
            .map(|value| std::str::from_utf8(value).ok().filter(|text| !text.is_empty()))
            .collect::<Option<_>>()
            .ok_or_else(|| problem(HeaderProblem::Malformed))?;
        if values.is_empty() {
            return Err(problem(HeaderProblem::Missing));
        }
        Ok(Cow::Owned(values.join(",")))
    }

    /// Every signature in the value of the header, as it is written.
    fn signatures<'h>(&'h self, value: &'h str) -> Box<dyn Iterator<Item = &'h str> + 'h> {
        match self {
            Self::Whole { prefix, .. } => Box::new(value.strip_prefix(prefix.as_str()).into_iter()),
            Self::Each { prefix, .. } => Box::new(
                value
                    .split(',')
                    .filter_map(move |text| text.trim_matches(' ').strip_prefix(prefix)),
            ),
            Self::Items { name, .. } => Box::new(self.items(value, name)),
            Self::List { version, .. } => {
                let entries = value.split(' ').filter_map(|entry| entry.split_once(','));
                Box::new(entries.filter(move |(known, _)| known == version).map(|(_, text)| text))
            }
        }
    }

    /// The values of the items of this name. Only [`Placement::Items`] has any.
    fn items<'h, 'n>(
        &self,
        value: &'h str,
        name: &'n str,
    ) -> impl Iterator<Item = &'h str> + use<'h, 'n> {
        let separator = match self {
            Self::Items { separator, .. } => Some(*separator),
            Self::Whole { .. } | Self::List { .. } | Self::Each { .. } => None,
        };
        separator
            .into_iter()
            .flat_map(move |separator| value.split(separator))
            .filter_map(|item| item.split_once('='))
            .filter(move |(known, _)| *known == name)
            .map(|(_, text)| text)
    }
}

impl Time {
    /// Seconds in a header of this name, with the usual tolerance.
    pub fn header(name: &str) -> Self {
        let place = TimePlace::Header(name.to_owned());
        Self { place, unit: TimeUnit::Seconds, tolerance: TOLERANCE }
    }

    /// Seconds in an item of this name, with the usual tolerance.
    pub fn item(name: &str) -> Self {
        let place = TimePlace::Item(name.to_owned());
        Self { place, unit: TimeUnit::Seconds, tolerance: TOLERANCE }
    }

    /// Whether the signed time is near enough to `now`: as far off as the tolerance is near enough.
    ///
    /// # Errors
    /// When it is not, or is not written as a time.
    pub fn check(
        &self,
        text: &str,
        tolerance: Option<Duration>,
        now: Timestamp,
    ) -> Result<(), SignatureProblem> {
        let malformed =
            || SignatureProblem::Form("the signed time is not written as it should be".into());
        let signed = self.unit.read(text).ok_or_else(malformed)?;
        let (now, unit_ms) = match self.unit {
            TimeUnit::Seconds => (now.as_seconds(), 1000),
            TimeUnit::Millis | TimeUnit::Rfc3339 => (now.as_millis(), 1),
        };
        let age_ms = now.saturating_sub(signed).saturating_mul(unit_ms);
        if u128::from(age_ms.unsigned_abs()) <= tolerance.unwrap_or(self.tolerance).as_millis() {
            Ok(())
        } else {
            Err(SignatureProblem::Stale(age_ms / 1000))
        }
    }
}

impl TimeUnit {
    /// Seconds, or milliseconds for everything finer.
    fn read(self, text: &str) -> Option<i64> {
        match self {
            Self::Seconds | Self::Millis => {
                // A sign or a space would be a second spelling; 15 digits reach beyond any real time.
                let digits = text.len() <= 15 && text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse().ok().filter(|_| digits)
            }
            Self::Rfc3339 => {
                text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
            }
        }
    }

    fn write(self, now: Timestamp) -> String {
        match self {
            Self::Rfc3339 => {
                let time = jiff::Timestamp::from_millisecond(now.as_millis()).unwrap_or_default();
                format!("{time:.9}")
            }
            Self::Seconds => now.as_seconds().to_string(),
            Self::Millis => now.as_millis().to_string(),
        }
    }
}

impl Part {
    /// A fixed text.
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// The value of a header.
    pub fn header(name: &str) -> Self {
        Self::Header(name.to_owned())
    }
}
