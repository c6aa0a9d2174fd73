//! Whom to ask: the running server, or the store itself when none runs.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use hookonce::{
    Hookonce,
    admin::{
        Accepted, Admin, Changed, DeliveryPage, DeliveryQuery, EraseRequest, EventPage, EventQuery,
        EventView, HandlerList, HandlerView, MoveRequest, Readiness, Readmitted, RedriveProgress,
        RefusalPage, RefusalQuery, RefusalRecord, ReplayRequest, Selection, SlowRedrive,
        keys::{KeyPage, KeyQuery, ResolveRequest, ResolvedKey},
    },
    config::{Access, Mistakes},
    control::Limits,
    delivery::{Attempt, DeliveryId},
    event::EventId,
    key::{KeyId, KeyRecord},
    refusal::RefusalId,
    secret::Secret,
    setup::Reloaded,
    store::{Stats, snapshot::Snapshot},
};
use reqwest::StatusCode;
use serde::{Serialize, de::DeserializeOwned};

use super::{Everywhere, Misused, existing::refuse_missing, serve::scheme, trust};

/// Answers a command's questions, wherever the answers are.
pub(crate) enum Asker {
    /// Over the admin API.
    Server(Client),
    /// In the store, opened by this command.
    Store(Arc<Admin>),
}

/// A backup that is on its way.
pub(crate) enum Backup {
    /// From the server.
    Server {
        /// Its answer.
        answer: reqwest::Response,
        /// How long it will be.
        bytes: u64,
    },
    /// From the store.
    Store(Snapshot),
}

impl Backup {
    /// How long it is.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Server { bytes, .. } | Self::Store(Snapshot { bytes, .. }) => *bytes,
        }
    }
}

/// A server was named, or is configured, and does not answer.
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
}

impl Asker {
    /// The server that was named, or the one of the configuration if it runs, or its store.
    pub(crate) async fn find(everywhere: &Everywhere) -> anyhow::Result<Self> {
        if let Some(url) = &everywhere.server {
            let client = Client::named(url, everywhere)?;
            return match client.is_there().await? {
                true => Ok(Self::Server(client)),
                false => Err(Unreachable::Admin(url.clone()).into()),
            };
        }
        let client = Client::configured(everywhere)?;
        match client.is_there().await {
            Ok(true) => return Ok(Self::Server(client)),
            // Whoever has taken the address, it is not the server of this configuration.
            Ok(false) | Err(Unreachable::Stranger(_) | Unreachable::Plain(..)) => {}
            Err(error) => return Err(error.into()),
        }
        let config = everywhere.look_at_config()?;
        let no_server = || format!("no server answers at {}", client.base);
        refuse_missing(&config.store.url).with_context(no_server)?;
        let hookonce = Hookonce::open(config).await.context("no server runs, and its store")?;
        Ok(Self::Store(hookonce.admin()))
    }

    /// The server that was named, or the one of the configuration: what only a server can do.
    pub(crate) fn server(everywhere: &Everywhere) -> anyhow::Result<Client> {
        match &everywhere.server {
            Some(url) => Client::named(url, everywhere),
            None => Client::configured(everywhere),
        }
    }

    pub(crate) async fn stats(&self) -> anyhow::Result<Stats> {
        match self {
            Self::Server(client) => client.get("stats", &()).await,
            Self::Store(admin) => Ok(admin.stats().await?),
        }
    }

    pub(crate) async fn backup(&self) -> anyhow::Result<Backup> {
        match self {
            Self::Server(client) => {
                let asked = client.http.post(client.url("store/backup"));
                let answer = client.answered(asked).await?; // it may take long to begin
                let bytes = answer.content_length();
                let bytes = bytes.context("the server does not say how long its backup is")?;
                Ok(Backup::Server { answer, bytes })
            }
            Self::Store(admin) => {
                let snapshot = admin.app.store.snapshot().await?;
                let own_tools = "this kind of store is backed up with its own tools: docs/OPERATIONS.md says how";
                snapshot.map(Backup::Store).context(own_tools)
            }
        }
    }

