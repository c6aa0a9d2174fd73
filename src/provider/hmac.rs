//! Any sender that signs with an HMAC and is not in our list: its source says how.
//!
//! With a secret alone: `X-Signature: <hex>`, HMAC-SHA256 over the body. The settings below change
//! each part of that; GitHub's way, for one, is `header = "X-Hub-Signature-256"` and `prefix =
//! "sha256="`, Stripe's is `header = "Stripe-Signature"`, `item = "v1"`, `timestamp_item = "t"` and
//! `signed = "{timestamp}.{body}"`.
//!
//! <https://www.rfc-editor.org/rfc/rfc2104>
//!
//! Identity: what `event_id` names, alone if it is signed (a place in the body, or a header among
//! the signed parts), otherwise together with the digest of the signed content less its time. Where
//! it names nothing, that digest alone: such a source must put something into each body that
//! differs between events.

use std::{str::FromStr, time::Duration};

use super::{
    Provider, Scheme, Settings, naming,
    scheme::{
        self, Algorithm, Encoding, KeyForm, Part, Placement, Recipe, TOLERANCE, Time, TimePlace,
        TimeUnit,
    },
};
use crate::{
    event::{Digest, Named},
    refusal::Refusal,
    request::Verified,
};

/// The rules that a source's configuration gives.
#[derive(Debug)]
pub struct GenericHmac;

impl Provider for GenericHmac {
    fn name(&self) -> &'static str {
        "hmac"
    }

    fn title(&self) -> &'static str {
        "Any HMAC"
    }

    fn docs(&self) -> &'static str {
        "https://www.rfc-editor.org/rfc/rfc2104"
    }

    fn secret_variable(&self) -> &'static str {
        "HMAC_SECRET"
    }

    fn signs_with(&self) -> &'static str {
        "HMAC over what the settings say"
    }

    fn identity(&self) -> &'static str {
        "as `event_id` says; without one the digest of the signed content less its time"
    }

    /// Nobody knows; most senders stop after three days.
    fn resends_for(&self) -> Duration {
        Duration::from_hours(24 * 3)
    }

    fn settings(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("header", "the header with the signature; default `X-Signature`"),
            ("prefix", "what stands before the signature, such as `sha256=`; default nothing"),
            ("item", "the signature is this item of the header: `v1` in `t=…,v1=…`"),
            ("separator", "what stands between two items; default `,`"),
            ("algorithm", "`sha1`, `sha256` (default) or `sha512`"),
            ("encoding", "of the signature: `hex` (default) or `base64`"),
            ("key", "of the secret: `text` (default), `base64` or `hex`"),
            (
                "signed",
                "what is signed, with `{body}`, `{timestamp}`, `{header:Name}`, `{url}` and \
                 `{method}` in place of each; default `{body}`",
            ),
            ("timestamp_header", "the header with the time of signing"),
            ("timestamp_item", "the time of signing is this item of the signature's header"),
            ("timestamp_unit", "`seconds` (default) or `milliseconds`"),
            ("event_id", "where the id is: `header:Name` or `/json/pointer`"),
            ("event_type", "where the type is: `header:Name` or `/json/pointer`"),
        ]
    }

    fn scheme(&self, settings: &Settings) -> Result<Box<dyn Scheme>, Vec<String>> {
        let mut wrong = Vec::new();
        for key in ["event_id", "event_type"] {
            wrong.extend(place(settings, key).err());
        }
        match recipe(settings) {
            Ok(recipe) => match recipe.scheme(settings) {
                Ok(scheme) if wrong.is_empty() => return Ok(Box::new(scheme)),
                Ok(_) => {}
                Err(more) => wrong.extend(more),
            },
            Err(more) => wrong.extend(more),
        }
        Err(wrong)
    }

    fn events(&self, request: &Verified, settings: &Settings) -> Result<Vec<Named>, Refusal> {
        let misread = |_| Refusal::Malformed("the source's settings cannot be read".to_owned());
        let signed = signed(settings).map_err(misread)?;
        let id_place = place(settings, "event_id").map_err(misread)?;
        let type_place = place(settings, "event_type").map_err(misread)?;
        let json = if Place::any_in_body([&id_place, &type_place]) {
            serde_json::from_slice(&request.body).unwrap_or_default()
        } else {
            serde_json::Value::Null
        };
        let read = |place: &Option<Place>| place.as_ref().and_then(|at| at.read(request, &json));
        let (id, event_type, body) = (read(&id_place), read(&type_place), request.body.clone());
        // The time reads as nothing: it changes between attempts.
        let parts = scheme::message(&signed, request, "")?;
        let content = || Digest::of(parts);
        Ok(vec![match id_place {
            Some(Place::Header(name)) if !signed.contains(&Part::Header(name.clone())) => {
                naming::by_unsigned_id(id, event_type, body, content())
            }
            _ => naming::by_signed_id(id, event_type, body, content),
        }])
    }
}

