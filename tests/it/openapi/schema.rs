//! Holds JSON against the schemas of the document, more strictly than a schema means it: a field that it
//! does not name is a mistake, and so is a keyword that is not known here.

use serde_json::Value;

/// Everything in `value` that `schema` does not say. References lead into `document`.
pub(super) fn mistakes(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    Checker { document, found: &mut found }.check(schema, value, "$");
    found
}

struct Checker<'a> {
    document: &'a Value,
    found: &'a mut Vec<String>,
}

impl Checker<'_> {
    fn check(&mut self, schema: &Value, value: &Value, at: &str) {
        for (keyword, wanted) in schema.as_object().expect("a schema is an object") {
            let holds = match keyword.as_str() {
                "description" | "default" | "additionalProperties" => true,
                "$ref" => {
                    let target = wanted.as_str().unwrap().trim_start_matches('#');
                    let target =
                        self.document.pointer(target).expect("a reference leads somewhere");
                    self.check(target, value, at);
                    true
                }
                "type" => {
                    let is = |name: &Value| is_a(value, name.as_str().unwrap());
                    wanted.as_array().map_or_else(|| is(wanted), |names| names.iter().any(is))
                }
                "const" => value == wanted,
                "oneOf" | "anyOf" => {
                    let fits = |one: &&Value| mistakes(self.document, one, value).is_empty();
                    wanted.as_array().unwrap().iter().filter(fits).count() == 1
                }
                "minimum" => value.as_f64().is_none_or(|number| number >= wanted.as_f64().unwrap()),
                "maximum" => value.as_f64().is_none_or(|number| number <= wanted.as_f64().unwrap()),
                "minItems" => value
                    .as_array()
                    .is_none_or(|items| items.len() as u64 >= wanted.as_u64().unwrap()),
                "maxItems" => value
                    .as_array()
                    .is_none_or(|items| items.len() as u64 <= wanted.as_u64().unwrap()),
                "items" => {
                    for (place, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(wanted, item, &format!("{at}[{place}]"));
                    }
                    true
                }
                "prefixItems" => {
                    let items = value.as_array().into_iter().flatten();
                    for (item, schema) in items.zip(wanted.as_array().unwrap()) {
                        self.check(schema, item, at);
                    }
                    true
                }
                "required" => {
                    let is_there = |name: &Value| value.get(name.as_str().unwrap()).is_some();
                    !value.is_object() || wanted.as_array().unwrap().iter().all(is_there)
                }
                "properties" => {
                    self.check_fields(schema, value, at);
                    true
                }
                "format" => value.as_str().is_none_or(|text| is_of_format(text, wanted)),
                _ => panic!("the checker does not know the keyword `{keyword}`"),
            };
            if !holds {
                self.found.push(format!("{at}: {value} is not as `{keyword}` says: {wanted}"));
            }
        }
        if let (None, Some(others)) = (schema.get("properties"), schema.get("additionalProperties"))
        {
            for (name, value) in value.as_object().into_iter().flatten() {
                self.check(others, value, &format!("{at}.{name}"));
            }
        }
    }

    fn check_fields(&mut self, schema: &Value, value: &Value, at: &str) {
        for (name, value) in value.as_object().into_iter().flatten() {
            match schema["properties"].get(name) {
                Some(schema) => self.check(schema, value, &format!("{at}.{name}")),
                None => self.found.push(format!("{at}: the document does not name `{name}`")),
            }
        }
    }
}

fn is_a(value: &Value, name: &str) -> bool {
    match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        _ => panic!("the checker does not know the type `{name}`"),
    }
}

fn is_of_format(text: &str, format: &Value) -> bool {
    match format.as_str().unwrap() {
        "date-time" => text.parse::<hookonce::clock::Timestamp>().is_ok(),
        "uuid" => text.parse::<hookonce::event::EventId>().is_ok(),
        "ip" => text.parse::<std::net::IpAddr>().is_ok(),
        format => panic!("the checker does not know the format `{format}`"),
    }
}

#[test]
fn the_checker_finds_what_is_wrong() {
    let document = serde_json::json!({ "part": { "type": "string", "format": "uuid" } });
    let schema = serde_json::json!({
        "type": "object", "required": ["id"],
        "properties": { "id": { "$ref": "#/part" }, "count": { "type": "integer", "minimum": 0 } },
    });
    let found = |value: Value| mistakes(&document, &schema, &value).len();
    let id = "0190163d-8694-739b-aea5-966c26f8ad91";
    assert_eq!(found(serde_json::json!({ "id": id, "count": 1 })), 0);
    assert_eq!(found(serde_json::json!({ "id": id, "count": -1 })), 1);
    assert_eq!(found(serde_json::json!({ "id": "x", "count": 1.5 })), 2);
    assert_eq!(found(serde_json::json!({ "id": id, "colour": "blue" })), 1);
    assert_eq!(found(serde_json::json!({})), 1);
    assert_eq!(found(serde_json::json!([])), 1);
}
