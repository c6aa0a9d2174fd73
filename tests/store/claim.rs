//! Claiming: what is due, once, with a token that only rises.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use hookonce::{
    delivery::{AttemptOutcome, State, Verdict},
    event::EventState,
    store::{Hold, Release, StoreError, Which, Wish},
};

use super::bench::{Bench, LONG, SHORT};

pub(crate) async fn what_is_due_longest_comes_first(bench: Bench) {
    let mut wanted = Vec::new();
    for (identity, seconds) in [("b", 20), ("c", 10), ("a", 30)] {
        let mut event = bench.routed(identity);
        event.received_at = bench.now().minus(Duration::from_secs(seconds));
        bench.admit(&event).await;
        wanted.push((event.received_at, event.deliveries[0].id));
    }
    wanted.sort_unstable();
    let taken: Vec<_> = bench.take(LONG).await.iter().map(|taken| taken.lease.delivery).collect();
    assert_eq!(taken, wanted.iter().map(|(_, id)| *id).collect::<Vec<_>>());
}

pub(crate) async fn a_claim_gets_no_more_than_it_asks_for_and_only_its_handlers(bench: Bench) {
    for number in 0..5 {
        bench.admit(&bench.routed_to(&format!("evt_{number}"), &["billing", "bill"])).await;
    }
    let mut claim = bench.claim_for("bill", LONG);
    claim.deliveries_max = 3;
    let claimed = bench.claim(&claim).await;
    assert_eq!(claimed.deliveries.len(), 3);
    for leased in &claimed.deliveries {
        let record = bench.record(leased.event.id).await;
        let leased_for: Vec<_> = record
            .deliveries
            .iter()
            .filter(|delivery| delivery.state == State::Leased)
            .map(|delivery| (delivery.id, &*delivery.handler))
            .collect();
        assert_eq!(leased_for, [(leased.lease.delivery, "bill")]);
    }
    assert_eq!(bench.claim(&bench.claim_for("bill", LONG)).await.deliveries.len(), 2);
    assert_eq!(bench.claim(&bench.claim_for("nobody", LONG)).await.deliveries.len(), 0);
    assert_eq!(bench.take(LONG).await.len(), 5);
}

pub(crate) async fn what_is_not_due_yet_stays_and_is_told(bench: Bench) {
    let mut claimed = bench.claim(&bench.claim_for("billing", LONG)).await;
    assert_eq!(claimed.next_due_at, None);

    bench.queue("evt_1").await;
    let leased = bench.take_one(LONG).await;
    let due_at = bench.now().plus(LONG / 2);
    bench.settle(&leased, Verdict::RetryAt(due_at)).await;
    claimed = bench.claim(&bench.claim_for("billing", LONG)).await;
    assert!(claimed.deliveries.is_empty());
    assert_eq!(claimed.next_due_at, Some(due_at));

    bench.queue("evt_2").await;
    bench.take_one(LONG / 4).await;
    claimed = bench.claim(&bench.claim_for("billing", LONG)).await;
    let next = claimed.next_due_at.expect("a lease ends before the retry is due");
    assert!(next < due_at, "what is leased counts as due when its lease ends");
}

pub(crate) async fn the_event_comes_whole(bench: Bench) {
    let mut event = bench.routed("evt_1");
    event.named.body = (0..=255).collect();
    event.query = "a=b".to_owned();
    event.headers = std::sync::Arc::new([("x-one", "1")].into_iter().collect());
    bench.admit(&event).await;
    let leased = bench.take_one(LONG).await;
    assert_eq!(leased.lease.delivery, event.deliveries[0].id);
    assert_eq!((leased.attempt, leased.attempts_before_redrive), (1, 0));
    assert_eq!((leased.replay_of, leased.deaths_in_a_row), (None, 0));
    assert_eq!(leased.event.id, event.id);
    assert_eq!(leased.event.body, event.named.body);
    assert_eq!(leased.event.query, event.query);
    assert_eq!(leased.event.headers, *event.headers);
    assert_eq!(leased.event.event_type, event.named.event_type);
}

pub(crate) async fn a_live_lease_is_not_claimed_again(bench: Bench) {
    bench.queue("evt_1").await;
    bench.take_one(LONG).await;
    bench.pass(SHORT).await;
    assert!(bench.take(LONG).await.is_empty());
}

