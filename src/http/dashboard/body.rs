//! A body made readable: JSON with line breaks, forms as pairs, all else as it is.

use serde::de::IgnoredAny;
use url::form_urlencoded;

use crate::{admin::EventView, limits};

/// A body as a person reads it.
pub(super) struct Shown {
    /// With line breaks, where it is JSON.
    pub(super) pretty: Option<String>,
    /// Its fields, where it is a form.
    pub(super) fields: Vec<(String, String)>,
    /// As it came, where it is text.
    pub(super) raw: Option<String>,
    /// Whether the end was left out: the whole can be downloaded.
    pub(super) is_cut: bool,
}

/// The body of an event, no more of it than a page can take.
pub(super) fn shown(event: &EventView) -> Shown {
    let Some(body) = event.body.as_deref() else {
        return Shown { pretty: None, fields: Vec::new(), raw: None, is_cut: false };
    };
    let raw = beginning(body);
    let is_cut = raw.len() < body.len();
    let is_json = !is_cut && serde_json::from_str::<IgnoredAny>(body).is_ok();
    let mut types = event.headers.iter().filter(|(name, _)| name == "content-type");
    let is_form = types.any(|(_, value)| value.starts_with("application/x-www-form-urlencoded"));
    let fields = match is_form {
        true => form_urlencoded::parse(raw.as_bytes()).into_owned().collect(),
        false => Vec::new(),
    };
    let pretty = is_json.then(|| with_line_breaks(body));
    Shown { pretty, fields, raw: Some(raw.to_owned()), is_cut }
}

/// As much of a text as is shown.
fn beginning(text: &str) -> &str {
    let end = text.floor_char_boundary(limits::BODY_BYTES_SHOWN);
    text.get(..end).unwrap_or(text)
}

/// JSON with line breaks. Only the space between the tokens changes: parsing it and writing it again
/// would change numbers that are too long, and the order of keys.
fn with_line_breaks(json: &str) -> String {
    let (mut pretty, mut depth) = (String::new(), 0_usize);
    let (mut in_string, mut after_backslash) = (false, false);
    let mut letters = json.chars().filter(|letter| !letter.is_ascii_control()).peekable();
    while let Some(letter) = letters.next() {
        if in_string {
            pretty.push(letter);
            in_string = letter != '"' || after_backslash;
            after_backslash = letter == '\\' && !after_backslash;
            continue;
        }
        match letter {
            '{' | '[' => {
                while letters.peek() == Some(&' ') {
                    letters.next();
                }
                pretty.push(letter);
                if let Some(closing) = letters.next_if(|next| matches!(next, '}' | ']')) {
                    pretty.push(closing);
                } else {
                    depth += 1;
                    break_line(&mut pretty, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                break_line(&mut pretty, depth);
                pretty.push(letter);
            }
            ',' => {
                pretty.push(letter);
                break_line(&mut pretty, depth);
            }
            ':' => pretty.push_str(": "),
            ' ' => {}
            '"' => {
                in_string = true;
                pretty.push(letter);
            }
            _ => pretty.push(letter),
        }
    }
    pretty
}

/// Deeper than this, lines are no longer moved in: a body of brackets alone must not grow without bound.
const INDENTS_MAX: usize = 32;

fn break_line(pretty: &mut String, depth: usize) {
    pretty.push('\n');
    pretty.extend(std::iter::repeat_n("  ", depth.min(INDENTS_MAX)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_space_between_tokens_changes() {
        let json = "{\"b\": [1, 20000000000000000000001 ],\r\n\t\"a\":{ },\"c\":\"x: {, \\\" }\"}";
        let pretty = with_line_breaks(json);
        let expected = "{\n  \"b\": [\n    1,\n    20000000000000000000001\n  ],\n  \"a\": {},\n  \"c\": \"x: {, \\\" }\"\n}";
        assert_eq!(pretty, expected);
    }

    #[test]
    fn a_body_of_brackets_does_not_explode() {
        let json = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert!(with_line_breaks(&json).len() < 100 * 2 * (INDENTS_MAX * 2 + 2));
    }

    #[test]
    fn a_cut_falls_between_characters() {
        let text = "é".repeat(limits::BODY_BYTES_SHOWN);
        assert!(beginning(&text).len() <= limits::BODY_BYTES_SHOWN);
        assert_eq!(beginning("short"), "short");
    }
}
