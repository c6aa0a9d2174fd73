//! Settling attempts, extending leases, and giving deliveries back untried.

use std::time::Duration;

use super::{
    claim,
    connection::{Purpose, Turn},
    delivery::{self, Changes},
    error::Trouble,
    serve::{Answer, Call},
};
use crate::{
    clock::Timestamp,
    delivery::{AttemptOutcome, DeliveryId, Lease, Meets, Settlement, State, Verdict},
    store::{Hold, Release},
};

/// About how many bytes a settlement takes in the queue.
pub(super) fn size(settlement: &Settlement) -> usize {
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    512 + length(&settlement.attempt.error) + length(&settlement.attempt.excerpt)
}

impl Call for Settlement {
    type Answer = Hold;

    /// See [`Store::settle`](crate::store::Store::settle).
    async fn run(turn: &Turn<'_>, calls: &[Self]) -> Result<Vec<Answer<Self>>, Trouble> {
        let ids: Vec<DeliveryId> = calls.iter().map(|call| call.lease.delivery).collect();
        let ((), now, read) = tokio::try_join!(biased; turn.begin(Purpose::End), turn.now(), delivery::lock(turn, &ids))?;
        let mut changes = Changes::of(read);
        let answers = calls.iter().map(|call| Ok(settle(turn, &mut changes, call, now))).collect();
        tokio::try_join!(biased; changes.write(turn), turn.commit())?;
        Ok(answers)
    }
}

fn settle(turn: &Turn<'_>, changes: &mut Changes, settlement: &Settlement, now: Timestamp) -> Hold {
    let lease = settlement.lease;
    let Some(mut kept) = changes.delivery(lease.delivery) else { return Hold::Lost };
    match settlement.meets(kept.state, kept.token, kept.attempts) {
        Meets::Another => return Hold::Lost,
        Meets::Settled => return Hold::Kept,
        Meets::Unsettled => {}
    }
    let died = settlement.attempt.outcome == AttemptOutcome::Died;
    kept.deaths_in_a_row = if died { kept.deaths_in_a_row + 1 } else { 0 };
    changes.note(&mut kept, settlement.attempt.clone());
    match settlement.verdict {
        Verdict::Done => changes.change(&mut kept, State::Done, now),
        Verdict::Dead => changes.change(&mut kept, State::Dead, now),
        Verdict::RetryAt(due_at) => {
            changes.change(&mut kept, State::Queued, turn.to_server(due_at));
        }
    }
    changes.put(kept);
    Hold::Kept
}

/// See [`Store::extend`](crate::store::Store::extend).
pub(super) async fn extend(
    turn: &Turn<'_>,
    leases: &[Lease],
    lease: Duration,
) -> Result<Vec<Hold>, Trouble> {
    let ids: Vec<DeliveryId> = leases.iter().map(|lease| lease.delivery).collect();
    let ((), now, read) =
        tokio::try_join!(biased; turn.begin(Purpose::End), turn.now(), delivery::lock(turn, &ids))?;
    let mut changes = Changes::of(read);
    let until = now.plus(lease);
    let extend_one = |lease: &Lease| {
        let held = changes.delivery(lease.delivery).filter(|kept| kept.is_held_by(lease));
        let Some(mut kept) = held else { return Hold::Lost };
        kept.due_at = until;
        changes.put(kept);
        Hold::Kept
    };
    let holds = leases.iter().map(extend_one).collect();
    tokio::try_join!(biased; changes.write(turn), turn.commit())?;
    Ok(holds)
}

/// See [`Store::release`](crate::store::Store::release).
pub(super) async fn release(turn: &Turn<'_>, release: &Release) -> Result<(), Trouble> {
    let leases = match release {
        Release::Leases(leases) => leases.clone(),
        Release::Claim { worker, id, .. } => {
            let last = claim::last_claim(turn, *worker).await?;
            last.of_claim(*id).map(<[_]>::to_vec).unwrap_or_default()
        }
    };
    let ids: Vec<DeliveryId> = leases.iter().map(|lease| lease.delivery).collect();
    let ((), now, read) =
        tokio::try_join!(biased; turn.begin(Purpose::End), turn.now(), delivery::lock(turn, &ids))?;
    let mut changes = Changes::of(read);
    for lease in &leases {
        let held = changes.delivery(lease.delivery).filter(|kept| kept.is_held_by(lease));
        let Some(mut kept) = held else { continue };
        kept.attempts = kept.attempts.saturating_sub(1);
        kept.token += 1; // whoever still holds the lease is fenced off
        changes.change(&mut kept, State::Queued, now);
        changes.put(kept);
    }
    tokio::try_join!(biased; changes.write(turn), turn.commit()).map(drop)
}
