//! Admitting: mark, event and deliveries, all of it or nothing.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use futures_util::future::join_all;
use hookonce::{
    delivery::{State, Verdict},
    event::{Digest, Duplicate, EventState, Identity, NewEvent, ReplayGuard},
    limits,
    receipt::Admission,
    request::Headers,
    store::StoreError,
};

use super::bench::{Bench, LONG, SHORT};

pub(crate) async fn a_new_event_is_fresh_and_kept_byte_for_byte(bench: Bench) {
    let mut new = bench.routed_to("evt_1", &["billing", "audit"]);
    new.named.body = (0..=255).cycle().take(100_000).collect();
    new.named.event_id = Some("e\0vt_ä".to_owned());
    new.query = "a=1&b=%00".to_owned();
    new.retry_marker = Some("x-slack-retry-num: 1".to_owned());
    let headers: Headers =
        [("Stripe-Signature", &b"t=1,v1=00"[..]), ("x", b"\xff:\x01"), ("x", b"")]
            .into_iter()
            .collect();
    new.headers = Arc::new(headers.clone());
    assert_eq!(bench.admit(&new).await, (new.id, Admission::Fresh));

    let record = bench.record(new.id).await;
    assert_eq!(record.event.body, new.named.body);
    assert_eq!(record.event.headers, headers);
    assert_eq!(record.event.query, new.query);
    assert_eq!(record.event.event_id, new.named.event_id);
    assert_eq!(record.event.event_type, new.named.event_type);
    assert_eq!(record.event.retry_marker, new.retry_marker);
    assert_eq!(record.event.received_at, new.received_at);
    assert_eq!(record.event.source, new.source);
    assert!(!record.event.resent_under_new_id);
    assert_eq!(record.identity.as_deref(), Some("evt_1"));
    assert_eq!(record.mark_until, Some(new.received_at.plus(new.window)));
    assert_eq!(record.row.body_bytes, 100_000);
    assert_eq!(record.row.state, EventState::Open);
    let made: Vec<_> = record.deliveries.iter().map(|kept| (kept.id, &*kept.handler)).collect();
    let wanted: Vec<_> = new.deliveries.iter().map(|new| (new.id, &*new.handler)).collect();
    assert_eq!(made, wanted);
    assert!(record.deliveries.iter().all(|kept| kept.state == State::Queued
        && kept.due_at == new.received_at
        && kept.attempts == 0
        && kept.event == new.id
        && kept.replay_of.is_none()));
}

pub(crate) async fn an_event_that_no_handler_wants_is_unrouted(bench: Bench) {
    let new = bench.event("evt_1");
    bench.admit(&new).await;
    assert_eq!(bench.record(new.id).await.row.state, EventState::Unrouted);
    assert_eq!(bench.total().await.unrouted, 1);
}

pub(crate) async fn the_same_identity_again_is_a_duplicate_and_triggers_nothing(bench: Bench) {
    let first = bench.routed("evt_1");
    bench.admit(&first).await;
    let mut again = bench.routed("evt_1");
    again.named.body = Bytes::from_static(b"other bytes under the same identity");
    again.retry_marker = Some("attempt 2".to_owned());
    assert_eq!(bench.admit(&again).await, (first.id, Admission::Duplicate));

    assert!(bench.store.event(again.id).await.expect("the store reads").is_none());
    let record = bench.record(first.id).await;
    assert_eq!(record.deliveries.len(), 1);
    assert_eq!(record.row.duplicates, 1);
    let noted =
        Duplicate { received_at: again.received_at, retry_marker: Some("attempt 2".to_owned()) };
    assert_eq!(record.duplicates, [noted]);
    assert_eq!(bench.take(LONG).await.len(), 1);
}