    pub(crate) async fn events(&self, query: EventQuery) -> anyhow::Result<EventPage> {
        match self {
            Self::Server(client) => client.get("events", &query).await,
            Self::Store(admin) => Ok(admin.events(query).await?),
        }
    }

    pub(crate) async fn event(&self, id: EventId) -> anyhow::Result<EventView> {
        match self {
            Self::Server(client) => client.get(&format!("events/{id}"), &()).await,
            Self::Store(admin) => Ok(admin.event(id).await?),
        }
    }

    pub(crate) async fn request(&self, id: EventId) -> anyhow::Result<Bytes> {
        match self {
            Self::Server(client) => client.bytes(&format!("events/{id}/request")).await,
            Self::Store(admin) => Ok(admin.request(id).await?),
        }
    }

    pub(crate) async fn replay(&self, id: EventId, ask: ReplayRequest) -> anyhow::Result<Changed> {
        match self {
            Self::Server(client) => client.post(&format!("events/{id}/replay"), &ask).await,
            Self::Store(admin) => Ok(admin.replay(id, ask).await?),
        }
    }

    pub(crate) async fn admit(&self, id: EventId) -> anyhow::Result<Changed> {
        match self {
            Self::Server(client) => client.post(&format!("events/{id}/admit"), &()).await,
            Self::Store(admin) => Ok(admin.admit(id).await?),
        }
    }

    pub(crate) async fn erase(&self, id: EventId, ask: EraseRequest) -> anyhow::Result<Changed> {
        match self {
            Self::Server(client) => client.post(&format!("events/{id}/erase"), &ask).await,
            Self::Store(admin) => Ok(admin.erase(id, ask).await?),
        }
    }

    pub(crate) async fn refusals(&self, query: RefusalQuery) -> anyhow::Result<RefusalPage> {
        match self {
            Self::Server(client) => client.get("refusals", &query).await,
            Self::Store(admin) => Ok(admin.refusals(query).await?),
        }
    }

    pub(crate) async fn refusal(&self, id: RefusalId) -> anyhow::Result<RefusalRecord> {
        match self {
            Self::Server(client) => client.get(&format!("refusals/{id}"), &()).await,
            Self::Store(admin) => Ok(admin.refusal(id).await?),
        }
    }

    pub(crate) async fn readmit(&self, id: RefusalId) -> anyhow::Result<Readmitted> {
        match self {
            Self::Server(client) => client.post(&format!("refusals/{id}/readmit"), &()).await,
            Self::Store(admin) => Ok(admin.readmit(id).await?),
        }
    }

    pub(crate) async fn deliveries(&self, query: DeliveryQuery) -> anyhow::Result<DeliveryPage> {
        match self {
            Self::Server(client) => client.get("deliveries", &query).await,
            Self::Store(admin) => Ok(admin.deliveries(query).await?),
        }
    }

    pub(crate) async fn attempts(&self, id: DeliveryId) -> anyhow::Result<Vec<Attempt>> {
        match self {
            Self::Server(client) => client.get(&format!("deliveries/{id}/attempts"), &()).await,
            Self::Store(admin) => Ok(admin.attempts(id).await?),
        }
    }

    pub(crate) async fn handlers(&self) -> anyhow::Result<HandlerList> {
        match self {
            Self::Server(client) => client.get("handlers", &()).await,
            Self::Store(admin) => Ok(admin.handlers().await?),
        }
    }

    pub(crate) async fn pause(&self, name: &str) -> anyhow::Result<HandlerView> {
        match self {
            Self::Server(client) => client.post(&format!("handlers/{name}/pause"), &()).await,
            Self::Store(admin) => Ok(admin.pause(name).await?),
        }
    }

    pub(crate) async fn resume(&self, name: &str) -> anyhow::Result<HandlerView> {
        match self {
            Self::Server(client) => client.post(&format!("handlers/{name}/resume"), &()).await,
            Self::Store(admin) => Ok(admin.resume(name).await?),
        }
    }

    pub(crate) async fn limit(&self, name: &str, limits: Limits) -> anyhow::Result<HandlerView> {
        match self {
            Self::Server(client) => client.post(&format!("handlers/{name}/limits"), &limits).await,
            Self::Store(admin) => Ok(admin.limit(name, limits).await?),
        }
    }

