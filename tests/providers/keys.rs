//! Keys that are fetched: when, from where, and from nowhere else.

use hookonce::{
    fixture::Fixture,
    handed_over::{self, Keeper},
    provider::Settings,
    receive,
    request::Unverified,
    setup::Setup,
    source::Source,
};
use serde_json::{Value, json};
use std::time::Duration;

use crate::publisher::Bench;

const SNS_CERTIFICATE: &str =
    "/sns.us-east-1.amazonaws.com/SimpleNotificationService-9c6465fa7f48f5cacd23014631ec1136.pem";
const PAYPAL_CERTIFICATE: &str =
    "/api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-1d93a270";
const GOOGLE_KEYS: &str = "/www.googleapis.com/oauth2/v3/certs";
const MINUTE: Duration = Duration::from_secs(60);

fn fixture(provider: &str, name: &str) -> Fixture {
    let all = Fixture::all(provider).into_iter();
    all.into_iter().find(|fixture| fixture.name == name).unwrap_or_else(|| panic!("{name}"))
}

/// The key of a fixture, as its provider publishes it.
fn published(fixture: &Fixture) -> String {
    let key = &fixture.settings.public_keys[0];
    if key.starts_with('{') {
        return key.clone();
    }
    let lines: Vec<_> =
        key.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem =
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
    format!("{pem}{pem}") // PayPal's files have the chain behind it
}

fn without_keys(settings: &mut Settings) {
    settings.public_keys.clear();
    settings.extra.remove("cert_url");
}

#[actix_web::test]
async fn a_key_that_is_not_known_is_fetched_once_and_the_retry_is_accepted() {
    for (provider, name, path) in [
        ("aws_sns", "notification", SNS_CERTIFICATE),
        ("paypal", "capture_completed", PAYPAL_CERTIFICATE),
        ("google_pubsub", "order_created", GOOGLE_KEYS),
    ] {
        let fixture = fixture(provider, name);
        let bench = Bench::of(provider, &fixture, without_keys);
        bench.publish(path, 200, published(&fixture));
        for _ in 0..10 {
            assert_eq!(bench.send(fixture.request().clone()).await, "key not known", "{provider}");
        }
        bench.until_sent(fixture.request(), "duplicate").await;
        assert_eq!(bench.finish().await, [path], "{provider}");
    }
}

#[actix_web::test]
async fn keys_that_were_fetched_outlive_a_reload_unless_the_settings_have_changed() {
    let fixture = fixture("aws_sns", "notification");
    let bench = Bench::of("aws_sns", &fixture, without_keys);
    bench.publish(SNS_CERTIFICATE, 200, published(&fixture));
    bench.until_sent(fixture.request(), "duplicate").await;
    let reload = |settings: Settings| {
        let before = bench.app.setup();
        let old = before.sources.values().next().unwrap();
        let mut new = Source::new(&old.name, old.provider, settings).unwrap();
        new.keep_keys_of(old);
        bench.app.replace_setup(Setup::new(vec![new], Vec::new(), Vec::new()));
    };
    let mut settings = bench.app.setup().sources.values().next().unwrap().settings.clone();
    reload(settings.clone());
    assert_eq!(bench.send(fixture.request().clone()).await, "duplicate");
    settings.extra.insert("another".to_owned(), "setting".to_owned());
    reload(settings);
    assert_eq!(bench.send(fixture.request().clone()).await, "key not known");
    bench.finish().await;
}

#[actix_web::test]
async fn a_forged_request_is_refused_once_the_key_it_names_is_known() {
    let genuine = fixture("aws_sns", "notification");
    let mut message: Value = serde_json::from_slice(&genuine.request().body).unwrap();
    message["MessageId"] = Value::from("another");
    let forged = Unverified { body: message.to_string().into(), ..genuine.request().clone() };
    let bench = Bench::of("aws_sns", &genuine, without_keys);
    bench.publish(SNS_CERTIFICATE, 200, published(&genuine));
    bench.until_sent(&forged, "signature").await;
    bench.clock.advance(2 * MINUTE);
    assert_eq!(bench.send(forged).await, "signature");
    assert_eq!(bench.send(genuine.request().clone()).await, "accepted");
    assert_eq!(bench.finish().await.len(), 1);
}

#[actix_web::test]
async fn a_new_key_is_found_although_others_are_known() {
    let fixture = fixture("google_pubsub", "order_created");
    let old = json!({"keys": [{"kty": "RSA", "kid": "old", "n": "AQAB", "e": "AQAB"}]}).to_string();
    let bench = Bench::of("google_pubsub", &fixture, |settings| {
        settings.public_keys = vec![old.clone()]; // what is configured, and retired since
    });
    bench.publish(GOOGLE_KEYS, 200, old);
    bench.until_sent(fixture.request(), "signature").await;
    bench.publish(GOOGLE_KEYS, 200, published(&fixture));
    bench.clock.advance(MINUTE - Duration::from_millis(1));
    assert_eq!(bench.send(fixture.request().clone()).await, "signature", "not twice in a minute");
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(bench.send(fixture.request().clone()).await, "key not known");
    bench.until_sent(fixture.request(), "accepted").await;
    assert_eq!(bench.finish().await.len(), 2);
}

