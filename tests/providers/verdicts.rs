//! Each fixture and each vector gets the verdict it was written down with.

use hookonce::{
    fixture::Fixture,
    provider::PROVIDERS,
    verify::{check, check_vector},
};

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

#[test]
fn a_challenge_is_answered_as_plain_text() {
    let fixtures = Fixture::all("slack");
    let fixture = fixtures.iter().find(|fixture| fixture.name == "url_verification");
    let fixture = fixture.expect("there is such a fixture");
    let slack = PROVIDERS.iter().find(|provider| provider.name() == "slack").expect("listed");
    let checked = check(&source_of(*slack, fixture), fixture.request().clone(), now_of(fixture));
    let response = serde_json::to_value(checked.response()).expect("a response is plain data");
    let challenge = "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P";
    let expected = serde_json::json!({
        "status": 200, "content_type": "text/plain", "headers": {}, "body": challenge,
    });
    assert_eq!(response, expected);
}

#[test]
fn a_token_that_notion_hands_over_is_answered_and_not_trusted() {
    let fixtures = Fixture::all("notion");
    let fixture = fixtures.iter().find(|fixture| fixture.name == "unsigned_verification_token");
    let fixture = fixture.expect("there is such a fixture");
    let notion = PROVIDERS.iter().find(|provider| provider.name() == "notion").expect("listed");
    let source = source_of(*notion, fixture);
    let status = |request| check(&source, request, now_of(fixture)).response().status;
    assert_eq!(status(fixture.request().clone()), Some(200));
    let mut signed = fixture.request().clone();
    signed.headers.set("x-notion-signature", "sha256=00");
    assert_eq!(status(signed), Some(401), "a signature, once there, must hold");
}