    pub(crate) async fn redrive(&self, ask: Selection) -> anyhow::Result<Changed> {
        match self {
            Self::Server(client) => client.post("deliveries/redrive", &ask).await,
            Self::Store(admin) => Ok(admin.redrive(ask).await?),
        }
    }

    pub(crate) async fn begin_redrive(&self, ask: SlowRedrive) -> anyhow::Result<RedriveProgress> {
        match self {
            Self::Server(client) => client.post("redrives", &ask).await,
            Self::Store(admin) => Ok(admin.begin_redrive(ask).await?),
        }
    }

    pub(crate) async fn redrives(&self) -> anyhow::Result<Vec<RedriveProgress>> {
        match self {
            Self::Server(client) => client.get("redrives", &()).await,
            Self::Store(admin) => Ok(admin.redrives()),
        }
    }

    pub(crate) async fn stop_redrive(&self, handler: &str) -> anyhow::Result<RedriveProgress> {
        match self {
            Self::Server(client) => client.post(&format!("redrives/{handler}/stop"), &()).await,
            Self::Store(admin) => Ok(admin.stop_redrive(handler)?),
        }
    }

    pub(crate) async fn move_to(&self, ask: MoveRequest) -> anyhow::Result<Changed> {
        match self {
            Self::Server(client) => client.post("deliveries/move", &ask).await,
            Self::Store(admin) => Ok(admin.move_to(ask).await?),
        }
    }

    pub(crate) async fn kill(&self, ask: Selection) -> anyhow::Result<Changed> {
        match self {
            Self::Server(client) => client.post("deliveries/kill", &ask).await,
            Self::Store(admin) => Ok(admin.kill(ask).await?),
        }
    }

    pub(crate) async fn unblock(&self, ask: Selection) -> anyhow::Result<Changed> {
        match self {
            Self::Server(client) => client.post("deliveries/unblock", &ask).await,
            Self::Store(admin) => Ok(admin.unblock(ask).await?),
        }
    }

    pub(crate) async fn keys(&self, query: KeyQuery) -> anyhow::Result<KeyPage> {
        match self {
            Self::Server(client) => client.get("keys", &query).await,
            Self::Store(admin) => Ok(admin.keys(query).await?),
        }
    }

    pub(crate) async fn key(&self, id: KeyId) -> anyhow::Result<KeyRecord> {
        match self {
            Self::Server(client) => client.get(&format!("keys/{id}"), &()).await,
            Self::Store(admin) => Ok(admin.key(id).await?),
        }
    }

    pub(crate) async fn resolve_key(
        &self,
        id: KeyId,
        ask: ResolveRequest,
    ) -> anyhow::Result<ResolvedKey> {
        match self {
            Self::Server(client) => client.post(&format!("keys/{id}/resolve"), &ask).await,
            Self::Store(admin) => Ok(admin.resolve_key(id, ask).await?),
        }
    }
}

/// The admin address of a configuration, as a URL.
fn admin_url(access: &Access) -> String {
    let mut address = access.admin_listen;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into()); // listens everywhere, so here too
    }
    format!("{}://{address}", scheme(access.admin_tls.is_some()))
}

/// Talks to the admin API of a running server.
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    /// A mistake in it is told when it is needed.
    token: Result<Option<Secret>, Mistakes>,
}

impl Client {
    /// Talks to the server at `url`. It may be far from its configuration, so one is looked at only where
    /// there is a file, and only for a token that was not given.
    fn named(url: &str, everywhere: &Everywhere) -> anyhow::Result<Self> {
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

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.ask(self.http.get(self.url(path)).query(query)).await
    }

    async fn bytes(&self, path: &str) -> anyhow::Result<Bytes> {
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

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.ask(self.http.post(self.url(path)).json(body)).await
    }

    fn url(&self, path: &str) -> String {
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
    async fn answered(&self, asked: reqwest::RequestBuilder) -> anyhow::Result<reqwest::Response> {
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
            return Err(Said { status, said }.into());
        }
        Ok(answer)
    }
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
