//! Order: of the deliveries of a handler that have one key only the first in line is ever due.

use std::time::Duration;

use hookonce::{
    clock::Timestamp,
    delivery::{Delivery, DeliveryId, Leased, State, Verdict},
    event::NewEvent,
    order::{OnDead, Order, OrderKey},
    store::{Claimed, Granted, Hold, Which, Wish},
};
use uuid::Uuid;

use super::bench::{Bench, LONG, SHORT};

/// A key by its number.
pub(crate) fn order(key: u8, on_dead: OnDead) -> Order {
    Order { key: OrderKey::from_bytes([key; 16]), on_dead }
}

impl Bench {
    /// A new event for `billing` in the line of this number.
    fn in_line(&self, identity: &str, key: u8, on_dead: OnDead) -> NewEvent {
        let mut event = self.routed(identity);
        event.deliveries[0].order = Some(order(key, on_dead));
        event
    }

    /// Admits events for `billing` in one line, and gives their deliveries.
    async fn line(&self, key: u8, on_dead: OnDead, count: usize) -> Vec<DeliveryId> {
        let mut ids = Vec::new();
        for number in 0..count {
            let event = self.in_line(&format!("evt_{key}_{number}"), key, on_dead);
            self.admit(&event).await;
            ids.push(event.deliveries[0].id);
        }
        ids
    }

    async fn delivery_row(&self, id: DeliveryId) -> Delivery {
        let filter = hookonce::store::DeliveryFilter {
            limit: 1000,
            ..hookonce::store::DeliveryFilter::default()
        };
        let rows = self.store.deliveries(&filter).await.expect("the store reads");
        rows.into_iter().find(|row| row.id == id).expect("it is there")
    }

    /// Whatever is due for a handler, in the order in which it is once it is settled as done.
    async fn run_all(&self, handler: &str) -> Vec<DeliveryId> {
        let mut ran = Vec::new();
        loop {
            self.pass(SHORT).await;
            let Claimed { deliveries, .. } = self.claim(&self.claim_for(handler, LONG)).await;
            if deliveries.is_empty() {
                return ran;
            }
            for leased in deliveries {
                ran.push(leased.lease.delivery);
                assert_eq!(self.settle(&leased, Verdict::Done).await, Hold::Kept);
            }
        }
    }

    /// Takes the one that is due, which must be this one.
    async fn take_just(&self, wanted: DeliveryId) -> Leased {
        let leased = self.take_one(LONG).await;
        assert_eq!(leased.lease.delivery, wanted);
        leased
    }

    async fn redrive(&self, ids: Vec<DeliveryId>) {
        let wish = Wish::Redrive { id: Uuid::from_u128(self.number()), which: Which::Ids(ids) };
        self.wish(&wish).await;
    }

    async fn unblock(&self, id: DeliveryId) -> Granted {
        self.wish(&Wish::Unblock { which: Which::Ids(vec![id]) }).await
    }
}

pub(crate) async fn one_line_runs_one_after_another_and_lines_side_by_side(bench: Bench) {
    let one = bench.line(1, OnDead::Block, 3).await;
    let other = bench.line(2, OnDead::Block, 2).await;
    let free = bench.queue("free").await;
    for (taken, wanted) in
        [vec![one[0], other[0], free], vec![one[1], other[1]], vec![one[2]]].into_iter().enumerate()
    {
        let mut leased = bench.take(LONG).await;
        leased.sort_unstable_by_key(|leased| leased.lease.delivery);
        let ids: Vec<_> = leased.iter().map(|leased| leased.lease.delivery).collect();
        assert_eq!(ids, wanted, "in turn {taken}");
        assert!(bench.take(LONG).await.is_empty(), "the others wait for these");
        for leased in &leased {
            bench.settle(leased, Verdict::Done).await;
        }
    }
    let total = bench.total().await;
    assert_eq!((total.queued, total.done), (0, 6));
}

pub(crate) async fn one_call_may_admit_several_of_a_line(bench: Bench) {
    let events: Vec<_> =
        (0..5).map(|at| bench.in_line(&format!("evt_{at}"), 1, OnDead::Block)).collect();
    let wanted: Vec<_> = events.iter().map(|event| event.deliveries[0].id).collect();
    for answer in bench.store.admit(events, bench.in_time()).await {
        answer.expect("the store admits");
    }
    assert_eq!(bench.run_all("billing").await, wanted);
}

