//! The store in Postgres, for several processes at once.
//!
//! Each verb is one transaction of few round trips: what it is about is locked and read in one, decided
//! here, and written in another that carries the commit. Statements are about whole batches, never about
//! one row. No transaction is open while a handler runs.
//!
//! Leases and due times are counted by the server's clock, which all processes share. Nothing is
//! notified: workers look for themselves. It asks for Postgres 13.

mod admit;
mod admit_rows;
mod check;
mod claim;
mod codes;
mod connection;
mod control;
mod count;
mod delivery;
mod erase;
mod error;
mod event;
mod export;
mod generation;
mod import;
mod keyed;
mod line;
mod moving;
mod prune;
mod read;
mod refusals;
mod schema;
mod serve;
mod settle;
mod target;
mod tls;
mod wish;

use std::{
    fmt,
    path::Path,
    sync::{Arc, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::Mutex;

pub use self::schema::Migrated;
use self::{
    admit::Asked,
    claim::Horizons,
    connection::{Lane, Way},
    serve::Answer,
    target::Target,
};
use super::{
    Claimed, DeliveryFilter, EventFilter, EventRecord, EventRow, Granted, Hold, Prune, Readmission,
    RefusalFilter, RefusalRow, Refusals, Refused, Release, Stats, Store, StoreError, Wish,
    batch::{self, Calls, each},
    generation::Seen,
    keys::KeyedCall,
};
use crate::{
    clock::{Clock, Timestamp},
    control::{Controls, Setting},
    delivery::{Attempt, Claim, Delivery, DeliveryId, Lease, Leased, Settlement},
    event::{EventId, NewEvent},
    limits,
    receipt::Admission,
    refusal::RefusalId,
};

/// How many batches of admissions may be under way: while one waits for the disk, the next is written.
const INTAKE_LANES: usize = 2;

/// A store in a Postgres database.
pub struct PostgresStore {
    way: Way,
    admissions: Calls<Asked, Answer<Asked>>,
    settlements: Calls<Settlement, Answer<Settlement>>,
    keyed: Calls<KeyedCall, Answer<KeyedCall>>,
    work: Lane,
    chores: Lane,
    reading: Lane,
    moving: Lane,
    horizons: Horizons,
}

/// Brings the schema of the database at `url` to the version this program writes.
///
/// It waits for whoever does the same at this moment, and is done at once where nothing is to do.
///
/// # Errors
/// [`StoreError::Newer`]; [`StoreError::Unavailable`] when the server cannot be reached;
/// [`StoreError::Weak`] when it is too weak for a store; [`StoreError::Failed`] when it refuses us.
pub async fn migrate(url: &str) -> Result<Migrated, StoreError> {
    let client = Target::parse(url)?.connect().await.map_err(error::Trouble::from)?;
    check::server(&client).await?;
    Ok(schema::migrate(&client).await?)
}

impl PostgresStore {
    /// The store at `url`: `postgres://user:password@host:port/database`, in a schema `hookonce` that is
    /// made where there is none.
    ///
    /// A server that cannot be reached is no error here: calls answer [`StoreError::Unavailable`]
    /// until it is there. Neither is a database that has lost what it held: see [`Store::accept`]. What
    /// was last seen of it is kept in `data_dir`, or as long as this lives.
    ///
    /// # Errors
    /// [`StoreError::Weak`] when the server does not keep a yes, with all that is to be changed;
    /// [`StoreError::Newer`]; [`StoreError::Failed`] when the URL is none, the server refuses us, or the
    /// schema is to be migrated first.
    pub async fn connect(
        url: &str,
        data_dir: Option<&Path>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let target = Target::parse(url)?;
        let seen = match data_dir {
            Some(folder) => Seen::in_folder(folder, &target.address())?,
            None => Seen::in_memory(),
        };
        let way = Way::new(target, seen, clock);
        let (admissions, admit_batches) = batch::queue();
        let (settlements, settle_batches) = batch::queue();
        let (keyed, keyed_batches) = batch::queue();
        let store = Self {
            admissions,
            settlements,
            keyed,
            work: working_lane(&way, limits::STORE_CALL_TIMEOUT),
            chores: working_lane(&way, limits::STORE_CHORE_TIMEOUT),
            reading: reading_lane(&way),
            moving: moving_lane(&way),
            horizons: Horizons::default(),
            way,
        };
        // Making the tables may take longer than a call may.
        match probe(&store.chores).await {
            // One that moves house can be read and moved on, and says so to whoever wants more.
            Ok(()) | Err(StoreError::Moving(_)) => {}
            Err(
                problem @ (StoreError::Unavailable(_)
                | StoreError::Full(_)
                | StoreError::Forgotten(_)),
            ) => {
                tracing::warn!(%problem, "the store cannot be used yet; it is used as soon as it can");
            }
            Err(error) => return Err(error),
        }
        let intake = Arc::new(Mutex::new(admit_batches));
        for _ in 0..INTAKE_LANES {
            let lane = intake_lane(&store.way);
            spawn(serve::serve(lane, Arc::clone(&intake)));
        }
        let lane = working_lane(&store.way, limits::STORE_CALL_TIMEOUT);
        spawn(serve::serve(lane, Arc::new(Mutex::new(settle_batches))));
        spawn(serve::serve(keyed_lane(&store.way), Arc::new(Mutex::new(keyed_batches))));
        Ok(store)
    }

    async fn admit_one(
        &self,
        event: NewEvent,
        bytes: usize,
        not_after: Timestamp,
    ) -> Result<(EventId, Admission), StoreError> {
        self.admissions.call(Asked::new(event, not_after), bytes).await?
    }

    async fn settle_one(&self, settlement: Settlement) -> Result<Hold, StoreError> {
        let size = settle::size(&settlement);
        self.settlements.call(settlement, size).await?
    }
}

fn intake_lane(way: &Way) -> Lane {
    let statements = [
        connection::STATEMENTS,
        admit::STATEMENTS,
        admit_rows::STATEMENTS,
        delivery::STATEMENTS,
        line::STATEMENTS,
        count::STATEMENTS,
    ];
    Lane::new(way, limits::STORE_CALL_TIMEOUT, &statements)
}

fn keyed_lane(way: &Way) -> Lane {
    Lane::new(way, limits::STORE_CALL_TIMEOUT, &[connection::STATEMENTS, keyed::STATEMENTS])
}

/// A lane for all that is neither intake nor about keys nor reading.
fn working_lane(way: &Way, patience: Duration) -> Lane {
    let statements = [
        connection::STATEMENTS,
        connection::PROBE_STATEMENTS,
        claim::STATEMENTS,
        delivery::STATEMENTS,
        line::STATEMENTS,
        count::STATEMENTS,
        wish::STATEMENTS,
        event::STATEMENTS,
        erase::STATEMENTS,
        refusals::STATEMENTS,
        control::STATEMENTS,
        prune::STATEMENTS,
    ];
    Lane::new(way, patience, &statements).rising()
}

fn reading_lane(way: &Way) -> Lane {
    let statements = [
        connection::STATEMENTS,
        read::STATEMENTS,
        refusals::READING_STATEMENTS,
        control::READING_STATEMENTS,
        keyed::READING_STATEMENTS,
    ];
    Lane::new(way, limits::STORE_CALL_TIMEOUT, &statements)
}

/// A lane for moving house: pages are large, and nobody waits for them.
fn moving_lane(way: &Way) -> Lane {
    let statements = [
        connection::STATEMENTS,
        count::STATEMENTS,
        count::MOVING_STATEMENTS,
        control::STATEMENTS,
        control::READING_STATEMENTS,
        delivery::STATEMENTS,
        line::STATEMENTS,
        moving::STATEMENTS,
        export::STATEMENTS,
        import::STATEMENTS,
        keyed::STATEMENTS,
        keyed::MOVING_STATEMENTS,
    ];
    Lane::new(way, limits::STORE_CHORE_TIMEOUT, &statements)
}

/// Whether the store can be written to now.
async fn probe(lane: &Lane) -> Result<(), StoreError> {
    let turn = lane.turn().await?;
    let probed = turn.probe().await;
    turn.end(probed).await
}

/// Runs a task that ends by itself when the store is dropped, because nobody can call it any more.
#[expect(
    clippy::disallowed_methods,
    reason = "it ends with the store, and holds nothing to wait for"
)]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}

