//! Erasing what the sender of one event has written.

use std::sync::Arc;

use hookonce::{
    delivery::{State, Verdict},
    event::{EventId, EventState, NewEvent},
    receipt::Admission,
    store::{Granted, Hold, StoreError, Which, Wish},
};
use uuid::Uuid;

use super::bench::{Bench, LONG, SHORT};

/// What no store may show any more.
const SECRET: &str = "swordfish";

/// An event for `billing` that has the secret wherever its sender can put one.
fn telling(bench: &Bench, identity: &str) -> NewEvent {
    let mut event = bench.routed(identity);
    event.named.body = format!("{{\"said\":\"{SECRET}\"}}").into();
    event.headers = Arc::new([("x-said", SECRET)].into_iter().collect());
    event.query = format!("said={SECRET}");
    event.retry_marker = Some(format!("x-retry: {SECRET}"));
    event
}

fn erase(event: EventId) -> Wish {
    Wish::Erase { event }
}

/// Nothing of what came is shown, and the event is still there.
async fn is_blank(bench: &Bench, event: &NewEvent) {
    let record = bench.record(event.id).await;
    assert!(record.row.erased_at.is_some());
    assert_eq!(record.row.body_bytes, 0);
    assert_eq!(record.row.event_id, event.named.event_id);
    assert_eq!(record.event.body, "");
    assert_eq!(record.event.headers.iter().count(), 0);
    assert_eq!(record.request, None);
    let mut shown = format!("{record:?}");
    for delivery in &record.deliveries {
        shown += &format!("{:?}", bench.store.attempts(delivery.id).await);
    }
    assert!(!shown.contains(SECRET), "{shown}");
    let listed = bench.events().await;
    let row = listed.iter().find(|row| row.id == event.id).expect("it is listed");
    assert_eq!(row.erased_at, record.row.erased_at);
}

pub(crate) async fn an_erased_event_is_blank_and_stays_known(bench: Bench) {
    let event = telling(&bench, "evt_1");
    bench.admit(&event).await;
    let mut copy = telling(&bench, "evt_1");
    bench.admit(&copy).await;
    let leased = bench.take_one(LONG).await;
    let mut settlement = bench.settlement(&leased, Verdict::RetryAt(bench.now().plus(SHORT)));
    settlement.attempt.error = Some(format!("it said {SECRET}"));
    settlement.attempt.excerpt = Some(SECRET.to_owned());
    bench.store.settle(vec![settlement]).await.remove(0).expect("it settles");

    let delivery = leased.lease.delivery;
    assert_eq!(bench.wish(&erase(event.id)).await, Granted::Deliveries(vec![delivery]));
    is_blank(&bench, &event).await;
    let record = bench.record(event.id).await;
    assert_eq!((record.row.state, record.row.duplicates), (EventState::Dead, 1));
    let killed = &record.deliveries[0];
    assert_eq!((killed.state, killed.last_error.as_deref()), (State::Dead, Some("erased")));
    assert_eq!(bench.store.attempts(delivery).await.expect("it answers").len(), 1);
    let total = bench.total().await;
    assert_eq!((total.queued, total.dead, total.dead_now), (0, 1, 1));

    copy.id = bench.event("evt_1").id;
    let answers = bench.store.admit(vec![copy], bench.in_time()).await;
    assert_eq!(answers, [Ok((event.id, Admission::Duplicate))]);
    bench.pass(SHORT).await;
    assert!(bench.take(LONG).await.is_empty());
}

pub(crate) async fn an_event_erased_again_gets_the_same_answer(bench: Bench) {
    let event = telling(&bench, "evt_1");
    bench.admit(&event).await;
    let first = bench.wish(&erase(event.id)).await;
    let erased_at = bench.record(event.id).await.row.erased_at;
    bench.pass(SHORT).await;
    assert_eq!(bench.wish(&erase(event.id)).await, first);
    assert_eq!(bench.record(event.id).await.row.erased_at, erased_at);
    assert_eq!(bench.total().await.dead, 1);
}