pub(crate) async fn handlers_and_the_unordered_have_no_part_in_a_line(bench: Bench) {
    bench.line(1, OnDead::Block, 1).await;
    bench.take_one(LONG).await;
    let mut event = bench.routed_to("evt", &["audit", "billing"]);
    event.deliveries[0].order = Some(order(1, OnDead::Block));
    bench.admit(&event).await;
    assert_eq!(bench.claim(&bench.claim_for("audit", LONG)).await.deliveries.len(), 1);
    bench.take_just(event.deliveries[1].id).await;
}

pub(crate) async fn who_awaits_its_turn_is_shown_and_never_due(bench: Bench) {
    let line = bench.line(1, OnDead::Block, 2).await;
    let waiting = bench.delivery_row(line[1]).await;
    assert_eq!((waiting.state, waiting.due_at), (State::Queued, Timestamp::NEVER));
    assert!(waiting.awaits_its_turn() && waiting.in_line && !waiting.blocks());
    assert_eq!(waiting.order_key, Some(order(1, OnDead::Block).key));
    let leased = bench.take_just(line[0]).await;
    bench.settle(&leased, Verdict::Dead).await;
    let claimed = bench.claim(&bench.claim_for("billing", LONG)).await;
    assert_eq!((claimed.deliveries.len(), claimed.next_due_at), (0, None));
    assert_eq!(bench.store.waiting_since("billing").await, Ok(None));
    assert!(bench.delivery_row(line[0]).await.blocks());
    let free = bench.queue("free").await;
    let row = bench.delivery_row(free).await;
    assert_eq!((row.order_key, row.in_line), (None, false));
}

pub(crate) async fn a_retry_a_release_and_a_death_keep_the_others_waiting(bench: Bench) {
    let line = bench.line(1, OnDead::Skip, 2).await;
    let leased = bench.take_just(line[0]).await;
    let soon = Duration::from_secs(1); // and not while a slow machine still asks
    bench.settle(&leased, Verdict::RetryAt(bench.now().plus(soon))).await;
    assert!(bench.take(LONG).await.is_empty(), "it is tried again before the next one");
    bench.pass(soon).await;
    let leased = bench.take_just(line[0]).await;
    bench.store.release(&hookonce::store::Release::Leases(vec![leased.lease])).await.expect("ok");
    bench.pass(SHORT).await;
    assert_eq!(bench.take_one(SHORT).await.lease.delivery, line[0]);
    bench.pass(SHORT).await;
    let leased = bench.take_just(line[0]).await;
    assert_eq!(leased.deaths_in_a_row, 1);
    bench.settle(&leased, Verdict::Done).await;
    bench.pass(SHORT).await;
    bench.take_just(line[1]).await;
}

pub(crate) async fn a_dead_one_blocks_and_keeps_its_place_when_it_is_redriven(bench: Bench) {
    let line = bench.line(1, OnDead::Block, 3).await;
    let leased = bench.take_just(line[0]).await;
    bench.settle(&leased, Verdict::Dead).await;
    bench.pass(SHORT).await;
    assert!(bench.take(LONG).await.is_empty());
    bench.redrive(vec![line[0]]).await;
    assert_eq!(bench.run_all("billing").await, line);
}

pub(crate) async fn an_unblocked_one_lets_the_rest_go_on_and_goes_last(bench: Bench) {
    let line = bench.line(1, OnDead::Block, 3).await;
    let leased = bench.take_just(line[0]).await;
    bench.settle(&leased, Verdict::Dead).await;
    assert_eq!(bench.unblock(line[0]).await, Granted::Deliveries(vec![line[0]]));
    assert_eq!(bench.unblock(line[0]).await, Granted::Deliveries(vec![line[0]]), "sent again");
    assert_eq!(bench.unblock(line[1]).await, Granted::Deliveries(vec![]), "it is not dead");
    assert!(!bench.delivery_row(line[0]).await.in_line);
    bench.redrive(vec![line[0]]).await;
    assert_eq!(bench.run_all("billing").await, [line[1], line[2], line[0]]);
}

