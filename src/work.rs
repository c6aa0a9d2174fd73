//! The second path: claim a due delivery, attempt it, settle it.
//!
//! A worker serves one handler. It holds nothing in memory that it cannot lose: when it dies, its
//! leases run out and somebody else claims what it had.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use uuid::Uuid;

use crate::{
    app::App,
    clock::Timestamp,
    delivery::{Attempt, AttemptOutcome, Claim, Lease, Leased, Settlement, Verdict},
    handler::{self, Configured, Outcome},
    leases::{Holding, Leases},
    limits, schedule,
    shutdown::Tasks,
    store::{Claimed, Hold, Release, StoreError},
    telemetry::tail::Happening,
};

/// Serves one handler with as many attempts at once as it allows.
#[derive(Debug)]
pub struct Worker {
    app: Arc<App>,
    handler: Configured,
    id: Uuid,
    waker: Arc<Notify>,
    slots: Arc<Semaphore>,
    leases: Leases,
    tasks: Tasks,
    /// A claim whose answer was lost: it may have got something, which must be given back.
    unanswered: Mutex<Option<Uuid>>,
}

/// What one step of a worker came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It filled all the slots it asked for: there may be more.
    Busy,
    /// Nothing else is due before this time, as far as the store knows.
    Idle(Option<Timestamp>),
}

/// Settles the leases of a process that died, where the store knows that nobody else can hold them.
/// To be called before the first worker starts.
///
/// The attempt that died counts. The delivery is due again at once, unless it was the second in a row
/// to end so: then it may be what kills us, and it waits its backoff so that its neighbours get on.
///
/// # Errors
/// When the store cannot be read or written.
pub async fn take_over_orphans(app: &App) -> Result<usize, StoreError> {
    let orphans = app.store.orphans().await?;
    let now = app.clock.now();
    let settle = |leased: &Leased| {
        let retry = app.handlers.get(&leased.handler).map(|known| known.retry).unwrap_or_default();
        schedule::died(leased, retry, now, rand::random())
    };
    let settlements: Vec<Settlement> = orphans.iter().map(settle).collect();
    let count = settlements.len();
    for settled in app.store.settle(settlements).await {
        settled?;
    }
    Ok(count)
}

impl Worker {
    /// A worker for `handler`, whose attempts run as `tasks`.
    pub fn new(app: Arc<App>, handler: Configured, tasks: Tasks) -> Arc<Self> {
        Arc::new(Self {
            id: Uuid::now_v7(),
            waker: app.waker(&handler.name),
            slots: Arc::new(Semaphore::new(handler.concurrency)),
            leases: Leases::default(),
            unanswered: Mutex::default(),
            app,
            handler,
            tasks,
        })
    }

    /// Works until it is told to stop, and then until the attempts that have begun have ended.
    pub async fn run(self: Arc<Self>) {
        let work = async {
            self.claim_until_stopped().await;
            let all = u32::try_from(self.handler.concurrency).unwrap_or(u32::MAX);
            drop(self.slots.acquire_many(all).await);
        };
        tokio::select! {
            () = work => {}
            () = self.keep_leases() => {}
        }
    }

