//! Moving house: what a store gives away arrives, and nobody is served from two.

use std::time::Duration;

use hookonce::{
    clock::Timestamp,
    control::{Limits, Setting},
    delivery::{State, Verdict},
    event::EventState,
    receipt::Admission,
    store::{
        Hold, Store, StoreError, Which, Wish,
        keys::{Begin, Begun, KeyFilter},
        moving::{CopyError, Cursor, House, Move, Report, Standing, Step, call_off, copy, tally},
    },
};
use uuid::Uuid;

use super::{
    bench::{self, Bench, LONG, SHORT},
    keys,
};

const COPY: Uuid = Uuid::from_u128(1);

fn to(name: &str) -> Move {
    Move { id: COPY, other: name.to_owned() }
}

async fn step(bench: &Bench, step: Step) -> Standing {
    bench.store.step(&step).await.expect("the step is taken")
}

fn is_refused<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Moving(_)))
}

/// Whether what is new is refused, and what is known at least not admitted: a cache in front of the store
/// may still know that it is a duplicate.
async fn admits_nothing(bench: &Bench) -> bool {
    let new = bench.try_admit(&bench.routed("evt_3"), bench.in_time()).await;
    let known = bench.try_admit(&bench.routed("evt_1"), bench.in_time()).await;
    is_refused(&new) && (is_refused(&known) || matches!(known, Ok((_, Admission::Duplicate))))
}

/// Moves everything, as `hookonce store copy` does.
async fn try_move(from: &Bench, into: &Bench) -> Result<Report, CopyError> {
    let from = House { store: &*from.store, name: "from:" };
    let into_house = House { store: &*into.store, name: "into:" };
    copy(from, into_house, COPY, &*into.clock(), &|_| {}).await
}

/// Carries everything over, all of it twice, without any regard for what runs. Says what is not the same
/// then; marks and keys that end before `until` aside.
pub(super) async fn carry(from: &dyn Store, into: &dyn Store, until: Timestamp) -> Vec<String> {
    into.step(&Step::Fill(to("elsewhere"))).await.expect("it is empty");
    let mut next = Some(Cursor::default());
    while let Some(cursor) = next {
        let (records, behind) = from.export(&cursor).await.expect("it is read");
        into.import(COPY, records.clone()).await.expect("it is written");
        into.import(COPY, records).await.expect("it is written again");
        next = behind;
    }
    into.step(&Step::Finish(COPY)).await.expect("it is filled");
    let source = tally(from, until, &mut |_| {}).await.expect("it is read");
    let target = tally(into, until, &mut |_| {}).await.expect("it is read");
    source.differences(&target)
}

/// Something of everything that a store remembers.
async fn furnish(bench: &Bench) {
    // Pruned, with marks that live on; one of them with a digest, and one a copy of that content.
    bench.admit(&bench.event("pruned")).await;
    let mut first = bench.guarded("first", "old content");
    first.deliveries.clear();
    bench.admit(&first).await;
    let mut resent = bench.guarded("resent", "old content");
    resent.deliveries.clear();
    resent.replay_guard = hookonce::event::ReplayGuard::Flag;
    bench.admit(&resent).await;
    bench.pass(SHORT).await;
    bench.prune().await;

    let mut whole = bench.routed_to("done", &["billing", "audit"]);
    whole.query = "a=1".to_owned();
    whole.retry_marker = Some("2".to_owned());
    whole.headers = std::sync::Arc::new([("x-a", "1"), ("x-b", "2")].into_iter().collect());
    whole.named.body = bytes::Bytes::from_static(b"\xff\0body");
    bench.admit(&whole).await;
    for _ in 0..60 {
        bench.admit(&bench.event("done")).await;
    }
    let leased = bench.take_one(LONG).await;
    bench.settle(&leased, Verdict::Done).await;
    bench.queue("dead").await;
    let leased = bench.take_one(LONG).await;
    bench.settle(&leased, Verdict::Dead).await;
    bench.admit(&bench.guarded("content", "content")).await;
    let leased = bench.take_one(LONG).await;
    bench.settle(&leased, Verdict::RetryAt(bench.now().plus(LONG))).await;
    assert_eq!(bench.admit(&bench.guarded("held", "content")).await.1, Admission::Held);
    bench.admit(&bench.event("unrouted")).await;
    let mut nameless = bench.routed("nameless");
    nameless.named.identity = None;
    bench.admit(&nameless).await;
    bench.take_one(bench.short()).await;
    bench.pass(bench.short()).await; // its holder has died
    bench.admit(&bench.routed_to("queued", &["audit"])).await;
    for event in bench.batch(&["first of two", "second of two"]) {
        let mut event = event;
        event.deliveries.clear();
        bench.admit(&event).await;
    }

    let begun = keys::start(bench, "completed").await;
    keys::complete(bench, &begun, "body", LONG).await;
    let begun = keys::start(bench, "marked unknown").await;
    keys::mark_unknown(bench, &begun).await;
    let begun = Begin { lease: SHORT, ..keys::begin_of(bench, "unknown") };
    assert_eq!(keys::begin(bench, &begun).await, Begun::Started);
    bench.pass(SHORT).await;

    let limits = Limits { concurrency: Some(3), rate: "50/s".parse().ok() };
    for setting in [Setting::Paused(true), Setting::Limits(limits)] {
        bench.store.control("audit", setting).await.expect("the store keeps it");
    }
}

