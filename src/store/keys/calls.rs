//! The verbs about keys as values, for stores that queue them and do many at once.

use std::time::Duration;

use uuid::Uuid;

use super::{Begin, Begun, Resolution, Resolved};
use crate::{
    clock::Timestamp,
    key::{KeyId, SavedResponse},
    store::{Hold, StoreError},
};

/// About how many bytes a call takes in a queue, beside what it carries.
const CALL_BYTES: usize = 512;

/// What can be asked about a key. Each is a verb of [`Keys`](super::Keys).
#[derive(Debug)]
pub(in crate::store) enum KeyedCall {
    Begin(Begin, Timestamp),
    Extend { key: KeyId, owner: Uuid, lease: Duration },
    Complete { key: KeyId, owner: Uuid, response: SavedResponse, retention: Duration },
    Abandon { key: KeyId, owner: Uuid },
    MarkUnknown { key: KeyId, owner: Uuid, note: String },
    Resolve { key: KeyId, resolution: Resolution, not_after: Timestamp },
}

/// What is answered to each.
#[derive(Debug)]
pub(in crate::store) enum KeyedAnswer {
    Begun(Begun),
    Held(Hold),
    Resolved(Resolved),
}

impl KeyedCall {
    /// Whether it ends or keeps up what runs already.
    pub(in crate::store) fn ends(&self) -> bool {
        match self {
            Self::Begin(..) | Self::Resolve { .. } => false,
            Self::Extend { .. }
            | Self::Complete { .. }
            | Self::Abandon { .. }
            | Self::MarkUnknown { .. } => true,
        }
    }

    /// About how many bytes it takes in a queue.
    pub(in crate::store) fn bytes(&self) -> usize {
        let carried = match self {
            Self::Begin(Begin { scope, .. }, _) => {
                scope.api.len() + scope.method.len() + scope.path.len() + scope.key.len()
            }
            Self::Complete { response, .. }
            | Self::Resolve { resolution: Resolution::Complete { response, .. }, .. } => {
                response.bytes()
            }
            Self::MarkUnknown { note, .. } => note.len(),
            Self::Extend { .. } | Self::Abandon { .. } | Self::Resolve { .. } => 0,
        };
        CALL_BYTES + carried
    }
}

impl KeyedAnswer {
    /// What [`KeyedCall::Begin`] is answered.
    pub(in crate::store) fn begun(self) -> Result<Begun, StoreError> {
        match self {
            Self::Begun(begun) => Ok(begun),
            Self::Held(_) | Self::Resolved(_) => Err(mixed_up()),
        }
    }

    /// What the calls are answered that an owner's token fences.
    pub(in crate::store) fn held(self) -> Result<Hold, StoreError> {
        match self {
            Self::Held(hold) => Ok(hold),
            Self::Begun(_) | Self::Resolved(_) => Err(mixed_up()),
        }
    }

    /// What [`KeyedCall::Resolve`] is answered.
    pub(in crate::store) fn resolved(self) -> Result<Resolved, StoreError> {
        match self {
            Self::Resolved(resolved) => Ok(resolved),
            Self::Begun(_) | Self::Held(_) => Err(mixed_up()),
        }
    }
}

fn mixed_up() -> StoreError {
    StoreError::Failed("its keys answered another question".to_owned())
}