fn recipe(settings: &Settings) -> Result<Recipe, Vec<String>> {
    let mut wrong = Vec::new();
    let algorithm = [
        ("sha256", Algorithm::HmacSha256),
        ("sha1", Algorithm::HmacSha1),
        ("sha512", Algorithm::HmacSha512),
    ];
    let encoding = [("hex", Encoding::Hex), ("base64", Encoding::Base64)];
    let base64 = KeyForm::Base64 { prefix: "" };
    let key = [("text", KeyForm::Text), ("base64", base64), ("hex", KeyForm::Hex)];
    let unit = [("seconds", TimeUnit::Seconds), ("milliseconds", TimeUnit::Millis)];
    let separator = [(",", ','), (";", ';'), (" ", ' '), ("&", '&')];

    let unit = one_of(settings, "timestamp_unit", &unit, &mut wrong);
    let place = match (settings.text("timestamp_header"), settings.text("timestamp_item")) {
        (Some(_), Some(_)) => {
            wrong.push("timestamp_item: take it or `timestamp_header` out".to_owned());
            None
        }
        (Some(header), None) => Some(TimePlace::Header(header.to_owned())),
        (None, Some(item)) => Some(TimePlace::Item(item.to_owned())),
        (None, None) => None,
    };
    let signed = signed(settings).unwrap_or_else(|problem| {
        wrong.push(problem);
        vec![Part::Body, Part::Time]
    });
    if !signed.contains(&Part::Body) {
        wrong.push("signed: does not cover the body; put `{body}` into it".to_owned());
    }
    if place.is_some() != signed.contains(&Part::Time) && wrong.is_empty() {
        wrong.push(
            "signed: a time counts only if it is signed; set `timestamp_header` or \
             `timestamp_item`, and put `{timestamp}` into it, or neither"
                .to_owned(),
        );
    }
    if matches!(place, Some(TimePlace::Item(_))) && settings.text("item").is_none() {
        wrong.push("item: name the signature's item beside `timestamp_item`".to_owned());
    }
    if settings.text("item").is_some() && settings.text("prefix").is_some() {
        wrong.push("prefix: an item has none; take it out".to_owned());
    }
    let recipe = Recipe {
        algorithm: one_of(settings, "algorithm", &algorithm, &mut wrong),
        key: one_of(settings, "key", &key, &mut wrong),
        encoding: one_of(settings, "encoding", &encoding, &mut wrong),
        signature: placement(settings, one_of(settings, "separator", &separator, &mut wrong)),
        time: place.map(|place| Time { place, unit, tolerance: TOLERANCE }),
        signed,
    };
    if wrong.is_empty() { Ok(recipe) } else { Err(wrong) }
}

fn placement(settings: &Settings, separator: char) -> Placement {
    let header = settings.text("header").unwrap_or("X-Signature").to_owned();
    match settings.text("item") {
        Some(name) => Placement::Items { header, separator, name: name.to_owned() },
        None => {
            let prefix = settings.text("prefix").unwrap_or_default().to_owned();
            Placement::Whole { header, prefix }
        }
    }
}