/// What the two stores show to a person.
async fn look_the_same(from: &Bench, into: &Bench) {
    assert_eq!(from.store.stats().await, into.store.stats().await);
    assert_eq!(from.store.controls().await, into.store.controls().await);
    keys_look_the_same(from, into).await;
    let (rows, copied) = (from.events().await, into.events().await);
    assert_eq!(rows, copied);
    for row in rows {
        let (ours, theirs) = (from.record(row.id).await, into.record(row.id).await);
        assert_eq!(ours.event.body, theirs.event.body);
        assert_eq!(ours.request, theirs.request);
        assert_eq!(ours.event.headers, theirs.event.headers);
        assert_eq!(ours.event.query, theirs.event.query);
        assert_eq!(ours.event.retry_marker, theirs.event.retry_marker);
        assert_eq!((ours.identity, ours.duplicates), (theirs.identity, theirs.duplicates));
        assert_eq!(ours.deliveries.len(), theirs.deliveries.len());
        for (ours, theirs) in ours.deliveries.iter().zip(&theirs.deliveries) {
            assert_eq!(
                (ours.id, ours.state, ours.attempts),
                (theirs.id, theirs.state, theirs.attempts)
            );
            assert_eq!((&ours.handler, &ours.last_error), (&theirs.handler, &theirs.last_error));
            let attempts =
                async |bench: &Bench| bench.store.attempts(ours.id).await.expect("it reads");
            assert_eq!(attempts(from).await.len(), attempts(into).await.len());
        }
    }
}

pub(crate) async fn everything_arrives_in_another_store(bench: Bench) {
    let model = bench::memory_beside(&bench);
    furnish(&bench).await;
    let report = try_move(&bench, &model).await.expect("it is moved");
    let copied = report.copied.expect("it was compared");
    let there = copied.kinds().filter(|(_, tally)| tally.records > 0);
    let kinds: Vec<_> = there.map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["controls", "counts", "digests", "events", "keys", "marks"]);
    look_the_same(&bench, &model).await;
    nothing_runs_twice_after(&model).await;
}

pub(crate) async fn everything_arrives_from_another_store(bench: Bench) {
    let model = bench::memory_beside(&bench);
    furnish(&model).await;
    // It is empty all the same, and its handlers are those of the source from then on.
    bench.store.control("another", Setting::Paused(true)).await.expect("the store keeps it");
    try_move(&model, &bench).await.expect("it is moved");
    look_the_same(&model, &bench).await;
    nothing_runs_twice_after(&bench).await;
}

pub(crate) async fn a_move_there_and_back_brings_everything_back(bench: Bench) {
    let (between, last) = (bench::memory_beside(&bench), bench::memory_beside(&bench));
    furnish(&between).await;
    try_move(&between, &bench).await.expect("it is moved");
    let there = House { store: &*bench.store, name: "into:" };
    let back = House { store: &*last.store, name: "last:" };
    let again = Uuid::from_u128(2);
    copy(there, back, again, &*bench.clock(), &|_| {}).await.expect("it is moved on");
    look_the_same(&between, &last).await;
    nothing_runs_twice_after(&last).await;
}

