//! What takes a restart to change: a reload names it and leaves it as it is.

use super::{Config, Log, Server, Store, Telemetry, Workers};
use crate::secret::Secret;

/// The sections that a server is started with and keeps until its end.
#[derive(Clone, Debug)]
pub struct UntilRestart {
    server: Server,
    store: Store,
    workers: Workers,
    log: Log,
    telemetry: Telemetry,
}

impl Config {
    /// The part of it that a reload does not change.
    pub fn until_restart(&self) -> UntilRestart {
        UntilRestart {
            server: self.server.clone(),
            store: self.store.clone(),
            workers: self.workers,
            log: self.log.clone(),
            telemetry: self.telemetry.clone(),
        }
    }
}

impl UntilRestart {
    /// The keys that `new` has other values for.
    pub fn changed_keys(&self, new: &Config) -> Vec<String> {
        // Taken apart, so that a key that is added to a section is not forgotten here.
        let Server {
            listen,
            admin_listen,
            tls,
            admin_tls,
            admin_token,
            admin_token_readonly: readonly,
            public_url,
            trusted_proxies,
            data_dir,
            answer_within,
            body_within,
            shutdown_within,
        } = &self.server;
        let Store {
            url,
            durability,
            cache,
            encryption_keys,
            retention,
            retention_dead,
            retention_held,
        } = &self.store;
        let Workers { lease } = &self.workers;
        let Log { format, level } = &self.log;
        let Telemetry { otlp, traces_one_in } = &self.telemetry;
        let keys = [
            ("server.listen", *listen != new.server.listen),
            ("server.admin_listen", *admin_listen != new.server.admin_listen),
            ("server.tls", *tls != new.server.tls),
            ("server.admin_tls", *admin_tls != new.server.admin_tls),
            ("server.admin_token", !same(admin_token.as_ref(), new.server.admin_token.as_ref())),
            (
                "server.admin_token_readonly",
                !same(readonly.as_ref(), new.server.admin_token_readonly.as_ref()),
            ),
            ("server.public_url", *public_url != new.server.public_url),
            ("server.trusted_proxies", *trusted_proxies != new.server.trusted_proxies),
            ("server.data_dir", *data_dir != new.server.data_dir),
            ("server.answer_within", *answer_within != new.server.answer_within),
            ("server.body_within", *body_within != new.server.body_within),
            ("server.shutdown_within", *shutdown_within != new.server.shutdown_within),
            ("store.url", !same(Some(url), Some(&new.store.url))),
            ("store.durability", *durability != new.store.durability),
            ("store.cache", !same(cache.as_ref(), new.store.cache.as_ref())),
            ("store.encryption_keys", *encryption_keys != new.store.encryption_keys),
            ("store.retention", *retention != new.store.retention),
            ("store.retention_dead", *retention_dead != new.store.retention_dead),
            ("store.retention_held", *retention_held != new.store.retention_held),
            ("workers.lease", *lease != new.workers.lease),
            ("log.format", *format != new.log.format),
            ("log.level", *level != new.log.level),
            ("telemetry.otlp", *otlp != new.telemetry.otlp),
            ("telemetry.traces_one_in", *traces_one_in != new.telemetry.traces_one_in),
        ];
        keys.iter().filter(|(_, changed)| *changed).map(|(key, _)| (*key).to_owned()).collect()
    }
}

fn same(old: Option<&Secret>, new: Option<&Secret>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => old.matches(new.expose()),
        (old, new) => old.is_none() && new.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{config::Surroundings, provider::PROVIDERS};

    fn config(text: &str) -> Config {
        let around =
            Surroundings { environment: &|_| None, providers: PROVIDERS, folder: Path::new("") };
        Config::parse(text, Path::new("hookonce.toml"), &around).expect("it has no mistake")
    }

    #[test]
    fn a_changed_key_is_named_and_an_equal_one_is_not() {
        let old = config("server.listen = \"127.0.0.1:1\"\nstore.url = \"redis://:a@localhost\"");
        let new = config("server.listen = \"127.0.0.1:2\"\nstore.url = \"redis://:b@localhost\"");
        let until_restart = old.until_restart();
        assert_eq!(until_restart.changed_keys(&old), [] as [&str; 0]);
        assert_eq!(until_restart.changed_keys(&new), ["server.listen", "store.url"]);
    }
}
