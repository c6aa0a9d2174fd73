use super::*;
use crate::{request::Headers, secret::Secret};

fn recipe(unit: TimeUnit) -> Recipe {
    Recipe {
        algorithm: Algorithm::HmacSha256,
        key: KeyForm::Text,
        signature: Placement::Items {
            header: "X-Sig".to_owned(),
            separator: ',',
            name: "v1".to_owned(),
        },
        encoding: Encoding::Hex,
        time: Some(Time { unit, ..Time::item("t") }),
        signed: vec![Part::header("X-Id"), Part::Time, Part::Body],
    }
}

fn settings(tolerance: Option<Duration>) -> Settings {
    Settings { secrets: vec![Secret::new("key")], tolerance, ..Settings::default() }
}

fn draft() -> Unverified {
    Unverified {
        method: "POST".to_owned(),
        url: "https://a.example/".to_owned(),
        headers: [("X-Id", "1")].into_iter().collect::<Headers>(),
        body: "{}".into(),
        received_at: Timestamp::default(),
    }
}

#[test]
fn the_configured_tolerance_holds_to_the_millisecond() {
    let now = Timestamp::from_millis(1_767_225_600_500);
    let tolerance = Duration::from_secs(10);
    let scheme = recipe(TimeUnit::Millis).scheme(&settings(Some(tolerance))).unwrap();
    let mut request = draft();
    scheme.sign(&mut request, now).unwrap();
    assert_eq!(scheme.verify(&request, now.plus(tolerance)), Ok(()));
    assert_eq!(scheme.verify(&request, now.minus(tolerance)), Ok(()));
    let late = now.plus(tolerance + Duration::from_millis(1));
    assert_eq!(scheme.verify(&request, late), Err(SignatureProblem::Stale(10)));
}

#[test]
fn a_tolerance_that_is_too_long_or_without_use_is_an_error() {
    let too_long = settings(Some(limits::TOLERANCE_MAX + Duration::from_secs(1)));
    let unused = Recipe { time: None, ..recipe(TimeUnit::Seconds) };
    for (recipe, settings) in
        [(recipe(TimeUnit::Seconds), too_long), (unused, settings(Some(TOLERANCE)))]
    {
        let wrong = recipe.scheme(&settings).unwrap_err();
        assert!(wrong[0].starts_with("tolerance: "), "{wrong:?}");
    }
}

#[test]
fn where_any_age_will_do_a_source_may_still_set_a_tolerance() {
    let now = Timestamp::from_seconds(1_767_225_600);
    let year = Duration::from_hours(24 * 365);
    for (tolerance, verdict) in
        [(None, Ok(())), (Some(TOLERANCE), Err(SignatureProblem::Stale(24 * 365 * 3600)))]
    {
        let time = Some(Time { tolerance: ANY_AGE, ..Time::item("t") });
        let recipe = Recipe { time, ..recipe(TimeUnit::Seconds) };
        let scheme = recipe.scheme(&settings(tolerance)).unwrap();
        let mut request = draft();
        scheme.sign(&mut request, now).unwrap();
        assert_eq!(scheme.verify(&request, now.plus(year)), verdict);
    }
}

#[test]
fn a_time_has_one_spelling() {
    let now = Timestamp::from_seconds(5);
    let time = Time::header("X-Time");
    assert_eq!(time.check("5", None, now), Ok(()));
    for text in ["", "+5", "-5", " 5", "5.0", "0x5", "99999999999999999999"] {
        let problem = time.check(text, None, now).unwrap_err();
        assert!(matches!(problem, SignatureProblem::Form(_)), "{text:?}");
    }
}

#[test]
fn a_date_is_a_time_too() {
    let time = Time { unit: TimeUnit::Rfc3339, ..Time::header("X-Time") };
    let now = Timestamp::from_seconds(1_767_225_600);
    assert_eq!(time.unit.write(now), "2026-01-01T00:00:00.000000000Z");
    for text in
        ["2026-01-01T00:04:59.999999999Z", "2025-12-31T23:55:00Z", "2026-01-01T01:00:00+01:00"]
    {
        assert_eq!(time.check(text, None, now), Ok(()), "{text}");
    }
    let late = time.check("2025-12-31T23:54:59.5Z", None, now);
    assert_eq!(late, Err(SignatureProblem::Stale(300)));
    for text in ["", "1767225600", "2026-01-01", "2026-01-01T00:00:00"] {
        let problem = time.check(text, None, now).unwrap_err();
        assert!(matches!(problem, SignatureProblem::Form(_)), "{text:?}");
    }
}

#[test]
fn a_signature_may_stand_in_each_header_of_its_name() {
    let signature = Placement::Each { header: "X-Sig".to_owned(), prefix: "sha256=".to_owned() };
    let recipe =
        Recipe { signature, time: None, signed: vec![Part::Body], ..recipe(TimeUnit::Seconds) };
    let scheme = recipe.scheme(&settings(None)).unwrap();
    let mut signed = draft();
    scheme.sign(&mut signed, Timestamp::default()).unwrap();
    let value = signed.headers.only("X-Sig").unwrap().to_owned();
    for values in [
        vec![value.clone()],
        vec!["sha256=00".to_owned(), value.clone()],
        vec![format!("sha256=00, {value}")],
    ] {
        let mut request = draft();
        for value in &values {
            request.headers.push("X-Sig", value.clone());
        }
        assert_eq!(scheme.verify(&request, Timestamp::default()), Ok(()), "{values:?}");
        request.headers.push("X-Sig", "");
        assert!(scheme.verify(&request, Timestamp::default()).is_err(), "{values:?}");
    }
    assert!(scheme.verify(&draft(), Timestamp::default()).is_err());
}

#[test]
fn only_so_many_signatures_are_tried() {
    let scheme = recipe(TimeUnit::Seconds).scheme(&settings(None)).unwrap();
    let now = Timestamp::from_seconds(1_767_225_600);
    let mut signed = draft();
    scheme.sign(&mut signed, now).unwrap();
    for (others, verdict) in [
        (limits::SIGNATURES_TRIED_MAX - 1, Ok(())),
        (limits::SIGNATURES_TRIED_MAX, Err(SignatureProblem::NoMatch)),
    ] {
        let mut request = signed.clone();
        let value = signed.headers.first("X-Sig").unwrap();
        request.headers.set("X-Sig", format!("{}{value}", "v1=00,".repeat(others)));
        assert_eq!(scheme.verify(&request, now), verdict);
    }
}

#[test]
fn what_lacks_a_signed_header_cannot_be_signed() {
    let scheme = recipe(TimeUnit::Seconds).scheme(&settings(None)).unwrap();
    let mut request = draft();
    request.headers.remove("X-Id");
    let problem = scheme.sign(&mut request, Timestamp::default()).unwrap_err();
    assert!(problem.0.contains("X-Id"), "{problem}");
}
