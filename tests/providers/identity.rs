//! What makes two requests the same event: a retry does not change it, another event does.

use std::collections::BTreeSet;

use bytes::Bytes;
use hookonce::{
    clock::Timestamp,
    event::Named,
    fixture::Fixture,
    provider,
    request::Unverified,
    verify::{self, Checked},
};

use crate::{now_of, source_of};

/// What the fixture says happened when it is changed, and then signed `seconds` later.
fn named(path: &str, seconds: i64, change: impl FnOnce(&mut Unverified)) -> Named {
    let (provider, name) = path.split_once('/').expect("provider and fixture");
    let fixtures = Fixture::all(provider);
    let fixture = fixtures.iter().find(|fixture| fixture.name == name).expect("the fixture exists");
    let provider = provider::find(provider).expect("the provider exists");
    let source = source_of(provider, fixture);
    let now = Timestamp::from_seconds(now_of(fixture).as_seconds() + seconds);
    let mut request = fixture.request().clone();
    change(&mut request);
    source.scheme.sign(&mut request, now).expect("there is a secret");
    match verify::check(&source, request, now) {
        Checked::Accepted(mut events, _) => events.pop().expect("one event").named,
        other => panic!("{path}: {other:?}"),
    }
}

fn unchanged(_: &mut Unverified) {}

fn replace(request: &mut Unverified, old: &str, new: &str) {
    let body = std::str::from_utf8(&request.body).expect("the body is text");
    assert!(body.contains(old));
    request.body = Bytes::from(body.replace(old, new));
}

#[test]
fn a_later_attempt_is_the_same_event() {
    for path in [
        "stripe/invoice_paid",
        "stripe/no_id",
        "slack/app_mention",
        "slack/slash_command",
        "standardwebhooks/contact_created",
        "svix/contact_created",
        "svix/white_label",
        "github/push",
        "github/no_delivery_id",
        "twilio/incoming_sms",
        "twilio/call_status",
        "twilio/event_stream",
        "hmac/plain",
        "hmac/hub_style",
        "hmac/items_with_time",
        "hmac/everything_signed",
        "aws_sns/object_created",
        "discord/button_pressed",
        "google_pubsub/object_finalized",
        "messagebird/message_created",
        "paypal/subscription_created",
        "sendgrid/mixed_bounces",
        "vonage/message_delivered",
        "adyen/authorisation",
        "adyen/account_holder_updated",
        "asana/task_changed",
        "braintree/subscription_charged",
        "gitlab/push",
        "gitlab/token",
        "hubspot/url_with_escapes",
        "hubspot/version_2",
        "line/message",
        "mailgun/opened",
        "meta/whatsapp_message",
        "mollie/payment_link_paid",
        "msgraph/message_created",
        "okta/session_start",
        "postmark/open",
        "telegram/message",
        "twitch/follow",
        "woocommerce/order_created",
        "x_twitter/tweet_created",
        "xero/contact_created",
        "zoom/meeting_started",
        "bird/sms_outbound",
        "bitbucket/push",
        "calendly/invitee_created",
        "circleci/workflow_completed",
        "clerk/user_created",
        "coinbase_commerce/charge_confirmed",
        "docusign/envelope_completed",
        "heroku/release_update",
        "intercom/conversation_created",
        "lemonsqueezy/order_created",
        "mux/asset_ready",
        "notion/page_created",
        "openai/response_completed",
        "paddle/transaction_completed",
        "pagerduty/incident_triggered",
        "razorpay/payment_captured",
        "resend/email_delivered",
        "sentry/issue_created",
        "shopify/orders_create",
        "shopify/event_product_update",
        "square/payment_created",
        "typeform/form_response",
        "vercel/deployment_created",
        "workos/user_created",
        "zendesk/user_created",
        "zendesk/trigger_with_an_id_of_its_own",
    ] {
        let (first, later) = (named(path, 0, unchanged), named(path, 3600, unchanged));
        assert!(first.identity.is_some(), "{path}");
        assert_eq!(first.identity, later.identity, "{path}");
        assert_eq!(first.digest, later.digest, "{path}");
    }
}

