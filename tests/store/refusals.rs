//! Refused requests: the newest few of each source and step, whole, and no more than their share.

use bytes::Bytes;
use hookonce::{
    clock::Timestamp,
    event::EventId,
    limits,
    refusal::{RefusalId, Step},
    request::Headers,
    store::{Prune, Readmission, RefusalFilter, RefusalRow, Refused},
};

use super::bench::{Bench, SHORT};

fn refused(source: &str, step: Step, seconds: i64) -> Refused {
    let received_at = Timestamp::from_seconds(1_790_000_000 + seconds);
    let body = Bytes::from_static(b"{\"id\":\"evt_1\",\"bytes\":\"\xff\0\"}");
    Refused {
        row: RefusalRow {
            id: RefusalId::new(received_at),
            source: source.into(),
            step,
            problem: "no configured secret made any of its signatures".to_owned(),
            received_at,
            method: "POST".to_owned(),
            url: "https://hooks.example.com/webhooks/stripe?a=1".to_owned(),
            target: "/webhooks/stripe?a=1".to_owned(),
            peer: Some([10, 0, 0, 7].into()),
            body_bytes: Some(body.len()),
            body_kept: true,
            left_out: 3,
            readmitted: None,
        },
        headers: [("stripe-signature", &b"t=1,v1=ab"[..]), ("x-latin", b"\xe9")]
            .into_iter()
            .collect(),
        sealed: vec![0, 1, 255],
        body: Some(body),
    }
}

async fn keep(bench: &Bench, refused: &[Refused]) {
    bench.store.keep_refusals(refused.to_vec()).await.expect("the store keeps them");
}

async fn page(bench: &Bench, filter: RefusalFilter) -> Vec<RefusalRow> {
    bench.store.refusals(&filter).await.expect("the store reads")
}

async fn ids(bench: &Bench, filter: RefusalFilter) -> Vec<RefusalId> {
    page(bench, filter).await.into_iter().map(|row| row.id).collect()
}

fn all() -> RefusalFilter {
    RefusalFilter { limit: 1000, ..RefusalFilter::default() }
}

pub(crate) async fn a_refused_request_is_kept_byte_for_byte(bench: Bench) {
    let with_body = refused("stripe", Step::NoMatch, 0);
    let mut without = refused("stripe", Step::BodyTooLarge, 1);
    without.body = None;
    without.row.body_kept = false;
    let mut with_empty_body = refused("stripe", Step::NoMatch, 2);
    with_empty_body.body = Some(Bytes::new());
    with_empty_body.sealed = Vec::new();
    with_empty_body.headers = Headers::default();
    for one in [with_body, without, with_empty_body] {
        keep(&bench, std::slice::from_ref(&one)).await;
        let kept = bench.store.refusal(one.row.id).await.expect("the store reads");
        assert_eq!(kept, Some(one));
    }
    let nobody = RefusalId::from_bytes([7; 16]);
    assert_eq!(bench.store.refusal(nobody).await.expect("the store reads"), None);
}

pub(crate) async fn refused_requests_are_paged_and_filtered(bench: Bench) {
    let first = refused("stripe", Step::NoMatch, 0);
    let second = refused("stripe", Step::Stale, 1);
    let third = refused("github", Step::NoMatch, 2);
    keep(&bench, &[first.clone(), second.clone(), third.clone()]).await;
    let [first, second, third] = [first, second, third].map(|one| one.row.id);
    assert_eq!(ids(&bench, all()).await, [third, second, first]);
    assert_eq!(ids(&bench, RefusalFilter { limit: 2, ..all() }).await, [third, second]);
    assert_eq!(ids(&bench, RefusalFilter { before: Some(second), ..all() }).await, [first]);
    let of_stripe = RefusalFilter { source: Some("stripe".to_owned()), ..all() };
    assert_eq!(ids(&bench, of_stripe.clone()).await, [second, first]);
    let stale = RefusalFilter { step: Some(Step::Stale), ..of_stripe };
    assert_eq!(ids(&bench, stale).await, [second]);
}

