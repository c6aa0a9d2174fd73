//! Settling attempts, and giving deliveries back untried.

use super::writer::Work;
use crate::{
    clock::Timestamp,
    delivery::{AttemptOutcome, Lease, Meets, Settlement, State, Verdict},
    store::{Hold, Release},
};

impl Work<'_> {
    /// See [`Store::settle`](crate::store::Store::settle).
    pub(super) fn settle(&mut self, settlement: &Settlement) -> rusqlite::Result<Hold> {
        let lease = settlement.lease;
        let Some(mut kept) = self.delivery(lease.delivery)? else { return Ok(Hold::Lost) };
        match settlement.meets(kept.state, kept.token, kept.attempts) {
            Meets::Another => return Ok(Hold::Lost),
            Meets::Settled => return Ok(Hold::Kept),
            Meets::Unsettled => {}
        }
        let died = settlement.attempt.outcome == AttemptOutcome::Died;
        kept.deaths_in_a_row = if died { kept.deaths_in_a_row + 1 } else { 0 };
        self.note(&mut kept, &settlement.attempt)?;
        let now = self.clock.now();
        match settlement.verdict {
            Verdict::Done => self.change(&mut kept, State::Done, now)?,
            Verdict::Dead => self.change(&mut kept, State::Dead, now)?,
            Verdict::RetryAt(due_at) => self.change(&mut kept, State::Queued, due_at)?,
        }
        self.write(&kept)?;
        Ok(Hold::Kept)
    }

    /// See [`Store::release`](crate::store::Store::release).
    pub(super) fn release(&mut self, release: &Release) -> rusqlite::Result<()> {
        let now = self.clock.now();
        let leases = match release {
            Release::Leases(leases) => leases.clone(),
            Release::Claim { worker, id, .. } => self.last_claim(*worker, *id)?.unwrap_or_default(),
        };
        for lease in &leases {
            self.give_back(lease, now)?;
        }
        Ok(())
    }

    fn give_back(&mut self, lease: &Lease, now: Timestamp) -> rusqlite::Result<()> {
        let Some(mut kept) = self.held_by(lease)? else { return Ok(()) };
        kept.attempts = kept.attempts.saturating_sub(1);
        kept.token += 1; // whoever still holds the lease is fenced off
        self.change(&mut kept, State::Queued, now)?;
        self.write(&kept)
    }
}
