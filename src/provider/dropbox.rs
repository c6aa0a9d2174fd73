//! Dropbox: `X-Dropbox-Signature: <hex>`, HMAC-SHA256 over the body.
//!
//! <https://www.dropbox.com/developers/reference/webhooks>
//!
//! Identity: none. A request says only whose files have changed, so two changes of one account are
//! the same bytes. Each request is an event of its own, and its handler asks Dropbox what is new.
//!
//! There are no types. The URL is tested with a GET whose `challenge` is sent back as plain text.

use std::time::Duration;

use super::{
    Provider, Scheme, Settings, naming,
    scheme::{Encoding, Recipe},
};
use crate::{
    event::Named,
    receipt::Reply,
    refusal::Refusal,
    request::{Unverified, Verified},
};

/// Dropbox's rules.
#[derive(Debug)]
pub struct Dropbox;

impl Provider for Dropbox {
    fn name(&self) -> &'static str {
        "dropbox"
    }

    fn title(&self) -> &'static str {
        "Dropbox"
    }

    fn docs(&self) -> &'static str {
        "https://www.dropbox.com/developers/reference/webhooks"
    }

    fn secret_variable(&self) -> &'static str {
        "DROPBOX_APP_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over the body"
    }

    fn identity(&self) -> &'static str {
        "none: the same bytes can be a new change, so nothing is deduplicated"
    }

    /// For about ten minutes.
    fn resends_for(&self) -> Duration {
        Duration::from_mins(10)
    }

    fn handshake(&self) -> &'static str {
        "GET with `challenge`, which is sent back"
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let recipe = Recipe::of_body("X-Dropbox-Signature", "", Encoding::Hex);
        Ok(Box::new(recipe.scheme(settings)?))
    }

    fn unsigned_handshake(
        &self,
        request: &Unverified,
        _: &Settings,
    ) -> Result<Option<Reply>, Refusal> {
        let challenge = request.query_parameter("challenge").and_then(naming::usable);
        Ok(challenge.filter(|_| request.method == "GET").map(Reply::echo))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        Ok(vec![naming::never_the_same(None, None, request.body.clone())])
    }
}