/// What a setting chooses; the first is the default.
fn one_of<T: Copy>(
    settings: &Settings,
    key: &str,
    choices: &[(&str, T)],
    wrong: &mut Vec<String>,
) -> T {
    let (_, default) = choices.first().expect("there is a choice");
    let Some(wanted) = settings.text(key) else {
        return *default;
    };
    if let Some((_, chosen)) = choices.iter().find(|(name, _)| *name == wanted) {
        return *chosen;
    }
    let names: Vec<_> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
    wrong.push(format!("{key}: write one of {}", names.join(", ")));
    *default
}

/// The signed parts, from a template such as `{timestamp}.{body}`.
fn signed(settings: &Settings) -> Result<Vec<Part>, String> {
    let mut rest = settings.text("signed").unwrap_or("{body}");
    let mut parts = Vec::new();
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) =
            after.split_once('}').ok_or_else(|| "signed: a `{` has no `}`; close it".to_owned())?;
        if !before.is_empty() {
            parts.push(Part::text(before));
        }
        parts.push(match name {
            "body" => Part::Body,
            "timestamp" => Part::Time,
            "url" => Part::Url,
            "method" => Part::Method,
            _ => match name.strip_prefix("header:") {
                Some(header) => Part::Header(header.to_ascii_lowercase()),
                None => {
                    return Err("signed: write `{body}`, `{timestamp}`, `{header:Name}`, `{url}` \
                                or `{method}`"
                        .to_owned());
                }
            },
        });
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::text(rest));
    }
    Ok(parts)
}

/// Where an id or a type is.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// A header, in lower case.
    Header(String),
    /// A JSON pointer into the body.
    Body(String),
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.strip_prefix("header:") {
            Some(name) if !name.is_empty() => Ok(Self::Header(name.to_ascii_lowercase())),
            None if text.starts_with('/') => Ok(Self::Body(text.to_owned())),
            _ => Err(()),
        }
    }
}

fn place(settings: &Settings, key: &str) -> Result<Option<Place>, String> {
    let problem = |()| format!("{key}: write `header:Name` or a JSON pointer such as `/id`");
    settings.text(key).map(str::parse).transpose().map_err(problem)
}

impl Place {
    fn any_in_body(places: [&Option<Self>; 2]) -> bool {
        places.into_iter().any(|place| matches!(place, Some(Self::Body(_))))
    }

    fn read(&self, request: &Verified, json: &serde_json::Value) -> Option<String> {
        match self {
            Self::Header(name) => request.headers.only(name).ok().and_then(naming::usable),
            Self::Body(pointer) => match json.pointer(pointer)? {
                serde_json::Value::String(text) => naming::usable(text.as_str()),
                serde_json::Value::Number(number) => naming::usable(number.to_string()),
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn wrong(extra: &[(&str, &str)]) -> Vec<String> {
        let extra = extra.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let settings = Settings {
            secrets: vec![Secret::new("key")],
            extra: extra.collect(),
            ..Settings::default()
        };
        GenericHmac.scheme(&settings).err().unwrap_or_default()
    }

    #[test]
    fn every_mistake_is_told_at_once_and_by_its_key() {
        let all = wrong(&[
            ("algorithm", "md5"),
            ("encoding", "base32"),
            ("signed", "{timestamp}"),
            ("event_id", "id"),
        ]);
        let keys: Vec<_> = all.iter().map(|text| text.split(':').next().unwrap()).collect();
        assert_eq!(keys, ["event_id", "signed", "algorithm", "encoding"]);
    }

    #[test]
    fn a_time_that_is_not_signed_is_a_mistake() {
        for extra in [
            &[("timestamp_header", "X-Time")][..],
            &[("signed", "{timestamp}.{body}")][..],
            &[("timestamp_item", "t"), ("signed", "{timestamp}.{body}")][..],
            &[("signed", "{body")][..],
            &[("signed", "{nobody}")][..],
            &[("item", "v1"), ("prefix", "v1=")][..],
        ] {
            assert_eq!(wrong(extra).len(), 1, "{extra:?}");
        }
    }

    #[test]
    fn a_secret_is_enough() {
        assert_eq!(wrong(&[]), [""; 0]);
    }
}
