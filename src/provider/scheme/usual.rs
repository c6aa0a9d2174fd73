//! The recipes that most providers share, down to a header's name.
//!
//! A provider that differs in one part takes the nearest of these and sets that part.

use std::time::Duration;

use super::{Algorithm, Encoding, KeyForm, Part, Placement, Recipe, Time};

impl Recipe {
    /// HMAC-SHA256 over the body alone, with the text of the secret as the key. One signature is
    /// the whole of `header` after `prefix`.
    pub fn of_body(header: &str, prefix: &str, encoding: Encoding) -> Self {
        Self {
            algorithm: Algorithm::HmacSha256,
            key: KeyForm::Text,
            signature: Placement::Whole { header: header.to_owned(), prefix: prefix.to_owned() },
            encoding,
            time: None,
            signed: vec![Part::Body],
        }
    }

    /// HMAC-SHA256 over the body alone, as [`Recipe::of_body`], with the signatures, in hex, as
    /// items `name=…` of `header` with commas in between.
    pub fn of_body_in_items(header: &str, name: &str) -> Self {
        let (header, name) = (header.to_owned(), name.to_owned());
        let signature = Placement::Items { header, separator: ',', name };
        Self { signature, ..Self::of_body("", "", Encoding::Hex) }
    }

    /// HMAC-SHA256 over time, dot and body as Stripe does it: `t=…,v1=<hex>` in `header`, with the
    /// text of the secret as the key. How far the time may be off is `tolerance`.
    pub fn of_time_and_body(header: &str, tolerance: Duration) -> Self {
        Self {
            time: Some(Time { tolerance, ..Time::item("t") }),
            signed: vec![Part::Time, Part::text("."), Part::Body],
            ..Self::of_body_in_items(header, "v1")
        }
    }
}
