//! `[telemetry]`: where traces go.

use url::Url;

use super::{mistakes::Findings, section::Section};

/// The settings of traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// The collector they are sent to. Never there in a program that cannot send any.
    pub otlp: Option<Url>,
    /// Of so many events one is traced.
    pub traces_one_in: u64,
}

pub(super) fn resolve(section: &Section<'_>, found: &mut Findings) -> Telemetry {
    section.refuse_unknown_keys(&[], found);
    let otlp = section.parsed("otlp", found, |text| {
        let url = Url::parse(text).ok()?;
        (matches!(url.scheme(), "http" | "https") && url.query().is_none()).then_some(url)
    });
    if otlp.is_some() && !cfg!(feature = "otlp") {
        section.mistake(
            "otlp",
            "is written, and this program was built without traces: build it with `cargo build --release --features otlp`, or take the key out",
            found,
        );
    }
    Telemetry { otlp, traces_one_in: section.integer("traces_one_in", found) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::{
        config::{Config, Mistakes, Surroundings},
        provider::PROVIDERS,
    };

    fn config(text: &str) -> Result<Config, Mistakes> {
        let around =
            Surroundings { environment: &|_| None, providers: PROVIDERS, folder: Path::new("") };
        Config::parse(text, Path::new("hookonce.toml"), &around)
    }

    #[test]
    fn without_a_collector_there_are_no_traces() {
        let telemetry = config("").unwrap().telemetry;
        assert_eq!((telemetry.otlp, telemetry.traces_one_in), (None, 1));
    }

    #[test]
    fn a_collector_is_for_programs_that_can_send_to_it() {
        let told =
            config("telemetry.otlp = \"http://127.0.0.1:4318\"").map_err(|it| it.to_string());
        match told {
            Ok(config) => assert!(cfg!(feature = "otlp") && config.telemetry.otlp.is_some()),
            Err(why) => assert!(why.contains("--features otlp"), "{why}"),
        }
    }
}
