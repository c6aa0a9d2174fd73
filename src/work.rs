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
    sync::{Notify, watch},
    time::Instant,
};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::{
    app::App,
    clock::Timestamp,
    delivery::{Attempt, AttemptOutcome, Claim, Lease, Leased, Settlement, Verdict},
    handler::{self, Configured, Outcome},
    leases::{Holding, Leases},
    limits,
    rate::Pace,
    schedule,
    shutdown::Tasks,
    store::{Claimed, Hold, Release, StoreError},
    telemetry::{tail::Happening, trace::Attempted},
    unwritten::{Under, Unwritten},
};

/// Serves one handler with as many attempts at once as it allows.
///
/// How the handler is configured is looked up for each claim, so that a reload is followed at the next
/// one; what is claimed is attempted as configured then. While the handler is paused, or nobody has
/// configured it, its worker claims nothing, and waits for it to come back.
#[derive(Debug)]
pub struct Worker {
    app: Arc<App>,
    handler_name: Arc<str>,
    id: Uuid,
    waker: Arc<Notify>,
    /// How many attempts are running.
    running: watch::Sender<usize>,
    /// What has begun of the handler's rate.
    pace: Mutex<Pace>,
    leases: Leases,
    unwritten: Unwritten,
    tasks: Tasks,
    /// A claim whose answer was lost: it may have got something, which must be given back.
    unanswered: Mutex<Option<Uuid>>,
}

