//! Leases are kept by the wall clock, and that may jump: a machine slept, or its clock was set. They jump
//! along, so that nobody who is at work loses a lease by it.
//!
//! Other processes have no part in this: the file is in use by one at a time.

use std::time::Duration;

use rusqlite::{Connection, params};

use crate::clock::{Clock, Timestamp};

/// How far the clocks may drift apart before it is a jump.
const DRIFT_MAX_MS: i64 = 500;

/// The two clocks, as they stood together last.
#[derive(Debug)]
pub(super) struct Jumps {
    wall: Timestamp,
    monotonic: Duration,
}

impl Jumps {
    /// From here on.
    pub(super) fn since(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), monotonic: clock.monotonic() }
    }

    /// Moves what is leased along, if the wall clock has jumped.
    pub(super) fn follow(
        &mut self,
        connection: &Connection,
        clock: &dyn Clock,
    ) -> rusqlite::Result<()> {
        let now = Self::since(clock);
        let passed = now.monotonic.saturating_sub(self.monotonic);
        let jumped = now.wall.as_millis() - self.wall.plus(passed).as_millis();
        if jumped.abs() <= DRIFT_MAX_MS {
            return Ok(());
        }
        let both = connection.unchecked_transaction()?;
        both.execute(
            "UPDATE deliveries INDEXED BY deliveries_leased SET due_at = due_at + ?1 WHERE state = 1",
            params![jumped],
        )?;
        both.execute(
            "UPDATE keyed INDEXED BY keyed_open SET lease_until = lease_until + ?1
             WHERE stage < 2 AND stage = 0",
            params![jumped],
        )?;
        both.commit()?;
        tracing::warn!(
            jumped.ms = jumped,
            "the clock has jumped: leases end as much later or earlier"
        );
        *self = now;
        Ok(())
    }
}