pub(crate) async fn a_redriven_one_blocks_again_when_it_dies_again(bench: Bench) {
    let line = bench.line(1, OnDead::Block, 1).await;
    for _ in 0..2 {
        let leased = bench.take_just(line[0]).await;
        bench.settle(&leased, Verdict::Dead).await;
        assert!(bench.delivery_row(line[0]).await.blocks());
        bench.unblock(line[0]).await;
        assert!(!bench.delivery_row(line[0]).await.blocks());
        bench.redrive(vec![line[0]]).await;
        bench.pass(SHORT).await;
    }
}

pub(crate) async fn all_of_a_handler_are_unblocked_at_once(bench: Bench) {
    let mut wanted = Vec::new();
    for key in 1..=3 {
        let line = bench.line(key, OnDead::Block, 2).await;
        wanted.push(line[1]);
    }
    for leased in bench.take(LONG).await {
        bench.settle(&leased, Verdict::Dead).await;
    }
    let wish = Wish::Unblock { which: Which::Handler("billing".into()) };
    let Granted::Deliveries(unblocked) = bench.wish(&wish).await else { panic!("they are there") };
    assert_eq!(unblocked.len(), 3);
    let rest = bench.wish(&wish).await;
    assert_eq!(
        rest,
        Granted::Deliveries(vec![]),
        "called for the rest, it does not give those again"
    );
    let mut ran = bench.run_all("billing").await;
    ran.sort_unstable();
    assert_eq!(ran, wanted);
}

pub(crate) async fn a_dead_one_is_skipped_where_its_handler_says_so_and_goes_last(bench: Bench) {
    let line = bench.line(1, OnDead::Skip, 3).await;
    let leased = bench.take_just(line[0]).await;
    bench.settle(&leased, Verdict::Dead).await;
    let leased = bench.take_just(line[1]).await;
    bench.redrive(vec![line[0]]).await;
    bench.settle(&leased, Verdict::Done).await;
    assert_eq!(bench.run_all("billing").await, [line[2], line[0]]);
}

pub(crate) async fn a_move_of_many_keeps_them_as_they_stand(bench: Bench) {
    let first = bench.line(1, OnDead::Skip, 1).await[0];
    let leased = bench.take_just(first).await;
    let between = (0..600).map(|number| bench.routed(&format!("between_{number}"))).collect();
    for answer in bench.store.admit(between, bench.in_time()).await {
        answer.expect("the store admits");
    }
    let behind = bench.in_line("behind", 1, OnDead::Skip);
    bench.admit(&behind).await;
    let second = behind.deliveries[0].id;
    bench.settle(&leased, Verdict::Dead).await;
    bench.redrive(vec![first]).await;

    let which = Which::Handler("billing".into());
    let moved = bench.wish(&Wish::Move { which, to: "other".into() }).await;
    let Granted::Deliveries(moved) = moved else { panic!("they are there") };
    assert_eq!(moved.len(), 602);
    let mut taken = Vec::new();
    loop {
        let claimed = bench.claim(&bench.claim_for("other", LONG)).await.deliveries;
        if claimed.is_empty() {
            break;
        }
        taken.extend(claimed.iter().map(|leased| leased.lease.delivery));
    }
    assert_eq!(taken.len(), 601);
    assert!(
        taken.contains(&second) && !taken.contains(&first),
        "it went behind when it was redriven"
    );
}

pub(crate) async fn a_spent_budget_lets_the_next_one_go_on_where_it_is_skipped(bench: Bench) {
    let line = bench.line(1, OnDead::Skip, 2).await;
    let mut claim = bench.claim_for("billing", SHORT);
    claim.attempts_max = 1;
    assert_eq!(bench.claim(&claim).await.deliveries.len(), 1);
    bench.pass(SHORT).await;
    claim.id = Uuid::from_u128(bench.number());
    let claimed = bench.claim(&claim).await;
    assert_eq!((claimed.deliveries.len(), claimed.dead), (0, 1));
    bench.pass(SHORT).await;
    bench.take_just(line[1]).await;
}

pub(crate) async fn replays_and_held_ones_go_last(bench: Bench) {
    let first = bench.in_line("evt_1", 1, OnDead::Block);
    bench.admit(&first).await;
    let second = bench.line(1, OnDead::Block, 1).await;
    let mut replay = bench.delivery("billing");
    replay.order = first.deliveries[0].order;
    let wish = Wish::Replay { event: first.id, deliveries: vec![replay.clone()] };
    assert_eq!(bench.wish(&wish).await, Granted::Deliveries(vec![replay.id]));
    assert_eq!(bench.wish(&wish).await, Granted::Deliveries(vec![replay.id]), "sent again");
    let wanted = [first.deliveries[0].id, second[0], replay.id];
    assert_eq!(bench.run_all("billing").await, wanted);
}