#[test]
fn under_a_signed_id_the_body_may_differ() {
    for (path, old, new) in [
        ("stripe/invoice_paid", "\"pending_webhooks\": 1", "\"pending_webhooks\": 0"),
        ("slack/app_mention", "C061EG9SL", "C061EG9SM"),
        ("standardwebhooks/contact_created", "Example", "Changed"),
        ("hmac/items_with_time", "A-1", "A-2"),
        ("hmac/everything_signed", "A-1", "A-2"),
        ("aws_sns/object_created", "invoices", "receipts"),
        ("discord/button_pressed", "approve", "decline"),
        ("google_pubsub/object_finalized", "invoices", "receipts"),
        ("paypal/subscription_created", "APPROVAL_PENDING", "ACTIVE"),
        ("sendgrid/mixed_bounces", "invoice", "receipt"),
        ("adyen/authorisation", "00:00:00+01:00", "00:00:09+01:00"),
        ("gitlab/push", "Diaspora", "Another"),
        ("hubspot/retried", "\"attemptNumber\":2", "\"attemptNumber\":3"),
        ("line/message", "\"isRedelivery\":false", "\"isRedelivery\":true"),
        ("mailgun/opened", "a8ce0edb", "b8ce0edb"),
        ("twitch/follow", "awesome_user", "another_user"),
    ] {
        let changed = named(path, 0, |request| replace(request, old, new));
        assert_eq!(named(path, 0, unchanged).identity, changed.identity, "{path}");
    }
}

#[test]
fn what_an_attempt_counts_up_is_not_part_of_the_identity() {
    for (first, later) in [
        ("coinbase_commerce/charge_confirmed", "coinbase_commerce/charge_confirmed_retried"),
        ("docusign/envelope_completed", "docusign/envelope_retried"),
        ("intercom/conversation_created", "intercom/conversation_retried"),
        ("mux/asset_ready", "mux/asset_retried"),
        ("notion/page_created", "notion/page_created_retried"),
        ("paddle/transaction_completed", "paddle/transaction_replayed"),
    ] {
        let (first, later) = (named(first, 0, unchanged), named(later, 0, unchanged));
        assert_ne!(first.body, later.body);
        assert_eq!(first.identity, later.identity, "{:?}", first.event_id);
    }
}

#[test]
fn the_time_in_a_body_is_not_part_of_the_identity() {
    let (first, later) = ("linear/issue_create", 3600);
    let (first, later) = (named(first, 0, unchanged), named(first, later, unchanged));
    assert_ne!(first.body, later.body);
    assert_eq!((first.identity, first.digest), (later.identity, later.digest));
}

#[test]
fn without_an_id_each_field_that_names_an_event_counts() {
    for (path, old, new) in [
        ("calendly/invitee_created", "invitee.created", "invitee.canceled"),
        ("calendly/invitee_created", "9f2a7c1b", "9f2a7c1c"),
        ("calendly/invitee_created", "00:00:00.000000Z", "00:00:00.000001Z"),
        ("docusign/envelope_completed", "envelope-completed", "envelope-sent"),
        ("docusign/envelope_completed", "2c9d7f31", "2c9d7f32"),
        ("docusign/envelope_completed", "00.1234567Z", "00.1234568Z"),
        ("docusign/envelope_completed", "10510441", "10510442"),
        ("docusign/second_key_of_two", "\"recipientId\":\"2\"", "\"recipientId\":\"3\""),
        ("lemonsqueezy/order_created", "00:00:00.000000Z", "00:00:00.000001Z"),
    ] {
        let changed = named(path, 0, |request| replace(request, old, new));
        assert_ne!(named(path, 0, unchanged).identity, changed.identity, "{path}: {new}");
    }
}

#[test]
fn under_an_unsigned_id_other_content_is_another_event() {
    for (path, old, new) in [
        ("github/push", "octocat@", "octodog@"),
        ("twilio/incoming_sms", "Hello", "Jello"),
        ("bitbucket/push", "709d", "809d"),
        ("linear/issue_create", "Round", "Sound"),
        ("razorpay/payment_captured", "\"amount\":100", "\"amount\":900"),
        ("sentry/issue_created", "TypeError", "NameError"),
        ("shopify/orders_create", "29.90", "99.90"),
        ("shopify/event_product_update", "632910392", "632910393"),
        ("zendesk/trigger_with_an_id_of_its_own", "open", "done"),
        ("hmac/hub_style", "A-1", "A-2"),
        ("gitlab/token", "Diaspora", "Another"),
        ("woocommerce/order_created", "19.90", "29.90"),
    ] {
        let (first, changed) =
            (named(path, 0, unchanged), named(path, 0, |request| replace(request, old, new)));
        assert_eq!(first.event_id, changed.event_id, "{path}");
        assert_ne!(first.identity, changed.identity, "{path}");
        assert_ne!(first.digest, changed.digest, "{path}");
    }
}

