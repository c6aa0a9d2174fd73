//! Commits that take longer than anybody waits for them, and land after all: as those do that wait for a
//! standby which is away.

use std::time::Duration;

use hookonce::store::{
    Hold, Release, StoreError,
    keys::{Begin, Begun},
};
use uuid::Uuid;

use super::{
    bench::{Bench, LONG},
    keys,
    postgres::{bench_at, session, wait_for},
};
use crate::postgres_server::PostgresServer;

const AWAY: &str = "ALTER SYSTEM SET synchronous_standby_names = 'away'";
const BACK: &str = "ALTER SYSTEM RESET synchronous_standby_names";

/// A server, a store on it that has a connection for each kind of work, and its URL.
async fn furnished() -> (PostgresServer, Bench, String) {
    let server = PostgresServer::start(&[]);
    let url = server.database();
    let bench = bench_at(&url).await;
    bench.store.ready().await.expect("it is there");
    for number in 0..4 {
        bench.admit(&bench.event(&format!("before {number}"))).await;
    }
    assert_eq!(keys::begin(&bench, &keys::begin_of(&bench, "before")).await, Begun::Started);
    (server, bench, url)
}

fn set(server: &PostgresServer, url: &str, sql: &str) {
    server.run(url, sql);
    server.run(url, "SELECT pg_reload_conf()");
}

/// From now on no commit comes to its end.
async fn hold_commits_up(server: &PostgresServer, url: &str) {
    set(server, url, AWAY);
    let client = session(url).await.expect("it is there");
    let write = || client.batch_execute("SELECT pg_logical_emit_message(true, 'test', '')");
    while tokio::time::timeout(Duration::from_millis(100), write()).await.is_ok() {}
}

/// Asks until there is an answer.
async fn answered<T>(mut ask: impl AsyncFnMut() -> Result<T, StoreError>) -> T {
    for _ in 0..100 {
        match ask().await {
            Ok(answer) => return answer,
            Err(StoreError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("there was no answer");
}

#[tokio::test]
async fn a_claim_that_lands_after_it_was_given_up_is_given_back() {
    let (server, bench, url) = furnished().await;
    bench.queue("evt_1").await;
    let claim = bench.claim_for("billing", LONG);
    hold_commits_up(&server, &url).await;
    let claimed = bench.store.claim(&claim, bench.in_time()).await;
    assert!(matches!(claimed, Err(StoreError::Unavailable(_))), "{claimed:?}");
    let handler = claim.handler.clone();
    let release = Release::Claim { handler, worker: claim.worker, id: claim.id };
    let too_early = bench.store.release(&release).await;
    set(&server, &url, BACK);
    if too_early.is_err() {
        answered(async || bench.store.release(&release).await).await;
    }
    wait_for(&server, &url, "wait_event = 'SyncRep'", 0).await;
    assert_eq!(bench.take_one(LONG).await.attempt, 1, "the claim that got nowhere is not counted");
}

#[tokio::test]
async fn a_key_whose_begin_lands_after_it_was_given_up_can_be_let_go() {
    let (server, bench, url) = furnished().await;
    let begin = keys::begin_of(&bench, "key");
    hold_commits_up(&server, &url).await;
    let begun = bench.store.begin(&begin, bench.in_time()).await;
    assert!(matches!(begun, Err(StoreError::Unavailable(_))), "{begun:?}");
    let let_go = async || bench.store.abandon(begin.scope.id(), begin.owner).await;
    let too_early = let_go().await;
    set(&server, &url, BACK);
    if too_early.is_err() {
        assert_eq!(answered(let_go).await, Hold::Kept);
    }
    wait_for(&server, &url, "wait_event = 'SyncRep'", 0).await;
    let retry = Begin { owner: Uuid::from_u128(bench.number()), ..begin.clone() };
    assert_eq!(keys::begin(&bench, &retry).await, Begun::Started);
}

#[tokio::test]
async fn calls_that_are_given_up_do_not_pile_up_on_the_server() {
    let (server, bench, url) = furnished().await;
    hold_commits_up(&server, &url).await;
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hookonce'";
    let sessions = || server.run(&url, sessions).parse::<u32>().expect("a number");
    let before = sessions();
    for number in 0..8 {
        let event = bench.event(&format!("given up {number}"));
        let admitted = bench.try_admit(&event, bench.in_time()).await;
        assert!(matches!(admitted, Err(StoreError::Unavailable(_))), "{admitted:?}");
    }
    // Two connections take admissions, and each has given one up.
    assert!(sessions() <= before + 2, "there were {before}, and now there are {}", sessions());
    set(&server, &url, BACK);
    let event = bench.event("after");
    answered(async || bench.try_admit(&event, bench.in_time()).await).await;
}