pub(crate) async fn a_lease_that_ran_out_is_claimed_again_and_its_attempt_is_written_down(
    bench: Bench,
) {
    let delivery = bench.queue("evt_1").await;
    let first = bench.take_one(SHORT).await;
    bench.pass(SHORT).await;
    let second = bench.take_one(LONG).await;
    assert_eq!(second.lease.delivery, delivery);
    assert!(second.lease.token > first.lease.token, "the token only rises");
    assert_eq!((first.attempt, second.attempt), (1, 2));
    assert_eq!((first.deaths_in_a_row, second.deaths_in_a_row), (0, 1));

    let attempts = bench.store.attempts(delivery).await.expect("the store reads");
    assert_eq!(attempts.len(), 1);
    assert_eq!((attempts[0].number, attempts[0].outcome), (1, AttemptOutcome::Died));
    assert_eq!(attempts[0].took_ms, None);
    let record = bench.record(second.event.id).await;
    assert_eq!(record.deliveries[0].last_error, attempts[0].error);
    assert!(record.deliveries[0].last_error.is_some());
}

pub(crate) async fn deaths_in_a_row_end_with_an_attempt_that_ends(bench: Bench) {
    bench.queue("evt_1").await;
    for deaths in 0..3 {
        assert_eq!(bench.take_one(Duration::ZERO).await.deaths_in_a_row, deaths);
        bench.pass(Duration::ZERO).await;
    }
    let leased = bench.take_one(LONG).await;
    assert_eq!(leased.deaths_in_a_row, 3);
    bench.settle(&leased, Verdict::RetryAt(bench.now())).await;
    bench.pass(Duration::ZERO).await;
    assert_eq!(bench.take_one(LONG).await.deaths_in_a_row, 0);
}

pub(crate) async fn a_spent_budget_is_dead_unrun(bench: Bench) {
    let delivery = bench.queue("evt_1").await;
    let mut claim = bench.claim_for("billing", Duration::ZERO);
    claim.attempts_max = 2;
    for _ in 0..2 {
        claim.id = uuid::Uuid::from_u128(bench.number());
        assert_eq!(bench.claim(&claim).await.deliveries.len(), 1);
        bench.pass(Duration::ZERO).await;
    }
    claim.id = uuid::Uuid::from_u128(bench.number());
    let claimed = bench.claim(&claim).await;
    assert!(claimed.deliveries.is_empty());
    assert_eq!((claimed.dead, claimed.next_due_at), (1, None));
    let attempts = bench.store.attempts(delivery).await.expect("the store reads");
    assert_eq!(attempts.len(), 2, "the last attempt's death is written down too");
    let total = bench.total().await;
    assert_eq!((total.dead, total.dead_now, total.leased, total.queued), (1, 1, 0, 0));
}

pub(crate) async fn what_was_taken_for_dead_and_was_done_is_done(bench: Bench) {
    let mut claim = bench.claim_for("billing", Duration::ZERO);
    claim.attempts_max = 1;
    let mut bury = async |identity: &str| {
        let delivery = bench.queue(identity).await;
        claim.id = uuid::Uuid::from_u128(bench.number());
        let leased = bench.claim(&claim).await.deliveries.remove(0);
        bench.pass(Duration::ZERO).await;
        claim.id = uuid::Uuid::from_u128(bench.number());
        assert_eq!(bench.claim(&claim).await.dead, 1);
        assert_eq!(leased.lease.delivery, delivery);
        leased
    };
    let done = bury("done").await;
    let failed = bury("failed").await;
    let redriven = bury("redriven").await;
    let wish = Wish::Redrive {
        id: uuid::Uuid::from_u128(bench.number()),
        which: Which::Ids(vec![redriven.lease.delivery]),
    };
    bench.wish(&wish).await;
    assert_eq!(bench.settle(&done, Verdict::Done).await, Hold::Kept, "nobody has run it since");
    assert_eq!(bench.settle(&done, Verdict::Done).await, Hold::Kept, "sent again");
    assert_eq!(bench.settle(&failed, Verdict::Dead).await, Hold::Lost);
    assert_eq!(bench.settle(&redriven, Verdict::Done).await, Hold::Lost, "it is somebody's again");
    assert_eq!(bench.extend(failed.lease, LONG).await, Hold::Lost);

    let record = bench.record(done.event.id).await;
    assert_eq!((record.row.state, record.deliveries[0].state), (EventState::Done, State::Done));
    let attempts = bench.store.attempts(done.lease.delivery).await.expect("the store reads");
    let outcomes: Vec<_> = attempts.iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes, [AttemptOutcome::Done], "in the place of its death");
    let total = bench.total().await;
    assert_eq!((total.done, total.dead_now, total.queued, total.leased), (1, 1, 1, 0));
}

