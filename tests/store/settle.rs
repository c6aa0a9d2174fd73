//! Extending, settling and releasing: only with the live token.

use std::time::Duration;

use hookonce::{
    delivery::{Attempt, AttemptOutcome, DeliveryId, Lease, State, Verdict},
    event::EventState,
    limits,
    store::{Hold, Release},
};
use uuid::Uuid;

use super::bench::{Bench, LONG, SHORT};

pub(crate) async fn an_extended_lease_lives_on(bench: Bench) {
    bench.queue("evt_1").await;
    let leased = bench.take_one(SHORT).await;
    assert_eq!(bench.extend(leased.lease, LONG).await, Hold::Kept);
    bench.pass(SHORT).await;
    assert!(bench.take(LONG).await.is_empty());
    assert_eq!(bench.settle(&leased, Verdict::Done).await, Hold::Kept);
}

pub(crate) async fn a_lost_lease_is_not_extended(bench: Bench) {
    bench.queue("evt_1").await;
    let first = bench.take_one(Duration::ZERO).await;
    bench.pass(Duration::ZERO).await;
    let second = bench.take_one(LONG).await;
    let nobodys = Lease { delivery: DeliveryId::from_bytes([7; 16]), token: 1 };
    let leases = [first.lease, second.lease, nobodys];
    let answers = bench.store.extend(&leases, LONG).await;
    assert_eq!(answers, [Ok(Hold::Lost), Ok(Hold::Kept), Ok(Hold::Lost)]);
    bench.settle(&second, Verdict::Done).await;
    assert_eq!(bench.extend(second.lease, LONG).await, Hold::Lost);
}

pub(crate) async fn done_is_never_claimed_again(bench: Bench) {
    let delivery = bench.queue("evt_1").await;
    let leased = bench.take_one(SHORT).await;
    assert_eq!(bench.settle(&leased, Verdict::Done).await, Hold::Kept);
    bench.pass(SHORT).await;
    assert!(bench.take(LONG).await.is_empty());

    let record = bench.record(leased.event.id).await;
    assert_eq!(record.row.state, EventState::Done);
    assert_eq!(record.deliveries[0].state, State::Done);
    let attempts = bench.store.attempts(delivery).await.expect("the store reads");
    let settlement = bench.settlement(&leased, Verdict::Done);
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].excerpt, settlement.attempt.excerpt);
    assert_eq!(attempts[0].took_ms, Some(7));
    assert_eq!(attempts[0].status, Some(200));
    let total = bench.total().await;
    assert_eq!((total.done, total.queued, total.leased), (1, 0, 0));
}

pub(crate) async fn a_retry_waits_until_it_is_due(bench: Bench) {
    bench.queue("evt_1").await;
    let leased = bench.take_one(LONG).await;
    let due_at = bench.now().plus(SHORT * 4);
    assert_eq!(bench.settle(&leased, Verdict::RetryAt(due_at)).await, Hold::Kept);
    assert!(bench.take(LONG).await.is_empty());
    let delivery = bench.record(leased.event.id).await.deliveries.remove(0);
    assert_eq!((delivery.state, delivery.due_at), (State::Queued, due_at));
    assert_eq!(delivery.last_error.as_deref(), Some("it answered 500"));

    bench.pass(SHORT * 4).await;
    let retry = bench.take_one(LONG).await;
    assert_eq!(retry.attempt, 2);
    assert!(retry.lease.token > leased.lease.token);
    bench.settle(&retry, Verdict::Done).await;
    let attempts = bench.store.attempts(leased.lease.delivery).await.expect("the store reads");
    let outcomes: Vec<_> =
        attempts.iter().map(|attempt| (attempt.number, attempt.outcome)).collect();
    assert_eq!(outcomes, [(1, AttemptOutcome::Failed), (2, AttemptOutcome::Done)]);
    assert_eq!(bench.record(leased.event.id).await.deliveries[0].last_error, None);
}