#[test]
fn a_copy_under_another_unsigned_id_is_noticed_by_its_digest() {
    for (path, header) in [
        ("github/push", "x-github-delivery"),
        ("twilio/incoming_sms", "i-twilio-idempotency-token"),
        ("bitbucket/push", "x-request-uuid"),
        ("linear/issue_create", "linear-delivery"),
        ("razorpay/payment_captured", "x-razorpay-event-id"),
        ("sentry/issue_created", "request-id"),
        ("shopify/orders_create", "x-shopify-webhook-id"),
        ("shopify/event_product_update", "shopify-webhook-id"),
        ("hmac/hub_style", "x-request-id"),
    ] {
        let first = named(path, 0, unchanged);
        for value in ["another-id", ""] {
            let copy = named(path, 0, |request| request.headers.set(header, value));
            assert_ne!(first.identity, copy.identity, "{path}");
            assert!(first.digest.is_some(), "{path}");
            assert_eq!(first.digest, copy.digest, "{path}");
        }
    }
}

#[test]
fn what_can_be_a_new_fact_in_the_same_bytes_is_never_the_same_event() {
    for path in [
        "dropbox/one_account",
        "gitlab/token_without_id",
        "hubspot/card",
        "mollie/form",
        "msgraph/lifecycle",
        "xero/without_time",
    ] {
        assert_eq!(named(path, 0, unchanged).identity, None, "{path}");
    }
}

#[test]
fn another_value_of_a_signed_field_makes_another_event() {
    for (path, old, new) in [
        ("adyen/authorisation", "AUTHORISATION", "CANCELLATION"),
        ("adyen/authorisation", "\"success\":\"true\"", "\"success\":\"false\""),
        ("asana/task_changed", "changed", "deleted"),
        ("hubspot/retried", "3181526809", "3181526808"),
        ("hubspot/retried", "1767225599000", "1767225599001"),
        ("meta/whatsapp_status", "delivered", "read"),
        ("msgraph/message_created", "76619225", "76619226"),
        ("postmark/bounce", "4323372036854775807", "4323372036854775806"),
        ("postmark/open", "00:00:00Z", "00:00:01Z"),
        ("xero/contact_created", "00.123", "00.124"),
        ("zoom/meeting_started", "1767225599123", "1767225599124"),
    ] {
        let changed = named(path, 0, |request| replace(request, old, new));
        assert_ne!(named(path, 0, unchanged).identity, changed.identity, "{path}");
    }
}

#[test]
fn each_element_of_a_batch_is_an_event_with_its_own_bytes() {
    let mut batches = 0;
    for (provider, fixture) in crate::fixtures() {
        let source = source_of(provider, &fixture);
        let checked = verify::check(&source, fixture.request().clone(), now_of(&fixture));
        let Checked::Accepted(events, _) = checked else {
            continue;
        };
        let identities: BTreeSet<_> = events.iter().map(|event| &event.named.identity).collect();
        assert_eq!(identities.len(), events.len(), "{}", fixture.name);
        if events.len() < 2 {
            continue;
        }
        batches += 1;
        let whole = std::str::from_utf8(&fixture.request().body).expect("the body is text");
        for event in events {
            let element = std::str::from_utf8(&event.named.body).expect("an element is text");
            assert!(whole.contains(element), "{}", fixture.name);
            assert!(element.starts_with('{') && element.ends_with('}'), "{element}");
        }
    }
    assert!(batches >= 9, "only {batches} batches");
}

#[test]
fn another_type_makes_another_event_at_github() {
    let relabelled =
        named("github/push", 0, |request| request.headers.set("x-github-event", "release"));
    assert_ne!(named("github/push", 0, unchanged).identity, relabelled.identity);
}

