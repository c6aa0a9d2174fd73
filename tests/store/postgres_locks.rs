//! Verbs that meet at the same rows. Each is held up by a session beside the store until the other is there.

use std::time::Duration;

use hookonce::{
    delivery::{DeliveryId, Verdict},
    event::NewEvent,
    order::OnDead,
    receipt::Admission,
    store::{Granted, Hold, StoreError, Which, Wish},
};
use tokio_postgres::Client;
use uuid::Uuid;

use super::{
    bench::{Bench, LONG, SHORT},
    order::order,
    postgres::{bench_at, session},
};
use crate::postgres_server::PostgresServer;

/// How many sessions wait for a lock.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'";

/// One to hold something, and one to look on.
async fn sessions(url: &str) -> [Client; 2] {
    let (one, other) = tokio::join!(session(url), session(url));
    [one, other].map(|session| session.expect("the server is there"))
}

/// Waits until a question is answered with yes, or for so long that it never will be.
async fn until(session: &Client, question: &str) {
    for _ in 0..100 {
        let row = session.query_one(question, &[]).await.expect("it answers");
        if row.get(0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn in_line(bench: &Bench, identity: &str, on_dead: OnDead) -> NewEvent {
    let mut event = bench.routed(identity);
    event.deliveries[0].order = Some(order(1, on_dead));
    event
}

#[tokio::test]
async fn a_redrive_at_the_same_time_as_the_settlement_before_it_is_called_up() {
    let database = PostgresServer::shared_database();
    let bench = bench_at(&database.url).await;
    let [holding, looking] = sessions(&database.url).await;
    let events = [1, 2].map(|at| in_line(&bench, &format!("evt_{at}"), OnDead::Block));
    for event in &events {
        bench.admit(event).await;
    }
    let (first, second) = (bench.take_one(LONG).await, events[1].deliveries[0].id);
    bench.wish(&Wish::Kill { which: Which::Ids(vec![second]) }).await;

    // The settlement has looked for who is first now, and does not come to its end.
    let hold =
        format!("BEGIN; SELECT FROM hookonce.events WHERE id = '{}' FOR UPDATE", uuid(&events[0]));
    holding.batch_execute(&hold).await.expect("it is free");
    let redrive = async {
        until(&looking, &format!("SELECT ({WAITING}) = 1")).await;
        redrive(&bench, second).await;
    };
    let let_go = async {
        let both_wait_or_one_is_through = format!(
            "SELECT ({WAITING}) = 2
                 OR EXISTS (SELECT FROM hookonce.deliveries WHERE redriven_by IS NOT NULL)"
        );
        until(&looking, &both_wait_or_one_is_through).await;
        holding.batch_execute("ROLLBACK").await.expect("it lets go");
    };
    let (settled, (), ()) = tokio::join!(bench.settle(&first, Verdict::Done), redrive, let_go);
    assert_eq!(settled, Hold::Kept);
    bench.pass(SHORT).await;
    assert_eq!(bench.take_one(LONG).await.lease.delivery, second);
}

/// Redrives one, as often as it takes: whoever waits for a lock gives up after a while.
async fn redrive(bench: &Bench, id: DeliveryId) {
    let wish = Wish::Redrive { id: Uuid::from_u128(1), which: Which::Ids(vec![id]) };
    loop {
        match bench.store.wish(&wish, bench.in_time()).await {
            Err(StoreError::Unavailable(_)) => {}
            granted => return assert_eq!(granted, Ok(Granted::Deliveries(vec![id]))),
        }
    }
}

fn uuid(event: &NewEvent) -> Uuid {
    Uuid::from_bytes(*event.id.as_bytes())
}

/// Runs a verb while somebody holds all lines, and says whether it has left the event alone while it waited.
async fn leaves_the_event_alone<T>(
    url: &str,
    event: &NewEvent,
    verb: impl Future<Output = T>,
) -> (bool, T) {
    let [holding, looking] = sessions(url).await;
    let hold = "BEGIN; SELECT FROM hookonce.lines FOR UPDATE";
    holding.batch_execute(hold).await.expect("they are free");
    let look = async {
        until(&looking, &format!("SELECT ({WAITING}) = 1")).await;
        let free = "SELECT id FROM hookonce.events WHERE id = $1 FOR UPDATE SKIP LOCKED";
        let free = looking.query(free, &[&uuid(event)]).await.expect("it answers");
        holding.batch_execute("ROLLBACK").await.expect("it lets go");
        free.len() == 1
    };
    tokio::join!(look, verb)
}

#[tokio::test]
async fn whoever_waits_for_a_line_does_not_hold_an_event() {
    let database = PostgresServer::shared_database();
    let bench = bench_at(&database.url).await;
    let event = in_line(&bench, "evt_1", OnDead::Skip);
    bench.admit(&event).await;

    let new = in_line(&bench, "evt_1", OnDead::Skip).deliveries;
    let replay = Wish::Replay { event: event.id, deliveries: new.clone() };
    let replay = bench.store.wish(&replay, bench.in_time());
    let (alone, granted) = leaves_the_event_alone(&database.url, &event, replay).await;
    assert_eq!((alone, granted), (true, Ok(Granted::Deliveries(vec![new[0].id]))), "a replay");

    let both = vec![in_line(&bench, "evt_2", OnDead::Skip), bench.event("evt_1")];
    let admit = bench.store.admit(both, bench.in_time());
    let (alone, admitted) = leaves_the_event_alone(&database.url, &event, admit).await;
    assert_eq!((alone, &admitted[1]), (true, &Ok((event.id, Admission::Duplicate))), "an admit");

    let erase = Wish::Erase { event: event.id };
    let erase = bench.store.wish(&erase, bench.in_time());
    let (alone, granted) = leaves_the_event_alone(&database.url, &event, erase).await;
    assert!(alone && matches!(granted, Ok(Granted::Deliveries(_))), "an erase: {granted:?}");
}