pub(crate) async fn dead_is_shown_and_not_claimed(bench: Bench) {
    bench.queue("evt_1").await;
    let leased = bench.take_one(LONG).await;
    assert_eq!(bench.settle(&leased, Verdict::Dead).await, Hold::Kept);
    assert!(bench.take(LONG).await.is_empty());
    let record = bench.record(leased.event.id).await;
    assert_eq!((record.row.state, record.deliveries[0].state), (EventState::Dead, State::Dead));
    let total = bench.total().await;
    assert_eq!((total.dead, total.dead_now, total.leased), (1, 1, 0));
}

pub(crate) async fn a_settlement_is_lost_once_the_delivery_was_claimed_again(bench: Bench) {
    bench.queue("evt_1").await;
    let first = bench.take_one(Duration::ZERO).await;
    bench.pass(Duration::ZERO).await;
    let second = bench.take_one(LONG).await;
    assert_eq!(bench.settle(&first, Verdict::Done).await, Hold::Lost);
    assert_eq!(bench.total().await.leased, 1, "what was lost changed nothing");
    assert_eq!(bench.settle(&second, Verdict::Dead).await, Hold::Kept);
    assert_eq!(bench.settle(&first, Verdict::Done).await, Hold::Lost);
    let attempts = bench.store.attempts(first.lease.delivery).await.expect("the store reads");
    let outcomes: Vec<_> = attempts.iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes, [AttemptOutcome::Died, AttemptOutcome::Rejected]);
}

pub(crate) async fn a_settlement_sent_twice_is_kept_and_written_once(bench: Bench) {
    for (identity, verdict) in [
        ("evt_1", Verdict::Done),
        ("evt_2", Verdict::Dead),
        ("evt_3", Verdict::RetryAt(bench.now().plus(LONG))),
    ] {
        bench.queue(identity).await;
        let leased = bench.take_one(LONG).await;
        assert_eq!(bench.settle(&leased, verdict).await, Hold::Kept);
        assert_eq!(bench.settle(&leased, verdict).await, Hold::Kept);
        let attempts = bench.store.attempts(leased.lease.delivery).await.expect("it reads");
        assert_eq!(attempts.len(), 1);
    }
    let total = bench.total().await;
    assert_eq!((total.done, total.dead, total.queued, total.leased), (1, 1, 1, 0));
}

pub(crate) async fn a_settlement_after_its_lease_is_kept_while_nobody_else_claimed(bench: Bench) {
    bench.queue("evt_1").await;
    let leased = bench.take_one(SHORT).await;
    bench.pass(SHORT).await;
    assert_eq!(bench.settle(&leased, Verdict::Done).await, Hold::Kept);
    assert!(bench.take(LONG).await.is_empty());
}

pub(crate) async fn settlements_are_answered_in_order(bench: Bench) {
    bench.queue("evt_1").await;
    bench.queue("evt_2").await;
    let leased = bench.take(LONG).await;
    let kept = bench.settlement(&leased[0], Verdict::Done);
    let other = bench.settlement(&leased[1], Verdict::Dead);
    let mut stale = other.clone();
    stale.lease.token += 1;
    let mut unknown = kept.clone();
    unknown.lease.delivery = DeliveryId::from_bytes([7; 16]);
    let answers = bench.store.settle(vec![stale, kept, unknown, other]).await;
    let wanted = [Hold::Lost, Hold::Kept, Hold::Lost, Hold::Kept].map(Ok);
    assert_eq!(answers, wanted);
}

pub(crate) async fn an_attempt_settled_as_died_counts_as_a_death(bench: Bench) {
    bench.queue("evt_1").await;
    let leased = bench.take_one(LONG).await;
    let mut settlement = bench.settlement(&leased, Verdict::RetryAt(bench.now()));
    settlement.attempt = Attempt::died(leased.attempt, bench.now());
    assert_eq!(bench.store.settle(vec![settlement]).await, [Ok(Hold::Kept)]);
    bench.pass(Duration::ZERO).await;
    let again = bench.take_one(LONG).await;
    assert_eq!((again.attempt, again.deaths_in_a_row), (2, 1));
}

