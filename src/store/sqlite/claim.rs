//! Claiming due deliveries, and extending their leases.

use std::{sync::Arc, time::Duration};

use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use super::{codes, delivery::Kept, read, writer::Work};
use crate::{
    clock::Timestamp,
    delivery::{Attempt, Claim, DeliveryId, Lease, Leased, State},
    store::{Claimed, Hold, StoreError},
};

/// How many bytes a packed lease has: a delivery's id and a token.
const LEASE_BYTES: usize = 24;

impl Work<'_> {
    /// See [`Store::claim`](crate::store::Store::claim).
    pub(super) fn claim(
        &mut self,
        claim: &Claim,
        not_after: Timestamp,
    ) -> rusqlite::Result<Result<Claimed, StoreError>> {
        if let Some(leases) = self.last_claim(claim.worker, claim.id)? {
            return Ok(Ok(self.claimed_before(claim, &leases)?));
        }
        let now = match self.in_time(not_after) {
            Ok(now) => now,
            Err(late) => return Ok(Err(late)),
        };
        let mut claimed = Claimed::default();
        for id in self.due(claim, now)? {
            let Some(mut kept) = self.delivery(id)? else { continue };
            self.write_down_death(&mut kept)?;
            if kept.attempts.saturating_sub(kept.attempts_before_redrive) >= claim.attempts_max {
                kept.token += 1; // its outcome, if it still comes, was not what settled it
                self.change(&mut kept, State::Dead, now)?;
                self.write(&kept)?;
                claimed.dead += 1;
            } else {
                self.lease(&mut kept, now, claim.lease)?;
                claimed.deliveries.extend(read::leased(self.connection, &kept)?);
            }
        }
        self.remember_claim(claim, &claimed.deliveries)?;
        claimed.next_due_at = self.next_due_at(&claim.handler)?;
        Ok(Ok(claimed))
    }

    fn claimed_before(&self, claim: &Claim, leases: &[Lease]) -> rusqlite::Result<Claimed> {
        let mut claimed =
            Claimed { next_due_at: self.next_due_at(&claim.handler)?, ..Claimed::default() };
        for lease in leases {
            if let Some(kept) = self.held_by(lease)? {
                claimed.deliveries.extend(read::leased(self.connection, &kept)?);
            }
        }
        Ok(claimed)
    }

    /// The due deliveries of a handler, those due longest first: queued ones, and leased ones whose
    /// lease has run out. Each half reads no more of its index than it can need.
    fn due(&self, claim: &Claim, now: Timestamp) -> rusqlite::Result<Vec<DeliveryId>> {
        let mut select = self.connection.prepare_cached(
            "SELECT id FROM (
                 SELECT * FROM (
                     SELECT due_at, id FROM deliveries INDEXED BY deliveries_queued
                     WHERE state = 0 AND handler = ?1 AND due_at <= ?2
                     ORDER BY due_at, id LIMIT ?3)
                 UNION ALL
                 SELECT * FROM (
                     SELECT due_at, id FROM deliveries INDEXED BY deliveries_leased
                     WHERE state = 1 AND handler = ?1 AND due_at <= ?2
                     ORDER BY due_at, id LIMIT ?3)
             ) ORDER BY due_at, id LIMIT ?3",
        )?;
        let due = select
            .query_map(params![claim.handler, now.as_millis(), claim.deliveries_max], |row| {
                codes::delivery_id(row, 0)
            })?;
        due.collect()
    }

    fn next_due_at(&self, handler: &Arc<str>) -> rusqlite::Result<Option<Timestamp>> {
        let mut select = self.connection.prepare_cached(
            "SELECT min(due_at) FROM (
                 SELECT min(due_at) AS due_at FROM deliveries INDEXED BY deliveries_queued
                 WHERE state = 0 AND handler = ?1
                 UNION ALL
                 SELECT min(due_at) AS due_at FROM deliveries INDEXED BY deliveries_leased
                 WHERE state = 1 AND handler = ?1)",
        )?;
        let next: Option<i64> = select.query_row([handler], |row| row.get(0))?;
        Ok(next.map(Timestamp::from_millis).filter(|next| *next < Timestamp::NEVER))
    }

    /// A due delivery that is leased was held by somebody who died: that attempt is over.
    fn write_down_death(&mut self, kept: &mut Kept) -> rusqlite::Result<()> {
        if kept.state == State::Leased {
            kept.deaths_in_a_row += 1;
            let attempt = Attempt::died(kept.attempts, kept.leased_at);
            self.note(kept, &attempt)?;
            self.change(kept, State::Queued, Timestamp::default())?;
        }
        Ok(())
    }

    fn lease(&mut self, kept: &mut Kept, now: Timestamp, lease: Duration) -> rusqlite::Result<()> {
        self.change(kept, State::Leased, now.plus(lease))?;
        kept.attempts += 1;
        kept.token += 1;
        kept.leased_at = now;
        self.write(kept)
    }

    fn remember_claim(&self, claim: &Claim, leased: &[Leased]) -> rusqlite::Result<()> {
        let mut leases = Vec::with_capacity(leased.len() * LEASE_BYTES);
        for Leased { lease, .. } in leased {
            leases.extend_from_slice(lease.delivery.as_bytes());
            leases.extend_from_slice(&lease.token.to_be_bytes());
        }
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO claims VALUES (?1, ?2, ?3)")?
            .execute(params![claim.worker.as_bytes(), claim.id.as_bytes(), leases])?;
        Ok(())
    }

    /// What a claim got, if it is the last one of its worker.
    pub(super) fn last_claim(
        &self,
        worker: Uuid,
        id: Uuid,
    ) -> rusqlite::Result<Option<Vec<Lease>>> {
        let sql = "SELECT leases FROM claims WHERE worker = ?1 AND id = ?2";
        let packed: Option<Vec<u8>> = self
            .connection
            .prepare_cached(sql)?
            .query_row(params![worker.as_bytes(), id.as_bytes()], |row| row.get(0))
            .optional()?;
        Ok(packed.map(|packed| packed.chunks_exact(LEASE_BYTES).filter_map(unpacked).collect()))
    }

    /// See [`Store::extend`](crate::store::Store::extend).
    pub(super) fn extend(
        &mut self,
        leases: &[Lease],
        lease: Duration,
    ) -> rusqlite::Result<Vec<Hold>> {
        let until = self.clock.now().plus(lease);
        let extend_one = |lease: &Lease| {
            let Some(mut kept) = self.held_by(lease)? else { return Ok(Hold::Lost) };
            kept.due_at = until;
            self.write(&kept)?;
            Ok(Hold::Kept)
        };
        leases.iter().map(extend_one).collect()
    }
}

fn unpacked(lease: &[u8]) -> Option<Lease> {
    let (delivery, token) = lease.split_first_chunk()?;
    let token = u64::from_be_bytes(token.try_into().ok()?);
    Some(Lease { delivery: DeliveryId::from_bytes(*delivery), token })
}
