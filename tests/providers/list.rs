//! What must hold for the list of providers as a whole.

use std::collections::BTreeSet;

use hookonce::{
    fixture::Fixture,
    limits,
    provider::{self, PROVIDERS, Settings},
    secret::Secret,
    verify::{Checked, check},
};

use crate::{now_of, source_of};

#[test]
fn names_are_plain_unique_and_in_order() {
    let names: Vec<_> = PROVIDERS.iter().map(|provider| provider.name()).collect();
    assert!(names.is_sorted_by(|left, right| left < right), "{names:?}");
    for name in names {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        assert!(!name.is_empty() && name.bytes().all(plain), "{name}");
        assert_eq!(provider::find(name).map(provider::Provider::name), Some(name));
    }
}

#[test]
fn each_links_its_documentation_and_describes_itself() {
    for provider in PROVIDERS {
        assert!(provider.docs().starts_with("https://"), "{provider:?}");
        for text in [provider.title(), provider.signs_with(), provider.identity()] {
            assert!(!text.is_empty(), "{provider:?}");
        }
    }
}

#[test]
fn each_variable_belongs_to_one_provider() {
    let variables: BTreeSet<_> =
        PROVIDERS.iter().map(|provider| provider.secret_variable()).collect();
    assert_eq!(variables.len(), PROVIDERS.len());
    for variable in variables {
        let plain = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
        assert!(variable.bytes().all(plain), "{variable}");
    }
}

#[test]
fn each_has_fixtures_of_both_kinds() {
    for provider in PROVIDERS {
        let fixtures = Fixture::all(provider.name());
        let accepted = fixtures.iter().filter(|fixture| fixture.is_accepted()).count();
        assert!(accepted >= 3, "{provider:?} has {accepted}");
        let is_refused = |fixture: &Fixture| {
            fixture.expect.as_deref().is_some_and(|expect| expect.starts_with("refused"))
        };
        assert!(fixtures.iter().any(is_refused), "{provider:?}");
        for fixture in fixtures {
            assert!(fixture.from.is_some() && fixture.now.is_some(), "{}", fixture.name);
        }
    }
}

#[test]
fn who_sends_batches_says_so_and_shows_one() {
    for provider in PROVIDERS {
        let events = |fixture: Fixture| match check(
            &source_of(*provider, &fixture),
            fixture.request().clone(),
            now_of(&fixture),
        ) {
            Checked::Accepted(events, _) => events.len(),
            Checked::Handshake(_) | Checked::Refused(_) => 0,
        };
        let most = Fixture::all(provider.name()).into_iter().map(events).max();
        assert_eq!(most > Some(1), !provider.batch().is_empty(), "{provider:?} {most:?}");
    }
}

#[test]
fn a_public_key_has_a_variable_where_there_is_one() {
    for provider in PROVIDERS {
        let signs_with_private_key = provider.secret_variable().ends_with("_STANDIN_SECRET");
        assert_eq!(
            provider.public_key_variable().is_some(),
            signs_with_private_key,
            "{provider:?}"
        );
        assert!(provider.publishes_keys().is_none() || signs_with_private_key, "{provider:?}");
    }
}

#[test]
fn limits_hold() {
    for provider in PROVIDERS {
        assert!(provider.resends_for() < limits::WINDOW_MAX, "{provider:?}");
        assert!(provider.body_bytes_max() <= limits::BODY_BYTES_CEILING, "{provider:?}");
        assert!(provider.methods().contains(&"POST"), "{provider:?}");
    }
}

#[test]
fn a_development_secret_is_enough_to_start_with() {
    for provider in PROVIDERS {
        let [one, other] = [1, 2].map(|byte| provider.development_secret([byte; 24]));
        assert_ne!(one.expose(), other.expose(), "{provider:?}");
        let settings = Settings { secrets: vec![one], ..Settings::default() };
        assert!(provider.scheme(&settings).is_ok(), "{provider:?}");
    }
}

#[test]
fn no_secret_is_never_a_scheme() {
    for provider in PROVIDERS {
        let blank = Settings { secrets: vec![Secret::new(" ")], ..Settings::default() };
        for settings in [Settings::default(), blank] {
            let wrong = provider.scheme(&settings).expect_err("there is no secret");
            let names_it = |text: &String| {
                ["secrets: ", "public_keys: "].iter().any(|key| text.starts_with(key))
            };
            assert!(wrong.iter().any(names_it), "{wrong:?}");
        }
    }
}

#[test]
fn no_setting_has_the_name_of_one_that_every_source_has() {
    let common = [
        "provider",
        "secrets",
        "public_keys",
        "fetch_keys",
        "path",
        "url",
        "body_bytes_max",
        "window",
        "tolerance",
        "verify",
        "replay_guard",
        "on_dead_duplicate",
        "response",
    ];
    for provider in PROVIDERS {
        for (name, meaning) in provider.settings() {
            assert!(!common.contains(name), "{provider:?} {name}");
            assert!(!meaning.is_empty(), "{provider:?} {name}");
        }
    }
}
