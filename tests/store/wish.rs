//! What a person may ask for.

use std::time::Duration;

use hookonce::{
    delivery::{Claim, DeliveryId, State, Verdict},
    event::{EventId, EventState},
    receipt::Admission,
    store::{Granted, Hold, StoreError, Which, Wish},
};
use uuid::Uuid;

use super::bench::{Bench, LONG, SHORT};

/// A dead delivery of handler `billing`.
async fn dead(bench: &Bench, identity: &str) -> DeliveryId {
    let delivery = bench.queue(identity).await;
    let leased = bench.take_one(LONG).await;
    bench.settle(&leased, Verdict::Dead).await;
    delivery
}

fn redrive(bench: &Bench, which: Which) -> Wish {
    Wish::Redrive { id: Uuid::from_u128(bench.number()), which }
}

pub(crate) async fn a_replay_makes_a_new_delivery_marked_as_one(bench: Bench) {
    let first = bench.queue("evt_1").await;
    let done = bench.take_one(LONG).await;
    bench.settle(&done, Verdict::Done).await;
    let (again, elsewhere) = (bench.delivery("billing"), bench.delivery("audit"));
    let (id, other) = (again.id, elsewhere.id);
    let event = done.event.id;
    let wish = Wish::Replay { event, deliveries: vec![again, elsewhere] };
    assert_eq!(bench.wish(&wish).await, Granted::Deliveries(vec![id, other]));
    assert_eq!(bench.record(event).await.row.state, EventState::Open);

    bench.pass(Duration::ZERO).await;
    let replayed = bench.take_one(LONG).await;
    assert_eq!((replayed.lease.delivery, replayed.replay_of), (id, Some(first)));
    assert_eq!(replayed.attempt, 1);
    let new_here = bench.claim(&bench.claim_for("audit", LONG)).await.deliveries.remove(0);
    assert_eq!((new_here.lease.delivery, new_here.replay_of), (other, None));

    bench.settle(&replayed, Verdict::Done).await;
    let third = bench.delivery("billing");
    let wish = Wish::Replay { event, deliveries: vec![third.clone()] };
    bench.wish(&wish).await;
    let record = bench.record(event).await;
    let last = record.deliveries.iter().find(|kept| kept.id == third.id).expect("it is there");
    assert_eq!(last.replay_of, Some(first), "of the first one, not of the replay before");
}

pub(crate) async fn a_replay_sent_again_makes_nothing_new(bench: Bench) {
    bench.queue("evt_1").await;
    let done = bench.take_one(LONG).await;
    bench.settle(&done, Verdict::Done).await;
    let wish = Wish::Replay { event: done.event.id, deliveries: vec![bench.delivery("billing")] };
    let first = bench.wish(&wish).await;
    bench.pass(Duration::ZERO).await;
    let replayed = bench.take_one(LONG).await;
    bench.settle(&replayed, Verdict::Done).await;
    assert_eq!(bench.wish(&wish).await, first);
    assert!(bench.take(LONG).await.is_empty());
    assert_eq!(bench.record(done.event.id).await.deliveries.len(), 2);
    assert_eq!(bench.total().await.done, 2);
}

pub(crate) async fn an_unrouted_event_can_be_replayed(bench: Bench) {
    let event = bench.event("evt_1");
    bench.admit(&event).await;
    bench
        .wish(&Wish::Replay { event: event.id, deliveries: vec![bench.delivery("billing")] })
        .await;
    bench.pass(Duration::ZERO).await;
    assert_eq!(bench.take_one(LONG).await.event.id, event.id);
}

pub(crate) async fn what_is_held_or_unknown_is_not_replayed(bench: Bench) {
    bench.admit(&bench.guarded("evt_1", "content")).await;
    let held = bench.guarded("evt_2", "content");
    bench.admit(&held).await;
    for event in [held.id, EventId::from_bytes([7; 16])] {
        let wish = Wish::Replay { event, deliveries: vec![bench.delivery("billing")] };
        assert_eq!(bench.wish(&wish).await, Granted::NotFound);
    }
    assert_eq!(bench.total().await.queued, 1);
}

