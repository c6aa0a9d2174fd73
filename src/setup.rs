//! What a reload replaces: the sources, the handlers, the APIs and who is told, as one value.
//!
//! Whoever serves a request or begins an attempt takes the value once and keeps it to the end. So
//! nobody sees half of an old configuration and half of a new one, and nobody waits for a reload.

use std::{collections::BTreeMap, fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    api::{Api, UpstreamUrl},
    control::{Control, Controls},
    handler::Configured,
    notice::Notices,
    source::Source,
};

/// The sources, the handlers and the APIs, each by name. No two of them share a path.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// The sources by name.
    pub sources: BTreeMap<Arc<str>, Arc<Source>>,
    /// The handlers by name.
    pub handlers: BTreeMap<Arc<str>, Configured>,
    /// The APIs by name.
    pub apis: BTreeMap<Arc<str>, Arc<Api>>,
    /// Who is told what happens, without asking.
    pub notices: Arc<Notices>,
    /// What people have said about handlers; `None` until it was read. A reload does not touch it.
    pub controls: Option<Controls>,
}

/// What answers at a path.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// A source: its path is the whole path.
    Source(Arc<Source>),
    /// An API, and the upstream it stands in front of: its path is the head of the path.
    Api(Arc<Api>, UpstreamUrl),
}

impl Setup {
    /// A setup of these parts.
    pub fn new(sources: Vec<Source>, handlers: Vec<Configured>, apis: Vec<Api>) -> Self {
        let source = |source: Source| (Arc::clone(&source.name), Arc::new(source));
        let handler = |handler: Configured| (Arc::clone(&handler.name), handler);
        let api = |api: Api| (Arc::clone(&api.name), Arc::new(api));
        Self {
            sources: sources.into_iter().map(source).collect(),
            handlers: handlers.into_iter().map(handler).collect(),
            apis: apis.into_iter().map(api).collect(),
            notices: Arc::default(),
            controls: None,
        }
    }

    /// What holds for this handler beside its configuration.
    pub fn control(&self, handler: &str) -> Control {
        self.controls
            .as_ref()
            .and_then(|controls| controls.get(handler))
            .copied()
            .unwrap_or_default()
    }

    /// How this handler is to be run now; `None` where it is not to be: it is paused, or not configured,
    /// or not known to be running.
    pub fn to_run(&self, handler: &str) -> Option<Configured> {
        self.controls.as_ref()?;
        let control = self.control(handler);
        let configured = self.handlers.get(handler).filter(|_| !control.paused)?;
        Some(configured.under(control.limits))
    }

    /// What answers at `path`, if anything does.
    pub fn endpoint(&self, path: &str) -> Option<Endpoint> {
        let source = self.sources.values().find(|source| source.path == path);
        let source = source.map(|source| Endpoint::Source(Arc::clone(source)));
        source.or_else(|| {
            let api = self.apis.values().find(|api| api.upstream.is_some() && api.is_at(path))?;
            Some(Endpoint::Api(Arc::clone(api), api.upstream.clone()?))
        })
    }

    /// What it takes to get from this setup to `new`.
    pub fn changes(&self, new: &Self) -> Reloaded {
        Reloaded {
            sources: Names::between(&self.sources, &new.sources),
            handlers: Names::between(&self.handlers, &new.handlers),
            apis: Names::between(&self.apis, &new.apis),
            needs_restart: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

/// Loads the configuration again and puts it in the place of the one that runs, whole or not at all.
pub trait Reload: fmt::Debug + Send + Sync {
    /// Does it, and says what came of it. What runs meanwhile is not disturbed.
    ///
    /// # Errors
    /// When there is a mistake in the configuration: then the old one goes on.
    fn reload(&self) -> Result<Reloaded, NotReloaded>;
}

/// What a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reloaded {
    /// The sources.
    pub sources: Names,
    /// The handlers.
    pub handlers: Names,
    /// The APIs.
    pub apis: Names,
    /// Keys that changed in the file but take a restart: they stay as they were.
    pub needs_restart: Vec<String>,
    /// What is odd about the file but no mistake.
    pub warnings: Vec<String>,
}

/// Which names came, which went, and how many are still there, changed or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Names {
    /// These are new.
    pub added: Vec<String>,
    /// These are gone.
    pub removed: Vec<String>,
    /// So many have stayed.
    pub kept: usize,
}

/// Why the configuration was not reloaded: every mistake, a line each. The old one goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration was not reloaded, and the old one goes on: {0}")]
pub struct NotReloaded(pub String);

impl Names {
    fn between<T>(old: &BTreeMap<Arc<str>, T>, new: &BTreeMap<Arc<str>, T>) -> Self {
        let only_in = |here: &BTreeMap<Arc<str>, T>, there: &BTreeMap<Arc<str>, T>| {
            let names = here.keys().filter(|name| !there.contains_key(*name));
            names.map(ToString::to_string).collect::<Vec<_>>()
        };
        let added = only_in(new, old);
        Self { kept: new.len() - added.len(), removed: only_in(old, new), added }
    }
}

/// For people: `3 kept, new: a, gone: b, c`.
impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kept", self.kept)?;
        for (word, names) in [("new", &self.added), ("gone", &self.removed)] {
            if !names.is_empty() {
                write!(f, ", {word}: {}", names.join(", "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{self, Settings};

    fn source(name: &str, path: &str) -> Source {
        let stripe = provider::find("stripe").expect("it is there");
        let settings = Settings {
            secrets: vec![crate::secret::Secret::new("whsec_test")],
            ..Settings::default()
        };
        let source = Source::new(name, stripe, settings).expect("it is well formed");
        Source { path: path.to_owned(), ..source }
    }

    fn api(name: &str, upstream: Option<&str>) -> Api {
        let upstream = upstream.map(|url| UpstreamUrl(url::Url::parse(url).expect("it is one")));
        Api { upstream, ..Api::new(name) }
    }

    #[test]
    fn a_path_leads_to_the_source_or_the_api_that_answers_there() {
        let apis = vec![api("payments", Some("http://127.0.0.1:9")), api("inside", None)];
        let setup = Setup::new(vec![source("stripe", "/in/money")], Vec::new(), apis);
        let found = |path| match setup.endpoint(path) {
            Some(Endpoint::Source(source)) => source.name.to_string(),
            Some(Endpoint::Api(api, _)) => api.name.to_string(),
            None => "nobody".to_owned(),
        };
        for (path, name) in [
            ("/in/money", "stripe"),
            ("/in/money/more", "nobody"),
            ("/webhooks/stripe", "nobody"),
            ("/payments", "payments"),
            ("/payments/7", "payments"),
            ("/paymentsx", "nobody"),
            ("/inside", "nobody"),
        ] {
            assert_eq!(found(path), name, "{path}");
        }
    }

    #[test]
    fn changes_are_told_by_name() {
        let old = Setup::new(vec![source("a", "/a"), source("b", "/b")], Vec::new(), Vec::new());
        let new = Setup::new(vec![source("b", "/x"), source("c", "/c")], Vec::new(), Vec::new());
        assert_eq!(old.changes(&new).sources.to_string(), "1 kept, new: c, gone: a");
        assert_eq!(new.changes(&new).sources.to_string(), "2 kept");
    }
}
