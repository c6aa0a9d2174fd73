//! Where the server is: the URL, and whether the way there is encrypted.
//!
//! `sslmode` means what it means to libpq, with two exceptions on the safe side: `verify-ca` checks the
//! name as well, and `require` with an `sslrootcert` does too.

use std::{fmt, path::PathBuf};

use tokio_postgres::{Client, Config, NoTls, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;
use url::Url;

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
        let mut url = Url::parse(url).map_err(|_| not_a_url())?;
        let (trust, mode) = take_trust(&mut url)?;
        let mut config: Config = url.as_str().parse().map_err(|_| not_a_url())?;
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
fn take_trust(url: &mut Url) -> Result<(Trust, SslMode), StoreError> {
    let (mut mode, mut roots) = (None, None);
    let mut others = Vec::new();
    for (key, value) in url.query_pairs() {
        match &*key {
            "sslmode" => mode = Some(value.into_owned()),
            "sslrootcert" => roots = Some(value.into_owned()),
            _ => others.push((key.into_owned(), value.into_owned())),
        }
    }
    url.set_query(None);
    if !others.is_empty() {
        url.query_pairs_mut().extend_pairs(others);
        // A form writes a space as `+`, which Postgres takes for a plus.
        let query = url.query().map(|query| query.replace('+', "%20"));
        url.set_query(query.as_deref());
    }
    let named = roots.as_deref().filter(|roots| *roots != "system").map(PathBuf::from);
    let asked = named.is_some() || roots.is_some();
    let checked = named.map_or(Trust::System, Trust::File);
    match mode.as_deref().unwrap_or("prefer") {
        "disable" => Ok((Trust::Anybody, SslMode::Disable)),
        "prefer" => Ok((Trust::Anybody, SslMode::Prefer)),
        "require" if !asked => Ok((Trust::Anybody, SslMode::Require)),
        "require" | "verify-ca" | "verify-full" => Ok((checked, SslMode::Require)),
        other => Err(StoreError::Failed(format!(
            "sslmode={other} in its url is none of disable, prefer, require, verify-ca and verify-full"
        ))),
    }
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
        take_trust(&mut Url::parse(url).unwrap()).unwrap()
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
        assert!(take_trust(&mut Url::parse("postgres://a/b?sslmode=maybe").unwrap()).is_err());
    }

    #[test]
    fn what_is_not_about_tls_is_left_alone() {
        let mut url = Url::parse("postgres://a/b?sslmode=disable&options=-c%20a%3Db").unwrap();
        take_trust(&mut url).unwrap();
        assert_eq!(url.as_str(), "postgres://a/b?options=-c%20a%3Db");
    }

    #[test]
    fn no_debug_output_and_no_error_shows_a_password() {
        let target = Target::parse("postgres://worker:swordfish@127.0.0.1:5432/db").unwrap();
        assert!(!format!("{target:?}").contains("swordfish"), "{target:?}");
        for wrong in ["postgres://worker:swordfish@h:0x/db", "postgres://w:swordfish@h/db?x=y"] {
            let refused = Target::parse(wrong).unwrap_err().to_string();
            assert!(!refused.contains("swordfish"), "{refused}");
        }
    }
}
