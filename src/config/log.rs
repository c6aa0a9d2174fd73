//! `[log]`: what the operator reads.

use tracing::level_filters::LevelFilter;

use super::{mistakes::Findings, section::Section};

/// The log's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// For whom it is written.
    pub format: LogFormat,
    /// Which levels it shows, as `level` or `module=level`, between commas. `None`: `info`.
    pub level: Option<String>,
}

/// For whom a log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// For programs: one JSON object per line.
    Json,
}

pub(super) fn resolve(section: &Section<'_>, found: &mut Findings) -> Log {
    section.refuse_unknown_keys(&[], found);
    let format = match section.choice("format", found) {
        "json" => LogFormat::Json,
        _ => LogFormat::Pretty,
    };
    let level = section.text("level", found);
    if level.is_some_and(|level| !are_directives(level)) {
        section.mistake(
            "level",
            "cannot be understood: write \"info\", or \"info,hookonce=debug\"",
            found,
        );
    }
    Log { format, level: level.map(str::to_owned) }
}

/// Whether every piece names a level: on its own `tracing` would take a mistyped one for a module.
fn are_directives(text: &str) -> bool {
    text.split(',').all(|piece| {
        let level = piece.rsplit('=').next().unwrap_or_default();
        !level.trim().is_empty() && level.trim().parse::<LevelFilter>().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_none_is_noticed() {
        for (text, fine) in [
            ("info", true),
            ("warn,hookonce::work=debug", true),
            ("inof", false),
            ("info,hookonce", false),
            ("info,", false),
        ] {
            assert_eq!(are_directives(text), fine, "{text}");
        }
    }
}
