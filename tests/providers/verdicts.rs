//! Each fixture and each vector gets the verdict it was written down with.

use hookonce::{
    fixture::Fixture,
    provider,
    verify::{check, check_vector},
};

use serde_json::json;

use crate::{fixtures, now_of, source_of};

#[test]
fn each_fixture_has_its_verdict() {
    for (provider, fixture) in fixtures() {
        let source = source_of(provider, &fixture);
        let checked = check(&source, fixture.request().clone(), now_of(&fixture));
        let name = format!("{}/{}", provider.name(), fixture.name);
        assert_eq!(Some(checked.summary()), fixture.expect, "{name}: {checked:?}");
    }
}

#[test]
fn each_vector_has_its_verdict() {
    let mut seen = 0;
    for line in Fixture::vectors().lines() {
        let result = check_vector(line).expect("the line is a vector");
        assert!(result.as_expected, "{result:?}");
        assert_ne!(result.verdict, "unsupported", "{result:?}");
        seen += 1;
    }
    assert!(seen >= 100, "only {seen} vectors");
}

/// The answer to a fixture, as plain data.
fn answer(path: &str) -> serde_json::Value {
    let (provider, name) = path.split_once('/').expect("provider and fixture");
    let fixtures = Fixture::all(provider);
    let fixture = fixtures.iter().find(|fixture| fixture.name == name).expect("the fixture exists");
    let source = source_of(provider::find(provider).expect("listed"), fixture);
    let checked = check(&source, fixture.request().clone(), now_of(fixture));
    serde_json::to_value(checked.response()).expect("a response is plain data")
}

#[test]
fn a_test_of_the_url_is_answered_as_documented() {
    let nosniff = json!({ "X-Content-Type-Options": "nosniff" });
    let secret = "b537207f20cbfa02357cf448134da559e8bd39d61597dcd5631b8012eae53e81";
    let url_validation = "{\"plainToken\":\"qgg8vlvZRS6UYooatFL8Aw\",\"encryptedToken\":\"2bc1815eca4fdbd5bc5a53f69af975af2050b64ffa2fa5ae22227f97feb165cd\"}";
    let crc = "{\"response_token\":\"sha256=jUT4iUPgewVccAsL1jynmTtHGKZVGVQCqjBqEbdWYlw=\"}";
    for (path, content_type, headers, body) in [
        (
            "slack/url_verification",
            Some("text/plain"),
            json!({}),
            "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P",
        ),
        ("asana/handshake", None, json!({ "X-Hook-Secret": secret }), ""),
        (
            "braintree/challenge",
            Some("text/plain"),
            json!({}),
            "integration_public_key|7c997aa146cb642ee92a6883eac65094c7af62c6",
        ),
        ("dropbox/challenge", Some("text/plain"), nosniff.clone(), "xz6Hhe/Q3Z"),
        ("intercom/head_probe", None, json!({}), ""),
        ("meta/challenge", Some("text/plain"), nosniff.clone(), "1158201444"),
        (
            "msgraph/validation",
            Some("text/plain"),
            nosniff,
            "Validation: Testing client application reachability for subscription",
        ),
        (
            "okta/verification",
            Some("application/json"),
            json!({}),
            "{\"verification\":\"a6fGhOuPPOzDvyTPQ3Z\"}",
        ),
        ("twitch/challenge", Some("text/plain"), json!({}), "pogchamp-kappa-360noscope-vohiyo"),
        ("woocommerce/created", None, json!({}), ""),
        ("x_twitter/crc", Some("application/json"), json!({}), crc),
        ("zoom/url_validation", Some("application/json"), json!({}), url_validation),
    ] {
        let mut expected = json!({ "status": 200, "headers": headers, "body": body });
        if let Some(content_type) = content_type {
            expected["content_type"] = content_type.into();
        }
        assert_eq!(answer(path), expected, "{path}");
    }
}

#[test]
fn a_wrong_token_is_answered_403() {
    for path in ["meta/refused_challenge", "x_twitter/refused_crc_of_a_body"] {
        assert_eq!(answer(path)["status"], 403, "{path}");
    }
}

#[test]
fn who_asks_for_a_certain_answer_gets_it() {
    for (path, content_type, body) in [
        ("adyen/authorisation", json!("text/plain"), "[accepted]"),
        ("okta/session_start", json!(null), ""),
        ("telegram/message", json!(null), ""),
        ("xero/intent_to_receive", json!(null), ""),
    ] {
        let answer = answer(path);
        let given = (&answer["status"], &answer["content_type"], &answer["body"]);
        assert_eq!(given, (&json!(200), &content_type, &json!(body)), "{path}");
    }
}

#[test]
fn each_kind_of_ping_is_answered_in_its_own_way() {
    let discord = provider::find("discord").expect("listed");
    for (name, status, body) in [("ping", 200, r#"{"type":1}"#), ("ping_of_events", 204, "")] {
        let fixtures = Fixture::all("discord");
        let fixture = fixtures.iter().find(|fixture| fixture.name == name);
        let fixture = fixture.expect("there is such a fixture");
        let source = source_of(discord, fixture);
        let response = check(&source, fixture.request().clone(), now_of(fixture)).response();
        assert_eq!((response.status, response.body.as_deref()), (Some(status), Some(body)));
        assert_eq!(response.content_type.as_deref(), Some("application/json"));
    }
}

#[test]
fn a_token_that_notion_hands_over_is_answered_and_not_trusted() {
    let fixtures = Fixture::all("notion");
    let fixture = fixtures.iter().find(|fixture| fixture.name == "unsigned_verification_token");
    let fixture = fixture.expect("there is such a fixture");
    let notion = provider::find("notion").expect("listed");
    let source = source_of(notion, fixture);
    let status = |request| check(&source, request, now_of(fixture)).response().status;
    assert_eq!(status(fixture.request().clone()), Some(200));
    let mut signed = fixture.request().clone();
    signed.headers.set("x-notion-signature", "sha256=00");
    assert_eq!(status(signed), Some(401), "a signature, once there, must hold");
}
