//! Calls of providers' own places, away from every request: for keys that they publish, and to confirm
//! what they ask us to.
//!
//! Where a call goes is decided in `provider/`, out of checked parts. Here it is only made: over HTTPS,
//! no redirect followed, bounded in time, length and number.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use futures_util::{StreamExt as _, stream};
use reqwest::{Client, StatusCode};

use crate::{
    app::App,
    errands::Errand,
    handler::http_client,
    keyring::{Answer, Keyring},
    limits,
    provider::place::Place,
    shutdown::Tasks,
};

/// Makes the calls that requests have left to do, until it is told to stop.
pub async fn run(app: Arc<App>, tasks: Tasks) {
    let client = Arc::new(Lazy::default());
    while !tasks.is_stopping() {
        while let Some(errand) = app.errands.next() {
            let (app, client) = (Arc::clone(&app), Arc::clone(&client));
            let stopping = tasks.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = confirm(&app, &client, &errand) => {}
                    () = stopping.stopping() => tell_not_confirmed(&errand, "the process stops"),
                }
            });
        }
        tokio::select! {
            () = fetch_keys(&app, &client) => {}
            () = tasks.stopping() => return,
        }
        tokio::select! {
            () = app.errands.called() => {}
            () = tokio::time::sleep(limits::OUTBOUND_INTERVAL) => {}
            () = tasks.stopping() => return,
        }
    }
}

/// The client, made when it is first needed: most processes call nobody.
#[derive(Debug, Default)]
struct Lazy(OnceLock<Client>);

impl Lazy {
    fn get(&self) -> &Client {
        self.0.get_or_init(http_client)
    }
}

/// Asks at every place that is due, and gives what was found to all sources of that provider.
async fn fetch_keys(app: &App, client: &Lazy) {
    let setup = app.setup();
    let keyrings = || setup.sources.values().filter_map(|source| source.keyring.as_deref());
    let mut due: BTreeMap<&str, BTreeSet<Place>> = BTreeMap::new();
    for keyring in keyrings() {
        let provider = keyring.provider().name();
        due.entry(provider).or_default().extend(keyring.due(app.clock.now()));
    }
    let due = due
        .into_iter()
        .flat_map(|(provider, places)| places.into_iter().map(move |place| (provider, place)));
    let fetch = |(provider, place)| async move {
        let keyrings = keyrings().filter(|keyring| keyring.provider().name() == provider);
        fetch_key(app, client, &place, keyrings).await;
    };
    stream::iter(due).for_each_concurrent(limits::OUTBOUND_AT_ONCE, fetch).await;
}

async fn fetch_key<'a>(
    app: &App,
    client: &Lazy,
    place: &Place,
    keyrings: impl Iterator<Item = &'a Keyring>,
) {
    let answer = match get(client, &app.errands.address(place)).await {
        Ok(text) => Answer::Found(text),
        // So SNS and PayPal say that there is no such certificate.
        Err(NoText::Status(StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::GONE)) => {
            if let Some(more) = app.may_say("a key that is not published") {
                tracing::warn!(%place, lines.held_back = more, "a request names a key that its provider does not publish");
            }
            Answer::Nothing
        }
        Err(problem) => {
            if let Some(more) = app.may_say("a key that is not fetched") {
                tracing::error!(%place, %problem, lines.held_back = more, "cannot fetch a provider's keys: requests that need them are answered 503");
            }
            Answer::Missing
        }
    };
    for keyring in keyrings {
        match keyring.learn(place, &answer, app.clock.now()) {
            Ok(()) if answer != Answer::Nothing && answer != Answer::Missing => {
                tracing::info!(%place, provider = keyring.provider().name(), "fetched a provider's keys");
            }
            Ok(()) => {}
            Err(problem) => {
                if let Some(more) = app.may_say("a key that is none") {
                    tracing::error!(%place, %problem, lines.held_back = more, "what was found is not the provider's key");
                }
            }
        }
    }
}

/// Confirms, and tries again a few times.
async fn confirm(app: &App, client: &Lazy, errand: &Errand) {
    let Errand { source, place } = errand;
    let mut wait = limits::CONFIRMATION_WAIT;
    for attempt in 1..=limits::CONFIRMATION_ATTEMPTS {
        match get(client, &app.errands.address(place)).await {
            Ok(_) => {
                tracing::info!(source.name = %source, %place, attempt, "confirmed a subscription");
                return;
            }
            // It will not say otherwise later: the token has been used, or is too old.
            Err(NoText::Status(status)) if status.is_client_error() && !is_passing(status) => {
                return tell_not_confirmed(errand, &format!("the answer is {status}"));
            }
            Err(problem) if attempt == limits::CONFIRMATION_ATTEMPTS => {
                return tell_not_confirmed(errand, &problem.to_string());
            }
            Err(problem) => {
                tracing::warn!(source.name = %source, %place, attempt, %problem, "cannot confirm a subscription yet; trying again");
            }
        }
        tokio::time::sleep(wait).await;
        wait = wait.saturating_mul(5);
    }
}

fn is_passing(status: StatusCode) -> bool {
    matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

fn tell_not_confirmed(Errand { source, place }: &Errand, problem: &str) {
    tracing::error!(
        source.name = %source, %place, problem,
        "a subscription is not confirmed: have the provider ask again, or confirm it with the token in the event"
    );
}

/// Why a call brought no text.
#[derive(Debug, thiserror::Error)]
enum NoText {
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the answer is longer than {} bytes", limits::KEYS_BYTES_MAX)]
    TooLong,
    #[error("the answer is no text")]
    NotText,
    #[error("no answer: {0}")]
    Transport(&'static str),
}

/// Calls an address and reads its answer.
async fn get(client: &Lazy, address: &str) -> Result<String, NoText> {
    let request = client.get().get(address).timeout(limits::OUTBOUND_TIMEOUT);
    let mut response = request.send().await.map_err(transport)?;
    if response.status() != StatusCode::OK {
        return Err(NoText::Status(response.status()));
    }
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(transport)? {
        text.extend_from_slice(&chunk);
        if text.len() > limits::KEYS_BYTES_MAX {
            return Err(NoText::TooLong);
        }
    }
    String::from_utf8(text).map_err(|_| NoText::NotText)
}

/// The error's own words may show the address, and with it a token.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn transport(error: reqwest::Error) -> NoText {
    NoText::Transport(match () {
        () if error.is_timeout() => "it took too long",
        () if error.is_connect() => "no connection",
        () => "the connection broke",
    })
}