pub(crate) async fn a_duplicate_stays_one_while_the_first_is_leased_and_when_it_is_done(
    bench: Bench,
) {
    let first = bench.routed("evt_1");
    bench.admit(&first).await;
    let leased = bench.take_one(LONG).await;
    assert_eq!(bench.admit(&bench.routed("evt_1")).await, (first.id, Admission::Duplicate));
    bench.settle(&leased, Verdict::Done).await;
    assert_eq!(bench.admit(&bench.routed("evt_1")).await, (first.id, Admission::Duplicate));
    assert!(bench.take(LONG).await.is_empty());
}

pub(crate) async fn one_identity_twice_in_one_call_is_decided_in_order(bench: Bench) {
    let identities = (0..200).map(|number| format!("evt_{}", number % 100));
    let events: Vec<_> = identities.map(|identity| bench.routed(&identity)).collect();
    let answers = bench.store.admit(events.clone(), bench.in_time()).await;
    let (first, second) = events.split_at(100);
    let fresh = first.iter().map(|event| Ok((event.id, Admission::Fresh)));
    let known = first.iter().map(|event| Ok((event.id, Admission::Duplicate)));
    assert_eq!(second.len(), 100);
    assert_eq!(answers, fresh.chain(known).collect::<Vec<_>>());
}

pub(crate) async fn one_identity_at_once_is_fresh_once(bench: Bench) {
    let copies: Vec<_> = (0..50).map(|_| bench.routed("evt_1")).collect();
    let answers = join_all(copies.iter().map(|copy| bench.admit(copy))).await;
    let fresh: Vec<_> =
        answers.iter().filter(|(_, admission)| *admission == Admission::Fresh).collect();
    assert_eq!(fresh.len(), 1);
    assert!(answers.iter().all(|(id, _)| *id == fresh[0].0));
    assert_eq!(bench.take(LONG).await.len(), 1);
    assert_eq!(bench.total().await.duplicates, 49);
}

pub(crate) async fn an_event_sent_again_under_its_own_id_is_fresh_again(bench: Bench) {
    let new = bench.routed("evt_1");
    bench.admit(&new).await;
    let leased = bench.take_one(LONG).await;
    assert_eq!(bench.admit(&new).await, (new.id, Admission::Fresh));
    bench.settle(&leased, Verdict::Done).await;
    assert_eq!(bench.admit(&new).await, (new.id, Admission::Fresh));
    let total = bench.total().await;
    assert_eq!((total.events, total.duplicates, total.queued), (1, 0, 0));
    assert!(bench.take(LONG).await.is_empty());
}

pub(crate) async fn an_event_without_identity_sent_again_under_its_own_id_is_fresh_again(
    bench: Bench,
) {
    let mut new = bench.routed("evt_1");
    new.named.identity = None;
    bench.admit(&new).await;
    assert_eq!(bench.admit(&new).await, (new.id, Admission::Fresh));
    assert_eq!(bench.total().await.events, 1);
    assert_eq!(bench.take(LONG).await.len(), 1);
}

pub(crate) async fn events_without_an_identity_are_always_fresh(bench: Bench) {
    for _ in 0..3 {
        let mut new = bench.routed("evt_1");
        new.named.identity = None;
        assert_eq!(bench.admit(&new).await, (new.id, Admission::Fresh));
        assert_eq!(bench.record(new.id).await.mark_until, None);
    }
    assert_eq!(bench.take(LONG).await.len(), 3);
}

pub(crate) async fn a_late_call_does_nothing_and_its_retry_is_fresh(bench: Bench) {
    let new = bench.guarded("evt_1", "content");
    assert_eq!(bench.try_admit(&new, bench.too_late()).await, Err(StoreError::Late));
    assert!(bench.events().await.is_empty());
    assert_eq!(bench.total().await.events, 0);
    let retry = bench.guarded("evt_1", "content");
    assert_eq!(bench.admit(&retry).await, (retry.id, Admission::Fresh));
}

pub(crate) async fn a_late_call_that_was_done_before_answers_as_it_did(bench: Bench) {
    let new = bench.routed("evt_1");
    bench.admit(&new).await;
    let again = bench.try_admit(&new, bench.too_late()).await;
    assert_eq!(again, Ok((new.id, Admission::Fresh)));
}

