//! Asks the admin API of a running server, and says what is wrong where none answers.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use hookonce::{
    admin::{Accepted, Readiness},
    config::{Access, Mistakes},
    secret::Secret,
    setup::Reloaded,
};
use reqwest::StatusCode;
use serde::{Serialize, de::DeserializeOwned};

use super::{Everywhere, Misused, asker::Asker, serve::scheme, trust};

/// Talks to the admin API of a running server.
pub(crate) struct Client {
    pub(super) http: reqwest::Client,
    pub(super) base: String,
    /// A mistake in it is told when it is needed.
    token: Result<Option<Secret>, Mistakes>,
}

impl Client {
    /// Talks to the server at `url`. It may be far from its configuration, so one is looked at only where
    /// there is a file, and only for a token that was not given.
    pub(super) fn named(url: &str, everywhere: &Everywhere) -> anyhow::Result<Self> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(Misused(format!("--server {url} is no URL: write http://{url}")).into());
        }
        let settled = everywhere.settled();
        let token = match (&everywhere.token, &settled.config) {
            (Some(token), _) => Ok(Some(token.clone())),
            (None, Some(_)) => settled.access()?.admin_token,
            (None, None) => Ok(None),
        };
        let http = trust::client(everywhere, url, None, None)?;
        Ok(Self { http, base: url.trim_end_matches('/').to_owned(), token })
    }

    /// Talks to the server of this configuration.
    pub(crate) fn configured(everywhere: &Everywhere) -> anyhow::Result<Self> {
        let access = everywhere.access()?;
        let base = admin_url(&access);
        let http =
            trust::client(everywhere, &base, access.admin_tls.as_ref(), Some(&access.data_dir))?;
        let token = everywhere.token.clone().map_or(access.admin_token, |token| Ok(Some(token)));
        Ok(Self { http, base, token })
    }

    /// The same, to ask only whether it is well: it may show any certificate, a renewed one too, and
    /// is told no token.
    pub(crate) fn for_health(everywhere: &Everywhere) -> anyhow::Result<Self> {
        if everywhere.server.is_some() {
            return Asker::server(everywhere);
        }
        let base = admin_url(&everywhere.access()?);
        let http = trust::believing_anybody()?;
        Ok(Self { http, base, token: Ok(None) })
    }

    pub(crate) async fn reload(&self) -> anyhow::Result<Reloaded> {
        self.post("reload", &()).await.map_err(|error| match error.downcast_ref::<Said>() {
            // The mistake is in the configuration, as it would be for a server that starts with it.
            Some(said) if said.status == StatusCode::UNPROCESSABLE_ENTITY => {
                Misused(said.to_string()).into()
            }
            _ => error,
        })
    }

    pub(crate) async fn accept(&self) -> anyhow::Result<Accepted> {
        self.post("store/accept", &()).await
    }

    /// Whether a server answers.
    pub(crate) async fn is_there(&self) -> Result<bool, Unreachable> {
        let asked = self.http.get(format!("{}/healthz", self.base)).timeout(Duration::from_secs(2));
        match asked.send().await {
            Ok(answer) if answer.status().is_success() => Ok(true),
            Ok(_) => Err(Unreachable::Stranger(self.base.clone())),
            Err(error) => match self.unreachable_at_first(&error) {
                Unreachable::Admin(_) => Ok(false),
                somebody => Err(somebody),
            },
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Unreachable {
        let base = self.base.clone();
        match trust::failure(error) {
            Some(trust::Failure::AuthorityItself) => Unreachable::AuthorityItself(base),
            Some(trust::Failure::Distrusted(why)) => Unreachable::Distrusted(base, why),
            Some(trust::Failure::Plain(why)) => Unreachable::Plain(base, why),
            None => Unreachable::Admin(base),
        }
    }

    /// The same of a first question: who takes the connection and says nothing that is HTTP is a stranger.
    fn unreachable_at_first(&self, error: &reqwest::Error) -> Unreachable {
        match self.unreachable(error) {
            Unreachable::Admin(base) if !error.is_connect() && !error.is_timeout() => {
                Unreachable::Stranger(base)
            }
            unreachable => unreachable,
        }
    }

    /// How ready the server is; `None` where none answers.
    pub(crate) async fn readiness(&self) -> anyhow::Result<Option<Readiness>> {
        let text = match self.text("/readyz").await {
            Ok((_, text)) => text,
            Err(error) => {
                return match error.downcast_ref() {
                    Some(Unreachable::Admin(_)) => Ok(None),
                    _ => Err(error),
                };
            }
        };
        let readiness = serde_json::from_str(&text).map(Some);
        readiness.map_err(|_| Unreachable::Stranger(self.base.clone()).into())
    }

    /// Asks any path for its status and its text.
    pub(crate) async fn text(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let asked = self.http.get(format!("{}{path}", self.base)).timeout(PATIENCE);
        let answer = asked.send().await.map_err(|error| self.unreachable_at_first(&error))?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.ask(self.http.get(self.url(path)).query(query)).await
    }

    pub(super) async fn bytes(&self, path: &str) -> anyhow::Result<Bytes> {
        Ok(self.answer(self.http.get(self.url(path))).await?.bytes().await?)
    }

    /// An answer that comes bit by bit, for as long as the server has something to tell.
    pub(crate) async fn stream(
        &self,
        path: &str,
        query: &impl Serialize,
    ) -> anyhow::Result<reqwest::Response> {
        let asked = self.http.get(self.url(path)).query(query);
        self.answered(asked).await
    }

    /// Posts what has the id of a wish in it. Where no answer came it is asked again: whether the server
    /// has done it before or not, it is done once.
    pub(super) async fn wish<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        match self.post(path, body).await {
            Err(error) if error.is::<Unreachable>() => self.post(path, body).await,
            answer => answer,
        }
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.ask(self.http.post(self.url(path)).json(body)).await
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.base)
    }

    async fn ask<T: DeserializeOwned>(&self, asked: reqwest::RequestBuilder) -> anyhow::Result<T> {
        let answer = self.answer(asked).await?;
        answer.json().await.context("the server's answer is not what this version expects")
    }

    /// The answer, if it is a yes and comes before a person has lost patience.
    async fn answer(&self, asked: reqwest::RequestBuilder) -> anyhow::Result<reqwest::Response> {
        self.answered(asked.timeout(PATIENCE)).await
    }

    /// The answer, if it is a yes.
    pub(super) async fn answered(
        &self,
        asked: reqwest::RequestBuilder,
    ) -> anyhow::Result<reqwest::Response> {
        let token = self.token.as_ref().map_err(|mistakes| {
            let instead = "the server's token is needed: give it in HOOKONCE_TOKEN or with --token";
            anyhow::Error::new(mistakes.clone()).context(instead)
        })?;
        let asked = match token {
            Some(token) => asked.bearer_auth(token.expose()),
            None => asked,
        };
        let answer = asked.send().await;
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        if !answer.status().is_success() {
            let status = answer.status();
            let problem: Problem = answer.json().await.unwrap_or_default();
            let said = problem.detail.or(problem.code).unwrap_or_default();
            if status == StatusCode::UNAUTHORIZED {
                anyhow::bail!(
                    "the server says {status}: give its token in HOOKONCE_TOKEN or with --token. A server keeps the `admin_token` it was started with until a restart; `kill -HUP` has it reload the rest without one"
                );
            }
            if status == StatusCode::SERVICE_UNAVAILABLE {
                return Err(Unreachable::Store(format!("{status}: {said}")).into());
            }
            return Err(Said { status, said }.into());
        }
        Ok(answer)
    }
}