#[async_trait]
impl Store for PostgresStore {
    fn survives(&self) -> String {
        let standbys = self.way.standbys.lock().unwrap_or_else(PoisonError::into_inner);
        check::survives(standbys.as_deref())
    }

    fn generation(&self) -> Option<String> {
        self.way.seen.of("").map(|seen| seen.id)
    }

    async fn ready(&self) -> Result<(), StoreError> {
        probe(&self.work).await
    }

    async fn admit(
        &self,
        events: Vec<NewEvent>,
        not_after: Timestamp,
    ) -> Vec<Result<(EventId, Admission), StoreError>> {
        let sizes = batch::sizes(&events);
        let admit_one = |(event, bytes)| self.admit_one(event, bytes, not_after);
        join_all(events.into_iter().zip(sizes).map(admit_one)).await
    }

    async fn claim(&self, claim: &Claim, not_after: Timestamp) -> Result<Claimed, StoreError> {
        let turn = self.work.turn().await?;
        let claimed = claim::claim(&turn, &self.horizons, claim, not_after).await;
        turn.end(claimed).await?
    }

    async fn extend(&self, leases: &[Lease], lease: Duration) -> Vec<Result<Hold, StoreError>> {
        let extended = async {
            let turn = self.work.turn().await?;
            let extended = settle::extend(&turn, leases, lease).await;
            turn.end(extended).await
        };
        each(extended.await, leases.len())
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Vec<Result<Hold, StoreError>> {
        join_all(settlements.into_iter().map(|settlement| self.settle_one(settlement))).await
    }

    async fn release(&self, release: &Release) -> Result<(), StoreError> {
        let turn = self.work.turn().await?;
        let released = settle::release(&turn, release).await;
        turn.end(released).await
    }

    async fn accept(&self) -> Result<usize, StoreError> {
        self.chores.accept().await.map(usize::from)
    }

    async fn orphans(&self) -> Result<Vec<Leased>, StoreError> {
        Ok(Vec::new())
    }

    async fn wish(&self, wish: &Wish, not_after: Timestamp) -> Result<Granted, StoreError> {
        let turn = self.chores.turn().await?;
        let granted = wish::grant(&turn, wish, not_after).await;
        // What was moved may be due long since.
        self.horizons.forget();
        turn.end(granted).await?
    }

    async fn events(&self, filter: &EventFilter) -> Result<Vec<EventRow>, StoreError> {
        let turn = self.reading.turn().await?;
        let events = read::events(&turn, filter).await;
        turn.end(events).await
    }

    async fn event(&self, id: EventId) -> Result<Option<EventRecord>, StoreError> {
        let turn = self.reading.turn().await?;
        let record = read::record(&turn, id).await;
        turn.end(record).await
    }

    async fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<Delivery>, StoreError> {
        let turn = self.reading.turn().await?;
        let deliveries = read::deliveries(&turn, filter).await;
        turn.end(deliveries).await
    }

    async fn attempts(&self, delivery: DeliveryId) -> Result<Vec<Attempt>, StoreError> {
        let turn = self.reading.turn().await?;
        let attempts = read::attempts(&turn, delivery).await;
        turn.end(attempts).await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        let turn = self.reading.turn().await?;
        let stats = read::stats(&turn).await;
        turn.end(stats).await
    }

    async fn waiting_since(&self, handler: &str) -> Result<Option<Timestamp>, StoreError> {
        let turn = self.reading.turn().await?;
        let since = read::waiting_since(&turn, handler).await;
        turn.end(since).await
    }

    async fn prune(&self, prune: &Prune) -> Result<usize, StoreError> {
        let turn = self.chores.turn().await?;
        let pruned = prune::prune(&turn, prune).await;
        turn.end(pruned).await
    }

    async fn control(&self, handler: &str, setting: Setting) -> Result<(), StoreError> {
        let turn = self.chores.turn().await?;
        let set = control::set(&turn, handler, setting).await;
        turn.end(set).await
    }

    async fn controls(&self) -> Result<Controls, StoreError> {
        let turn = self.reading.turn().await?;
        let controls = control::all(&turn).await;
        turn.end(controls).await
    }
}

#[async_trait]
impl Refusals for PostgresStore {
    async fn keep_refusals(&self, refused: Vec<Refused>) -> Result<(), StoreError> {
        let turn = self.chores.turn().await?;
        let kept = refusals::keep(&turn, &refused).await;
        turn.end(kept).await
    }

    async fn refusals(&self, filter: &RefusalFilter) -> Result<Vec<RefusalRow>, StoreError> {
        let turn = self.reading.turn().await?;
        let page = refusals::page(&turn, filter).await;
        turn.end(page).await
    }

    async fn refusal(&self, id: RefusalId) -> Result<Option<Refused>, StoreError> {
        let turn = self.reading.turn().await?;
        let refused = refusals::one(&turn, id).await;
        turn.end(refused).await
    }

    async fn note_readmitted(
        &self,
        id: RefusalId,
        readmission: &Readmission,
    ) -> Result<(), StoreError> {
        let turn = self.chores.turn().await?;
        let noted = refusals::note_readmitted(&turn, id, readmission).await;
        turn.end(noted).await
    }
}

/// Without the password in its URL.
impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("target", &self.way.target).finish_non_exhaustive()
    }
}