pub(crate) async fn known_content_under_another_id_is_flagged(bench: Bench) {
    for (identity, resent) in [("evt_1", false), ("evt_2", true), ("evt_3", true)] {
        let mut new = bench.guarded(identity, "content");
        new.replay_guard = ReplayGuard::Flag;
        assert_eq!(bench.admit(&new).await, (new.id, Admission::Fresh));
        let record = bench.record(new.id).await;
        assert_eq!(record.row.resent_under_new_id, resent);
        assert_eq!(record.event.resent_under_new_id, resent);
    }
    let other = bench.guarded("evt_4", "other content");
    bench.admit(&other).await;
    assert!(!bench.record(other.id).await.row.resent_under_new_id);
    assert_eq!(bench.take(LONG).await.len(), 4);
}

pub(crate) async fn known_content_under_another_id_is_held_where_the_source_says_so(bench: Bench) {
    bench.admit(&bench.guarded("evt_1", "content")).await;
    let copy = bench.guarded("evt_2", "content");
    assert_eq!(bench.admit(&copy).await, (copy.id, Admission::Held));
    let record = bench.record(copy.id).await;
    assert_eq!(record.row.state, EventState::Held);
    assert!(record.row.resent_under_new_id);
    assert!(record.deliveries.is_empty());
    assert_eq!(bench.take(LONG).await.len(), 1);
    let total = bench.total().await;
    assert_eq!((total.events, total.held, total.held_now, total.unrouted), (2, 1, 1, 0));
}

pub(crate) async fn a_held_event_sent_again_is_held_again(bench: Bench) {
    bench.admit(&bench.guarded("evt_1", "content")).await;
    let copy = bench.guarded("evt_2", "content");
    bench.admit(&copy).await;
    assert_eq!(bench.admit(&copy).await, (copy.id, Admission::Held));
    assert_eq!(bench.total().await.held, 1);
    let retry = bench.guarded("evt_2", "content");
    assert_eq!(bench.admit(&retry).await, (copy.id, Admission::Duplicate));
}

pub(crate) async fn a_copy_under_its_own_identity_is_a_duplicate_not_held(bench: Bench) {
    let first = bench.guarded("evt_1", "content");
    bench.admit(&first).await;
    let copy = bench.guarded("evt_1", "content");
    assert_eq!(bench.admit(&copy).await, (first.id, Admission::Duplicate));
}

pub(crate) async fn what_shadow_mode_let_in_is_marked_and_counted_and_hides_nothing(bench: Bench) {
    let mut forged = bench.routed("evt_1");
    forged.shadow = true;
    forged.named.identity = Some(Identity::of(["evt_1"]).in_shadow(&forged.named.body));
    assert_eq!(bench.admit(&forged).await, (forged.id, Admission::Fresh));
    let copy = NewEvent { id: bench.event("other").id, ..forged.clone() };
    assert_eq!(bench.admit(&copy).await, (forged.id, Admission::Duplicate));
    let real = bench.routed("evt_1");
    assert_eq!(bench.admit(&real).await, (real.id, Admission::Fresh));

    for (id, shadow) in [(forged.id, true), (real.id, false)] {
        let record = bench.record(id).await;
        assert_eq!((record.row.shadow, record.event.shadow), (shadow, shadow));
    }
    let leased = bench.take(LONG).await;
    assert_eq!(leased.iter().filter(|leased| leased.event.shadow).count(), 1);
    let total = bench.total().await;
    assert_eq!((total.events, total.shadow, total.duplicates), (2, 1, 1));
}

pub(crate) async fn sources_are_namespaces(bench: Bench) {
    for source in ["stripe", "stripe:2", "strip", "github"] {
        let mut new = bench.guarded("evt_1", "content");
        new.source = source.into();
        assert_eq!(bench.admit(&new).await, (new.id, Admission::Fresh), "{source}");
        assert!(!bench.record(new.id).await.row.resent_under_new_id);
    }
}

