//! A store's URL, taken apart: which servers, as whom, how protected, and under which name.

use std::fmt;

use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo,
    TlsCertificates,
};

use crate::store::StoreError;

/// How many buckets a store on one server is made with, and one on a cluster.
const BUCKETS: u8 = 1;
const BUCKETS_ON_A_CLUSTER: u8 = 16;

/// The most buckets a store may be made with: two digits name one.
const BUCKETS_MAX: u8 = 100;

/// A server: its host and its port.
pub(super) type Host = (String, u16);

/// Where a store is.
pub(super) struct Address {
    pub(super) kind: Kind,
    /// The servers that are asked, or the one that is used.
    pub(super) hosts: Vec<Host>,
    /// What stands in front of all keys, so that several stores fit into one server.
    pub(super) namespace: String,
    /// How many buckets the store is made with.
    pub(super) buckets: u8,
    login: RedisConnectionInfo,
    is_protected: bool,
    /// The certificate of an authority to trust, as PEM.
    ca: Option<Vec<u8>>,
}

/// What stands at the hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The server itself.
    Single,
    /// Nodes of a cluster; the others are found by asking them.
    Cluster,
    /// Sentinels, which know the primary of this name.
    Sentinel(String),
}

impl Address {
    /// Reads a URL: `redis://user:password@host:port/db`, `redis-cluster://host:port,host:port` or
    /// `redis-sentinel://host:port,host:port/name`, each also with `rediss` for TLS. Behind it may follow
    /// `?namespace=…`, `buckets=…` and, for TLS, `ca=FILE`.
    ///
    /// No error shows the URL: it may hold a password.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let malformed = || {
            mistake(
                "it is not of the form redis://user:password@host:port/db, redis-cluster://host:port,host:port or redis-sentinel://host:port,host:port/name",
            )
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(malformed)?;
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (kind, is_protected) = kind(scheme, path).ok_or_else(malformed)?;
        let default_port = if matches!(kind, Kind::Sentinel(_)) { 26379 } else { 6379 };

