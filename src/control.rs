//! What a person has said about a handler while it runs. It stands over the configuration and in the
//! store, so that it holds for every process and over restarts, until it is taken back.

use std::{collections::BTreeMap, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rate::Rate;

/// What holds now, by handler. A handler that nobody has said anything about need not be there.
pub type Controls = BTreeMap<Arc<str>, Control>;

/// What holds for one handler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// No attempt begins: its events are accepted and kept.
    pub paused: bool,
    /// What stands in the place of the configured limits.
    pub limits: Limits,
}

/// How much a handler may do at once, and how often. Each counts per process; `None`: as configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Attempts at once.
    #[serde(default)]
    pub concurrency: Option<usize>,
    /// How often attempts begin.
    #[serde(default)]
    pub rate: Option<Rate>,
}

/// One thing to say. What is said later of the same handler and the same thing stands in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Whether it is paused.
    Paused(bool),
    /// Its limits, all of them.
    Limits(Limits),
}

impl Control {
    /// All that is said in it.
    pub fn settings(self) -> [Setting; 2] {
        [Setting::Paused(self.paused), Setting::Limits(self.limits)]
    }

    /// Takes a setting over.
    pub fn set(&mut self, setting: Setting) {
        match setting {
            Setting::Paused(paused) => self.paused = paused,
            Setting::Limits(limits) => self.limits = limits,
        }
    }
}

impl Setting {
    /// Which thing it is about, as stores write it down.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Paused(_) => "paused",
            Self::Limits(_) => "limits",
        }
    }

    /// What it says, as stores write it down.
    pub fn value(&self) -> String {
        let value = match self {
            Self::Paused(paused) => serde_json::to_string(paused),
            Self::Limits(limits) => serde_json::to_string(limits),
        };
        value.expect("plain data can be written down")
    }

    /// What a store has written down. `None`: a newer version has, about something that we do not know.
    pub fn read(name: &str, value: &str) -> Option<Self> {
        match name {
            "paused" => serde_json::from_str(value).ok().map(Self::Paused),
            "limits" => serde_json::from_str(value).ok().map(Self::Limits),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_read_again() {
        let limits = Limits { concurrency: Some(3), rate: "50/s".parse().ok() };
        for setting in [
            Setting::Paused(true),
            Setting::Paused(false),
            Setting::Limits(limits),
            Setting::Limits(Limits::default()),
        ] {
            assert_eq!(Setting::read(setting.name(), &setting.value()), Some(setting));
        }
        assert_eq!(Setting::read("colour", "\"blue\""), None);
    }
}
