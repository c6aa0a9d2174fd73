//! Reading: lists page by page, one thing whole, and the counters.

use hookonce::{
    clock::Timestamp,
    delivery::{DeliveryId, State, Verdict},
    event::{EventId, EventState, Identity},
    store::{Counts, DeliveryFilter, EventFilter},
};

use super::bench::{Bench, LONG};

pub(crate) async fn events_are_paged_newest_first(bench: Bench) {
    let mut wanted = Vec::new();
    for number in 0..7 {
        let event = bench.event(&format!("evt_{number}"));
        bench.admit(&event).await;
        wanted.insert(0, event.id);
    }
    let mut seen = Vec::new();
    let mut filter = EventFilter { limit: 3, ..EventFilter::default() };
    loop {
        let page = bench.store.events(&filter).await.expect("the store reads");
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        filter.before = Some(last.id);
        seen.extend(page.iter().map(|row| row.id));
    }
    assert_eq!(seen, wanted);
}

pub(crate) async fn who_waits_longest_is_known(bench: Bench) {
    let since = async || bench.store.waiting_since("billing").await.expect("the store reads");
    assert_eq!(since().await, None);
    for number in 0..3 {
        bench.admit(&bench.routed_to(&format!("evt_{number}"), &["billing"])).await;
    }
    let all = DeliveryFilter { limit: 10, ..DeliveryFilter::default() };
    let page = bench.store.deliveries(&all).await.expect("the store reads");
    let oldest = page.iter().map(|row| row.due_at).min();
    assert!(oldest.is_some());
    assert_eq!(since().await, oldest);
}

pub(crate) async fn events_are_filtered(bench: Bench) {
    for (source, event_type, handlers) in [
        ("stripe", Some("invoice.paid"), &["billing"][..]),
        ("stripe", Some("invoice.void"), &[]),
        ("stripe", Some("charge.refunded"), &["audit"]),
        ("github", None, &["billing"]),
    ] {
        let mut event = bench.routed_to(event_type.unwrap_or("none"), handlers);
        event.source = source.into();
        event.named.event_type = event_type.map(str::to_owned);
        bench.admit(&event).await;
    }
    for leased in bench.take(LONG).await {
        let verdict = if &*leased.event.source == "github" { Verdict::Dead } else { Verdict::Done };
        bench.settle(&leased, verdict).await;
    }
    let found = async |filter: EventFilter| -> Vec<String> {
        let filter = EventFilter { limit: 10, ..filter };
        let page = bench.store.events(&filter).await.expect("the store reads");
        page.iter().map(|row| row.event_id.clone().unwrap_or_default()).collect()
    };
    let all = EventFilter::default;
    let of_source = EventFilter { source: Some("stripe".to_owned()), ..all() };
    assert_eq!(found(of_source).await, ["charge.refunded", "invoice.void", "invoice.paid"]);
    let of_type = |wanted: &str| EventFilter { event_type: Some(wanted.to_owned()), ..all() };
    assert_eq!(found(of_type("invoice.*")).await, ["invoice.void", "invoice.paid"]);
    assert_eq!(found(of_type("invoice.paid")).await, ["invoice.paid"]);
    assert!(found(of_type("invoice")).await.is_empty());
    assert!(found(of_type("%")).await.is_empty());
    let of_state = |wanted| EventFilter { state: Some(wanted), ..all() };
    assert_eq!(found(of_state(EventState::Done)).await, ["invoice.paid"]);
    assert_eq!(found(of_state(EventState::Unrouted)).await, ["invoice.void"]);
    assert_eq!(found(of_state(EventState::Open)).await, ["charge.refunded"]);
    assert_eq!(found(of_state(EventState::Dead)).await, ["none"]);
    assert!(found(of_state(EventState::Held)).await.is_empty());
    let of_id = EventFilter { event_id: Some("invoice.void".to_owned()), ..all() };
    assert_eq!(found(of_id).await, ["invoice.void"]);
    let both = EventFilter { source: Some("github".to_owned()), ..of_type("invoice.*") };
    assert!(found(both).await.is_empty());
}

