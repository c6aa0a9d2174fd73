//! Linear: `Linear-Signature: <hex>`, HMAC-SHA256 over the body.
//!
//! <https://linear.app/developers/webhooks>
//!
//! The time is in the signed body, as a number of milliseconds at `/webhookTimestamp`, and may be
//! off by a minute. It is looked at after the signature: nothing is read from a body that nobody
//! vouched for. The header `Linear-Timestamp` is not signed and not looked at, as in Linear's
//! library.
//!
//! Identity: the header `Linear-Delivery`, which is not signed, and the digest of the body less the
//! time, which is the attempt's. The type is put together from `/type` and `/action`
//! (`Issue.create`).

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    NotSignable, Provider, Scheme, Settings,
    naming::{self, Scalar},
    scheme::{self, Encoding, Recipe, RecipeScheme, Time, TimeUnit},
};
use crate::{
    clock::Timestamp,
    event::{Digest, Named},
    refusal::{Refusal, SignatureProblem},
    request::{Unverified, Verified},
};

const TIME: &str = "webhookTimestamp";

/// Shorter than usual, as in Linear's library.
const TOLERANCE: Duration = Duration::from_mins(1);

/// Linear's rules.
#[derive(Debug)]
pub struct Linear;

impl Provider for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn title(&self) -> &'static str {
        "Linear"
    }

    fn docs(&self) -> &'static str {
        "https://linear.app/developers/webhooks"
    }

    fn secret_variable(&self) -> &'static str {
        "LINEAR_WEBHOOK_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC-SHA256 over the body, which holds the time"
    }

    fn identity(&self) -> &'static str {
        "`Linear-Delivery`, which is not signed, and the digest of the body less its time"
    }

    /// After a minute, an hour and six; the rest is for asking again.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24)
    }

    fn body_bytes_max(&self) -> usize {
        5 << 20
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let wrong: Vec<_> = scheme::tolerance_problem(settings).into_iter().collect();
        if !wrong.is_empty() {
            return Err(wrong);
        }
        // The recipe knows no time: it is in the body, and read after the signature.
        let timeless = Settings { tolerance: None, ..settings.clone() };
        let body = Recipe::of_body("Linear-Signature", "", Encoding::Hex).scheme(&timeless)?;
        Ok(Box::new(LinearScheme { body, tolerance: settings.tolerance }))
    }

    fn events(&self, request: &Verified, _: &Settings) -> Result<Vec<Named>, Refusal> {
        let message: Message<'_> = serde_json::from_slice(&request.body).unwrap_or_default();
        let event_type = match (message.kind.usable(), message.action.usable()) {
            (Some(kind), Some(action)) => naming::usable(format!("{kind}.{action}")),
            (kind, _) => kind,
        };
        let (before, _, after) = around_time(&request.body).unwrap_or((&request.body, "", &[]));
        let content = Digest::of([before, after]);
        let id = request.headers.only("Linear-Delivery").ok().and_then(naming::usable);
        Ok(vec![naming::by_unsigned_id(id, event_type, request.body.clone(), content)])
    }
}

/// The signature over the body, and then the time in it.
#[derive(Debug)]
struct LinearScheme {
    body: RecipeScheme,
    tolerance: Option<Duration>,
}

impl Scheme for LinearScheme {
    fn verify(&self, request: &Unverified, now: Timestamp) -> Result<(), SignatureProblem> {
        self.body.verify(request, now)?;
        let (_, text, _) = around_time(&request.body).ok_or_else(|| {
            SignatureProblem::Form(format!("the body has no `{TIME}` of its own"))
        })?;
        // The place does not matter here: the time is read already.
        let time = Time { unit: TimeUnit::Millis, tolerance: TOLERANCE, ..Time::header(TIME) };
        time.check(text, self.tolerance, now)
    }

    fn sign(&self, draft: &mut Unverified, now: Timestamp) -> Result<(), NotSignable> {
        let (before, _, after) = around_time(&draft.body)
            .ok_or_else(|| NotSignable(format!("the body has no `{TIME}` to put the time in")))?;
        let time = now.as_millis().to_string();
        draft.body = [before, time.as_bytes(), after].concat().into();
        self.body.sign(draft, now)
    }
}

/// The bytes before the time, the time as it is written, and the bytes after it.
fn around_time(body: &[u8]) -> Option<(&[u8], &str, &[u8])> {
    let timed: Timed<'_> = serde_json::from_slice(body).ok()?;
    let text = timed.webhook_timestamp?.get();
    let start = text.as_ptr().addr().checked_sub(body.as_ptr().addr())?;
    let (before, rest) = body.split_at_checked(start)?;
    let (_, after) = rest.split_at_checked(text.len())?;
    Some((before, text, after))
}

#[derive(Debug, Deserialize)]
struct Timed<'a> {
    #[serde(borrow, rename = "webhookTimestamp")]
    webhook_timestamp: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Scalar<'a>,
    #[serde(borrow, default)]
    action: Scalar<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_found_where_it_stands() {
        let body = br#"{"a":"\"webhookTimestamp\":1", "webhookTimestamp" : 42 ,"b":42}"#;
        let (before, time, after) = around_time(body).unwrap();
        assert_eq!(time, "42");
        assert_eq!([before, time.as_bytes(), after].concat(), body);
        for body in [&b"{}"[..], b"", b"[]", br#"{"webhookTimestamp":1,"webhookTimestamp":2}"#] {
            assert_eq!(around_time(body), None);
        }
    }
}
