//! What a person may ask of the store itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Admin, AdminError};

/// What was accepted.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    /// How many parts of the store had lost something; none where nothing was lost.
    pub accepted: usize,
}

impl Admin {
    /// Goes on with a store that has lost what it held.
    pub async fn accept_store(&self) -> Result<Accepted, AdminError> {
        let accepted = self.app.store.accept().await?;
        if accepted > 0 {
            tracing::warn!(
                accepted,
                "a person accepts what the store has lost: it is used as it is"
            );
        }
        Ok(Accepted { accepted })
    }
}