pub(crate) async fn events_are_found_by_the_providers_id_whatever_their_identity(bench: Bench) {
    let longer_than_an_identity = "x".repeat(200);
    let wanted = ["evt_1", "a|b", "a\\b", "100%", &longer_than_an_identity];
    for event_id in wanted {
        // Neighbours in the order of identities, which are not it.
        for neighbour in [format!("{event_id}!"), format!("{event_id}|c"), format!("{event_id}}}")]
        {
            bench.admit(&bench.event(&neighbour)).await;
        }
        let mut same = Vec::new();
        let identities =
            [vec![event_id], vec![event_id, "digest"], vec!["element", event_id], vec![]];
        for parts in identities {
            for source in ["stripe", "github"] {
                let mut event = bench.event(event_id);
                event.source = source.into();
                event.named.identity = (!parts.is_empty()).then(|| Identity::of(parts.clone()));
                bench.admit(&event).await;
                same.insert(0, event.id);
            }
        }
        let filter = EventFilter {
            event_id: Some(event_id.to_owned()),
            limit: 10,
            ..EventFilter::default()
        };
        let page = bench.store.events(&filter).await.expect("the store reads");
        assert_eq!(page.iter().map(|row| row.id).collect::<Vec<_>>(), same, "{event_id}");
        let of_source = EventFilter { source: Some("github".to_owned()), ..filter };
        let page = bench.store.events(&of_source).await.expect("the store reads");
        assert_eq!(page.len(), 4, "{event_id}");
    }
}

pub(crate) async fn deliveries_are_paged_and_filtered(bench: Bench) {
    for number in 0..6 {
        bench.admit(&bench.routed_to(&format!("evt_{number}"), &["billing", "audit"])).await;
    }
    let mut claim = bench.claim_for("billing", LONG);
    claim.deliveries_max = 3;
    let leased = bench.claim(&claim).await.deliveries;
    bench.settle(&leased[0], Verdict::Dead).await;
    bench.settle(&leased[1], Verdict::Done).await;

    let counted = async |handler: Option<&str>, state: Option<State>| -> usize {
        let handler = handler.map(str::to_owned);
        let mut filter = DeliveryFilter { handler, state, limit: 2, ..DeliveryFilter::default() };
        let mut seen: Vec<DeliveryId> = Vec::new();
        loop {
            let page = bench.store.deliveries(&filter).await.expect("the store reads");
            let Some(last) = page.last() else { break };
            assert!(page.iter().all(|row| state.is_none_or(|state| row.state == state)));
            filter.before = Some(last.id);
            seen.extend(page.iter().map(|row| row.id));
        }
        assert!(seen.is_sorted_by(|newer, older| newer > older), "newest first, each once");
        seen.len()
    };
    assert_eq!(counted(None, None).await, 12);
    assert_eq!(counted(Some("audit"), None).await, 6);
    assert_eq!(counted(Some("nobody"), None).await, 0);
    assert_eq!(counted(None, Some(State::Queued)).await, 9);
    assert_eq!(counted(Some("billing"), Some(State::Queued)).await, 3);
    assert_eq!(counted(Some("billing"), Some(State::Leased)).await, 1);
    assert_eq!(counted(Some("billing"), Some(State::Done)).await, 1);
    assert_eq!(counted(None, Some(State::Dead)).await, 1);
    assert_eq!(counted(Some("audit"), Some(State::Dead)).await, 0);
}

pub(crate) async fn deliveries_are_paged_oldest_first_from_an_id_on(bench: Bench) {
    for number in 0..6 {
        bench.admit(&bench.routed_to(&format!("evt_{number}"), &["billing", "audit"])).await;
    }
    let mut claim = bench.claim_for("billing", LONG);
    claim.deliveries_max = 5;
    for leased in bench.claim(&claim).await.deliveries {
        bench.settle(&leased, Verdict::Dead).await;
    }
    let older_than_all = DeliveryId::first_at(Timestamp::default());
    let found = async |handler: Option<&str>, state: Option<State>| -> Vec<DeliveryId> {
        let handler = handler.map(str::to_owned);
        let after = Some(older_than_all);
        let mut filter =
            DeliveryFilter { handler, state, after, limit: 2, ..DeliveryFilter::default() };
        let mut seen: Vec<DeliveryId> = Vec::new();
        loop {
            let page = bench.store.deliveries(&filter).await.expect("the store reads");
            let Some(last) = page.last() else { break };
            assert!(page.len() <= 2);
            assert!(page.iter().all(|row| state.is_none_or(|state| row.state == state)));
            filter.after = Some(last.id);
            seen.extend(page.iter().map(|row| row.id));
        }
        assert!(seen.is_sorted_by(|older, newer| older < newer), "oldest first, each once");
        seen
    };
    let all = found(None, None).await;
    assert_eq!(all.len(), 12);
    assert_eq!(found(Some("audit"), None).await.len(), 6);
    assert_eq!(found(None, Some(State::Queued)).await.len(), 7);
    assert_eq!(found(Some("billing"), Some(State::Dead)).await.len(), 5);
    assert_eq!(found(None, Some(State::Dead)).await.len(), 5);
    assert_eq!(found(Some("nobody"), Some(State::Dead)).await.len(), 0);

    let between = DeliveryFilter {
        after: Some(all[3]),
        before: Some(all[5]),
        limit: 10,
        ..DeliveryFilter::default()
    };
    let page = bench.store.deliveries(&between).await.expect("the store reads");
    assert_eq!(page.iter().map(|row| row.id).collect::<Vec<_>>(), [all[4]]);
}