pub(crate) async fn a_release_is_uncounted_and_due_at_once(bench: Bench) {
    bench.queue("evt_1").await;
    let first = bench.take_one(LONG).await;
    bench.store.release(&Release::Leases(vec![first.lease])).await.expect("the store releases");
    let total = bench.total().await;
    assert_eq!((total.queued, total.leased), (1, 0));
    bench.pass(Duration::ZERO).await;
    let second = bench.take_one(LONG).await;
    assert_eq!(second.attempt, 1);
    assert!(second.lease.token > first.lease.token);
    let attempts = bench.store.attempts(first.lease.delivery).await.expect("the store reads");
    assert!(attempts.is_empty());
}

pub(crate) async fn a_release_fences_off_whoever_still_holds_the_lease(bench: Bench) {
    bench.queue("evt_1").await;
    let leased = bench.take_one(LONG).await;
    let release = Release::Leases(vec![leased.lease]);
    bench.store.release(&release).await.expect("the store releases");
    assert_eq!(bench.settle(&leased, Verdict::Done).await, Hold::Lost);
    assert_eq!(bench.extend(leased.lease, LONG).await, Hold::Lost);
    bench.store.release(&release).await.expect("the store releases");
    bench.pass(Duration::ZERO).await;
    assert_eq!(bench.take_one(LONG).await.attempt, 1, "released once only");
}

pub(crate) async fn a_claim_whose_answer_was_lost_is_released_by_its_id(bench: Bench) {
    bench.queue("evt_1").await;
    bench.queue("evt_2").await;
    let claim = bench.claim_for("billing", LONG);
    let lost = bench.claim(&claim).await.deliveries;
    let (handler, worker) = (claim.handler.clone(), claim.worker);
    let other =
        Release::Claim { handler: handler.clone(), worker, id: Uuid::from_u128(bench.number()) };
    bench.store.release(&other).await.expect("the store releases");
    assert_eq!(bench.total().await.leased, 2, "another claim's id gives nothing back");

    let release = Release::Claim { handler, worker, id: claim.id };
    bench.store.release(&release).await.expect("the store releases");
    assert_eq!(bench.total().await.queued, 2);
    assert!(bench.claim(&claim).await.deliveries.is_empty(), "it holds nothing any more");
    assert_eq!(bench.settle(&lost[0], Verdict::Done).await, Hold::Lost);
    bench.pass(Duration::ZERO).await;
    let again = bench.take(LONG).await;
    assert_eq!(again.iter().map(|leased| leased.attempt).collect::<Vec<_>>(), [1, 1]);
}

pub(crate) async fn a_release_of_what_is_not_held_does_nothing(bench: Bench) {
    bench.queue("evt_1").await;
    let first = bench.take_one(Duration::ZERO).await;
    bench.pass(Duration::ZERO).await;
    let second = bench.take_one(LONG).await;
    let nobodys = Lease { delivery: DeliveryId::from_bytes([7; 16]), token: 1 };
    let release = Release::Leases(vec![first.lease, nobodys]);
    bench.store.release(&release).await.expect("the store releases");
    assert_eq!(bench.settle(&second, Verdict::Done).await, Hold::Kept);
    let release = Release::Leases(vec![second.lease]);
    bench.store.release(&release).await.expect("the store releases");
    assert!(bench.take(LONG).await.is_empty(), "done is done");
}

pub(crate) async fn only_the_newest_attempts_are_kept(bench: Bench) {
    let delivery = bench.queue("evt_1").await;
    let attempts_max = u32::try_from(limits::ATTEMPTS_KEPT_MAX).expect("a small number") + 5;
    let mut claim = bench.claim_for("billing", LONG);
    claim.attempts_max = attempts_max;
    for _ in 0..attempts_max {
        claim.id = Uuid::from_u128(bench.number());
        let leased = bench.claim(&claim).await.deliveries.remove(0);
        let due_at = bench.now().minus(SHORT);
        bench.settle(&leased, Verdict::RetryAt(due_at)).await;
    }
    let kept = bench.store.attempts(delivery).await.expect("the store reads");
    let numbers: Vec<_> = kept.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, (6..=attempts_max).collect::<Vec<_>>());
}