pub(crate) async fn a_redrive_gives_a_fresh_budget_and_numbers_go_on(bench: Bench) {
    let delivery = dead(&bench, "evt_1").await;
    let wish = redrive(&bench, Which::Ids(vec![delivery]));
    assert_eq!(bench.wish(&wish).await, Granted::Deliveries(vec![delivery]));
    let total = bench.total().await;
    assert_eq!((total.dead, total.dead_now, total.queued), (1, 0, 1));
    bench.pass(Duration::ZERO).await;
    let mut claim = bench.claim_for("billing", LONG);
    claim.attempts_max = 1;
    let leased = bench.claim(&claim).await.deliveries.remove(0);
    assert_eq!(leased.lease.delivery, delivery, "a delivery keeps its id");
    assert_eq!((leased.attempt, leased.attempts_before_redrive), (2, 1));
    bench.settle(&leased, Verdict::Dead).await;
    let total = bench.total().await;
    assert_eq!((total.dead, total.dead_now), (2, 1));
}

pub(crate) async fn a_redrive_sent_again_does_not_renew_the_budget_twice(bench: Bench) {
    let delivery = dead(&bench, "evt_1").await;
    let wish = redrive(&bench, Which::Handler("billing".into()));
    bench.wish(&wish).await;
    assert_eq!(bench.wish(&wish).await, Granted::Deliveries(vec![delivery]));
    bench.pass(Duration::ZERO).await;
    let leased = bench.take_one(LONG).await;
    bench.settle(&leased, Verdict::Dead).await;
    assert_eq!(bench.wish(&wish).await, Granted::Deliveries(vec![delivery]));
    assert!(bench.take(LONG).await.is_empty(), "the same wish does not redrive it again");

    bench.wish(&redrive(&bench, Which::Ids(vec![delivery]))).await;
    bench.pass(Duration::ZERO).await;
    assert_eq!(bench.take_one(LONG).await.attempt, 3);
}

pub(crate) async fn a_redrive_sent_again_means_also_what_was_moved_since(bench: Bench) {
    let delivery = bench.queue("evt_1").await;
    let leased = bench.take_one(LONG).await;
    bench.settle(&leased, Verdict::Dead).await;
    let id = Uuid::from_u128(bench.number());
    let redrive = Wish::Redrive { id, which: Which::Handler("billing".into()) };
    let granted = Granted::Deliveries(vec![delivery]);
    assert_eq!(bench.wish(&redrive).await, granted);
    let which = Which::Ids(vec![delivery]);
    bench.wish(&Wish::Move { which, to: "audit".into() }).await;
    assert_eq!(bench.wish(&redrive).await, granted);
}

pub(crate) async fn a_redrive_forgets_the_deaths_before_it(bench: Bench) {
    let delivery = bench.queue("evt_1").await;
    bench.take_one(Duration::ZERO).await;
    bench.pass(Duration::ZERO).await;
    let spent = Claim { attempts_max: 1, ..bench.claim_for("billing", LONG) };
    assert_eq!(bench.claim(&spent).await.dead, 1);
    bench.wish(&redrive(&bench, Which::Ids(vec![delivery]))).await;
    bench.pass(Duration::ZERO).await;
    let leased = bench.take_one(LONG).await;
    assert_eq!((leased.attempt, leased.deaths_in_a_row), (2, 0));
}

pub(crate) async fn a_redrive_of_a_handler_takes_its_dead_ones_only(bench: Bench) {
    let dead_one = dead(&bench, "evt_1").await;
    bench.admit(&bench.routed_to("evt_2", &["audit"])).await;
    let other = bench.claim(&bench.claim_for("audit", LONG)).await.deliveries.remove(0);
    bench.settle(&other, Verdict::Dead).await;
    let queued = bench.queue("evt_3").await;
    let wish = redrive(&bench, Which::Handler("billing".into()));
    assert_eq!(bench.wish(&wish).await, Granted::Deliveries(vec![dead_one]));
    let wish = redrive(&bench, Which::Ids(vec![queued, DeliveryId::from_bytes([7; 16])]));
    assert_eq!(bench.wish(&wish).await, Granted::Deliveries(vec![]));
    assert_eq!(bench.total().await.dead_now, 1);
}