pub(crate) async fn what_was_given_back_and_killed_is_not_done(bench: Bench) {
    let delivery = bench.queue("evt_1").await;
    let leased = bench.take_one(LONG).await;
    bench.store.release(&Release::Leases(vec![leased.lease])).await.expect("it is given back");
    bench.wish(&Wish::Kill { which: Which::Ids(vec![delivery]) }).await;
    assert_eq!(bench.settle(&leased, Verdict::Done).await, Hold::Lost);
    assert_eq!(bench.total().await.dead_now, 1);
}

pub(crate) async fn a_claim_sent_again_gets_the_same_deliveries(bench: Bench) {
    for number in 0..4 {
        bench.queue(&format!("evt_{number}")).await;
    }
    let mut claim = bench.claim_for("billing", LONG);
    claim.deliveries_max = 2;
    let first = bench.claim(&claim).await.deliveries;
    let again = bench.claim(&claim).await.deliveries;
    let held = |leased: &[hookonce::delivery::Leased]| -> Vec<_> {
        leased.iter().map(|leased| (leased.lease, leased.attempt, leased.event.id)).collect()
    };
    assert_eq!(held(&first), held(&again));
    assert_eq!(bench.total().await.leased, 2);
    claim.id = uuid::Uuid::from_u128(bench.number());
    let next = bench.claim(&claim).await.deliveries;
    assert_eq!(next.len(), 2);
    assert!(
        next.iter().all(|leased| !held(&first).contains(&held(std::slice::from_ref(leased))[0]))
    );
}

pub(crate) async fn a_claim_sent_again_gets_only_what_it_still_holds(bench: Bench) {
    bench.queue("evt_1").await;
    bench.queue("evt_2").await;
    let claim = bench.claim_for("billing", LONG);
    let first = bench.claim(&claim).await.deliveries;
    assert_eq!(bench.settle(&first[0], Verdict::Done).await, Hold::Kept);
    let again = bench.claim(&claim).await.deliveries;
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].lease, first[1].lease);
}

pub(crate) async fn a_late_claim_does_nothing(bench: Bench) {
    bench.queue("evt_1").await;
    let claim = bench.claim_for("billing", LONG);
    let late = bench.store.claim(&claim, bench.too_late()).await;
    assert!(matches!(late, Err(StoreError::Late)));
    assert_eq!(bench.total().await.queued, 1);
    assert_eq!(bench.claim(&claim).await.deliveries[0].attempt, 1, "no attempt was burned");
}

pub(crate) async fn a_late_claim_that_was_done_before_answers_as_it_did(bench: Bench) {
    bench.queue("evt_1").await;
    let claim = bench.claim_for("billing", LONG);
    let first = bench.claim(&claim).await.deliveries;
    let again = bench.store.claim(&claim, bench.too_late()).await.expect("it was done");
    assert_eq!(again.deliveries.len(), 1);
    assert_eq!(again.deliveries[0].lease, first[0].lease);
}

pub(crate) async fn workers_at_once_share_nothing(bench: Bench) {
    for number in 0..40 {
        bench.queue(&format!("evt_{number}")).await;
    }
    let claims: Vec<_> = (0..8)
        .map(|_| {
            let mut claim = bench.claim_for("billing", LONG);
            claim.deliveries_max = 7;
            claim
        })
        .collect();
    let taken = join_all(claims.iter().map(|claim| bench.claim(claim))).await;
    let ids: Vec<_> = taken
        .iter()
        .flat_map(|claimed| claimed.deliveries.iter().map(|leased| leased.lease.delivery))
        .collect();
    assert_eq!(ids.len(), 40);
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 40);
}
