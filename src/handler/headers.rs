//! Which headers of a provider's request go on to a handler, and which of them are credentials.
//!
//! What goes on is what the provider said about its event. What stays here is what was about the
//! connection to us, what only we may say, and what would let a handler, or a reader of its logs,
//! pose as the provider.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::request::{Headers, normal_name};

/// Headers about what the sender can do with the answer, or about how a request is sent, which is for the
/// client to say that sends it on.
const ABOUT_THE_SENDING: [&str; 3] = ["accept-encoding", "content-length", "host"];

/// Headers that only we may send to a handler, besides everything that begins with `hookonce-`.
const OURS: [&str; 4] = ["idempotency-key", "webhook-id", "webhook-signature", "webhook-timestamp"];

/// What a sender says of a trace of its own. Passed on, it would decide what our handlers record, and
/// anybody may be the sender.
const ABOUT_A_TRACE: [&str; 3] = ["baggage", "traceparent", "tracestate"];

/// Endings of names whose value alone opens a door: `X-Gitlab-Token`,
/// `X-Telegram-Bot-Api-Secret-Token`, `X-Hook-Secret`, `X-Api-Key`.
const CREDENTIAL_ENDINGS: [&str; 5] = ["token", "secret", "password", "api-key", "apikey"];

/// Names that end like a credential but are none: Twilio's names the event.
const NO_CREDENTIALS: [&str; 1] = ["i-twilio-idempotency-token"];

/// Whether the value of a header of this name lets whoever reads it pose as its sender.
///
/// Signatures are none: they hold for one body. The answer does not depend on the case of `name`,
/// nor on whether it is written with `-` or `_`.
pub fn is_credential(name: &str) -> bool {
    let name = normal_name(name);
    if NO_CREDENTIALS.contains(&name.as_str()) {
        return false;
    }
    matches!(name.as_str(), "authorization" | "cookie" | "set-cookie")
        || name.starts_with("proxy-")
        || CREDENTIAL_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// The headers of a request that go on to a handler, in their order.
pub(super) fn forwarded(headers: &Headers) -> HeaderMap {
    let mut forwarded = HeaderMap::new();
    for (name, value) in headers.beyond_this_hop() {
        if stays_here(&normal_name(name)) {
            continue;
        }
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value))
        else {
            continue; // it cannot be written as a header, so it did not come as one
        };
        if forwarded.try_append(name, value).is_err() {
            break; // more headers than a map can hold: no request that a server let in
        }
    }
    forwarded
}

/// Whether a header of this normal name never goes on.
fn stays_here(name: &str) -> bool {
    ABOUT_THE_SENDING.contains(&name)
        || OURS.contains(&name)
        || ABOUT_A_TRACE.contains(&name)
        || name.starts_with("hookonce-")
        || is_credential(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_known_by_name() {
        let yes = [
            "Authorization",
            "Cookie",
            "Proxy-Authorization",
            "X-Gitlab-Token",
            "X-Telegram-Bot-Api-Secret-Token",
            "x_api_key",
            "X-Hook-Secret",
        ];
        let no = [
            "Stripe-Signature",
            "X-Hub-Signature-256",
            "Idempotency-Key",
            "I-Twilio-Idempotency-Token",
            "Content-Type",
        ];
        for name in yes {
            assert!(is_credential(name), "{name}");
        }
        for name in no {
            assert!(!is_credential(name), "{name}");
        }
    }

    #[test]
    fn what_the_provider_said_goes_on() {
        let headers: Headers = [
            ("Content-Type", "application/json"),
            ("Stripe-Signature", "t=1,v1=ab"),
            ("X-Many", "1"),
            ("X-Many", "2"),
        ]
        .into_iter()
        .collect();
        let forwarded = forwarded(&headers);
        assert_eq!(forwarded.len(), 4);
        assert_eq!(forwarded.get_all("x-many").iter().count(), 2);
    }

    #[test]
    fn what_is_about_the_connection_or_a_credential_stays_here() {
        let headers: Headers = [
            ("Connection", "keep-alive, X-Hop ,close"),
            ("X-Hop", "1"),
            ("Transfer-Encoding", "chunked"),
            ("Host", "hooks.example.com"),
            ("Content-Length", "7"),
            ("Expect", "100-continue"),
            ("Accept-Encoding", "gzip"),
            ("Authorization", "Bearer x"),
            ("X-Gitlab-Token", "x"),
        ]
        .into_iter()
        .collect();
        assert_eq!(forwarded(&headers), HeaderMap::new());
    }

    #[test]
    fn a_sender_cannot_forge_what_only_we_say() {
        let names = [
            "Idempotency-Key",
            "webhook-id",
            "WEBHOOK_SIGNATURE",
            "Hookonce_Source",
            "Traceparent",
            "tracestate",
        ];
        let headers: Headers = names.into_iter().map(|name| (name, "forged")).collect();
        assert_eq!(forwarded(&headers), HeaderMap::new());
    }

    #[test]
    fn what_cannot_be_a_header_is_left_out() {
        let headers: Headers =
            [("a b", &b"x"[..]), ("x-feed", b"a\nb"), ("x-latin", b"\xe9")].into_iter().collect();
        let forwarded = forwarded(&headers);
        assert_eq!(forwarded.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-latin"]);
    }
}