/// What one step of a worker came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It got all it asked for: there may be more.
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
    let (now, setup) = (app.clock.now(), app.setup());
    let settle = |leased: &Leased| {
        let retry =
            setup.handlers.get(&leased.handler).map(|known| known.retry).unwrap_or_default();
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
    /// A worker for the handler of this name, whose attempts run as `tasks`.
    pub fn new(app: Arc<App>, handler_name: Arc<str>, tasks: Tasks) -> Arc<Self> {
        Arc::new(Self {
            id: Uuid::now_v7(),
            waker: app.waker(&handler_name),
            running: watch::Sender::default(),
            pace: Mutex::default(),
            leases: Leases::default(),
            unwritten: Unwritten::default(),
            unanswered: Mutex::default(),
            app,
            handler_name,
            tasks,
        })
    }

    /// Works until it is told to stop, and then until the attempts that have begun have ended.
    pub async fn run(self: Arc<Self>) {
        let work = async {
            self.claim_until_stopped().await;
            self.until_running(0).await;
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
                    self.let_some_end().await;
                    continue;
                }
                Ok(Step::Idle(next_due_at)) => {
                    failing = false;
                    self.until(next_due_at)
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(handler.name = %self.handler_name, %error, "cannot claim; trying again");
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

    /// One step: waits until an attempt may begin, claims what is due, and begins its attempts.
    ///
    /// # Errors
    /// When the store could not be asked. Nothing is lost by it.
    pub async fn run_once(self: &Arc<Self>) -> Result<Step, StoreError> {
        let Some((handler, deliveries_max)) = self.may_begin().await else {
            return Ok(Step::Idle(None));
        };
        let claimed_at = Instant::now(); // before the claim is sent: our idea of the lease ends first
        let mut step = Step::Busy;
        let claim = async {
            let claimed = self.claim(&handler, deliveries_max).await?;
            if claimed.deliveries.len() + claimed.dead < deliveries_max {
                step = Step::Idle(claimed.next_due_at);
            }
            Ok(claimed.deliveries)
        };
        let to_run = self.unwritten.during(claim).await?;
        let count = to_run.len();
        if let Some(rate) = handler.rate {
            self.lock_pace().begun(rate, self.app.clock.monotonic(), count);
        }
        for leased in to_run {
            let (worker, handler) = (Arc::clone(self), handler.clone());
            let slot = Slot::take(&self.running);
            let holding = self.leases.hold(leased.lease, claimed_at + self.app.lease);
            // On every line of the attempt, also on those of a handler in Rust, and at every level.
            let span = tracing::error_span!(
                "attempt",
                handler.name = %self.handler_name, event.id = %leased.event.id,
                delivery.id = %leased.lease.delivery, attempt.number = leased.attempt,
            );
            let attempt = async move {
                worker.attempt_and_settle(&handler, leased, holding).await;
                drop(slot);
            };
            self.tasks.spawn(attempt.instrument(span));
        }
        Ok(step)
    }

    /// Waits until an attempt may begin; says under which rules, and how many may. `None` when it is
    /// time to stop, or while the handler is not to run.
    async fn may_begin(&self) -> Option<(Configured, usize)> {
        let (mut setups, mut running) = (self.app.setups(), self.running.subscribe());
        loop {
            let handler = setups.borrow_and_update().to_run(&self.handler_name)?;
            let free = handler.concurrency.saturating_sub(*running.borrow_and_update());
            let paced = match handler.rate {
                Some(rate) => self.lock_pace().may_begin(rate, self.app.clock.monotonic()),
                None => Ok(free),
            };
            // What may not run soon is left to others, and is not leased for nothing.
            let wait = match paced {
                Ok(many) if many.min(free) > 0 => return Some((handler, many.min(free))),
                Ok(_) => None, // for one of its attempts to end
                Err(wait) => Some(wait),
            };
            tokio::select! {
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                _ = running.changed() => {}
                _ = setups.changed() => {}
                () = self.tasks.stopping() => return None,
            }
        }
    }

    /// Lets a few attempts end before the next claim when there is a backlog: a claim of one costs the
    /// store as much as a claim of many. (Measured: 1.2 times as many deliveries on Redis, and a few in
    /// a hundred more on SQLite.)
    async fn let_some_end(&self) {
        let Some(handler) = self.app.setup().to_run(&self.handler_name) else { return };
        let few = (handler.concurrency / 4).max(1);
        let enough = self.until_running(handler.concurrency.saturating_sub(few));
        drop(tokio::time::timeout(Duration::from_millis(1), enough).await);
    }

    /// Waits until no more than `most` attempts are running.
    async fn until_running(&self, most: usize) {
        let mut running = self.running.subscribe();
        let ended = running.wait_for(|running| *running <= most).await;
        drop(ended.expect("the sender is a part of the worker"));
    }

    async fn claim(
        &self,
        handler: &Configured,
        deliveries_max: usize,
    ) -> Result<Claimed, StoreError> {
        self.give_back_unanswered().await?;
        let claim = Claim {
            handler: Arc::clone(&self.handler_name),
            worker: self.id,
            id: Uuid::now_v7(),
            deliveries_max,
            lease: self.app.lease,
            attempts_max: handler.retry.attempts,
        };
        // A claim that the store only gets to when its lease would be half over is not worth having.
        let patience = (self.app.lease / 2).min(Duration::from_secs(5));
        let not_after = self.app.clock.now().plus(patience);
        let asked = self.app.store.claim(&claim, not_after);
        let asked = self.app.metrics.store_call("claim", asked);
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
        let handler = Arc::clone(&self.handler_name);
        self.app.store.release(&Release::Claim { handler, worker: self.id, id }).await?;
        *self.lock_unanswered() = None;
        Ok(())
    }

    fn lock_pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_unanswered(&self) -> MutexGuard<'_, Option<Uuid>> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one attempt and writes down how it went.
    async fn attempt_and_settle(&self, handler: &Configured, leased: Leased, holding: Holding) {
        let started_at = self.app.clock.now();
        let started = Instant::now();
        let outcome = self.attempt(handler, &leased, &holding).await; // ends before the lease does
        let took = started.elapsed();
        match outcome {
            Ended::Outcome(outcome) => {
                let now = self.app.clock.now();
                let ended = schedule::Ended { outcome, started_at, took, now };
                let settlement = schedule::settle(&leased, ended, handler.retry, rand::random());
                self.tell(&leased, &settlement.attempt, took);
                self.settle(settlement).await;
                if leased.order_key.is_some() {
                    self.waker.notify_one(); // the next one in line may be due now
                }
            }
            Ended::LeaseLost => {
                // The next claim writes this attempt down as died; there is nothing for us to say.
                tracing::warn!("attempt cancelled: its lease could not be extended in time");
                self.trace(&leased, &Attempt::died(leased.attempt, started_at), took);
            }
            Ended::ShutDown => self.release(leased.lease).await,
        }
    }

    /// Lets the handler run until it ends, its time is up, its lease is lost or the shut-down's grace is over.
    async fn attempt(&self, handler: &Configured, leased: &Leased, holding: &Holding) -> Ended {
        let attempt = handler::Attempt {
            delivery: leased.lease.delivery,
            number: leased.attempt,
            token: leased.lease.token,
            replay_of: leased.replay_of,
            timeout: handler.timeout,
            traceparent: self.app.traces.traceparent(leased),
        };
        let run = handler.handler.handle(Arc::clone(&leased.event), attempt);
        let run = AssertUnwindSafe(run).catch_unwind();
        tokio::select! {
            outcome = tokio::time::timeout(handler.timeout, run) => Ended::Outcome(match outcome {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_panic)) => Outcome::failed("the handler panicked"),
                Err(_elapsed) => {
                    let timeout = humantime::format_duration(handler.timeout);
                    Outcome::failed(format!("no answer within {timeout}"))
                }
            }),
            () = holding.lost() => Ended::LeaseLost,
            () = self.tasks.grace_is_over() => Ended::ShutDown,
        }
    }

    /// Writes a settlement down, however long the store takes: what is done must not run again.
    async fn settle(&self, mut settlement: Settlement) {
        if settlement.verdict == Verdict::Done {
            let (lease, number) = (settlement.lease, settlement.attempt.number);
            self.unwritten.insert(Under { lease, number });
        }
        let mut pause = Duration::from_millis(20);
        loop {
            let asked = self.app.store.settle(vec![settlement.clone()]);
            match self.app.metrics.store_call("settle", asked).await.pop() {
                Some(Ok(Hold::Kept)) => break,
                Some(Ok(Hold::Lost)) | None => {
                    if let Some(under) = self.unwritten.instead_of(settlement.lease).await {
                        settlement.lease = under.lease;
                        settlement.attempt.number = under.number;
                        continue;
                    }
                    if self.lock_unanswered().is_none() {
                        tracing::warn!(
                            "an attempt ended after its lease was lost: somebody else has the delivery now"
                        );
                        break;
                    }
                    // A claim of ours may have it, whose answer never came: it is given back, and claimed again.
                }
                Some(Err(error)) => tracing::debug!(%error, "cannot settle yet"),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.tasks.grace_is_over() => break,
            }
            pause = (pause * 2).min(Duration::from_secs(1));
        }
        self.unwritten.remove(settlement.lease.delivery);
        if matches!(settlement.verdict, Verdict::RetryAt(_)) {
            self.waker.notify_one(); // the loop may be waiting for something later
        }
    }

    /// Gives a delivery back whose attempt was cut off by the shut-down: that is not its fault, so it
    /// is not counted. The token rises, so that a handler that goes on all the same is fenced off.
    async fn release(&self, lease: Lease) {
        if let Err(error) = self.app.store.release(&Release::Leases(vec![lease])).await {
            tracing::warn!(%error, "cannot give a delivery back; it falls due when its lease ends");
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
            let asked = self.app.store.extend(&held, self.app.lease);
            let answers = self.app.metrics.store_call("extend", asked).await;
            let mut failed = None;
            for (lease, answer) in held.iter().zip(answers) {
                match answer {
                    Ok(Hold::Kept) => self.leases.move_end(lease, asked_at + self.app.lease),
                    Ok(Hold::Lost) => self.leases.move_end(lease, asked_at), // cancelled at once
                    // Nothing to do but to ask again: what is not extended in time cancels itself.
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                tracing::warn!(handler.name = %self.handler_name, %error, "cannot extend leases");
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
        self.app.metrics.attempted(&self.handler_name, attempt.outcome.name(), took);
        self.trace(leased, attempt, took);
        self.app.tail.tell(|| Happening::Attempted {
            at: self.app.clock.now(),
            source: Arc::clone(&leased.event.source),
            handler: Arc::clone(&self.handler_name),
            event: leased.event.id,
            delivery: leased.lease.delivery,
            number: attempt.number,
            outcome: attempt.outcome,
            took_ms: attempt.took_ms,
            error: attempt.error.clone(),
        });
        if attempt.outcome == AttemptOutcome::Done {
            tracing::debug!("attempt done");
        } else if let Some(more) =
            self.app.attempt_lines.let_through(&self.handler_name, self.app.clock.monotonic())
        {
            tracing::warn!(
                attempt.outcome = attempt.outcome.name(),
                error = attempt.error.as_deref().unwrap_or_default(),
                lines.held_back = more,
                "attempt failed"
            );
        }
    }

    fn trace(&self, leased: &Leased, attempt: &Attempt, took: Duration) {
        self.app.traces.attempted(&Attempted {
            leased,
            at: attempt.started_at,
            took,
            outcome: attempt.outcome,
            error: attempt.error.as_deref(),
        });
    }
}

/// One attempt among those that are running: it is one less when this is dropped, even by a panic.
struct Slot(watch::Sender<usize>);

impl Slot {
    fn take(running: &watch::Sender<usize>) -> Self {
        running.send_modify(|running| *running += 1);
        Self(running.clone())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}

/// How an attempt came to its end.
enum Ended {
    Outcome(Outcome),
    LeaseLost,
    ShutDown,
}