pub(crate) async fn what_is_not_there_is_none(bench: Bench) {
    let nothing = bench.store.event(EventId::from_bytes([7; 16])).await.expect("the store reads");
    assert!(nothing.is_none());
    let id = DeliveryId::from_bytes([7; 16]);
    assert!(bench.store.attempts(id).await.expect("the store reads").is_empty());
    assert!(bench.events().await.is_empty());
    assert_eq!(bench.total().await, Counts::default());
}

pub(crate) async fn an_event_stands_as_its_deliveries_do(bench: Bench) {
    let event = bench.routed_to("evt_1", &["billing", "audit"]);
    bench.admit(&event).await;
    let first = bench.take_one(LONG).await;
    let second = bench.claim(&bench.claim_for("audit", LONG)).await.deliveries.remove(0);
    bench.settle(&first, Verdict::Dead).await;
    assert_eq!(bench.record(event.id).await.row.state, EventState::Open);
    bench.settle(&second, Verdict::Done).await;
    assert_eq!(bench.record(event.id).await.row.state, EventState::Dead);
}

pub(crate) async fn stats_count_exactly(bench: Bench) {
    bench.admit(&bench.routed_to("evt_1", &["billing", "audit"])).await;
    bench.admit(&bench.routed("evt_2")).await;
    bench.admit(&bench.routed("evt_2")).await;
    bench.admit(&bench.event("evt_3")).await;
    let mut github = bench.guarded("evt_4", "content");
    github.source = "github".into();
    bench.admit(&github).await;
    let mut held = bench.guarded("evt_5", "content");
    held.source = "github".into();
    bench.admit(&held).await;
    let leased = bench.take(LONG).await;
    let of_stripe: Vec<_> = leased.iter().filter(|one| &*one.event.source == "stripe").collect();
    bench.settle(of_stripe[0], Verdict::Done).await;
    bench.settle(of_stripe[1], Verdict::Dead).await;

    let stats = bench.store.stats().await.expect("the store counts");
    let total = Counts {
        events: 5,
        duplicates: 1,
        shadow: 0,
        held: 1,
        unrouted: 1,
        done: 1,
        dead: 1,
        queued: 1,
        leased: 1,
        dead_now: 1,
        held_now: 1,
    };
    assert_eq!(stats.total, total);
    let stripe = Counts { events: 3, held: 0, held_now: 0, leased: 0, ..total };
    assert_eq!(stats.sources["stripe"], stripe);
    let github = Counts { events: 2, held: 1, leased: 1, held_now: 1, ..Counts::default() };
    assert_eq!(stats.sources["github"], github);
    let billing =
        Counts { events: 3, done: 1, dead: 1, leased: 1, dead_now: 1, ..Counts::default() };
    assert_eq!(stats.handlers["billing"], billing);
    let audit = Counts { events: 1, queued: 1, ..Counts::default() };
    assert_eq!(stats.handlers["audit"], audit);
    assert_eq!((stats.sources.len(), stats.handlers.len()), (2, 2));
}

pub(crate) async fn the_store_is_ready_and_says_what_it_survives(bench: Bench) {
    assert_eq!(bench.store.ready().await, Ok(()));
    assert!(!bench.store.survives().contains('\n'), "one line");
    assert!(!bench.store.survives().is_empty());
    assert!(bench.store.orphans().await.expect("the store reads").is_empty());
}