pub(crate) async fn an_event_whose_handler_runs_is_not_erased(bench: Bench) {
    let event = telling(&bench, "evt_1");
    bench.admit(&event).await;
    let leased = bench.take_one(LONG).await;
    assert_eq!(bench.wish(&erase(event.id)).await, Granted::Running);
    let record = bench.record(event.id).await;
    assert_eq!((record.row.erased_at, &record.event.body), (None, &event.named.body));
    bench.settle(&leased, Verdict::Done).await;
    assert_eq!(bench.wish(&erase(event.id)).await, Granted::Deliveries(vec![]));
    is_blank(&bench, &event).await;
    assert_eq!(bench.record(event.id).await.row.state, EventState::Done);
}

pub(crate) async fn a_lease_that_ran_out_does_not_keep_an_event_from_being_erased(bench: Bench) {
    let event = telling(&bench, "evt_1");
    bench.admit(&event).await;
    let leased = bench.take_one(SHORT).await;
    bench.pass(SHORT).await;
    let killed = vec![leased.lease.delivery];
    assert_eq!(bench.wish(&erase(event.id)).await, Granted::Deliveries(killed));
    let mut late = bench.settlement(&leased, Verdict::Done);
    late.attempt.excerpt = Some(SECRET.to_owned());
    assert_eq!(bench.store.settle(vec![late]).await, [Ok(Hold::Lost)]);
    is_blank(&bench, &event).await;
    assert!(bench.take(LONG).await.is_empty());
    let total = bench.total().await;
    assert_eq!((total.leased, total.dead_now), (0, 1));
}

pub(crate) async fn an_erased_event_is_not_delivered_again(bench: Bench) {
    let (event, other) = (telling(&bench, "evt_1"), telling(&bench, "evt_2"));
    bench.admit(&event).await;
    bench.admit(&other).await;
    bench.wish(&erase(event.id)).await;
    let replay = Wish::Replay { event: event.id, deliveries: vec![bench.delivery("billing")] };
    assert_eq!(bench.wish(&replay).await, Granted::Erased);
    let redrive = |which| Wish::Redrive { id: Uuid::from_u128(bench.number()), which };
    let ids = vec![event.deliveries[0].id];
    assert_eq!(bench.wish(&redrive(Which::Ids(ids))).await, Granted::Erased);

    let leased = bench.take_one(LONG).await;
    bench.settle(&leased, Verdict::Dead).await;
    let all = redrive(Which::Handler("billing".into()));
    let redriven = Granted::Deliveries(vec![other.deliveries[0].id]);
    assert_eq!(bench.wish(&all).await, redriven);
    bench.pass(SHORT).await;
    assert_eq!(bench.take_one(LONG).await.event.id, other.id);
}

pub(crate) async fn a_held_event_that_is_erased_stays_held_and_goes_nowhere(bench: Bench) {
    bench.admit(&bench.guarded("evt_1", "content")).await;
    let mut held = bench.guarded("evt_2", "content");
    held.query = SECRET.to_owned();
    bench.admit(&held).await;
    assert_eq!(bench.wish(&erase(held.id)).await, Granted::Deliveries(vec![]));
    is_blank(&bench, &held).await;
    let admit = Wish::AdmitHeld { event: held.id, deliveries: vec![bench.delivery("billing")] };
    assert_eq!(bench.wish(&admit).await, Granted::Erased);
    assert_eq!(bench.record(held.id).await.row.state, EventState::Held);
}

pub(crate) async fn the_body_of_a_batch_goes_with_any_of_its_events(bench: Bench) {
    let batch = bench.batch(&["evt_1", "evt_2"]);
    bench.store.admit(batch.clone(), bench.in_time()).await;
    bench.wish(&erase(batch[0].id)).await;
    is_blank(&bench, &batch[0]).await;
    let other = bench.record(batch[1].id).await;
    assert_eq!(other.request, None, "the bytes of the first are in there");
    assert_eq!(other.event.body, batch[1].named.body);
    assert_eq!(other.event.headers, *batch[1].headers);
    assert_eq!(bench.take(LONG).await.len(), 1);
}

pub(crate) async fn what_is_unknown_or_late_is_not_erased(bench: Bench) {
    assert_eq!(bench.wish(&erase(EventId::from_bytes([7; 16]))).await, Granted::NotFound);
    let event = telling(&bench, "evt_1");
    bench.admit(&event).await;
    let late = bench.store.wish(&erase(event.id), bench.too_late()).await;
    assert_eq!(late, Err(StoreError::Late));
    assert_eq!(bench.record(event.id).await.row.erased_at, None);
}