/// A server was named, or is configured, and does not answer, or not with what was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
    /// Its admin address.
    #[error(
        "no server answers at {0}: start one with `hookonce serve`, or name another with --server"
    )]
    Admin(String),
    /// Somebody answers there, and we do not believe that it is the server.
    #[error(
        "the certificate at {0} is not believed ({1}): name its authority with --ca, or the server by the name in its certificate with --server"
    )]
    Distrusted(String, String),
    /// Its certificate is one that no client believes of a server.
    #[error(
        "the certificate at {0} is that of an authority, which no server may show, whatever --ca says: with `openssl req -x509` add `-addext basicConstraints=critical,CA:FALSE`"
    )]
    AuthorityItself(String),
    /// Somebody answers there who is not the admin listener.
    #[error(
        "what answers at {0} is no admin address of hookonce: name its `admin_listen`, and https:// where it has `admin_tls`"
    )]
    Stranger(String),
    /// Somebody is there who speaks no TLS.
    #[error(
        "what answers at {0} speaks no TLS ({1}): name it with http://, or give it `admin_tls`"
    )]
    Plain(String, String),
    /// The address that webhooks are sent to.
    #[error(
        "nothing answers at {0}: start `hookonce serve` first, or name another address with --to"
    )]
    Receiver(String),
    /// It answers 503: its store is down, or full.
    #[error("the server says {0}")]
    Store(String),
}

/// The admin address of a configuration, as a URL.
fn admin_url(access: &Access) -> String {
    let mut address = access.admin_listen;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into()); // listens everywhere, so here too
    }
    format!("{}://{address}", scheme(access.admin_tls.is_some()))
}

/// How long a person waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server's no.
#[derive(Debug, thiserror::Error)]
#[error("the server says {status}: {said}")]
struct Said {
    status: StatusCode,
    said: String,
}

#[derive(Default, serde::Deserialize)]
struct Problem {
    code: Option<String>,
    detail: Option<String>,
}