    async fn claim_until_stopped(self: &Arc<Self>) {
        let mut failing = false;
        while !self.tasks.is_stopping() {
            let wait = match self.run_once().await {
                Ok(Step::Busy) => {
                    self.gather_slots().await;
                    continue;
                }
                Ok(Step::Idle(next_due_at)) => {
                    failing = false;
                    self.until(next_due_at)
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(handler.name = %self.handler.name, %error, "cannot claim; trying again");
                    }
                    failing = true;
                    limits::POLL_INTERVAL
                }
            };
            // A notice that came since the claim was sent is kept, so none is missed. The poll is the
            // truth, the notice only makes it quick.
            tokio::select! {
                () = self.waker.notified() => {}
                () = tokio::time::sleep(wait) => {}
                () = self.tasks.stopping() => {}
            }
        }
    }

    /// One step: waits for a free slot, claims what is due, and begins its attempts.
    ///
    /// # Errors
    /// When the store could not be asked. Nothing is lost by it.
    pub async fn run_once(self: &Arc<Self>) -> Result<Step, StoreError> {
        let Some(mut slots) = self.free_slots().await else {
            return Ok(Step::Idle(None));
        };
        let asked = slots.num_permits();
        let claimed_at = Instant::now(); // before the claim is sent: our idea of the lease ends first
        let claimed = self.claim(asked).await?;
        let count = claimed.deliveries.len();
        for leased in claimed.deliveries {
            let slot = slots.split(1).expect("no more was claimed than there are slots");
            let worker = Arc::clone(self);
            let holding = self.leases.hold(leased.lease, claimed_at + self.app.lease);
            self.tasks.spawn(async move { worker.attempt_and_settle(leased, holding, slot).await });
        }
        if count + claimed.dead == asked {
            return Ok(Step::Busy);
        }
        Ok(Step::Idle(claimed.next_due_at))
    }

    /// Lets a few slots get free before the next claim when there is a backlog: a claim of one costs
    /// the store as much as a claim of many. (Measured: 1.2 times as many deliveries on Redis, and a
    /// few in a hundred more on SQLite.)
    async fn gather_slots(&self) {
        let few = u32::try_from(self.handler.concurrency / 4).unwrap_or(1).max(1);
        let gathered = self.slots.acquire_many(few);
        drop(tokio::time::timeout(Duration::from_millis(1), gathered).await);
    }

    /// Every slot that is free, at least one. `None` when it is time to stop.
    async fn free_slots(&self) -> Option<OwnedSemaphorePermit> {
        let first = tokio::select! {
            slot = Arc::clone(&self.slots).acquire_owned() => slot.ok(),
            () = self.tasks.stopping() => None,
        };
        let mut slots = first?;
        while let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            slots.merge(slot);
        }
        Some(slots)
    }

    async fn claim(&self, deliveries_max: usize) -> Result<Claimed, StoreError> {
        self.give_back_unanswered().await?;
        let claim = Claim {
            handler: Arc::clone(&self.handler.name),
            worker: self.id,
            id: Uuid::now_v7(),
            deliveries_max,
            lease: self.app.lease,
            attempts_max: self.handler.retry.attempts,
        };
        // A claim that the store only gets to when its lease would be half over is not worth having.
        let patience = (self.app.lease / 2).min(Duration::from_secs(5));
        let not_after = self.app.clock.now().plus(patience);
        let asked = self.app.store.claim(&claim, not_after);
        let answer = tokio::time::timeout(patience, asked).await.unwrap_or_else(|_| {
            Err(StoreError::Unavailable(format!("no answer to a claim within {patience:?}")))
        });
        // Whatever went wrong, it may have got something; only a late claim is known to have got nothing.
        if answer.as_ref().is_err_and(|error| *error != StoreError::Late) {
            *self.lock_unanswered() = Some(claim.id);
        }
        answer
    }

    /// Gives back, uncounted, whatever a claim got whose answer never came.
    async fn give_back_unanswered(&self) -> Result<(), StoreError> {
        let Some(id) = *self.lock_unanswered() else { return Ok(()) };
        let handler = Arc::clone(&self.handler.name);
        self.app.store.release(&Release::Claim { handler, worker: self.id, id }).await?;
        *self.lock_unanswered() = None;
        Ok(())
    }

    fn lock_unanswered(&self) -> MutexGuard<'_, Option<Uuid>> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one attempt and writes down how it went.
    async fn attempt_and_settle(
        self: Arc<Self>,
        leased: Leased,
        holding: Holding,
        slot: OwnedSemaphorePermit,
    ) {
        let started_at = self.app.clock.now();
        let started = Instant::now();
        let outcome = self.attempt(&leased, &holding).await; // ends before the lease does
        let took = started.elapsed();
        match outcome {
            Ended::Outcome(outcome) => {
                let now = self.app.clock.now();
                let ended = schedule::Ended { outcome, started_at, took, now };
                let settlement =
                    schedule::settle(&leased, ended, self.handler.retry, rand::random());
                self.tell(&leased, &settlement.attempt, took);
                self.settle(settlement).await;
            }
            Ended::LeaseLost => {
                // The next claim writes this attempt down as died; there is nothing for us to say.
                tracing::warn!(
                    handler.name = %self.handler.name, event.id = %leased.event.id,
                    delivery.id = %leased.lease.delivery, attempt.number = leased.attempt,
                    "attempt cancelled: its lease could not be extended in time"
                );
            }
            Ended::ShutDown => self.release(leased.lease).await,
        }
        drop(holding);
        drop(slot);
    }

    /// Lets the handler run until it ends, its time is up, its lease is lost or the shut-down's grace is over.
    async fn attempt(&self, leased: &Leased, holding: &Holding) -> Ended {
        let attempt = handler::Attempt {
            delivery: leased.lease.delivery,
            number: leased.attempt,
            token: leased.lease.token,
            replay_of: leased.replay_of,
            timeout: self.handler.timeout,
        };
        let run = self.handler.handler.handle(Arc::clone(&leased.event), attempt);
        let run = AssertUnwindSafe(run).catch_unwind();
        tokio::select! {
            outcome = tokio::time::timeout(self.handler.timeout, run) => Ended::Outcome(match outcome {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_panic)) => Outcome::failed("the handler panicked"),
                Err(_elapsed) => {
                    let timeout = humantime::format_duration(self.handler.timeout);
                    Outcome::failed(format!("no answer within {timeout}"))
                }
            }),
            () = holding.lost() => Ended::LeaseLost,
            () = self.tasks.grace_is_over() => Ended::ShutDown,
        }
    }

    /// Writes a settlement down, however long the store takes: what is done must not run again.
    async fn settle(&self, settlement: Settlement) {
        let mut pause = Duration::from_millis(20);
        loop {
            match self.app.store.settle(vec![settlement.clone()]).await.pop() {
                Some(Ok(Hold::Kept)) => break,
                Some(Ok(Hold::Lost)) | None => {
                    tracing::warn!(
                        handler.name = %self.handler.name, delivery.id = %settlement.lease.delivery,
                        "an attempt ended after its lease was lost: somebody else has the delivery now"
                    );
                    break;
                }
                Some(Err(error)) => {
                    tracing::debug!(handler.name = %self.handler.name, %error, "cannot settle yet");
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.tasks.grace_is_over() => break,
                    }
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
            }
        }
        if matches!(settlement.verdict, Verdict::RetryAt(_)) {
            self.waker.notify_one(); // the loop may be waiting for something later
        }
    }

    /// Gives a delivery back whose attempt was cut off by the shut-down: that is not its fault, so it
    /// is not counted. The token rises, so that a handler that goes on all the same is fenced off.
    async fn release(&self, lease: Lease) {
        if let Err(error) = self.app.store.release(&Release::Leases(vec![lease])).await {
            tracing::warn!(
                handler.name = %self.handler.name, delivery.id = %lease.delivery, %error,
                "cannot give a delivery back; it falls due when its lease ends"
            );
        }
    }

    /// Extends what is held, several times in a lease, for as long as it is polled.
    async fn keep_leases(&self) {
        loop {
            tokio::time::sleep(self.app.lease / limits::EXTENSIONS_PER_LEASE).await;
            let held = self.leases.all();
            if held.is_empty() {
                continue;
            }
            let asked_at = Instant::now();
            match self.app.store.extend(&held, self.app.lease).await {
                Ok(answers) => {
                    for (lease, answer) in held.iter().zip(answers) {
                        let end = match answer {
                            Hold::Kept => asked_at + self.app.lease,
                            Hold::Lost => asked_at, // the attempt is cancelled at once
                        };
                        self.leases.move_end(lease, end);
                    }
                }
                // Nothing to do but to ask again: what is not extended in time cancels itself.
                Err(error) => {
                    tracing::warn!(handler.name = %self.handler.name, %error, "cannot extend leases");
                }
            }
        }
    }

    /// How long to wait for something to be due, at most until the next poll.
    fn until(&self, due_at: Option<Timestamp>) -> Duration {
        let due_in = due_at.map(|due_at| due_at.since(self.app.clock.now()));
        due_in
            .unwrap_or(limits::POLL_INTERVAL)
            .clamp(Duration::from_millis(1), limits::POLL_INTERVAL)
    }

    /// Tells metrics and log how an attempt went: a failure where people see it, success only when asked.
    fn tell(&self, leased: &Leased, attempt: &Attempt, took: Duration) {
        self.app.metrics.attempted(&self.handler.name, attempt.outcome.name(), took);
        self.app.tail.tell(|| Happening::Attempted {
            at: self.app.clock.now(),
            source: Arc::clone(&leased.event.source),
            handler: Arc::clone(&self.handler.name),
            event: leased.event.id,
            delivery: leased.lease.delivery,
            number: attempt.number,
            outcome: attempt.outcome,
            took_ms: attempt.took_ms,
            error: attempt.error.clone(),
        });
        if attempt.outcome == AttemptOutcome::Done {
            tracing::debug!(
                handler.name = %self.handler.name, event.id = %leased.event.id,
                delivery.id = %leased.lease.delivery, attempt.number = attempt.number,
                "attempt done"
            );
        } else {
            tracing::warn!(
                handler.name = %self.handler.name, event.id = %leased.event.id,
                delivery.id = %leased.lease.delivery, attempt.number = attempt.number,
                attempt.outcome = attempt.outcome.name(),
                error = attempt.error.as_deref().unwrap_or_default(),
                "attempt failed"
            );
        }
    }
}

/// How an attempt came to its end.
enum Ended {
    Outcome(Outcome),
    LeaseLost,
    ShutDown,
}
