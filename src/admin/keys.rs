//! Keys: which there are, how each stands, and what a person says about an unknown outcome.

use std::{collections::BTreeMap, fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{Admin, AdminError, page_rows, wishes::WISH_DEADLINE};
use crate::{
    clock::Timestamp,
    key::{KeyId, KeyRecord, KeyState, SavedResponse},
    limits,
    request::Headers,
    store::keys::{KeyCounts, KeyFilter, Resolution, Resolved},
};

/// Which keys to list.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyQuery {
    /// Only of this API.
    pub api: Option<String>,
    /// Only in this state.
    pub state: Option<KeyState>,
    /// The page after the one whose `next` this was.
    pub before: Option<KeyCursor>,
    /// Rows on a page.
    pub limit: Option<usize>,
}

/// A page of keys.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct KeyPage {
    /// The rows, those begun last first.
    pub keys: Vec<KeyRecord>,
    /// What to give as `before` for the next page. None: this was the last.
    pub next: Option<KeyCursor>,
}

/// A place in the list of keys, as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(from = "String", into = "String")]
pub struct KeyCursor {
    begun_at: Timestamp,
    id: KeyId,
}

/// How an unknown outcome ended.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case", deny_unknown_fields)]
pub enum ResolveRequest {
    /// The work was not done: the next request with the key is sent on.
    Free,
    /// The work was done: the next request with the key gets this answer.
    Complete {
        /// Its status.
        status: u16,
        /// Its headers.
        #[serde(default)]
        headers: Vec<(String, String)>,
        /// Its body.
        #[serde(default)]
        body: String,
    },
}

/// A key that was resolved.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ResolvedKey {
    /// The key.
    pub id: KeyId,
    /// How it stands now; `null` if it is free.
    pub state: Option<KeyState>,
}

impl Admin {
    /// One page of keys.
    pub async fn keys(&self, query: KeyQuery) -> Result<KeyPage, AdminError> {
        let limit = page_rows(query.limit);
        let before = query.before.map(|KeyCursor { begun_at, id }| (begun_at, id));
        let filter = KeyFilter { api: query.api, state: query.state, before, limit };
        let keys = self.app.store.keys(&filter).await?;
        let last = keys.get(limit - 1);
        let next =
            last.map(|KeyRecord { begun_at, id, .. }| KeyCursor { begun_at: *begun_at, id: *id });
        Ok(KeyPage { keys, next })
    }

    /// How many keys of each API are in progress and unknown now.
    pub async fn key_counts(&self) -> Result<BTreeMap<String, KeyCounts>, AdminError> {
        Ok(self.app.store.key_counts().await?)
    }

    /// One key.
    pub async fn key(&self, id: KeyId) -> Result<KeyRecord, AdminError> {
        self.app.store.key(id).await?.ok_or_else(|| no_key(id))
    }

    /// Ends an unknown outcome, as a person has found out how it ended.
    pub async fn resolve_key(
        &self,
        id: KeyId,
        ask: ResolveRequest,
    ) -> Result<ResolvedKey, AdminError> {
        let (resolution, state) = match ask {
            ResolveRequest::Free => (Resolution::Free, None),
            ResolveRequest::Complete { status, headers, body } => {
                let response = saved(status, headers, body)?;
                let api = self.key(id).await?.scope.api;
                let retention = self.app.setup().apis.get(api.as_str()).map(|api| api.retention);
                let retention = retention.unwrap_or(limits::KEY_RETENTION);
                (Resolution::Complete { response, retention }, Some(KeyState::Completed))
            }
        };
        let not_after = self.app.clock.now().plus(WISH_DEADLINE);
        match self.app.store.resolve(id, &resolution, not_after).await? {
            Resolved::Done => Ok(ResolvedKey { id, state }),
            Resolved::InProgress => Err(AdminError::Invalid(format!(
                "key {id} is in progress: wait until its call or its lease has ended"
            ))),
            Resolved::Completed => {
                Err(AdminError::Invalid(format!("key {id} is completed: its answer stands")))
            }
            Resolved::NotFound => Err(no_key(id)),
        }
    }
}

/// The answer that a person wrote, if a client could get it.
fn saved(
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
) -> Result<SavedResponse, AdminError> {
    let is_value = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let is_name = |text: &str| {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !text.is_empty() && text.bytes().all(is_token)
    };
    if !(200..=599).contains(&status) {
        return Err(AdminError::Invalid(format!(
            "{status} is no status: write one from 200 to 599"
        )));
    }
    let frames = |name: &str| FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing));
    if headers.iter().any(|(name, value)| !is_name(name) || !is_value(value) || frames(name)) {
        return Err(AdminError::Invalid("a header is not one that can be sent".to_owned()));
    }
    let headers: Headers = headers.into_iter().collect();
    Ok(SavedResponse { status, headers, body: body.into() })
}

/// Headers that the server writes itself.
const FRAMING: [&str; 3] = ["connection", "content-length", "transfer-encoding"];

fn no_key(id: KeyId) -> AdminError {
    AdminError::NotFound(format!("there is no key {id}: it is free, or was never sent"))
}

/// `1767225600000-` and the id.
impl fmt::Display for KeyCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.begun_at.as_millis(), self.id)
    }
}

/// What is given as a place in the list is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a `next` that came with a page of keys")]
pub struct NoCursor;

impl FromStr for KeyCursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (begun_at, id) = text.split_once('-').ok_or(NoCursor)?;
        let begun_at = Timestamp::from_millis(begun_at.parse().map_err(|_| NoCursor)?);
        Ok(Self { begun_at, id: id.parse().map_err(|_| NoCursor)? })
    }
}

impl Serialize for KeyCursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyCursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyScope;

    #[test]
    fn a_cursor_is_read_back_from_its_text() {
        let id = KeyScope::new("payments", "POST", "/", b"", "k1").id();
        let cursor = KeyCursor { begun_at: Timestamp::from_millis(1_767_225_600_123), id };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in ["", "-", "1-", "x-y", &id.to_string()] {
            assert_eq!(text.parse::<KeyCursor>(), Err(NoCursor), "{text}");
        }
    }

    #[test]
    fn only_what_can_be_sent_can_be_an_answer() {
        let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        assert!(saved(200, header("content-type", "text/plain"), String::new()).is_ok());
        assert!(saved(100, Vec::new(), String::new()).is_err());
        assert!(saved(200, header("a b", ""), String::new()).is_err());
        assert!(saved(200, header("a", "b\r\nc: d"), String::new()).is_err());
        assert!(saved(200, header("Transfer-Encoding", "chunked"), String::new()).is_err());
    }
}
