//! Moving house: how the buckets stand, one after the other.
//!
//! Bucket 0 goes first and decides: nothing is opened or called off but through it. The others follow,
//! and a step that broke off between two of them is completed when it is taken again.

use std::collections::BTreeSet;

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    RedisStore,
    admit::unexpected,
    bucket::Served,
    export, import,
    scripts::{self, Call},
};
use crate::{
    limits,
    store::{
        Store as _, StoreError,
        keys::Keys as _,
        moving::{Cursor, Moving, Record, Standing, Step},
    },
};

/// How many entries of a queue one round trip looks at.
const PAGE: usize = 500;

#[async_trait]
impl Moving for RedisStore {
    async fn standing(&self) -> Result<Standing, StoreError> {
        let mut standings = Vec::with_capacity(self.buckets.len());
        for served in &self.buckets {
            standings.push(standing(served).await?);
        }
        let first = standings.first().cloned().unwrap_or_default();
        // The first goes first: where it serves again before another does, the step broke off.
        let behind = standings.into_iter().find(|standing| standing.refusal().is_some());
        Ok(if first.refusal().is_none() { behind.unwrap_or(first) } else { first })
    }

    async fn step(&self, step: &Step) -> Result<Standing, StoreError> {
        match step {
            Step::Seal(_) if self.live().await? > 0 => {
                return Err(StoreError::Moving("something in it still runs".to_owned()));
            }
            Step::Fill(_)
                if self.standing().await? == Standing::Serving && !self.is_empty().await? =>
            {
                return Err(StoreError::Moving("there are events in it already".to_owned()));
            }
            _ => {}
        }
        let [first, others @ ..] = self.buckets.as_slice() else { return Err(unexpected()) };
        let before = standing(first).await?;
        let after = before.after(step)?;
        // Called off in the first place: from here on nobody can open the target, and nobody is served
        // from some of the buckets only.
        let meanwhile = match (step, before.copy()) {
            (Step::CallOff(_), Some(copy)) if after != before => Standing::CalledOff(copy.clone()),
            _ => after.clone(),
        };
        change(first, &before, &meanwhile).await?;
        for served in others {
            let before = standing(served).await?;
            change(served, &before, &before.after(step)?).await?;
        }
        change(first, &meanwhile, &after).await?;
        Ok(after)
    }

    async fn live(&self) -> Result<u64, StoreError> {
        let handlers: BTreeSet<String> = self.stats().await?.handlers.into_keys().collect();
        let mut live = self.key_counts().await?.values().map(|counts| counts.in_progress).sum();
        for served in &self.buckets {
            for handler in &handlers {
                live += live_leases(served, handler).await?;
            }
        }
        Ok(live)
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        for served in &self.buckets {
            let session = served.connection.session().await?;
            let bucket = session.bucket();
            let mut commands = redis::pipe();
            commands.cmd("EXISTS").arg(bucket.key("E", b"")).arg(bucket.key("D", b""));
            commands.arg(bucket.key("K", b""));
            commands.cmd("HKEYS").arg(bucket.key("c", b""));
            let (lists, counters): (u64, Vec<String>) = session.pipeline(&commands).await?;
            // Beside what is counted there stands how many scripts were run.
            if lists > 0 || counters.iter().any(|name| name.contains('\0')) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn size(&self) -> Result<u64, StoreError> {
        let mut size = 0;
        for served in &self.buckets {
            let session = served.connection.session().await?;
            let mut command = redis::cmd("ZCARD");
            command.arg(session.bucket().key("E", b""));
            size += session.query::<u64>(&command).await?;
            let mut command = redis::cmd("ZCARD");
            command.arg(session.bucket().key("K", b""));
            size += session.query::<u64>(&command).await?;
        }
        Ok(size)
    }

    async fn export(&self, from: &Cursor) -> Result<(Vec<Record>, Option<Cursor>), StoreError> {
        export::page(&self.buckets, from).await
    }

    async fn import(&self, copy: Uuid, records: Vec<Record>) -> Result<(), StoreError> {
        import::all(&self.buckets, copy, records).await
    }
}

/// How a bucket stands.
pub(super) async fn standing(served: &Served) -> Result<Standing, StoreError> {
    let session = served.connection.session().await?;
    let mut command = redis::cmd("GET");
    command.arg(session.bucket().key("M", b""));
    let kept: Option<String> = session.query(&command).await?;
    kept.map_or(Ok(Standing::Serving), |text| text.parse())
}

async fn change(served: &Served, before: &Standing, after: &Standing) -> Result<(), StoreError> {
    let session = served.connection.session().await?;
    let mut call = Call::of(&scripts::STEP, &session);
    call.arg(before.to_string()).arg(after.to_string());
    let found: String = session.call(&call).await?;
    if found == after.to_string() {
        return Ok(());
    }
    Err(found.parse::<Standing>()?.refusal_or("somebody else has changed how it stands: try again"))
}

/// The leases of a handler that end later than now, in one bucket.
async fn live_leases(served: &Served, handler: &str) -> Result<u64, StoreError> {
    let session = served.connection.session().await?;
    // Leases are counted by the server's own clock.
    let (seconds, micros): (i64, i64) = session.query(&redis::cmd("TIME")).await?;
    let now = seconds * 1000 + micros / 1000;
    let longest = i64::try_from(limits::LEASE_MAX.as_millis()).unwrap_or(i64::MAX);
    let (mut live, mut at) = (0, 0);
    loop {
        let session = served.connection.session().await?;
        let bucket = session.bucket();
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command.arg(bucket.key("q", handler.as_bytes())).arg(format!("({now}"));
        command.arg(now.saturating_add(longest)).arg("LIMIT").arg(at).arg(PAGE);
        let ids: Vec<Vec<u8>> = session.query(&command).await?;
        if ids.is_empty() {
            return Ok(live);
        }
        let mut commands = redis::pipe();
        for id in &ids {
            commands.cmd("HGET").arg(bucket.key("d", id)).arg("s");
        }
        let states: Vec<Option<String>> = session.pipeline(&commands).await?;
        live += states.iter().filter(|state| state.as_deref() == Some("l")).count() as u64;
        at += PAGE;
    }
}