pub(crate) async fn hostile_identities_stay_apart(bench: Bench) {
    let raw = |text: &str| -> Identity {
        serde_json::from_value(text.into()).expect("an identity is any text")
    };
    let long = "x".repeat(4096);
    let identities: HashSet<_> = [
        raw(""),
        raw("\0"),
        raw("a"),
        raw("a\0"),
        raw("a\0b"),
        raw("A"),
        raw("a "),
        raw("{h07}"),
        raw("{h07}a"),
        raw("}{"),
        raw("a:b"),
        raw(":"),
        raw("a:b:c"),
        raw("'; DROP TABLE marks; --"),
        raw("*"),
        raw("a\r\nb"),
        raw("ä"),
        raw("a\u{308}"),
        raw("\u{1f980}"),
        raw("1"),
        raw("1.0"),
        raw("01"),
        raw(&long),
        raw(&format!("{long}y")),
        Identity::of([long.as_str()]),
        Identity::of(["a", "b"]),
        Identity::of(["a|b"]),
        Identity::of(["a", "", "b"]),
    ]
    .into();
    assert_eq!(identities.len(), 28);

    let mut known = Vec::new();
    for identity in identities {
        let mut new = bench.event("");
        new.named.identity = Some(identity.clone());
        assert_eq!(bench.admit(&new).await, (new.id, Admission::Fresh), "{identity:?}");
        assert_eq!(bench.record(new.id).await.identity.as_deref(), Some(identity.as_str()));
        known.push((new.id, identity));
    }
    for (id, identity) in known {
        let mut again = bench.event("");
        again.named.identity = Some(identity.clone());
        assert_eq!(bench.admit(&again).await, (id, Admission::Duplicate), "{identity:?}");
    }
}

pub(crate) async fn a_source_holds_no_more_than_its_cap(bench: Bench) {
    bench.admit(&bench.guarded("first", "content")).await;
    let cap = usize::try_from(limits::HELD_PER_SOURCE_MAX).expect("a small number");
    let copies: Vec<_> = (0..cap).map(|n| bench.guarded(&format!("copy {n}"), "content")).collect();
    for lot in copies.chunks(1000) {
        for answer in bench.store.admit(lot.to_vec(), bench.in_time()).await {
            assert_eq!(answer.expect("there is room").1, Admission::Held);
        }
    }
    let one_more = bench.guarded("one more", "content");
    let refused = bench.try_admit(&one_more, bench.in_time()).await;
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    assert!(bench.store.event(one_more.id).await.expect("the store reads").is_none());

    let mut elsewhere = bench.event("elsewhere");
    elsewhere.named.digest = Some(Digest::of(["other content".as_bytes()]));
    assert_eq!(bench.admit(&elsewhere).await.1, Admission::Fresh);
    bench.pass(SHORT).await;
    bench.prune().await;
    let retry = bench.admit(&one_more).await;
    assert_eq!(retry, (one_more.id, Admission::Held), "what was refused left no mark behind");
}

pub(crate) async fn only_the_newest_duplicates_are_kept_and_all_are_counted(bench: Bench) {
    let first = bench.event("evt_1");
    bench.admit(&first).await;
    let copies = limits::DUPLICATES_KEPT_MAX + 7;
    for copy in 0..copies {
        let mut again = bench.event("evt_1");
        again.retry_marker = Some(format!("copy {copy}"));
        bench.admit(&again).await;
    }
    let record = bench.record(first.id).await;
    assert_eq!(record.row.duplicates, 57);
    assert_eq!(record.duplicates.len(), limits::DUPLICATES_KEPT_MAX);
    assert_eq!(record.duplicates[0].retry_marker.as_deref(), Some("copy 56"));
    assert_eq!(record.duplicates[49].retry_marker.as_deref(), Some("copy 7"));
}
