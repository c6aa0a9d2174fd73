//! Other forms of a body: what was sent, if what arrived was written anew on its way.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::{Value, value::RawValue};

use crate::limits;

/// What may have happened to a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) altered: &'static str,
    pub(super) tried: &'static str,
}

/// Every other form to try, with what would have happened to it. Each is made only when it is its turn.
pub(super) fn others(body: &Bytes) -> impl Iterator<Item = (Change, Bytes)> {
    let text = std::str::from_utf8(body).ok();
    let text = text.filter(|text| text.len() <= limits::RESPELLED_BODY_BYTES_MAX);
    let is_json = |text: &&str| serde_json::from_str::<&RawValue>(text).is_ok();
    let json = text.filter(is_json).into_iter().flat_map(json);
    let form = text.filter(|text| !is_json(text)).into_iter().flat_map(form);
    let forms = line_ends(body).into_iter().chain(wrapped(body)).chain(json).chain(form);
    forms.filter(move |(_, form)| form != body).map(|(change, form)| (change, form.into()))
}

fn line_ends(body: &[u8]) -> Vec<(Change, Vec<u8>)> {
    let added = "a line end was added at its end";
    let taken = "the line end at its end was taken away";
    let ends = "its line ends were changed";
    let mut forms = Vec::new();
    let trimmed = body.trim_ascii_end();
    forms.push((
        Change { altered: added, tried: "without white space at its end" },
        trimmed.to_vec(),
    ));
    for end in [&b"\n"[..], b"\r\n"] {
        let tried = "with a line end at its end";
        forms.push((Change { altered: taken, tried }, [body, end].concat()));
    }
    let lf = replace(body, b"\r\n", b"\n");
    let crlf = replace(&lf, b"\n", b"\r\n");
    forms.push((Change { altered: ends, tried: "with LF line ends" }, lf));
    forms.push((Change { altered: ends, tried: "with CRLF line ends" }, crlf));
    let mark =
        Change { altered: "a byte order mark was added", tried: "without its byte order mark" };
    forms.extend(body.strip_prefix(b"\xef\xbb\xbf").map(|rest| (mark, rest.to_vec())));
    forms
}

/// What gateways put around a body.
fn wrapped(body: &[u8]) -> Vec<(Change, Vec<u8>)> {
    let base64 = Change { altered: "it was encoded as base64", tried: "decoded from base64" };
    let string =
        Change { altered: "it was put into a JSON string", tried: "taken out of its JSON string" };
    let decoded = BASE64_STANDARD.decode(body.trim_ascii()).ok().map(|decoded| (base64, decoded));
    let text = serde_json::from_slice::<String>(body).ok().map(|text| (string, text.into_bytes()));
    decoded.into_iter().chain(text).collect()
}

/// The same JSON with other white space and other escapes. The order of its members and the spelling
/// of its numbers are kept.
fn json(text: &str) -> impl Iterator<Item = (Change, Vec<u8>)> {
    let altered = "its JSON was written anew";
    let layouts = [
        (Layout::Compact, "as compact JSON"),
        (Layout::Spaced, "as JSON with spaces behind `,` and `:`"),
        (Layout::Indented(2), "as JSON indented by 2"),
        (Layout::Indented(4), "as JSON indented by 4"),
    ];
    let laid_out = layouts.into_iter().filter_map(|(layout, tried)| {
        lay_out(text, layout).map(|json| (Change { altered, tried }, json))
    });
    let spelled = laid_out.flat_map(|(change, json)| {
        let spellings = SPELLINGS.iter().filter_map({
            let json = json.clone();
            move |spell| respelled(&json, spell)
        });
        let forms: Vec<_> = std::iter::once(json).chain(spellings).collect();
        forms.into_iter().map(move |form| (change, form.into_bytes()))
    });
    let tried = "as compact JSON with its members sorted";
    let sorted = serde_json::from_str::<Value>(text).ok();
    spelled.chain(sorted.map(|value| (Change { altered, tried }, value.to_string().into_bytes())))
}

/// How libraries spell a string: which characters they escape that need not be.
const SPELLINGS: [fn(&str) -> String; 5] = [
    |text| escaped(text, |char| !char.is_ascii()),
    |text| escaped(text, |_| false),
    |text| escaped(text, |char| matches!(char, '<' | '>' | '&')),
    |text| escaped(text, |_| false).replace('/', "\\/"),
    |text| escaped(text, |char| !char.is_ascii()).replace('/', "\\/"),
];

/// How JSON is laid out.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Compact,
    Spaced,
    Indented(usize),
}

