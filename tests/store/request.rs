//! The request that several events came in: kept once, for as long as one of them is there.

use hookonce::{delivery::Verdict, event::NewEvent, limits, receipt::Admission, store::Prune};

use super::bench::{Bench, LONG, SHORT};

async fn admit_all(bench: &Bench, events: &[NewEvent]) -> Vec<Admission> {
    let answers = bench.store.admit(events.to_vec(), bench.in_time()).await;
    answers.into_iter().map(|answer| answer.expect("the store admits").1).collect()
}

/// The event came whole: its own bytes, the headers of its request, and that request.
async fn came_whole(bench: &Bench, new: &NewEvent) {
    let record = bench.record(new.id).await;
    assert_eq!(record.request, new.request);
    assert_eq!(record.event.body, new.named.body);
    assert_eq!(record.event.headers, *new.headers);
    assert_eq!(record.row.body_bytes, new.named.body.len());
}

pub(crate) async fn a_request_is_kept_for_all_its_events_and_each_has_its_own_bytes(bench: Bench) {
    let batch = bench.batch(&["evt_1", "evt_2", "evt_3"]);
    assert_eq!(admit_all(&bench, &batch).await, [Admission::Fresh; 3]);
    for new in &batch {
        came_whole(&bench, new).await;
        assert_eq!(bench.record(new.id).await.request_body().as_ref(), b"[evt_1, evt_2, evt_3]");
    }
    let leased = bench.take(LONG).await;
    assert_eq!(leased.len(), 3);
    for (leased, new) in leased.iter().zip(&batch) {
        assert_eq!(leased.event.headers, *new.headers, "a handler gets the provider's headers");
        assert_eq!(leased.event.body, new.named.body);
    }
}

pub(crate) async fn an_event_that_is_its_whole_request_keeps_no_other_one(bench: Bench) {
    let new = bench.routed("evt_1");
    bench.admit(&new).await;
    let record = bench.record(new.id).await;
    assert_eq!(record.request, None);
    assert_eq!(record.request_body(), &new.named.body);
}

pub(crate) async fn a_partly_known_batch_refers_only_from_what_is_fresh(bench: Bench) {
    let first = bench.batch(&["evt_1", "evt_2"]);
    admit_all(&bench, &first).await;
    let second = bench.batch(&["evt_2", "evt_3"]);
    assert_eq!(admit_all(&bench, &second).await, [Admission::Duplicate, Admission::Fresh]);
    came_whole(&bench, &first[0]).await;
    came_whole(&bench, &first[1]).await;
    came_whole(&bench, &second[1]).await;
    assert_eq!(bench.take(LONG).await.len(), 3);
}

pub(crate) async fn a_batch_sent_again_under_its_own_ids_changes_nothing(bench: Bench) {
    let batch = bench.batch(&["evt_1", "evt_2"]);
    admit_all(&bench, &batch[..1]).await;
    assert_eq!(admit_all(&bench, &batch).await, [Admission::Fresh; 2]);
    assert_eq!(admit_all(&bench, &batch).await, [Admission::Fresh; 2]);
    for new in &batch {
        came_whole(&bench, new).await;
    }
    let total = bench.total().await;
    assert_eq!((total.events, total.duplicates, total.queued), (2, 0, 2));
}

pub(crate) async fn a_request_goes_with_the_last_event_that_came_in_it(bench: Bench) {
    let batch = bench.batch(&["evt_1", "evt_2", "evt_3"]);
    admit_all(&bench, &batch).await;
    for leased in bench.take(LONG).await {
        bench.settle(&leased, Verdict::Done).await;
    }
    bench.pass(SHORT).await;
    let now = bench.now();
    for left in (0..batch.len()).rev() {
        let prune = Prune { done_before: now, dead_before: now, held_before: now, now, lot: 1 };
        assert_eq!(bench.store.prune(&prune).await, Ok(1));
        let rows = bench.events().await;
        assert_eq!(rows.len(), left);
        for row in rows {
            let new = batch.iter().find(|new| new.id == row.id).expect("it is one of them");
            came_whole(&bench, new).await;
        }
    }
    // It is gone, and what comes again under its id brings it again.
    let mut again = bench.batch(&["evt_4"]);
    again[0].request.clone_from(&batch[0].request);
    admit_all(&bench, &again).await;
    came_whole(&bench, &again[0]).await;
}

pub(crate) async fn more_events_than_one_call_carries_share_their_request(bench: Bench) {
    let identities: Vec<String> =
        (0..2 * limits::BATCH_ITEMS_MAX).map(|number| format!("evt_{number}")).collect();
    let batch = bench.batch(&identities.iter().map(String::as_str).collect::<Vec<_>>());
    let admissions = admit_all(&bench, &batch).await;
    assert!(admissions.iter().all(|admission| *admission == Admission::Fresh));
    for new in [batch.first(), batch.last()].into_iter().flatten() {
        came_whole(&bench, new).await;
    }
}
