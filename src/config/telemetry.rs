//! `[telemetry]`: where traces go.

use url::Url;

use super::{mistakes::Findings, section::Section};

/// What is appended to the address of a collector: all exporters do so.
const PATH: &str = "v1/traces";

/// The settings of traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// The URL of a collector that they are posted to. Never there in a program that cannot send any.
    pub otlp: Option<Url>,
    /// Of so many events one is traced.
    pub traces_one_in: u64,
}

pub(super) fn resolve(section: &Section<'_>, found: &mut Findings) -> Telemetry {
    section.refuse_unknown_keys(&[], found);
    let otlp = section.parsed("otlp", found, endpoint);
    if otlp.is_some() && !cfg!(feature = "otlp") {
        section.mistake(
            "otlp",
            "is written, and this program was built without traces: build it with `cargo build --release --features otlp`, or take the key out",
            found,
        );
    }
    Telemetry { otlp, traces_one_in: section.integer("traces_one_in", found) }
}

/// Where a collector at this address takes traces.
fn endpoint(collector: &str) -> Option<Url> {
    let mut url = Url::parse(collector).ok()?;
    let is_usable = matches!(url.scheme(), "http" | "https") && url.query().is_none();
    let path = url.path().trim_end_matches('/');
    if !path.ends_with(PATH) {
        url.set_path(&format!("{path}/{PATH}"));
    }
    is_usable.then_some(url)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
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

    #[test]
    fn the_path_is_appended_once() {
        for (collector, expected) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("http://collector:4318/", "http://collector:4318/v1/traces"),
            ("https://example.com/otlp", "https://example.com/otlp/v1/traces"),
            ("https://example.com/otlp/v1/traces", "https://example.com/otlp/v1/traces"),
        ] {
            assert_eq!(endpoint(collector).unwrap().as_str(), expected);
        }
        assert_eq!(endpoint("grpc://collector:4317"), None);
    }
}