/// Whether the two show the same keys to a person. When they were begun may be told by a server's clock,
/// and how far that one is from ours is only measured.
async fn keys_look_the_same(from: &Bench, into: &Bench) {
    let all = KeyFilter { limit: 100, ..KeyFilter::default() };
    let ours = from.store.keys(&all).await.expect("the store reads");
    let theirs = into.store.keys(&all).await.expect("the store reads");
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.into_iter().zip(theirs) {
        assert_eq!((ours.scope.key, ours.state), (theirs.scope.key, theirs.state));
        assert_eq!((ours.replays, ours.note), (theirs.replays, theirs.note));
        let (begun, copied) = (ours.begun_at.as_millis(), theirs.begun_at.as_millis());
        assert!(begun.abs_diff(copied) < 1000, "{begun}, and copied {copied}");
    }
}

/// What the provider sends again is a duplicate; what was open goes on where it was, and what is done
/// stays so.
async fn nothing_runs_twice_after(bench: &Bench) {
    for identity in ["pruned", "done", "dead", "unrouted", "queued"] {
        let again = bench.admit(&bench.routed(identity)).await;
        assert_eq!(again.1, Admission::Duplicate, "{identity}");
    }
    for (identity, content) in [("first", "old content"), ("content", "content")] {
        let again = bench.admit(&bench.guarded(identity, content)).await;
        assert_eq!(again.1, Admission::Duplicate, "{identity}");
        let resent = bench.admit(&bench.guarded(&format!("{identity} again"), content)).await;
        assert_eq!(resent.1, Admission::Held, "{identity}: the content is known");
    }
    let resent = bench.admit(&bench.guarded("resent", "old content")).await;
    assert_eq!(resent.1, Admission::Duplicate, "also the mark of a copy is where it is looked for");
    assert_eq!(bench.admit(&bench.routed("new")).await.1, Admission::Fresh);

    assert_eq!(keys::told(bench, "completed").await.as_deref(), Some(b"body".as_slice()));
    for unknown in ["unknown", "marked unknown"] {
        let begun = keys::begin(bench, &keys::begin_of(bench, unknown)).await;
        assert!(matches!(begun, Begun::Unknown { .. }), "{unknown}: {begun:?}");
    }

    let billing = bench.take(LONG).await;
    let names: Vec<_> = billing.iter().map(|leased| leased.event.event_id.as_deref()).collect();
    assert_eq!(names, [Some("nameless"), Some("new")], "what is due, oldest first");
    let nameless = &billing[0];
    assert_eq!((nameless.attempt, nameless.lease.token), (2, 2), "numbers and tokens go on");
    assert_eq!(nameless.deaths_in_a_row, 1);
    assert_eq!(bench.settle(nameless, Verdict::Done).await, Hold::Kept);
    let audit = bench.claim(&bench.claim_for("audit", LONG)).await.deliveries;
    assert_eq!(audit.len(), 2);
    for leased in audit.iter().chain(&billing[1..]) {
        assert_eq!(bench.settle(leased, Verdict::Done).await, Hold::Kept);
    }
    let wish = Wish::Redrive { id: Uuid::from_u128(9), which: Which::Handler("billing".into()) };
    bench.wish(&wish).await;
    let redriven = bench.take(LONG).await;
    assert_eq!(redriven.len(), 1);
    assert_eq!(redriven[0].event.event_id.as_deref(), Some("dead"));
    assert_eq!((redriven[0].attempt, redriven[0].attempts_before_redrive), (2, 1));
    assert_eq!(bench.settle(&redriven[0], Verdict::Done).await, Hold::Kept);

    bench.pass(SHORT).await;
    bench.prune().await;
    assert!(bench.events().await.iter().all(|row| row.state == EventState::Open), "all of it goes");
    assert_eq!(bench.admit(&bench.routed("done")).await.1, Admission::Duplicate);
    assert_eq!(bench.total().await.queued, 1);
}