        let mut found = Vec::new();
        for host in hosts.split(',') {
            let plain: ConnectionInfo =
                format!("redis://{host}").into_connection_info().map_err(|_| malformed())?;
            let ConnectionAddr::Tcp(name, port) = plain.addr() else { return Err(malformed()) };
            let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
            found.push((name.clone(), if has_port { *port } else { default_port }));
        }
        let database = if kind == Kind::Single { path } else { "" };
        let login = format!(
            "redis://{login}{}localhost/{database}",
            if login.is_empty() { "" } else { "@" }
        )
        .into_connection_info()
        .map_err(|_| malformed())?;
        let buckets = if kind == Kind::Cluster { BUCKETS_ON_A_CLUSTER } else { BUCKETS };
        if kind == Kind::Single && found.len() > 1 {
            return Err(malformed());
        }
        let mut address = Self {
            kind,
            hosts: found,
            namespace: String::new(),
            buckets,
            login: login.redis_settings().clone(),
            is_protected,
            ca: None,
        };
        for (name, value) in url::form_urlencoded::parse(parameters.as_bytes()) {
            address.set(&name, &value)?;
        }
        Ok(address)
    }

    /// Whether there is somebody who may take the primary's place.
    pub(super) fn has_replicas(&self) -> bool {
        self.kind != Kind::Single
    }

    /// What opens connections to a server of the store.
    pub(super) fn client(&self, host: &Host) -> Result<Client, StoreError> {
        self.client_as(host, self.login.clone())
    }

    /// What opens connections to a sentinel, who knows nothing of the store's users.
    pub(super) fn client_of_sentinel(&self, host: &Host) -> Result<Client, StoreError> {
        self.client_as(host, RedisConnectionInfo::default())
    }

    fn client_as(&self, host: &Host, login: RedisConnectionInfo) -> Result<Client, StoreError> {
        let refused = |_| mistake("the certificate in `ca` cannot be used");
        let (name, port) = host.clone();
        let address = if self.is_protected {
            install_crypto();
            ConnectionAddr::TcpTls { host: name, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(name, port)
        };
        let info = address.into_connection_info().map_err(refused)?.set_redis_settings(login);
        match &self.ca {
            Some(ca) => {
                let certificates =
                    TlsCertificates { client_tls: None, root_cert: Some(ca.clone()) };
                Client::build_with_tls(info, certificates).map_err(refused)
            }
            None => Client::open(info).map_err(refused),
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), StoreError> {
        match name {
            "namespace" => {
                let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
                if value.is_empty() || !value.chars().all(is_plain) {
                    return Err(mistake("namespace takes letters, digits and - _ . only"));
                }
                value.clone_into(&mut self.namespace);
            }
            "buckets" => {
                let asked = value.parse().ok().filter(|asked| (1..=BUCKETS_MAX).contains(asked));
                self.buckets = asked.ok_or_else(|| mistake("buckets is a number from 1 to 100"))?;
            }
            "ca" => {
                let pem = std::fs::read(value)
                    .map_err(|error| mistake(&format!("ca: cannot read {value}: {error}")))?;
                self.ca = Some(pem);
            }
            _ => return Err(mistake("behind ? it takes namespace, buckets and ca")),
        }
        if self.ca.is_some() && !self.is_protected {
            return Err(mistake("ca is for TLS: begin with rediss"));
        }
        Ok(())
    }
}

fn kind(scheme: &str, path: &str) -> Option<(Kind, bool)> {
    let (protection, kind) = scheme.split_once('-').unwrap_or((scheme, ""));
    let is_protected = match protection {
        "redis" => false,
        "rediss" => true,
        _ => return None,
    };
    let kind = match (kind, path) {
        ("", _) => Kind::Single,
        ("cluster", "" | "0") => Kind::Cluster,
        ("sentinel", name) if !name.is_empty() && !name.contains('/') => {
            Kind::Sentinel(name.to_owned())
        }
        _ => return None,
    };
    Some((kind, is_protected))
}

/// The first one wins; whoever mounts the library may have installed another.
fn install_crypto() {
    use rustls::crypto::{CryptoProvider, ring};
    if CryptoProvider::get_default().is_none() {
        ring::default_provider().install_default().ok();
    }
}

fn mistake(what: &str) -> StoreError {
    StoreError::Failed(format!("its url: {what}"))
}

/// Without user and password, and the same for every process that means the same store.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> =
            self.hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        let scheme = if self.is_protected { "rediss" } else { "redis" };
        let (kind, path) = match &self.kind {
            Kind::Single => ("", self.login.db().to_string()),
            Kind::Cluster => ("-cluster", String::new()),
            Kind::Sentinel(name) => ("-sentinel", name.clone()),
        };
        write!(f, "{scheme}{kind}://{}/{path}", hosts.join(","))?;
        if self.namespace.is_empty() { Ok(()) } else { write!(f, "?namespace={}", self.namespace) }
    }
}

/// Without user and password.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.to_string()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        Address::parse(url).unwrap_or_else(|error| panic!("{url}: {error}")).to_string()
    }

    #[test]
    fn every_form_is_understood_and_shown_without_its_password() {
        assert_eq!(shown("redis://127.0.0.1"), "redis://127.0.0.1:6379/0");
        assert_eq!(shown("redis://worker:sword%20fish@a:1/3"), "redis://a:1/3");
        assert_eq!(shown("rediss://:swordfish@a:1?namespace=n1"), "rediss://a:1/0?namespace=n1");
        assert_eq!(
            shown("redis-cluster://w:pw@a:1,b,[::1]:2"),
            "redis-cluster://a:1,b:6379,::1:2/"
        );
        assert_eq!(shown("redis-sentinel://a,b:1/primary"), "redis-sentinel://a:26379,b:1/primary");
    }

    #[test]
    fn user_and_password_are_decoded() {
        let address = Address::parse("redis-cluster://worker:sword%20fish@a:1,b:2").unwrap();
        assert_eq!(address.login.username(), Some("worker"));
        assert_eq!(address.login.password(), Some("sword fish"));
        assert_eq!(address.buckets, 16);
    }

    #[test]
    fn what_is_no_url_is_refused_without_a_word_of_it() {
        for url in [
            "redis:/worker:swordfish@",
            "redis://a:swordfish,b",
            "redis-sentinel://worker:swordfish@a",
            "redis-cluster://worker:swordfish@a/3",
            "redis://worker:swordfish@a?buckets=0",
            "redis://worker:swordfish@a?namespace={h}",
            "redis://worker:swordfish@a?ca=/etc/hostname",
            "redis://worker:swordfish@a?bucket=1",
        ] {
            let refused = Address::parse(url).expect_err(url).to_string();
            assert!(!refused.contains("swordfish"), "{refused}");
        }
    }
}
