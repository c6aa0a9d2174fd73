//! Where the server is: the URL, and whether the way there is encrypted.
//!
//! `sslmode` means what it means to libpq, with two exceptions on the safe side: `verify-ca` checks the
//! name as well, and `require` with an `sslrootcert` does too.

use std::{fmt, path::PathBuf};

use tokio_postgres::{
    Client, Config, NoTls,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;
use url::form_urlencoded;

use super::tls::{self, Trust};
use crate::{limits, store::StoreError};

/// A server, as the URL names it.
#[derive(Clone)]
pub(super) struct Target {
    config: Config,
    tls: Option<MakeRustlsConnect>,
}

impl Target {
    /// What `url` names: `postgres://user:password@host:port/database?sslmode=…&sslrootcert=…`.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        // The errors of the parsers may quote the URL, and with it the password.
        let not_a_url = || {
            StoreError::Failed(
                "its url is not one of the form postgres://user:password@host:port/database"
                    .to_owned(),
            )
        };
        let (url, trust, mode) = take_trust(url)?;
        let mut config: Config = url.parse().map_err(|_| not_a_url())?;
        config
            .ssl_mode(mode)
            .connect_timeout(limits::STORE_CALL_TIMEOUT)
            .tcp_user_timeout(limits::STORE_CALL_TIMEOUT);
        if config.get_application_name().is_none() {
            config.application_name("hookonce");
        }
        let tls = match mode {
            SslMode::Disable => None,
            _ => Some(MakeRustlsConnect::new(tls::client_config(&trust)?)),
        };
        Ok(Self { config, tls })
    }

    /// The server and the database, without user and password.
    pub(super) fn address(&self) -> String {
        let host = |host: &Host| match host {
            Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            Host::Unix(folder) => folder.display().to_string(),
        };
        let hosts: Vec<String> = self.config.get_hosts().iter().map(host).collect();
        let ports: Vec<String> = self.config.get_ports().iter().map(u16::to_string).collect();
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or_default();
        format!("postgres://{}:{}/{database}", hosts.join(","), ports.join(","))
    }

    /// Opens a connection. It lives for as long as the client does.
    pub(super) async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        match &self.tls {
            None => {
                let (client, connection) = self.config.connect(NoTls).await?;
                spawn(connection);
                Ok(client)
            }
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await?;
                spawn(connection);
                Ok(client)
            }
        }
    }
}

/// Runs what reads and writes the socket. It ends with its client; how it ended, the client's calls say.
#[expect(
    clippy::disallowed_methods,
    reason = "it ends with its client, and holds nothing to wait for"
)]
fn spawn(connection: impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static) {
    drop(tokio::spawn(connection));
}

/// Takes what is about TLS out of the URL: the client's own parser does not know all of it.
fn take_trust(url: &str) -> Result<(String, Trust, SslMode), StoreError> {
    let (server, query) = url.split_once('?').unwrap_or((url, ""));
    let is_about_tls =
        |pair: &&str| pair.starts_with("sslmode=") || pair.starts_with("sslrootcert=");
    let (ours, others): (Vec<_>, Vec<_>) = query.split('&').partition(is_about_tls);
    let ours = ours.join("&");
    let value_of = |wanted: &str| {
        let mut pairs = form_urlencoded::parse(ours.as_bytes());
        pairs.find(|(key, _)| key == wanted).map(|(_, value)| value.into_owned())
    };
    let roots = value_of("sslrootcert");
    let checked = match roots.as_deref() {
        None | Some("system") => Trust::System,
        Some(file) => Trust::File(PathBuf::from(file)),
    };
    let (trust, mode) = match value_of("sslmode").as_deref().unwrap_or("prefer") {
        "disable" => (Trust::Anybody, SslMode::Disable),
        "prefer" => (Trust::Anybody, SslMode::Prefer),
        "require" if roots.is_none() => (Trust::Anybody, SslMode::Require),
        "require" | "verify-ca" | "verify-full" => (checked, SslMode::Require),
        other => {
            return Err(StoreError::Failed(format!(
                "sslmode={other} in its url is none of disable, prefer, require, verify-ca and \
                 verify-full"
            )));
        }
    };
    Ok((format!("{server}?{}", others.join("&")), trust, mode))
}

/// Without the password.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("hosts", &self.config.get_hosts())
            .field("ports", &self.config.get_ports())
            .field("database", &self.config.get_dbname())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> (Trust, SslMode) {
        let (_, trust, mode) = take_trust(url).unwrap();
        (trust, mode)
    }

    #[test]
    fn sslmode_is_what_it_is_to_libpq() {
        assert_eq!(mode("postgres://a/b"), (Trust::Anybody, SslMode::Prefer));
        assert_eq!(mode("postgres://a/b?sslmode=disable"), (Trust::Anybody, SslMode::Disable));
        assert_eq!(mode("postgres://a/b?sslmode=require"), (Trust::Anybody, SslMode::Require));
        assert_eq!(mode("postgres://a/b?sslmode=verify-full"), (Trust::System, SslMode::Require));
        let file = Trust::File("/ca.pem".into());
        let url = "postgres://a/b?sslmode=require&sslrootcert=/ca.pem";
        assert_eq!(mode(url), (file, SslMode::Require));
        assert!(take_trust("postgres://a/b?sslmode=maybe").is_err());
    }

    #[test]
    fn what_is_not_about_tls_is_left_alone() {
        let url = "postgres://a:1,c:2/b?sslmode=disable&options=-c%20a%3Db";
        let (url, _, _) = take_trust(url).unwrap();
        assert_eq!(url, "postgres://a:1,c:2/b?options=-c%20a%3Db");
        for url in
            ["postgres://a:1,c:2/b", "postgres://a/b?sslmode=require", "postgresql:///b?host=/run"]
        {
            Target::parse(url).unwrap();
        }
    }

    #[test]
    fn no_debug_output_and_no_error_shows_a_password() {
        let target = Target::parse("postgres://worker:swordfish@127.0.0.1:5432/db").unwrap();
        assert!(!format!("{target:?}").contains("swordfish"), "{target:?}");
        assert_eq!(target.address(), "postgres://127.0.0.1:5432/db");
        for wrong in ["postgres://worker:swordfish@h:0x/db", "postgres://w:swordfish@h/db?x=y"] {
            let refused = Target::parse(wrong).unwrap_err().to_string();
            assert!(!refused.contains("swordfish"), "{refused}");
        }
    }
}
