//! What is wrong, or odd, in a configuration, and where.

use std::{fmt, path::Path};

use serde::Serialize;

/// Everything that is wrong with a configuration: never empty, in the order of the file.
///
/// No message shows a value of the file or of the environment, since either may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Mistakes(Vec<Remark>);

impl Mistakes {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Remark> {
        self.0.iter()
    }

    /// Whether all that is wrong is that variables are missing here. A server that was started with
    /// them runs all the same.
    pub fn are_missing_variables(&self) -> bool {
        self.0.iter().all(|remark| remark.is_missing_variable)
    }
}

/// One per line.
impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, remark) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            remark.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// Something about one place of the file: a mistake, or a warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// The file.
    pub file: String,
    /// Where in the file; `None` where it is about the file as a whole.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// The whole key, such as `sources.stripe.secrets`; empty where it is about no key.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub message: String,
    /// Whether it is that a variable is missing in the environment.
    #[serde(skip)]
    pub is_missing_variable: bool,
}

/// `hookonce.toml:12:3: sources.stripe.secrets: what is wrong`
impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(Place { line, column }) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// A place in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
}

/// Collects what is found while a file is read, so that one mistake does not hide the next.
#[derive(Debug)]
pub(super) struct Findings {
    file: String,
    mistakes: Vec<Remark>,
    warnings: Vec<Remark>,
}

impl Findings {
    pub(super) fn new(file: &Path) -> Self {
        let file = file.display().to_string();
        Self { file, mistakes: Vec::new(), warnings: Vec::new() }
    }

    /// Notes a mistake, at a place or about the whole.
    pub(super) fn mistake(
        &mut self,
        place: impl Into<Option<Place>>,
        key: impl Into<String>,
        message: impl Into<String>,
    ) {
        let remark = self.remark(place.into(), key.into(), message.into());
        self.mistakes.push(remark);
    }

    /// Notes that a text could not be read because a variable is missing.
    pub(super) fn missing_variable(&mut self, place: Place, key: &str, message: String) {
        let remark = self.remark(Some(place), key.to_owned(), message);
        self.mistakes.push(Remark { is_missing_variable: true, ..remark });
    }

    /// Notes something odd that is no mistake.
    pub(super) fn warning(
        &mut self,
        place: impl Into<Option<Place>>,
        key: impl Into<String>,
        message: impl Into<String>,
    ) {
        let remark = self.remark(place.into(), key.into(), message.into());
        self.warnings.push(remark);
    }

    /// Whether a mistake about this key is known already.
    pub(super) fn has_mistake_at(&self, key: &str) -> bool {
        self.mistakes.iter().any(|mistake| mistake.key == key)
    }

    /// The warnings, if there was no mistake.
    pub(super) fn finish(mut self) -> Result<Vec<Remark>, Mistakes> {
        if !self.mistakes.is_empty() {
            return Err(self.into_mistakes());
        }
        self.warnings.sort_by_key(|warning| warning.place);
        Ok(self.warnings)
    }

    /// The mistakes, where it is known that there are some.
    pub(super) fn into_mistakes(mut self) -> Mistakes {
        self.mistakes.sort_by_key(|mistake| mistake.place);
        Mistakes(self.mistakes)
    }

    fn remark(&self, place: Option<Place>, key: String, message: String) -> Remark {
        Remark { file: self.file.clone(), place, key, message, is_missing_variable: false }
    }
}