pub(crate) async fn a_store_that_hands_over_lets_end_what_runs_and_begins_nothing(bench: Bench) {
    bench.queue("evt_1").await;
    bench.queue("evt_2").await;
    let claim = hookonce::delivery::Claim { deliveries_max: 1, ..bench.claim_for("billing", LONG) };
    let running = bench.claim(&claim).await.deliveries.remove(0);
    assert_eq!(bench.store.live().await, Ok(1));
    let handing_over = step(&bench, Step::HandOver(to("there"))).await;
    assert_eq!(handing_over, Standing::HandingOver(to("there")));
    assert_eq!(bench.store.standing().await, Ok(handing_over));

    assert!(admits_nothing(&bench).await);
    let claim = bench.claim_for("billing", LONG);
    assert!(is_refused(&bench.store.claim(&claim, bench.in_time()).await));
    let kill = Wish::Kill { which: Which::Handler("billing".into()) };
    assert!(is_refused(&bench.store.wish(&kill, bench.in_time()).await));
    assert!(is_refused(&bench.store.ready().await));
    assert!(is_refused(&bench.store.step(&Step::Seal(COPY)).await), "something still runs");

    assert_eq!(bench.extend(running.lease, LONG).await, Hold::Kept);
    assert_eq!(bench.settle(&running, Verdict::Done).await, Hold::Kept);
    assert_eq!(bench.store.live().await, Ok(0));
    assert_eq!(step(&bench, Step::Seal(COPY)).await, Standing::Sealed(to("there")));
    assert_eq!(bench.total().await.done, 1, "it can be read at any time");
}

pub(crate) async fn a_sealed_store_refuses_every_write(bench: Bench) {
    bench.queue("evt_1").await;
    let leased = bench.take_one(bench.short()).await;
    bench.pass(bench.short()).await;
    step(&bench, Step::HandOver(to("there"))).await;
    step(&bench, Step::Seal(COPY)).await;
    let settlement = bench.settlement(&leased, Verdict::Done);
    assert!(is_refused(&bench.store.settle(vec![settlement]).await.remove(0)));
    assert!(is_refused(&bench.store.extend(&[leased.lease], LONG).await.remove(0)));
    let release = hookonce::store::Release::Leases(vec![leased.lease]);
    // Of several buckets one that refuses is asked again later: it stops no work in the others.
    assert!(bench.has_buckets || is_refused(&bench.store.release(&release).await));
    let event = bench.routed("evt_2");
    assert!(is_refused(&bench.try_admit(&event, bench.in_time()).await));
    let never = bench.too_late();
    let prune = hookonce::store::Prune {
        done_before: never,
        dead_before: never,
        held_before: never,
        now: never,
        lot: 1,
    };
    assert!(is_refused(&bench.store.prune(&prune).await));
    assert_eq!(bench.record(leased.event.id).await.deliveries[0].state, State::Leased);
}

pub(crate) async fn a_copy_called_off_gives_the_store_back(bench: Bench) {
    let target = bench::memory_beside(&bench);
    bench.queue("evt_1").await;
    step(&bench, Step::HandOver(to("into:"))).await;
    step(&bench, Step::Seal(COPY)).await;
    step(&target, Step::Fill(to("from:"))).await;
    let house = House { store: &*bench.store, name: "from:" };
    assert_eq!(call_off(house).await, Ok(Some(COPY)));
    assert_eq!(call_off(house).await, Ok(None), "again it changes nothing");
    assert_eq!(bench.admit(&bench.routed("evt_1")).await.1, Admission::Duplicate);
    bench.queue("evt_2").await;
    assert_eq!(bench.take(LONG).await.len(), 2, "it serves on");
    assert!(is_refused(&target.try_admit(&target.routed("evt_1"), target.in_time()).await));
    assert!(is_refused(&bench.store.step(&Step::Open(COPY)).await), "it cannot be opened any more");
}

pub(crate) async fn once_the_target_opens_there_is_no_way_back(bench: Bench) {
    let target = bench::memory_beside(&bench);
    bench.queue("evt_1").await;
    try_move(&bench, &target).await.expect("it is moved");
    let house = House { store: &*bench.store, name: "from:" };
    assert!(matches!(call_off(house).await, Err(CopyError::Source(StoreError::Moving(_)))));
    assert!(admits_nothing(&bench).await);
    let again = try_move(&bench, &target).await.expect("run again, it has nothing to do");
    assert_eq!(again.copy, COPY);
    assert_eq!(target.take(LONG).await.len(), 1);

    let third = bench::memory_beside(&bench);
    let refused = try_move(&bench, &third).await;
    assert!(matches!(refused, Err(CopyError::Target(StoreError::Moving(_)))), "{refused:?}");
}

