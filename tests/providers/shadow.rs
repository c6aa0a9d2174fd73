//! Shadow mode names what does not verify, and none of it can be taken for what does.

use std::collections::BTreeSet;

use hookonce::{
    provider::named_in_shadow,
    receive::{Examined, examine},
    request::Unverified,
    source::OnBadSignature,
    verify::{Checked, check},
};

use crate::{fixtures, now_of, source_of};

#[test]
fn what_shadow_mode_names_has_no_identity_and_no_digest_of_a_verified_event() {
    let (mut real, mut shadow, mut seen) = (BTreeSet::new(), BTreeSet::new(), 0);
    for (provider, fixture) in fixtures() {
        let source = source_of(provider, &fixture);
        let checked = check(&source, fixture.request().clone(), now_of(&fixture));
        let Checked::Accepted(events, _) = checked else { continue };
        let named = named_in_shadow(provider, fixture.request(), &fixture.settings)
            .expect("what verifies can be named");
        assert_eq!(named.len(), events.len(), "{}/{}", provider.name(), fixture.name);
        for (named, event) in named.into_iter().zip(events) {
            assert_eq!(named.digest, None);
            assert_eq!(named.event_id, event.named.event_id);
            assert_eq!(named.identity.is_some(), event.named.identity.is_some());
            shadow.extend(named.identity);
            real.extend(event.named.identity);
        }
        seen += 1;
    }
    assert!(seen >= 100, "only {seen} fixtures");
    assert!(real.is_disjoint(&shadow));
}

#[test]
fn a_request_that_does_not_verify_is_shadow_and_one_that_does_is_as_ever() {
    for (provider, fixture) in fixtures() {
        let mut source = source_of(provider, &fixture);
        let examined = |source: &_| examine(source, fixture.request().clone(), now_of(&fixture));
        let enforced = examined(&source);
        source.on_bad_signature = OnBadSignature::Shadow;
        let case = format!("{}/{}", provider.name(), fixture.name);
        match (enforced, examined(&source)) {
            (
                Ok(Examined::Handshake { reply: before, .. }),
                Ok(Examined::Handshake { reply: after, .. }),
            ) => {
                assert_eq!(before, after, "{case}");
            }
            (Ok(Examined::Events { .. }), Ok(Examined::Events { events, .. })) => {
                assert!(events.iter().all(|event| !event.shadow), "{case}");
            }
            (Err(refusal), Ok(Examined::Shadow(events, problem))) => {
                assert_eq!(refusal, problem.into(), "{case}");
                assert!(events.iter().all(|event| event.shadow), "{case}");
            }
            (Err(_), Err(refusal)) => assert_ne!(refusal.code(), "signature", "{case}"),
            (before, after) => panic!("{case}: {before:?} became {after:?}"),
        }
    }
}

#[test]
fn only_a_copy_with_the_same_bytes_is_the_same_shadow_event() {
    let (provider, fixture) = fixtures().find(|(provider, _)| provider.name() == "stripe").unwrap();
    let identity = |request: &Unverified| {
        named_in_shadow(provider, request, &fixture.settings).unwrap().remove(0).identity.unwrap()
    };
    let mut other = fixture.request().clone();
    assert_eq!(identity(&other), identity(fixture.request()));
    other.body = [other.body.as_ref(), b" "].concat().into();
    assert_ne!(identity(&other), identity(fixture.request()));
}