#[test]
fn sendgrid_may_name_one_event_twice_in_a_batch() {
    let fixtures = Fixture::all("sendgrid");
    let fixture = fixtures.iter().find(|fixture| fixture.name == "mixed_bounces");
    let fixture = fixture.expect("the fixture exists");
    let source = source_of(provider::find("sendgrid").expect("listed"), fixture);
    let events = |body: &str| {
        let mut request = fixture.request().clone();
        request.body = Bytes::from(body.to_owned());
        source.scheme.sign(&mut request, now_of(fixture)).expect("a stand-in signs");
        verify::check(&source, request, now_of(fixture))
    };
    let batch = "[{\"sg_event_id\":\"a\"} , {\"sg_event_id\":\"b\"},{\"sg_event_id\":\"a\"},7]\r\n";
    let Checked::Accepted(named, _) = events(batch) else { panic!("it is refused") };
    let bodies: Vec<_> = named.iter().map(|event| &event.named.body[..]).collect();
    let (a, b) = (&br#"{"sg_event_id":"a"}"#[..], &br#"{"sg_event_id":"b"}"#[..]);
    assert_eq!(bodies, [a, b, a, b"7"]);
    assert_eq!(named[0].named.identity, named[2].named.identity);
    assert_ne!(named[0].named.identity, named[1].named.identity);
    assert!(named[3].named.identity.is_some());
    for no_batch in ["{}", "", "7"] {
        assert_eq!(events(no_batch).code(), "malformed");
    }
}

#[test]
fn at_plaid_a_copy_is_the_same_event_and_a_token_made_anew_is_not() {
    let path = "plaid/transfer_events";
    let first = named(path, 0, unchanged);
    assert_eq!(first.identity, named(path, 0, unchanged).identity);
    assert_ne!(first.identity, named(path, 30, unchanged).identity);
}

#[test]
fn without_metadata_an_unwrapped_message_has_no_identity() {
    let unwrapped = named("google_pubsub/object_finalized", 0, |request| {
        request.body = Bytes::from_static(b"{\"order\":1}");
    });
    assert_eq!((unwrapped.event_id, unwrapped.identity), (None, None));
}

#[test]
fn an_unsigned_content_type_does_not_change_the_identity() {
    let form = "application/x-www-form-urlencoded";
    let changed =
        named("slack/app_mention", 0, |request| request.headers.set("content-type", form));
    assert_eq!(named("slack/app_mention", 0, unchanged), changed);
}

#[test]
fn a_form_spelled_another_way_is_the_same_event() {
    let respelled = named("twilio/message_status", 0, |request| {
        replace(request, "%2B", "%2b");
        let body = std::str::from_utf8(&request.body).expect("the body is text");
        let parameters: Vec<_> = body.split('&').rev().collect();
        request.body = parameters.join("&").into();
    });
    let first = named("twilio/message_status", 0, unchanged);
    assert_eq!((first.identity, first.digest), (respelled.identity, respelled.digest));
}

#[test]
fn an_unsigned_id_of_the_other_header_family_changes_nothing_at_shopify() {
    let stray = named("shopify/orders_create", 0, |request| {
        request.headers.set("shopify-webhook-id", "stray");
        request.headers.set("shopify-topic", "stray");
    });
    assert_eq!(named("shopify/orders_create", 0, unchanged), stray);
}

#[test]
fn without_an_invocation_id_the_time_tells_zendesk_events_apart() {
    let after = |seconds| {
        named("zendesk/trigger_with_a_form", seconds, |request| {
            request.headers.remove("x-zendesk-webhook-invocation-id");
        })
    };
    let first = after(0);
    assert_eq!(first, after(0));
    assert_ne!(first.identity, after(1).identity);
}

#[test]
fn a_retry_says_so() {
    for (path, marker) in [
        ("bitbucket/push", None),
        ("bitbucket/push_retried", Some("x-attempt-number: 2")),
        ("coinbase_commerce/charge_confirmed", None),
        ("coinbase_commerce/charge_confirmed_retried", Some("attempt_number: 2")),
        ("docusign/envelope_completed", None),
        ("docusign/envelope_retried", Some("retryCount: 3")),
        ("intercom/conversation_created", None),
        ("intercom/conversation_retried", Some("delivery_attempts: 2")),
        ("mux/asset_ready", None),
        ("mux/asset_retried", Some("attempts: 1 before this one")),
        ("notion/page_created", None),
        ("notion/page_created_retried", Some("attempt_number: 3")),
        ("slack/message_retried", Some("x-slack-retry-num: 1 (http_timeout)")),
        ("square/payment_created", None),
        ("square/payment_retried", Some("square-retry-number: 2 (http_timeout)")),
        ("google_pubsub/order_created", Some("deliveryAttempt: 2")),
        ("hubspot/retried", Some("attemptNumber: 2")),
        ("hubspot/two_events", None),
        ("line/message_redelivered", Some("isRedelivery: true")),
        ("line/message", None),
        ("twitch/follow_retried", Some("twitch-eventsub-message-retry: 2")),
        ("twitch/follow", None),
    ] {
        let (provider, name) = path.split_once('/').expect("provider and fixture");
        let fixtures = Fixture::all(provider);
        let fixture = fixtures.iter().find(|fixture| fixture.name == name);
        let fixture = fixture.expect("the fixture exists");
        let source = source_of(provider::find(provider).expect("listed"), fixture);
        let request = fixture.request().clone();
        let Checked::Accepted(events, _) = verify::check(&source, request, now_of(fixture)) else {
            panic!("{path} is refused");
        };
        assert_eq!(events[0].retry_marker.as_deref(), marker, "{path}");
    }
}