/// Writes `text`, which is JSON, with other white space and nothing else changed. `None` if it gets
/// longer than what a body may be: deep nesting, indented, can grow without end.
fn lay_out(text: &str, layout: Layout) -> Option<String> {
    let mut written = String::with_capacity(text.len() * 2);
    let mut depth = 0;
    let mut chars = text
        .chars()
        .filter({
            let mut string = InString::default();
            move |char| string.step(*char) || !char.is_ascii_whitespace()
        })
        .peekable();
    let mut string = InString::default();
    let new_line = |written: &mut String, depth: usize| {
        if let Layout::Indented(width) = layout {
            written.push('\n');
            written.extend(std::iter::repeat_n(' ', width * depth));
        }
    };
    while let Some(char) = chars.next() {
        if written.len() > limits::BODY_BYTES_MAX {
            return None;
        }
        if string.step(char) {
            written.push(char);
            continue;
        }
        match char {
            '{' | '[' => {
                written.push(char);
                depth += 1;
                if !matches!(chars.peek(), Some('}' | ']')) {
                    new_line(&mut written, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                if !written.ends_with(['{', '[']) {
                    new_line(&mut written, depth);
                }
                written.push(char);
            }
            ',' => {
                written.push(char);
                new_line(&mut written, depth);
                written.push_str(if matches!(layout, Layout::Spaced) { " " } else { "" });
            }
            ':' => written.push_str(if matches!(layout, Layout::Compact) { ":" } else { ": " }),
            _ => written.push(char),
        }
    }
    Some(written)
}

/// Whether a character of JSON belongs to a string, its quotes included.
#[derive(Default)]
struct InString {
    inside: bool,
    escaped: bool,
}

impl InString {
    fn step(&mut self, char: char) -> bool {
        match (self.inside, self.escaped, char) {
            (false, _, '"') => self.inside = true,
            (false, ..) => return false,
            (true, true, _) => self.escaped = false,
            (true, false, '\\') => self.escaped = true,
            (true, false, '"') => self.inside = false,
            (true, false, _) => {}
        }
        true
    }
}

/// Each string of `json` decoded, and spelled by `spell`.
fn respelled(json: &str, spell: impl Fn(&str) -> String) -> Option<String> {
    let mut written = String::with_capacity(json.len());
    let mut string = InString::default();
    let mut token = String::new();
    for char in json.chars() {
        if !string.step(char) {
            written.push(char);
            continue;
        }
        token.push(char);
        if !string.inside {
            let decoded: String = serde_json::from_str(&token).ok()?;
            written.push_str(&spell(&decoded));
            token.clear();
        }
    }
    Some(written)
}

/// A JSON string, in which the characters that `wanted` names are escaped besides those that must be.
fn escaped(text: &str, wanted: impl Fn(char) -> bool) -> String {
    let quoted = Value::from(text).to_string();
    let mut written = String::with_capacity(quoted.len());
    for char in quoted.chars() {
        if wanted(char) {
            let mut units = [0; 2];
            written
                .extend(char.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            written.push(char);
        }
    }
    written
}

/// The same form with other escapes.
fn form(text: &str) -> Vec<(Change, Vec<u8>)> {
    let altered = "its form was written anew";
    let change = |tried| Change { altered, tried };
    let anew = |text: &str| {
        let pairs = url::form_urlencoded::parse(text.as_bytes());
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
    };
    let standard = anew(text);
    let spaced = standard.replace('+', "%20");
    vec![
        (change("as a form with `+` for spaces"), standard.clone().into_bytes()),
        (change("as a form with `%20` for spaces"), spaced.clone().into_bytes()),
        (change("as a form with escapes in lower case"), in_lower_case(&standard).into_bytes()),
        (change("as a form with escapes in lower case"), in_lower_case(&spaced).into_bytes()),
        (change("as a form with `*` and `~` as they are"), spaced.replace("%7E", "~").into_bytes()),
        (change("as a form with `%20` for spaces"), text.replace('+', "%20").into_bytes()),
        (change("as a form with `+` for spaces"), text.replace("%20", "+").into_bytes()),
    ]
}

/// The text with the digits of its escapes in lower case.
fn in_lower_case(text: &str) -> String {
    let mut digits_left = 0;
    let lowered = text.chars().map(|char| {
        if char == '%' {
            digits_left = 2;
        } else if digits_left > 0 {
            digits_left -= 1;
            return char.to_ascii_lowercase();
        }
        char
    });
    lowered.collect()
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        match rest.strip_prefix(from) {
            Some(after) => {
                replaced.extend_from_slice(to);
                rest = after;
            }
            None => {
                replaced.push(*first);
                rest = after;
            }
        }
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(sent: &str, arrived: &str) -> Option<&'static str> {
        let arrived = Bytes::copy_from_slice(arrived.as_bytes());
        others(&arrived).find(|(_, body)| body == sent).map(|(change, _)| change.tried)
    }

    #[test]
    fn what_was_sent_is_found_from_what_arrived() {
        let compact = r#"{"b":[1.50,{}],"a":{"x":"q\" \u00e9/<"},"e":[]}"#;
        let pretty = "{\n  \"b\": [\n    1.50,\n    {}\n  ],\n  \"a\": {\n    \"x\": \"q\\\" é/<\"\n  },\n  \"e\": []\n}";
        let spaced = r#"{"b": [1.50, {}], "a": {"x": "q\" é/<"}, "e": []}"#;
        for sent in [compact, pretty, spaced] {
            for arrived in [compact, pretty, spaced] {
                assert!(sent == arrived || finds(sent, arrived).is_some(), "{arrived} -> {sent}");
            }
        }
        let slashed = r#"{"url":"https:\/\/a.example\/"}"#;
        assert!(finds(slashed, r#"{"url":"https://a.example/"}"#).is_some());
        assert!(finds("{\"a\":1}", "{\"a\":1}\n").is_some());
        assert!(finds("{\"a\":1}\n", "{\"a\":1}").is_some());
        assert!(finds("a\r\nb", "a\nb").is_some());
        assert!(finds("{}", "e30=").is_some());
        assert!(finds("{\"a\":1}", "\"{\\\"a\\\":1}\"").is_some());
        assert!(finds("a=b+c&d=%2f", "a=b%20c&d=%2F").is_some());
        assert!(finds("a=b%20c", "a=b+c").is_some());
    }

    #[test]
    fn nothing_is_found_from_something_else() {
        assert_eq!(finds("{\"a\":1}", "{\"a\":2}"), None);
        assert_eq!(finds("{\"a\":1}", ""), None);
    }

    #[test]
    fn hostile_bodies_are_taken_as_they_come() {
        for body in [&b"\xff\xfe"[..], b"\"", b"{\"", b"%", b"%%%zz=+", b"[[[[[[", b"\"\\ud800\""] {
            assert!(others(&Bytes::from_static(body)).count() > 0, "{body:?}");
        }
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        assert!(others(&deep.into()).count() > 0);
    }
}
