//! `[workers]`: how deliveries are held while they are tried.

use std::time::Duration;

use super::{mistakes::Findings, section::Section};

/// The workers' settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers {
    /// How long a delivery stays with a worker that gives no sign of life.
    pub lease: Duration,
}

pub(super) fn resolve(section: &Section<'_>, found: &mut Findings) -> Workers {
    section.refuse_unknown_keys(&[], found);
    Workers { lease: section.duration("lease", found) }
}
