//! Keyed requests: the table of `hookonce::store::keys`, line by line.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use hookonce::{
    clock::Timestamp,
    key::{Fingerprint, KeyId, KeyRecord, KeyScope, KeyState, SavedResponse},
    request::Headers,
    store::{
        Hold, StoreError,
        keys::{Begin, Begun, KeyCounts, KeyFilter, OnUnknown, Resolution, Resolved},
    },
};
use uuid::Uuid;

use super::bench::{Bench, LONG, SHORT};

/// A begin of this key by an owner of its own, with the same request as every other.
pub(super) fn begin_of(bench: &Bench, key: &str) -> Begin {
    Begin {
        scope: KeyScope::new("payments", "POST", "/charges", b"alice", key),
        fingerprint: Fingerprint::of([b"amount=10".as_slice()]),
        owner: Uuid::from_u128(bench.number()),
        lease: LONG,
        on_unknown: OnUnknown::Keep,
    }
}

fn other_fingerprint() -> Fingerprint {
    Fingerprint::of([b"amount=11".as_slice()])
}

pub(super) fn response(body: &str) -> SavedResponse {
    let headers = [("content-type", "text/plain"), ("set-cookie", "a=1"), ("set-cookie", "b=2")];
    SavedResponse {
        status: 201,
        headers: headers.into_iter().collect(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

pub(super) async fn begin(bench: &Bench, begin: &Begin) -> Begun {
    bench.store.begin(begin, bench.in_time()).await.expect("the store lets begin")
}

/// Begins a key that is free.
pub(super) async fn start(bench: &Bench, key: &str) -> Begin {
    let first = begin_of(bench, key);
    assert_eq!(begin(bench, &first).await, Begun::Started);
    first
}

/// Begins a key that is free and lets its lease run out.
async fn start_and_die(bench: &Bench, key: &str) -> Begin {
    let first = Begin { lease: SHORT, ..begin_of(bench, key) };
    assert_eq!(begin(bench, &first).await, Begun::Started);
    bench.pass(SHORT).await;
    first
}

pub(super) async fn complete(
    bench: &Bench,
    begun: &Begin,
    body: &str,
    retention: Duration,
) -> Hold {
    let response = response(body);
    let done = bench.store.complete(begun.scope.id(), begun.owner, &response, retention);
    done.await.expect("the store completes")
}

pub(super) async fn abandon(bench: &Bench, begun: &Begin) -> Hold {
    bench.store.abandon(begun.scope.id(), begun.owner).await.expect("the store abandons")
}

pub(super) async fn extend(bench: &Bench, begun: &Begin, lease: Duration) -> Hold {
    bench.store.extend_key(begun.scope.id(), begun.owner, lease).await.expect("the store extends")
}

pub(super) async fn mark_unknown(bench: &Bench, begun: &Begin) -> Hold {
    let marked = bench.store.mark_unknown(begun.scope.id(), begun.owner, "it timed out");
    marked.await.expect("the store marks")
}

pub(super) async fn resolve(bench: &Bench, key: KeyId, resolution: &Resolution) -> Resolved {
    bench.store.resolve(key, resolution, bench.in_time()).await.expect("the store resolves")
}

fn completed_as(body: &str) -> Resolution {
    Resolution::Complete { response: response(body), retention: LONG }
}

async fn record(bench: &Bench, key: KeyId) -> Option<KeyRecord> {
    bench.store.key(key).await.expect("the store reads")
}

async fn state(bench: &Bench, begun: &Begin) -> Option<KeyState> {
    record(bench, begun.scope.id()).await.map(|record| record.state)
}

/// The body that a begin of this key by somebody else is told.
pub(super) async fn told(bench: &Bench, key: &str) -> Option<Bytes> {
    match begin(bench, &begin_of(bench, key)).await {
        Begun::Completed { response, .. } => Some(response.body),
        _ => None,
    }
}

async fn page(bench: &Bench, filter: KeyFilter) -> Vec<KeyRecord> {
    bench.store.keys(&filter).await.expect("the store lists")
}

pub(crate) async fn a_free_key_is_started_and_shown(bench: Bench) {
    let before = bench.now();
    let first = start(&bench, "k1").await;
    let shown = record(&bench, first.scope.id()).await.expect("it is there");
    assert_eq!((&shown.scope, shown.id), (&first.scope, first.scope.id()));
    assert_eq!((shown.state, shown.fingerprint), (KeyState::InProgress, first.fingerprint));
    assert_eq!((shown.completed_at, shown.expires_at), (None, None));
    assert_eq!((shown.replays, shown.note), (0, None));
    assert!(shown.begun_at >= before && shown.lease_until >= shown.begun_at.plus(LONG / 2));
    let free = begin_of(&bench, "k2").scope.id();
    assert_eq!(record(&bench, free).await, None);
}

pub(crate) async fn one_key_at_once_is_started_once(bench: Bench) {
    let begins: Vec<Begin> = (0..1000).map(|_| begin_of(&bench, "k1")).collect();
    let answers = join_all(begins.iter().map(|one| begin(&bench, one))).await;
    let started = answers.iter().filter(|answer| **answer == Begun::Started).count();
    let in_flight = answers.iter().filter(|answer| matches!(answer, Begun::InFlight { .. }));
    assert_eq!((started, in_flight.count()), (1, 999));
}

pub(crate) async fn what_is_in_flight_says_when_to_come_back(bench: Bench) {
    start(&bench, "k1").await;
    let Begun::InFlight { retry_in } = begin(&bench, &begin_of(&bench, "k1")).await else {
        panic!("somebody is at it")
    };
    assert!(retry_in <= LONG && retry_in > LONG / 2, "{retry_in:?}");
}

pub(crate) async fn begun_again_by_its_owner_is_started_again(bench: Bench) {
    let first = start(&bench, "k1").await;
    assert_eq!(begin(&bench, &first).await, Begun::Started);
    let late = bench.store.begin(&first, bench.too_late()).await;
    assert_eq!(late, Ok(Begun::Started), "it was done before, however late");
}

pub(crate) async fn begun_again_by_its_owner_has_its_lease_from_then_on(bench: Bench) {
    let first = Begin { lease: SHORT, ..begin_of(&bench, "k1") };
    assert_eq!(begin(&bench, &first).await, Begun::Started);
    let again = Begin { lease: LONG, ..first };
    assert_eq!(begin(&bench, &again).await, Begun::Started);
    bench.pass(SHORT).await;
    assert_eq!(state(&bench, &again).await, Some(KeyState::InProgress));
}

pub(crate) async fn a_late_begin_does_nothing(bench: Bench) {
    let first = begin_of(&bench, "k1");
    assert_eq!(bench.store.begin(&first, bench.too_late()).await, Err(StoreError::Late));
    assert_eq!(state(&bench, &first).await, None);
    assert_eq!(begin(&bench, &begin_of(&bench, "k1")).await, Begun::Started);
    assert_eq!(bench.store.begin(&first, bench.too_late()).await, Err(StoreError::Late));
}

pub(crate) async fn another_scope_is_another_key(bench: Bench) {
    start(&bench, "k1").await;
    for scope in [
        KeyScope::new("refunds", "POST", "/charges", b"alice", "k1"),
        KeyScope::new("payments", "PATCH", "/charges", b"alice", "k1"),
        KeyScope::new("payments", "POST", "/charge", b"alice", "k1"),
        KeyScope::new("payments", "POST", "/charges", b"bob", "k1"),
        KeyScope::new("payments", "POST", "/charges", b"alice", "k\u{0}1"),
    ] {
        let other = Begin { scope, ..begin_of(&bench, "k1") };
        assert_eq!(begin(&bench, &other).await, Begun::Started, "{:?}", other.scope);
        let shown = record(&bench, other.scope.id()).await.expect("it is there");
        assert_eq!(shown.scope, other.scope);
    }
}

pub(crate) async fn another_fingerprint_is_a_mismatch_in_every_state(bench: Bench) {
    let in_progress = start(&bench, "k1").await;
    let completed = start(&bench, "k2").await;
    assert_eq!(complete(&bench, &completed, "done", LONG).await, Hold::Kept);
    let unknown = start(&bench, "k3").await;
    assert_eq!(mark_unknown(&bench, &unknown).await, Hold::Kept);
    for key in ["k1", "k2", "k3"] {
        let fingerprint = other_fingerprint();
        let other = Begin { fingerprint, on_unknown: OnUnknown::Retry, ..begin_of(&bench, key) };
        assert_eq!(begin(&bench, &other).await, Begun::Mismatch, "{key}");
    }
    let own = Begin { fingerprint: other_fingerprint(), ..in_progress };
    assert_eq!(begin(&bench, &own).await, Begun::Mismatch, "its owner may not change it either");
}

pub(crate) async fn a_completed_key_gives_its_answer_byte_for_byte(bench: Bench) {
    let binary: Vec<u8> = (0..=255).collect();
    let large: Vec<u8> = binary.iter().copied().cycle().take(5 << 20).collect();
    for (key, body) in [("empty", Vec::new()), ("binary", binary), ("large", large)] {
        let first = start(&bench, key).await;
        let saved = SavedResponse { body: body.into(), ..response("") };
        let done = bench.store.complete(first.scope.id(), first.owner, &saved, LONG).await;
        assert_eq!(done, Ok(Hold::Kept));
        for _ in 0..2 {
            let again = begin(&bench, &begin_of(&bench, key)).await;
            let Begun::Completed { response, completed_at, expires_at } = again else {
                panic!("{key} is completed")
            };
            assert!(response == saved, "{key}: the answer is the one that was saved");
            assert_eq!(expires_at, completed_at.plus(LONG));
        }
        let shown = record(&bench, first.scope.id()).await.expect("it is there");
        assert_eq!((shown.state, shown.replays), (KeyState::Completed, 2));
        assert_eq!(shown.expires_at, shown.completed_at.map(|at| at.plus(LONG)));
    }
}

pub(crate) async fn every_status_and_no_header_is_kept_as_it_is(bench: Bench) {
    for status in [200, 204, 301, 402, 500, 599] {
        let key = status.to_string();
        let first = start(&bench, &key).await;
        let saved = SavedResponse { status, headers: Headers::default(), body: Bytes::new() };
        let done = bench.store.complete(first.scope.id(), first.owner, &saved, LONG).await;
        assert_eq!(done, Ok(Hold::Kept));
        let again = begin(&bench, &begin_of(&bench, &key)).await;
        assert!(matches!(again, Begun::Completed { response, .. } if response == saved), "{key}");
    }
}

pub(crate) async fn a_completion_sent_twice_is_kept_and_the_first_stands(bench: Bench) {
    let first = start(&bench, "k1").await;
    assert_eq!(complete(&bench, &first, "one", LONG).await, Hold::Kept);
    assert_eq!(complete(&bench, &first, "two", LONG).await, Hold::Kept);
    assert_eq!(told(&bench, "k1").await, Some(Bytes::from_static(b"one")));
}

pub(crate) async fn who_is_not_the_owner_is_turned_away(bench: Bench) {
    let first = start(&bench, "k1").await;
    let other = begin_of(&bench, "k1");
    assert_eq!(complete(&bench, &other, "forged", LONG).await, Hold::Lost);
    assert_eq!(extend(&bench, &other, LONG).await, Hold::Lost);
    assert_eq!(mark_unknown(&bench, &other).await, Hold::Lost);
    assert_eq!(abandon(&bench, &other).await, Hold::Lost);
    assert_eq!(state(&bench, &first).await, Some(KeyState::InProgress));
}

pub(crate) async fn of_a_free_key_there_is_nothing_to_hold(bench: Bench) {
    let never = begin_of(&bench, "k1");
    assert_eq!(complete(&bench, &never, "done", LONG).await, Hold::Lost);
    assert_eq!(extend(&bench, &never, LONG).await, Hold::Lost);
    assert_eq!(mark_unknown(&bench, &never).await, Hold::Lost);
    assert_eq!(abandon(&bench, &never).await, Hold::Kept, "it is free, as was asked for");
    assert_eq!(state(&bench, &never).await, None);
}

pub(crate) async fn retention_ends_to_the_millisecond_and_the_key_is_free(bench: Bench) {
    let first = start(&bench, "k1").await;
    assert_eq!(complete(&bench, &first, "done", SHORT * 4).await, Hold::Kept);
    assert_eq!(told(&bench, "k1").await, Some(Bytes::from_static(b"done")));
    bench.pass(SHORT * 4).await;
    assert_eq!(state(&bench, &first).await, None);
    assert_eq!(page(&bench, KeyFilter { limit: 10, ..KeyFilter::default() }).await, []);
    assert_eq!(complete(&bench, &first, "done", LONG).await, Hold::Lost);
    let other = Begin { fingerprint: other_fingerprint(), ..begin_of(&bench, "k1") };
    assert_eq!(begin(&bench, &other).await, Begun::Started);
    assert_eq!(state(&bench, &other).await, Some(KeyState::InProgress));
}

pub(crate) async fn a_key_whose_retention_is_over_is_begun_once(bench: Bench) {
    let first = start(&bench, "k1").await;
    assert_eq!(complete(&bench, &first, "done", SHORT).await, Hold::Kept);
    bench.pass(SHORT).await;
    let begins: Vec<Begin> = (0..50).map(|_| begin_of(&bench, "k1")).collect();
    let all = join_all(begins.iter().map(|one| begin(&bench, one)));
    let (answers, _) = tokio::join!(all, bench.prune());
    assert_eq!(answers.iter().filter(|answer| **answer == Begun::Started).count(), 1);
    let again = begin(&bench, &begin_of(&bench, "k1")).await;
    assert!(matches!(again, Begun::InFlight { .. }), "{again:?}");
}

pub(crate) async fn an_abandoned_key_is_free(bench: Bench) {
    let first = start(&bench, "k1").await;
    assert_eq!(abandon(&bench, &first).await, Hold::Kept);
    assert_eq!(abandon(&bench, &first).await, Hold::Kept, "sent twice");
    assert_eq!(state(&bench, &first).await, None);
    let second = start(&bench, "k1").await;
    assert_eq!(abandon(&bench, &first).await, Hold::Lost, "somebody else has it");
    assert_eq!(complete(&bench, &first, "late", LONG).await, Hold::Lost);
    assert_eq!(state(&bench, &second).await, Some(KeyState::InProgress));
}

pub(crate) async fn what_is_completed_is_not_abandoned(bench: Bench) {
    let first = start(&bench, "k1").await;
    assert_eq!(complete(&bench, &first, "done", LONG).await, Hold::Kept);
    assert_eq!(abandon(&bench, &first).await, Hold::Lost);
    assert_eq!(mark_unknown(&bench, &first).await, Hold::Lost);
    assert_eq!(extend(&bench, &first, LONG).await, Hold::Lost);
    assert_eq!(told(&bench, "k1").await, Some(Bytes::from_static(b"done")));
}

pub(crate) async fn an_extended_key_stays_in_progress(bench: Bench) {
    let first = Begin { lease: SHORT, ..begin_of(&bench, "k1") };
    assert_eq!(begin(&bench, &first).await, Begun::Started);
    assert_eq!(extend(&bench, &first, LONG).await, Hold::Kept);
    bench.pass(SHORT).await;
    assert_eq!(state(&bench, &first).await, Some(KeyState::InProgress));
    assert!(matches!(begin(&bench, &begin_of(&bench, "k1")).await, Begun::InFlight { .. }));
}

pub(crate) async fn a_lease_that_ran_out_leaves_an_unknown_outcome(bench: Bench) {
    let first = start_and_die(&bench, "k1").await;
    assert_eq!(state(&bench, &first).await, Some(KeyState::Unknown));
    let told = begin(&bench, &begin_of(&bench, "k1")).await;
    assert_eq!(told, Begun::Unknown { note: None });
    assert_eq!(begin(&bench, &first).await, told, "its owner has no lease any more either");
    assert_eq!(extend(&bench, &first, LONG).await, Hold::Lost);
    assert_eq!(state(&bench, &first).await, Some(KeyState::Unknown));
}

pub(crate) async fn an_owner_whose_lease_ran_out_still_completes(bench: Bench) {
    let first = start_and_die(&bench, "k1").await;
    assert_eq!(complete(&bench, &first, "at last", LONG).await, Hold::Kept);
    assert_eq!(told(&bench, "k1").await, Some(Bytes::from_static(b"at last")));
}

pub(crate) async fn an_owner_whose_lease_ran_out_still_abandons(bench: Bench) {
    let first = start_and_die(&bench, "k1").await;
    assert_eq!(abandon(&bench, &first).await, Hold::Kept);
    start(&bench, "k1").await;
}

pub(crate) async fn an_outcome_marked_unknown_says_why(bench: Bench) {
    let first = start(&bench, "k1").await;
    assert_eq!(mark_unknown(&bench, &first).await, Hold::Kept);
    assert_eq!(mark_unknown(&bench, &first).await, Hold::Kept, "sent twice");
    let note = Some("it timed out".to_owned());
    let told = begin(&bench, &begin_of(&bench, "k1")).await;
    assert_eq!(told, Begun::Unknown { note: note.clone() });
    let shown = record(&bench, first.scope.id()).await.expect("it is there");
    assert_eq!((shown.state, shown.note), (KeyState::Unknown, note));
    assert_eq!(extend(&bench, &first, LONG).await, Hold::Lost);
    assert_eq!(complete(&bench, &first, "it came", LONG).await, Hold::Kept);
}

pub(crate) async fn an_unknown_outcome_is_kept_until_it_is_resolved(bench: Bench) {
    let first = start_and_die(&bench, "k1").await;
    let marked = start(&bench, "k2").await;
    assert_eq!(mark_unknown(&bench, &marked).await, Hold::Kept);
    bench.pass(SHORT).await;
    assert_eq!(bench.prune().await, 0);
    assert_eq!(state(&bench, &first).await, Some(KeyState::Unknown));
    assert_eq!(state(&bench, &marked).await, Some(KeyState::Unknown));
}

pub(crate) async fn an_unknown_outcome_is_retried_where_the_caller_says_so(bench: Bench) {
    let died = start_and_die(&bench, "k1").await;
    let marked = start(&bench, "k2").await;
    assert_eq!(mark_unknown(&bench, &marked).await, Hold::Kept);
    for (key, before) in [("k1", died), ("k2", marked)] {
        let retry = Begin { on_unknown: OnUnknown::Retry, ..begin_of(&bench, key) };
        let late = bench.store.begin(&retry, bench.too_late()).await;
        assert_eq!(late, Err(StoreError::Late));
        assert_eq!(begin(&bench, &retry).await, Begun::Started);
        let shown = record(&bench, retry.scope.id()).await.expect("it is there");
        assert_eq!((shown.state, shown.note), (KeyState::InProgress, None));
        assert_eq!(complete(&bench, &before, "late", LONG).await, Hold::Lost);
        assert_eq!(abandon(&bench, &before).await, Hold::Lost);
        assert_eq!(complete(&bench, &retry, "done", LONG).await, Hold::Kept);
    }
}

pub(crate) async fn an_unknown_outcome_is_retried_once(bench: Bench) {
    start_and_die(&bench, "k1").await;
    let retry = |_| Begin { on_unknown: OnUnknown::Retry, ..begin_of(&bench, "k1") };
    let retries: Vec<Begin> = (0..50).map(retry).collect();
    let answers = join_all(retries.iter().map(|one| begin(&bench, one))).await;
    assert_eq!(answers.iter().filter(|answer| **answer == Begun::Started).count(), 1);
}

pub(crate) async fn a_person_completes_an_unknown_outcome(bench: Bench) {
    let first = start_and_die(&bench, "k1").await;
    let id = first.scope.id();
    assert_eq!(resolve(&bench, id, &completed_as("paid")).await, Resolved::Done);
    assert_eq!(resolve(&bench, id, &completed_as("paid")).await, Resolved::Done, "sent twice");
    assert_eq!(resolve(&bench, id, &completed_as("other")).await, Resolved::Completed);
    assert_eq!(resolve(&bench, id, &Resolution::Free).await, Resolved::Completed);
    assert_eq!(complete(&bench, &first, "late", LONG).await, Hold::Lost, "it has no owner now");
    assert_eq!(told(&bench, "k1").await, Some(Bytes::from_static(b"paid")));
}

pub(crate) async fn a_person_frees_an_unknown_outcome(bench: Bench) {
    let first = start(&bench, "k1").await;
    assert_eq!(mark_unknown(&bench, &first).await, Hold::Kept);
    let id = first.scope.id();
    assert_eq!(resolve(&bench, id, &Resolution::Free).await, Resolved::Done);
    assert_eq!(resolve(&bench, id, &Resolution::Free).await, Resolved::Done, "sent twice");
    assert_eq!(resolve(&bench, id, &completed_as("paid")).await, Resolved::NotFound);
    assert_eq!(complete(&bench, &first, "late", LONG).await, Hold::Lost);
    start(&bench, "k1").await;
}

pub(crate) async fn work_in_progress_is_not_resolved(bench: Bench) {
    let first = start(&bench, "k1").await;
    for resolution in [Resolution::Free, completed_as("paid")] {
        let resolved = resolve(&bench, first.scope.id(), &resolution).await;
        assert_eq!(resolved, Resolved::InProgress);
    }
    assert_eq!(state(&bench, &first).await, Some(KeyState::InProgress));
}

pub(crate) async fn a_late_resolution_does_nothing(bench: Bench) {
    let first = start_and_die(&bench, "k1").await;
    let late = bench.store.resolve(first.scope.id(), &Resolution::Free, bench.too_late()).await;
    assert_eq!(late, Err(StoreError::Late));
    assert_eq!(state(&bench, &first).await, Some(KeyState::Unknown));
}

pub(crate) async fn keys_are_paged_those_begun_last_first(bench: Bench) {
    let mut begun = Vec::new();
    for number in 0..7 {
        begun.push(start(&bench, &format!("k{number}")).await.scope.id());
        if number % 2 == 0 {
            bench.pass(Duration::ZERO).await; // some are begun in the same millisecond
        }
    }
    let mut seen = Vec::new();
    let mut before: Option<(Timestamp, KeyId)> = None;
    loop {
        let rows = page(&bench, KeyFilter { before, limit: 3, ..KeyFilter::default() }).await;
        let Some(last) = rows.last() else { break };
        assert!(rows.len() <= 3);
        before = Some((last.begun_at, last.id));
        seen.extend(rows.into_iter().map(|row| (row.begun_at, row.id)));
    }
    assert!(seen.is_sorted_by(|one, next| one > next), "{seen:?}");
    let mut ids: Vec<KeyId> = seen.into_iter().map(|(_, id)| id).collect();
    ids.sort_unstable();
    begun.sort_unstable();
    assert_eq!(ids, begun);
}

pub(crate) async fn keys_are_filtered(bench: Bench) {
    let in_progress = start(&bench, "k1").await;
    let unknown = start_and_die(&bench, "k2").await;
    let marked = start(&bench, "k3").await;
    assert_eq!(mark_unknown(&bench, &marked).await, Hold::Kept);
    let completed = start(&bench, "k4").await;
    assert_eq!(complete(&bench, &completed, "done", LONG).await, Hold::Kept);
    let elsewhere = KeyScope::new("refunds", "POST", "/", b"alice", "k1");
    let other = Begin { scope: elsewhere, ..begin_of(&bench, "k1") };
    assert_eq!(begin(&bench, &other).await, Begun::Started);

    let api = Some("payments".to_owned());
    for (state, wanted) in [
        (Some(KeyState::InProgress), vec![&in_progress]),
        (Some(KeyState::Unknown), vec![&marked, &unknown]),
        (Some(KeyState::Completed), vec![&completed]),
        (None, vec![&completed, &marked, &unknown, &in_progress]),
    ] {
        let filter = KeyFilter { api: api.clone(), state, limit: 10, ..KeyFilter::default() };
        let mut found: Vec<KeyId> = page(&bench, filter).await.iter().map(|row| row.id).collect();
        let mut wanted: Vec<KeyId> = wanted.iter().map(|begun| begun.scope.id()).collect();
        found.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{state:?}");
    }
    let all = page(&bench, KeyFilter { limit: 10, ..KeyFilter::default() }).await;
    assert_eq!(all.len(), 5);
}

pub(crate) async fn gauges_count_what_is_open_by_api(bench: Bench) {
    start(&bench, "k1").await;
    start_and_die(&bench, "k2").await;
    let marked = start(&bench, "k3").await;
    assert_eq!(mark_unknown(&bench, &marked).await, Hold::Kept);
    let done = start(&bench, "k4").await;
    assert_eq!(complete(&bench, &done, "done", LONG).await, Hold::Kept);
    let left = start(&bench, "k5").await;
    assert_eq!(abandon(&bench, &left).await, Hold::Kept);
    let elsewhere = KeyScope::new("refunds", "POST", "/", b"alice", "k1");
    let other = Begin { scope: elsewhere, ..begin_of(&bench, "k1") };
    assert_eq!(begin(&bench, &other).await, Begun::Started);
    assert_eq!(complete(&bench, &other, "done", LONG).await, Hold::Kept);

    let counts = bench.store.key_counts().await.expect("the store counts");
    let wanted = KeyCounts { in_progress: 1, unknown: 2 };
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [("payments".to_owned(), wanted)]);
}

pub(crate) async fn prune_takes_what_is_over_and_leaves_the_rest(bench: Bench) {
    for number in 0..5 {
        let over = start(&bench, &format!("over{number}")).await;
        assert_eq!(complete(&bench, &over, "done", SHORT).await, Hold::Kept);
    }
    let lasting = start(&bench, "lasting").await;
    assert_eq!(complete(&bench, &lasting, "done", LONG).await, Hold::Kept);
    let at_work = start(&bench, "at work").await;
    bench.pass(SHORT).await;
    assert_eq!(bench.prune_lot(2).await, 2, "a lot is not exceeded");
    assert_eq!(bench.prune().await, 3);
    assert_eq!(bench.prune().await, 0);
    assert_eq!(state(&bench, &lasting).await, Some(KeyState::Completed));
    assert_eq!(state(&bench, &at_work).await, Some(KeyState::InProgress));
    let begun_anew = Begin { fingerprint: other_fingerprint(), ..begin_of(&bench, "over0") };
    assert_eq!(begin(&bench, &begun_anew).await, Begun::Started);
}

pub(crate) async fn a_key_begun_anew_after_its_retention_is_not_pruned(bench: Bench) {
    let over = start(&bench, "k1").await;
    assert_eq!(complete(&bench, &over, "done", SHORT).await, Hold::Kept);
    bench.pass(SHORT).await;
    let anew = start(&bench, "k1").await;
    bench.prune().await;
    assert_eq!(state(&bench, &anew).await, Some(KeyState::InProgress));
    let all = page(&bench, KeyFilter { limit: 10, ..KeyFilter::default() }).await;
    assert_eq!(all.iter().map(|row| row.id).collect::<Vec<_>>(), [anew.scope.id()]);
}

pub(crate) async fn many_keys_at_once_are_begun_and_completed(bench: Bench) {
    let bench = Arc::new(bench);
    let one = |number: usize| {
        let bench = Arc::clone(&bench);
        async move {
            let first = start(&bench, &format!("k{number}")).await;
            assert_eq!(complete(&bench, &first, "done", LONG).await, Hold::Kept);
            told(&bench, &format!("k{number}")).await
        }
    };
    let told = join_all((0..200).map(one)).await;
    assert!(told.iter().all(|body| body.as_deref() == Some(b"done".as_slice())));
}
