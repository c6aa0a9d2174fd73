//! Moving house with several processes on one Postgres: a step of one is a step of all.

use hookonce::store::{
    StoreError,
    moving::{Move, Standing, Step},
};
use uuid::Uuid;

use super::postgres::{bench_at, wait_for};
use crate::postgres_server::PostgresServer;

const COPY: Uuid = Uuid::from_u128(1);

#[tokio::test]
async fn a_step_waits_for_the_writes_before_it_and_turns_away_those_behind_it() {
    let server = PostgresServer::shared();
    let database = PostgresServer::shared_database();
    let (mover, other) = (bench_at(&database.url).await, bench_at(&database.url).await);
    other.queue("evt_1").await;
    // As another process would whose transaction takes its time.
    let url = database.url.clone();
    let slow = std::thread::spawn(move || {
        let write = "SET search_path = hookonce; BEGIN; SELECT enter('serve'); SELECT pg_sleep(1);
            INSERT INTO marks (event, key) VALUES (gen_random_uuid(), 'slow'); COMMIT";
        server.run(&url, write)
    });
    wait_for(server, &database.url, "state = 'active' AND query LIKE '%pg_sleep(1)%'", 1).await;
    let to = Move { id: COPY, other: "there".to_owned() };
    let handing_over = Standing::HandingOver(to.clone());
    let stands = mover.store.step(&Step::HandOver(to)).await;
    assert_eq!(stands, Ok(handing_over.clone()));
    let written = "SELECT count(*) FROM hookonce.marks WHERE key = 'slow'";
    assert_eq!(server.run(&database.url, written), "1", "it was committed before the step");
    slow.join().expect("it is through");

    assert_eq!(other.store.standing().await, Ok(handing_over));
    let refused = other.try_admit(&other.routed("evt_2"), other.in_time()).await;
    assert!(matches!(refused, Err(StoreError::Moving(_))), "{refused:?}");
}