pub(crate) async fn the_newest_of_each_source_and_step_stay(bench: Bench) {
    let others = [refused("stripe", Step::Stale, 0), refused("github", Step::NoMatch, 0)];
    keep(&bench, &others).await;
    let seconds = i64::try_from(limits::REFUSALS_KEPT_MAX).expect("it is small");
    let flood: Vec<_> = (1..=seconds + 5).map(|at| refused("stripe", Step::NoMatch, at)).collect();
    for one in &flood {
        keep(&bench, std::slice::from_ref(one)).await;
    }
    let mut left: Vec<_> = flood[5..].iter().chain(&others).map(|one| one.row.id).collect();
    left.sort_unstable();
    left.reverse();
    assert_eq!(ids(&bench, all()).await, left);
    let gone = bench.store.refusal(flood[4].row.id).await.expect("the store reads");
    assert_eq!(gone, None);
}

pub(crate) async fn a_source_holds_no_more_bytes_than_its_cap(bench: Bench) {
    let other = refused("github", Step::NoMatch, 0);
    keep(&bench, std::slice::from_ref(&other)).await;
    let fit = limits::REFUSALS_KEPT_BYTES_MAX / (limits::REFUSAL_BODY_BYTES_MAX + 4096);
    let many = i64::try_from(fit + 3).expect("it is small");
    let mut large = Vec::new();
    for at in 1..=many {
        let step = if at % 2 == 0 { Step::NoMatch } else { Step::Stale };
        let mut one = refused("stripe", step, at);
        one.body = Some(vec![b'x'; limits::REFUSAL_BODY_BYTES_MAX].into());
        keep(&bench, std::slice::from_ref(&one)).await;
        large.push(one.row.id);
    }
    large.reverse();
    large.truncate(fit);
    large.push(other.row.id);
    assert_eq!(ids(&bench, all()).await, large);
}

pub(crate) async fn one_that_is_kept_again_stays_as_it_is(bench: Bench) {
    let first = refused("stripe", Step::NoMatch, 0);
    let mut again = first.clone();
    again.row.problem = "something else".to_owned();
    keep(&bench, &[first.clone(), again.clone()]).await;
    keep(&bench, &[again]).await;
    assert_eq!(page(&bench, all()).await, [first.row]);
}

pub(crate) async fn a_readmission_is_noted_once(bench: Bench) {
    let one = refused("stripe", Step::NoMatch, 0);
    let id = one.row.id;
    keep(&bench, &[one]).await;
    let first = Readmission {
        at: Timestamp::from_seconds(1_790_000_100),
        events: vec![EventId::from_bytes([1; 16]), EventId::from_bytes([2; 16])],
    };
    let second = Readmission { at: Timestamp::from_seconds(1_790_000_200), events: Vec::new() };
    for note in [&first, &second, &first] {
        bench.store.note_readmitted(id, note).await.expect("the store notes");
        assert_eq!(page(&bench, all()).await[0].readmitted.as_ref(), Some(&first));
    }
    let whole = bench.store.refusal(id).await.expect("the store reads").expect("it is there");
    assert_eq!(whole.row.readmitted, Some(first.clone()));

    let nobody = RefusalId::from_bytes([7; 16]);
    bench.store.note_readmitted(nobody, &first).await.expect("it is no error");
    assert_eq!(bench.store.refusal(nobody).await.expect("the store reads"), None);
}

pub(crate) async fn refused_requests_are_pruned_as_held_events_are(bench: Bench) {
    let (old, young) = (refused("stripe", Step::NoMatch, 0), refused("stripe", Step::NoMatch, 60));
    keep(&bench, &[old.clone(), young.clone()]).await;
    bench.admit(&bench.event("unrouted")).await;
    bench.pass(SHORT).await;
    let never = Timestamp::default();
    let prune = Prune {
        done_before: never,
        dead_before: never,
        held_before: young.row.received_at,
        now: never,
        lot: 100,
    };
    let pruned = bench.store.prune(&prune).await.expect("the store prunes");
    assert_eq!(pruned, 0, "they are no events");
    assert_eq!(ids(&bench, all()).await, [young.row.id]);
    assert_eq!(bench.store.refusal(old.row.id).await.expect("the store reads"), None);
    assert_eq!(bench.events().await.len(), 1);
}
