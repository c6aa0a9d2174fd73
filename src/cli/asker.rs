//! Whom to ask: the running server, or the store itself when none runs.

use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use hookonce::{
    Hookonce,
    admin::{
        Admin, Changed, DeliveryPage, DeliveryQuery, EraseRequest, EventPage, EventQuery,
        EventView, HandlerList, HandlerView, MoveRequest, Readmitted, RedriveProgress,
        RedriveRequest, RefusalPage, RefusalQuery, RefusalRecord, ReplayRequest, Selection,
        SlowRedrive,
        keys::{KeyPage, KeyQuery, ResolveRequest, ResolvedKey},
    },
    control::Limits,
    delivery::{Attempt, DeliveryId},
    event::EventId,
    key::{KeyId, KeyRecord},
    refusal::RefusalId,
    store::{Stats, snapshot::Snapshot},
};

pub(crate) use super::client::{Client, Unreachable};
use super::{Everywhere, existing::refuse_missing};

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
            Self::Server(client) => client.wish(&format!("events/{id}/replay"), &ask).await,
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

    pub(crate) async fn redrive(&self, ask: RedriveRequest) -> anyhow::Result<Changed> {
        match self {
            Self::Server(client) => client.wish("deliveries/redrive", &ask).await,
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