pub(crate) async fn an_event_sent_again_keeps_its_place(bench: Bench) {
    let events: Vec<_> =
        (0..3).map(|at| bench.in_line(&format!("evt_{at}"), 1, OnDead::Block)).collect();
    for event in &events {
        bench.admit(event).await;
    }
    for event in events.iter().rev() {
        bench.admit(event).await;
    }
    let wanted: Vec<_> = events.iter().map(|event| event.deliveries[0].id).collect();
    assert_eq!(bench.run_all("billing").await, wanted);
}

pub(crate) async fn a_killed_one_blocks_when_it_is_its_turn(bench: Bench) {
    let line = bench.line(1, OnDead::Block, 3).await;
    bench.wish(&Wish::Kill { which: Which::Ids(vec![line[1]]) }).await;
    let leased = bench.take_just(line[0]).await;
    bench.settle(&leased, Verdict::Done).await;
    bench.pass(SHORT).await;
    assert!(bench.take(LONG).await.is_empty());
    bench.unblock(line[1]).await;
    bench.pass(SHORT).await;
    bench.take_just(line[2]).await;
}

pub(crate) async fn a_moved_line_stays_in_order_behind_the_one_that_is_there(bench: Bench) {
    let line = bench.line(1, OnDead::Block, 3).await;
    let mut there = bench.routed_to("there", &["audit"]);
    there.deliveries[0].order = Some(order(1, OnDead::Block));
    bench.admit(&there).await;
    let leased = bench.take_just(line[0]).await;
    let which = Which::Handler("billing".into());
    bench.wish(&Wish::Move { which, to: "audit".into() }).await;
    assert_eq!(bench.settle(&leased, Verdict::Done).await, Hold::Kept);
    assert!(bench.run_all("billing").await.is_empty());
    assert_eq!(bench.run_all("audit").await, [there.deliveries[0].id, line[1], line[2]]);
}

pub(crate) async fn who_moves_away_lets_the_next_one_go_on(bench: Bench) {
    let line = bench.line(1, OnDead::Block, 2).await;
    let which = Which::Ids(vec![line[0]]);
    bench.wish(&Wish::Move { which, to: "audit".into() }).await;
    bench.pass(SHORT).await;
    bench.take_just(line[1]).await;
    assert_eq!(bench.run_all("audit").await, [line[0]]);
}

pub(crate) async fn what_was_pruned_is_in_nobodys_way(bench: Bench) {
    let line = bench.line(1, OnDead::Block, 2).await;
    let leased = bench.take_just(line[0]).await;
    bench.settle(&leased, Verdict::Dead).await;
    bench.pass(SHORT).await;
    assert_eq!(bench.prune().await, 1);
    bench.pass(SHORT).await;
    bench.take_just(line[1]).await;
}

pub(crate) async fn events_admitted_at_once_run_in_one_order_and_one_at_a_time(bench: Bench) {
    let events: Vec<_> =
        (0..60).map(|at| bench.in_line(&format!("evt_{at}"), at % 3, OnDead::Block)).collect();
    let admitted = futures_util::future::join_all(events.iter().map(|event| bench.admit(event)));
    admitted.await;
    let mut ran = Vec::new();
    while ran.len() < events.len() {
        let leased = bench.take(LONG).await;
        assert!((1..=3).contains(&leased.len()), "one of each line that is left");
        for leased in leased {
            ran.push(leased.lease.delivery);
            bench.settle(&leased, Verdict::Done).await;
        }
    }
    ran.sort_unstable();
    ran.dedup();
    assert_eq!(ran.len(), events.len());
}

/// A cluster has lines in several places, and says no rather than keep no order.
#[cfg(feature = "redis")]
#[tokio::test]
async fn a_cluster_refuses_what_is_to_be_in_order() {
    let bench = super::bench::cluster().await;
    let ordered = bench.in_line("evt_1", 1, OnDead::Block);
    let refused = bench.try_admit(&ordered, bench.in_time()).await;
    assert!(
        matches!(refused, Err(hookonce::store::StoreError::Failed(why)) if why.contains("order"))
    );
    assert!(bench.events().await.is_empty());
}