pub(crate) async fn a_copy_that_broke_off_goes_on_from_any_step(bench: Bench) {
    furnish(&bench).await;
    let target = bench::memory_beside(&bench);
    step(&bench, Step::HandOver(to("into:"))).await;
    step(&target, Step::Fill(to("from:"))).await;
    step(&bench, Step::Seal(COPY)).await;
    let mut next = Some(Cursor::default());
    while let Some(cursor) = next {
        let (records, behind) = bench.store.export(&cursor).await.expect("it is read");
        target.store.import(COPY, records).await.expect("it is written");
        next = behind;
    }
    let another = Uuid::from_u128(77);
    let (from, into) = (
        House { store: &*bench.store, name: "from:" },
        House { store: &*target.store, name: "into:" },
    );
    let report = copy(from, into, another, &*bench.clock(), &|_| {}).await.expect("it goes on");
    assert_eq!(report.copy, COPY, "under the id that both stores know");
    look_the_same(&bench, &target).await;
}

pub(crate) async fn a_store_is_filled_only_when_it_is_empty_and_only_by_its_copy(bench: Bench) {
    let source = bench::memory_beside(&bench);
    source.queue("evt_1").await;
    bench.queue("evt_2").await;
    assert_eq!(try_move(&source, &bench).await, Err(CopyError::NotEmpty));
    assert_eq!(source.store.standing().await, Ok(Standing::Serving), "the source was not touched");
    assert!(is_refused(&bench.store.step(&Step::Fill(to("from:"))).await));
    assert!(is_refused(&bench.store.import(COPY, Vec::new()).await));
}

pub(crate) async fn a_store_that_is_filled_serves_nobody_until_it_is_finished(bench: Bench) {
    step(&bench, Step::Fill(to("from:"))).await;
    assert_eq!(step(&bench, Step::Fill(to("from:"))).await, Standing::Filling(to("from:")));
    assert!(is_refused(&bench.try_admit(&bench.routed("evt_1"), bench.in_time()).await));
    assert!(is_refused(&bench.store.import(Uuid::from_u128(2), Vec::new()).await), "another copy");
    assert!(is_refused(&bench.store.step(&Step::Finish(Uuid::from_u128(2))).await));
    step(&bench, Step::Finish(COPY)).await;
    bench.queue("evt_1").await;
    assert_eq!(bench.take(LONG).await.len(), 1);
}

pub(crate) async fn a_source_on_its_way_goes_nowhere_else(bench: Bench) {
    let third = bench::memory_beside(&bench);
    step(&bench, Step::HandOver(to("there"))).await;
    let refused = try_move(&bench, &third).await;
    assert_eq!(refused, Err(CopyError::OnItsWay("there".to_owned())));
    assert_eq!(third.store.standing().await, Ok(Standing::Serving));
}

pub(crate) async fn a_mark_that_is_carried_ends_when_it_would_have_ended(bench: Bench) {
    let source = bench::memory_beside(&bench);
    let mut short = source.event("short");
    short.window = Duration::from_millis(400);
    source.admit(&short).await;
    source.admit(&source.event("long")).await;
    source.pass(Duration::from_millis(2)).await;
    source.prune().await;
    try_move(&source, &bench).await.expect("it is moved");
    assert_eq!(bench.admit(&bench.event("long")).await.1, Admission::Duplicate);
    bench.pass(Duration::from_millis(450)).await;
    bench.prune().await;
    assert_eq!(bench.admit(&bench.event("short")).await.1, Admission::Fresh);
    assert_eq!(bench.admit(&bench.event("long")).await.1, Admission::Duplicate);
}

pub(crate) async fn a_key_in_progress_may_end_before_the_store_is_sealed(bench: Bench) {
    let begun = keys::start(&bench, "a").await;
    let owner = begun.owner;
    assert_eq!(bench.store.live().await, Ok(1));
    step(&bench, Step::HandOver(to("there"))).await;
    assert!(is_refused(&bench.store.begin(&keys::begin_of(&bench, "b"), bench.in_time()).await));
    assert!(is_refused(&bench.store.step(&Step::Seal(COPY)).await), "its owner is at work");
    assert_eq!(keys::extend(&bench, &begun, LONG).await, Hold::Kept);
    assert_eq!(keys::complete(&bench, &begun, "body", LONG).await, Hold::Kept);
    step(&bench, Step::Seal(COPY)).await;
    let key = begun.scope.id();
    assert!(is_refused(&bench.store.abandon(key, owner).await));
    assert!(is_refused(&bench.store.mark_unknown(key, owner, "why").await));
}
