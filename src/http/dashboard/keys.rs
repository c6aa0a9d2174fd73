//! The keys of requests to APIs: how each stands, and what a person says about an unknown outcome.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, http::StatusCode, web};
use askama::Template;
use serde::Deserialize;

use super::{
    Asked, Frame,
    event::led_back,
    form::{Named, Posted, filled},
    not_told, page as made,
};
use crate::{
    admin::{
        AdminError,
        keys::{KeyCursor, KeyPage, KeyQuery, ResolveRequest},
    },
    http::guard::Caller,
    key::{KeyId, KeyRecord, KeyState},
    store::keys::KeyCounts,
};

#[derive(Template)]
#[template(path = "keys.html")]
struct KeysPage {
    frame: Frame,
    api: Option<String>,
    state: Option<KeyState>,
    apis: Vec<String>,
    counts: BTreeMap<String, KeyCounts>,
    keys: Vec<KeyRecord>,
    older: Option<KeyCursor>,
}

impl KeysPage {
    fn states(&self) -> [KeyState; 3] {
        [KeyState::InProgress, KeyState::Completed, KeyState::Unknown]
    }

    fn is_api(&self, name: &str) -> bool {
        self.api.as_deref() == Some(name)
    }

    fn is_state(&self, state: &KeyState) -> bool {
        self.state == Some(*state)
    }

    fn is_unknown(&self, key: &KeyRecord) -> bool {
        key.state == KeyState::Unknown
    }

    fn api(&self) -> &str {
        self.api.as_deref().unwrap_or_default()
    }

    fn state_name(&self) -> &'static str {
        self.state.map_or("", KeyState::name)
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Filter {
    api: Option<String>,
    state: Option<String>,
    before: Option<String>,
}

pub(super) async fn page(admin: Asked, caller: Caller, filter: web::Query<Filter>) -> HttpResponse {
    let frame = Frame::new(&admin, caller, "/keys");
    let api = filled(filter.api.as_ref()).map(str::to_owned);
    let state = filled(filter.state.as_ref());
    let state = state.and_then(|state| serde_json::from_value(state.into()).ok());
    let before = filter.before.as_deref().and_then(|before| before.parse().ok());
    let query = KeyQuery { api: api.clone(), state, before, limit: None };
    match (admin.keys(query).await, admin.key_counts().await) {
        (Ok(KeyPage { keys, next: older }), Ok(counts)) => {
            let apis = admin.app.setup().apis.keys().map(ToString::to_string).collect();
            made(StatusCode::OK, &KeysPage { frame, api, state, apis, counts, keys, older })
        }
        (Err(error), _) | (_, Err(error)) => not_told(frame, &error),
    }
}

/// How a person says that an unknown outcome ended.
#[derive(Debug, Deserialize)]
pub(super) struct Resolve {
    outcome: Outcome,
    status: Option<String>,
    body: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Free,
    Complete,
}

pub(super) async fn resolve(
    admin: Asked,
    caller: Caller,
    Named(id): Named<KeyId>,
    ask: Posted<Resolve>,
) -> HttpResponse {
    let done = match request(ask.0) {
        Ok(ask) => admin.resolve_key(id, ask).await,
        Err(error) => Err(error),
    };
    led_back(&admin, caller, done, "/keys")
}

fn request(ask: Resolve) -> Result<ResolveRequest, AdminError> {
    match ask.outcome {
        Outcome::Free => Ok(ResolveRequest::Free),
        Outcome::Complete => {
            let status = filled(ask.status.as_ref()).and_then(|status| status.parse().ok());
            let why = "write the status of the answer that its next request is to get";
            let status = status.ok_or_else(|| AdminError::Invalid(why.to_owned()))?;
            let body = ask.body.unwrap_or_default();
            Ok(ResolveRequest::Complete { status, headers: Vec::new(), body })
        }
    }
}