#[actix_web::test]
async fn a_place_that_does_not_answer_is_asked_once_a_minute_and_means_503() {
    let fixture = fixture("aws_sns", "notification");
    let bench = Bench::of("aws_sns", &fixture, without_keys);
    bench.publish(SNS_CERTIFICATE, 500, "");
    for minute in 1..=3 {
        assert_eq!(bench.send(fixture.request().clone()).await, "key not known");
        bench.until_asked(minute).await;
        for _ in 0..20 {
            assert_eq!(bench.send(fixture.request().clone()).await, "key not known");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(bench.asked().len(), minute);
        bench.clock.advance(MINUTE);
    }
    bench.publish(SNS_CERTIFICATE, 200, published(&fixture));
    bench.until_sent(fixture.request(), "accepted").await;
}

#[actix_web::test]
async fn what_is_found_must_be_the_providers_key() {
    let (sns, paypal) =
        (fixture("aws_sns", "notification"), fixture("paypal", "capture_completed"));
    let long = format!("{}{}", published(&sns), " ".repeat(1 << 20));
    for (status, page, becomes) in [
        (404, String::new(), "signature"),
        (403, String::new(), "signature"),
        (200, String::new(), "signature"),
        (200, "-----END CERTIFICATE-----".to_owned(), "signature"),
        (200, published(&paypal), "signature"), // a certificate, of somebody else
        (200, long, "key not known"),
        (302, "/elsewhere".to_owned(), "key not known"),
    ] {
        let bench = Bench::of("aws_sns", &sns, without_keys);
        bench.publish(SNS_CERTIFICATE, status, page);
        bench.publish("/elsewhere", 200, published(&sns));
        bench.send(sns.request().clone()).await;
        bench.until_asked(1).await;
        bench.until_sent(sns.request(), becomes).await;
        assert_eq!(bench.finish().await, [SNS_CERTIFICATE], "{status}");
    }
}

#[actix_web::test]
async fn nothing_is_fetched_where_the_configuration_says_no_or_knows_the_key() {
    let sns = fixture("aws_sns", "notification");
    let bench = Bench::of("aws_sns", &sns, |_| ());
    assert_eq!(bench.send(sns.request().clone()).await, "accepted");
    assert!(bench.finish().await.is_empty());

    let other = fixture("aws_sns", "refused_other_key");
    let bench = Bench::of("aws_sns", &other, |settings| settings.fetch_keys = false);
    assert_eq!(bench.send(sns.request().clone()).await, "signature");
    assert!(bench.finish().await.is_empty());

    let mut settings = sns.settings.clone();
    without_keys(&mut settings);
    settings.fetch_keys = false;
    assert!(Source::new("sns", hookonce::provider::find("aws_sns").unwrap(), settings).is_err());
}

#[actix_web::test]
async fn keys_are_fetched_again_after_a_while_and_not_trusted_for_ever() {
    let fixture = fixture("google_pubsub", "order_created");
    let bench = Bench::of("google_pubsub", &fixture, |settings| {
        without_keys(settings);
        settings.tolerance = Some(Duration::from_hours(24 * 30)); // the token's own dates do not matter here
    });
    bench.publish(GOOGLE_KEYS, 200, published(&fixture));
    bench.until_sent(fixture.request(), "duplicate").await;
    let setup = bench.app.setup();
    let keyring = setup.sources.values().next().unwrap().keyring.as_ref().unwrap();
    assert!(keyring.due(hookonce::clock::Clock::now(&*bench.clock)).is_empty());
    bench.publish(GOOGLE_KEYS, 500, "");
    bench.clock.advance(Duration::from_hours(7));
    bench.app.errands.call();
    bench.until_asked(2).await;
    assert_eq!(bench.send(fixture.request().clone()).await, "duplicate", "it is still known");
    bench.clock.advance(Duration::from_hours(48));
    bench.app.errands.call();
    bench.until_sent(fixture.request(), "key not known").await;
}

/// The addresses that a stranger may write where a certificate's is expected: each would be somebody
/// else's, or not the one page that is meant.
fn hostile(good: &str, host: &str) -> Vec<String> {
    let path = good.split_once(host).unwrap().1;
    let evil = [
        "evil.example",
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "localhost",
        "metadata.google.internal",
        "s3.amazonaws.com",
        "bucket.s3.amazonaws.com",
        "sns.us-east-1.amazonaws.com.evil.example",
        "snsXus-east-1.amazonaws.com",
        "sns.us-east-1.amazonaws.com-evil.example",
        "evil-sns.us-east-1.amazonaws.com",
        "sns.amazonaws.com",
        "sns.us-east-1.amazonaws.co",
        "sns.us-east-1.amazonaws.com.",
        "sns.us-east-1.amazonaws.com.cn",
        "sns.us-west-2.amazonaws.com",
        "sns..amazonaws.com",
        "sns.us-east-1.evil.amazonaws.com",
        "sns.us_east_1.amazonaws.com",
        "sns.us-east-1.amazonaws.com%2eevil.example",
        "sns.us-east-1.amazonaws.com\u{3002}evil.example",
        "sns.us-east-1.amazon\u{0430}ws.com",
        "xn--sns.us-east-1.amazonaws.com",
        "SNS.us-east-1.evil.example",
        "api.paypal.com.evil.example",
        "evilpaypal.com",
        "api-paypal.com",
        "api.evil.paypal.com.evil.example",
        "api.paypal.com.",
        "www.paypal.com",
        "api.paypa\u{04cf}.com",
        "paypal.com",
        "",
    ];
    let mut urls = Vec::new();
    for evil in evil {
        for scheme in [
            "https://",
            "http://",
            "HTTPS://",
            "//",
            "https:",
            "https:/",
            "https:\\\\",
            "ftp://",
            "",
        ] {
            urls.push(format!("{scheme}{evil}{path}"));
        }
        for joined in [
            format!("https://{host}@{evil}{path}"),
            format!("https://{host}:443@{evil}{path}"),
            format!("https://{host}%40{evil}{path}"),
            format!("https://{evil}#{host}{path}"),
            format!("https://{evil}?{host}{path}"),
            format!("https://{evil}/{host}{path}"),
            format!("https://{evil}\\@{host}{path}"),
            format!("https://{evil}\\{host}{path}"),
            format!("https://{host}{path}?next={evil}"),
            format!("https://{host}{path}#{evil}"),
            format!("https://{host}/{evil}{path}"),
            format!("https://{host}\t.{evil}{path}"),
            format!("https://{host}\n{evil}{path}"),
            format!("https://{host}/redirect?to=https://{evil}{path}"),
        ] {
            urls.push(joined);
        }
    }
    for port in ["0", "80", "443", "8443", "65535", "99999", ""] {
        urls.push(good.replacen(host, &format!("{host}:{port}"), 1));
    }
    for user in ["user", "user:password", ":", "", "%00"] {
        urls.push(good.replacen(host, &format!("{user}@{host}"), 1));
    }
    for at in 0..=path.len() {
        for wrong in ["../", "/./", "%2e%2e%2f", "\\", "\0", " ", "%00", "?", "#", ";", "é", "//"]
        {
            let (before, after) = path.split_at(at);
            urls.push(format!("https://{host}{before}{wrong}{after}"));
        }
    }
    urls.push(format!("https://{host}/"));
    urls.push(format!("{good}/../../elsewhere"));
    urls.push(String::new());
    urls.retain(|url| url != good);
    urls
}

#[actix_web::test]
async fn no_address_in_a_request_leads_anywhere_else() {
    let sns = fixture("aws_sns", "notification");
    let bench = Bench::of("aws_sns", &sns, without_keys);
    let good = format!("https:/{SNS_CERTIFICATE}");
    let mut body: Value = serde_json::from_slice(&sns.request().body).unwrap();
    let mut tried = 0;
    for url in hostile(&good, "sns.us-east-1.amazonaws.com") {
        body["SigningCertURL"] = Value::from(url.as_str());
        let request = Unverified { body: body.to_string().into(), ..sns.request().clone() };
        assert_eq!(bench.send(request).await, "signature", "{url:?}");
        tried += 1;
    }
    assert!(bench.finish().await.is_empty());

    let paypal = fixture("paypal", "capture_completed");
    let bench = Bench::of("paypal", &paypal, without_keys);
    let good = format!("https:/{PAYPAL_CERTIFICATE}");
    for url in hostile(&good, "api.paypal.com") {
        let mut request = paypal.request().clone();
        request.headers.set("PAYPAL-CERT-URL", url.clone());
        assert_eq!(bench.send(request).await, "signature", "{url:?}");
        tried += 1;
    }
    assert!(bench.finish().await.is_empty());
    assert!(tried >= 2_000, "{tried}");
}

#[actix_web::test]
async fn a_stranger_who_names_many_keys_is_called_for_a_few_only() {
    let sns = fixture("aws_sns", "notification");
    let bench = Bench::of("aws_sns", &sns, without_keys);
    bench.publish(SNS_CERTIFICATE, 200, published(&sns));
    bench.until_sent(sns.request(), "duplicate").await;
    let mut body: Value = serde_json::from_slice(&sns.request().body).unwrap();
    for number in 0..500 {
        let url =
            format!("https://sns.us-east-1.amazonaws.com/SimpleNotificationService-{number:x}.pem");
        body["SigningCertURL"] = Value::from(url);
        let request = Unverified { body: body.to_string().into(), ..sns.request().clone() };
        bench.send(request).await;
    }
    bench.until_asked(hookonce::limits::KEY_PLACES_MAX).await;
    assert_eq!(bench.send(sns.request().clone()).await, "duplicate", "what was found stays");
    assert_eq!(bench.finish().await.len(), hookonce::limits::KEY_PLACES_MAX);
}

const CONFIRMED: &str = "/sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&Version=2010-03-31&\
     TopicArn=arn%3Aaws%3Asns%3Aus-east-1%3A123456789012%3Aorders&\
     Token=2336412f37fb687f5d51e6e241d09c805a5a57b30d712f794cc5f6a988666d92";

#[actix_web::test]
async fn a_subscription_is_confirmed_by_a_call_of_our_own_and_tried_again() {
    let fixture = fixture("aws_sns", "subscription_confirmation");
    let bench = Bench::of("aws_sns", &fixture, |_| ());
    let path = "/sns.us-east-1.amazonaws.com/";
    bench.publish(path, 500, "");
    assert_eq!(bench.send(fixture.request().clone()).await, "accepted");
    bench.until_asked(1).await;
    bench.publish(path, 200, "<ConfirmSubscriptionResponse/>");
    bench.until_asked(2).await;
    assert_eq!(bench.finish().await, [CONFIRMED, CONFIRMED]);
}

#[actix_web::test]
async fn nothing_but_a_genuine_confirmation_of_our_topic_is_confirmed() {
    let confirmation = fixture("aws_sns", "subscription_confirmation");
    let message: Value = serde_json::from_slice(&confirmation.request().body).unwrap();
    for (member, value) in [
        ("TopicArn", "arn:aws:sns:us-east-1:123456789012:others"),
        ("SubscribeURL", "https://evil.example/"),
        ("Token", "another"),
        ("Type", "Notification"),
        ("Signature", "AAAA"),
    ] {
        let mut message = message.clone();
        message[member] = Value::from(value);
        let bench = Bench::of("aws_sns", &confirmation, |_| ());
        let body = message.to_string().into();
        let request = Unverified { body, ..confirmation.request().clone() };
        assert_ne!(bench.send(request).await, "accepted", "{member}");
        let asked = bench.finish().await;
        assert!(asked.iter().all(|call| !call.contains("Action")), "{member}: {asked:?}");
    }
    for name in ["unsubscribe_confirmation", "notification"] {
        let fixture = fixture("aws_sns", name);
        let bench = Bench::of("aws_sns", &fixture, |_| ());
        assert_eq!(bench.send(fixture.request().clone()).await, "accepted");
        assert!(bench.finish().await.is_empty(), "{name}");
    }
}

#[actix_web::test]
async fn a_secret_that_is_handed_over_is_shown_and_never_trusted() {
    for (provider, name, secret) in [
        ("asana", "handshake", "b537207f20cbfa02357cf448134da559e8bd39d61597dcd5631b8012eae53e81"),
        (
            "notion",
            "unsigned_verification_token",
            "secret_tFixtureOnlyNotARealToken0123456789abcdef",
        ),
    ] {
        let fixture = fixture(provider, name);
        let folder = tempfile::tempdir().unwrap();
        let mut app = Bench::app_of(provider, &fixture, |settings| {
            settings.secrets = vec![hookonce::secret::Secret::new("another_secret_of_ours")];
        });
        app.handed_over = Keeper::below(Some(folder.path().to_owned()));
        let setup = app.setup();
        let source = setup.sources.values().next().unwrap();
        let receipt = receive::receive(&app, source, fixture.request().clone()).await.unwrap();
        assert_eq!(receipt.status(), "handshake");
        let file = folder.path().join(handed_over::FOLDER).join(provider);
        assert!(std::fs::read_to_string(file).unwrap().contains(secret), "{provider}");

        let event = Fixture::all(provider).into_iter().find(|it| {
            it.is_accepted() && it.expect.as_deref().is_some_and(|expect| expect.contains("type="))
        });
        let event = event.unwrap();
        assert_eq!(event.settings.secrets[0].expose(), secret, "the fixtures have one secret");
        let refused = receive::receive(&app, source, event.request().clone()).await.unwrap_err();
        assert!(matches!(refused, receive::NotReceived::Refused(_)), "{provider}: {refused}");
        assert_eq!(app.store.stats().await.unwrap().total.events, 0);
    }
}