pub(crate) async fn a_move_takes_what_is_queued_and_dead_and_leaves_the_rest(bench: Bench) {
    let dead_one = dead(&bench, "evt_1").await;
    bench.queue("evt_2").await;
    let leased = bench.take_one(LONG).await;
    let queued = bench.queue("evt_3").await;
    let wish = Wish::Move { which: Which::Handler("billing".into()), to: "audit".into() };
    assert_eq!(bench.wish(&wish).await, Granted::Deliveries(vec![dead_one, queued]));
    assert_eq!(bench.settle(&leased, Verdict::Done).await, Hold::Kept);
    let moved = bench.claim(&bench.claim_for("audit", LONG)).await.deliveries;
    assert_eq!(moved.len(), 1, "a dead one stays dead");
    assert_eq!(moved[0].lease.delivery, queued);
    let stats = bench.store.stats().await.expect("the store counts");
    let (billing, audit) = (stats.handlers["billing"], stats.handlers["audit"]);
    assert_eq!((billing.queued, billing.leased, billing.dead_now, billing.done), (0, 0, 0, 1));
    assert_eq!((audit.queued, audit.leased, audit.dead_now), (0, 1, 1));
}

pub(crate) async fn a_kill_leaves_what_is_leased(bench: Bench) {
    bench.queue("evt_1").await;
    let leased = bench.take_one(LONG).await;
    let queued = bench.queue("evt_2").await;
    let wish = Wish::Kill { which: Which::Ids(vec![leased.lease.delivery, queued]) };
    assert_eq!(bench.wish(&wish).await, Granted::Deliveries(vec![queued]));
    assert!(bench.take(LONG).await.is_empty());
    assert_eq!(bench.settle(&leased, Verdict::Done).await, Hold::Kept);
    let total = bench.total().await;
    assert_eq!((total.done, total.dead, total.dead_now, total.queued), (1, 1, 1, 0));
    let states: Vec<_> = bench.events().await.iter().map(|row| row.state).collect();
    assert_eq!(states, [EventState::Dead, EventState::Done]);
}

pub(crate) async fn a_held_event_is_admitted_once(bench: Bench) {
    bench.admit(&bench.guarded("evt_1", "content")).await;
    bench.take_one(LONG).await;
    let held = bench.guarded("evt_2", "content");
    bench.admit(&held).await;
    let wish = Wish::AdmitHeld { event: held.id, deliveries: vec![bench.delivery("billing")] };
    let first = bench.wish(&wish).await;
    assert!(matches!(&first, Granted::Deliveries(ids) if ids.len() == 1));
    assert_eq!(bench.wish(&wish).await, first);
    let other = Wish::AdmitHeld { event: held.id, deliveries: vec![bench.delivery("billing")] };
    assert_eq!(bench.wish(&other).await, Granted::NotFound, "it is not held any more");
    bench.pass(Duration::ZERO).await;
    assert_eq!(bench.take_one(LONG).await.event.id, held.id);
    let total = bench.total().await;
    assert_eq!((total.held, total.held_now, total.unrouted), (1, 0, 0));
    let delivery = bench.record(held.id).await.deliveries.remove(0);
    assert_eq!((delivery.state, delivery.replay_of), (State::Leased, None));
}

pub(crate) async fn a_late_wish_does_nothing(bench: Bench) {
    bench.queue("evt_1").await;
    let wish = Wish::Kill { which: Which::Handler("billing".into()) };
    let late = bench.store.wish(&wish, bench.too_late()).await;
    assert_eq!(late, Err(StoreError::Late));
    assert_eq!(bench.take(SHORT).await.len(), 1);
    let next = bench.event("evt_2");
    assert_eq!(bench.admit(&next).await, (next.id, Admission::Fresh));
}
