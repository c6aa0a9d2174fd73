//! Pruning: what ended goes, what is open stays, and a mark outlives its event.

use std::time::Duration;

use hookonce::{
    delivery::Verdict,
    event::EventState,
    receipt::Admission,
    store::{Prune, Which, Wish},
};

use super::bench::{Bench, LONG, SHORT};

/// An open, a done, a dead, an unrouted and a held event, all a little while ago.
async fn one_of_each(bench: &Bench) {
    bench.admit(&bench.event("unrouted")).await;
    bench.queue("dead").await;
    let leased = bench.take_one(LONG).await;
    bench.settle(&leased, Verdict::Dead).await;
    bench.admit(&bench.guarded("done", "content")).await;
    let leased = bench.take_one(LONG).await;
    bench.settle(&leased, Verdict::Done).await;
    bench.admit(&bench.guarded("held", "content")).await;
    bench.queue("open").await;
    bench.pass(SHORT).await;
}

fn nothing(bench: &Bench) -> Prune {
    let never = bench.too_late();
    Prune { done_before: never, dead_before: never, held_before: never, now: never, lot: 100 }
}

async fn left(bench: &Bench) -> Vec<String> {
    bench.events().await.into_iter().rev().filter_map(|row| row.event_id).collect()
}

pub(crate) async fn finished_events_go_by_state_and_age(bench: Bench) {
    one_of_each(&bench).await;
    let prune = async |prune: Prune| bench.store.prune(&prune).await.expect("the store prunes");
    assert_eq!(prune(nothing(&bench)).await, 0);
    assert_eq!(left(&bench).await, ["unrouted", "dead", "done", "held", "open"]);
    assert_eq!(prune(Prune { done_before: bench.now(), ..nothing(&bench) }).await, 1);
    assert_eq!(left(&bench).await, ["unrouted", "dead", "held", "open"]);
    assert_eq!(prune(Prune { held_before: bench.now(), ..nothing(&bench) }).await, 1);
    assert_eq!(left(&bench).await, ["unrouted", "dead", "open"]);
    assert_eq!(prune(Prune { dead_before: bench.now(), ..nothing(&bench) }).await, 2);
    assert_eq!(left(&bench).await, ["open"]);
    let total = bench.total().await;
    assert_eq!((total.events, total.done, total.dead, total.held), (5, 1, 1, 1), "counters stay");
    assert_eq!((total.dead_now, total.held_now, total.queued), (0, 0, 1), "gauges go");
}

pub(crate) async fn what_is_open_never_goes(bench: Bench) {
    bench.admit(&bench.routed_to("evt_1", &["billing", "audit"])).await;
    let leased = bench.take_one(LONG).await;
    bench.settle(&leased, Verdict::Done).await;
    bench.pass(SHORT).await;
    bench.prune().await;
    assert_eq!(left(&bench).await, ["evt_1"]);
    assert_eq!(bench.claim(&bench.claim_for("audit", LONG)).await.deliveries.len(), 1);
}

pub(crate) async fn a_mark_outlives_its_event_until_its_window_is_over(bench: Bench) {
    let mut short = bench.event("short");
    short.window = SHORT * 10;
    bench.admit(&short).await;
    let long = bench.event("long");
    bench.admit(&long).await;
    bench.pass(SHORT).await;
    bench.prune().await;
    assert!(left(&bench).await.is_empty());
    assert_eq!(bench.admit(&bench.event("short")).await, (short.id, Admission::Duplicate));
    assert_eq!(bench.admit(&bench.event("long")).await, (long.id, Admission::Duplicate));
    assert_eq!(bench.total().await.duplicates, 2);

    bench.pass(SHORT * 10).await;
    bench.prune().await;
    assert_eq!(bench.admit(&bench.event("long")).await, (long.id, Admission::Duplicate));
    let anew = bench.event("short");
    assert_eq!(bench.admit(&anew).await, (anew.id, Admission::Fresh));
}

pub(crate) async fn a_mark_outlives_its_window_while_its_event_is_there(bench: Bench) {
    let mut event = bench.routed("evt_1");
    event.window = Duration::ZERO;
    bench.admit(&event).await;
    bench.pass(SHORT).await;
    bench.prune().await;
    assert_eq!(bench.admit(&bench.routed("evt_1")).await, (event.id, Admission::Duplicate));
}

pub(crate) async fn known_content_is_forgotten_with_its_mark(bench: Bench) {
    let mut event = bench.guarded("evt_1", "content");
    event.window = SHORT * 10;
    event.deliveries.clear();
    bench.admit(&event).await;
    bench.pass(SHORT).await;
    bench.prune().await;
    let copy = bench.guarded("evt_2", "content");
    assert_eq!(bench.admit(&copy).await.1, Admission::Held);
    bench.pass(SHORT * 10).await;
    bench.prune().await;
    let later = bench.guarded("evt_3", "content");
    assert_eq!(bench.admit(&later).await.1, Admission::Fresh);
}

pub(crate) async fn a_lot_is_not_exceeded(bench: Bench) {
    for number in 0..10 {
        bench.admit(&bench.event(&format!("evt_{number}"))).await;
    }
    bench.pass(SHORT).await;
    let prune = Prune { dead_before: bench.now(), lot: 4, ..nothing(&bench) };
    let mut went = Vec::new();
    for _ in 0..4 {
        went.push(bench.store.prune(&prune).await.expect("the store prunes"));
    }
    assert_eq!(went, [4, 4, 2, 0]);
}

pub(crate) async fn a_redriven_event_is_open_again_and_stays(bench: Bench) {
    let delivery = bench.queue("evt_1").await;
    let leased = bench.take_one(LONG).await;
    bench.settle(&leased, Verdict::Dead).await;
    let id = uuid::Uuid::from_u128(bench.number());
    bench.wish(&Wish::Redrive { id, which: Which::Ids(vec![delivery]) }).await;
    bench.pass(SHORT).await;
    bench.prune().await;
    assert_eq!(bench.record(leased.event.id).await.row.state, EventState::Open);
}
