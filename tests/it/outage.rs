//! The store goes away: every answer is 503 and in time, nothing is lost, and nothing that was done is done
//! again (P1, P2, P4, P10).

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::{
    exactly_once::config,
    redis_server::RedisServer,
    support::{
        alone,
        program::Setup,
        sender::{Answer, Connection, Sender},
        sink::{Behaviour, Sink},
        until,
    },
};

const CONNECTIONS: usize = 16;

/// The answers of a load that runs without a pause: each when it came.
type Answers = Arc<Mutex<Vec<(Instant, String, Answer)>>>;

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_hangs_or_is_dead_every_answer_is_503_in_time_and_nothing_is_lost() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let (mut redis, sink) = (RedisServer::start(), Sink::start());
    let setup = Setup::new(folder.path(), &config(&redis.url(), &sink));
    let program = setup.start().await;
    let answers = Answers::default();
    let load = tokio::spawn(load(setup.port, Arc::clone(&answers)));

    pause(1000).await;
    redis.freeze();
    let frozen = during(&answers, 3000).await;
    redis.thaw();
    let thawed = during(&answers, 3000).await;
    redis.kill();
    let dead = during(&answers, 3000).await;
    redis.restart();
    let back = during(&answers, 3000).await;
    load.abort();

    for (from, to) in [frozen, dead] {
        check_unavailable(&answers, from, to);
    }
    for (from, _) in [thawed, back] {
        check_all_accepted_after(
            &answers,
            from + Duration::from_secs(2),
            from + Duration::from_secs(3),
        );
    }
    let acknowledged: Vec<String> = answers
        .lock()
        .unwrap()
        .iter()
        .filter(|(_, _, answer)| answer.status == 200)
        .map(|(_, id, _)| id.clone())
        .collect();
    until("nothing is queued or leased", Duration::from_secs(60), || async {
        let total = program.stats().await.total;
        total.queued + total.leased == 0
    })
    .await;
    let handled = sink.per_event();
    let lost: Vec<_> = acknowledged.iter().filter(|id| !handled.contains_key(*id)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let stats = program.stats().await.total;
    assert_eq!(stats.events, handled.len() as u64, "one event for each id");
    assert_eq!(stats.done, handled.len() as u64, "one delivery for each event");
    let seconds = sink.count() - handled.len();
    assert!(
        seconds <= 2 * 64,
        "{seconds} second runs, and at most 64 were in flight at each outage"
    );
}

/// Sends events without a pause, each until it is acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_while_the_store_was_away_is_not_done_again_when_it_is_back() {
    const EVENTS: usize = 12;
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    // They end one after another, so that the store has no moment in which all outcomes wait at its door.
    let sink = Sink::behaving(|call| {
        let number: u64 = call.event_id.trim_start_matches("evt_").parse().unwrap();
        Behaviour::Slow(Duration::from_millis(500 + 90 * number))
    });
    let config = format!("{}\n[workers]\nlease = \"2s\"\n", config("sqlite:hookonce.db", &sink));
    let setup = Setup::new(folder.path(), &config);
    let program = setup.start().await;
    let outside = rusqlite::Connection::open(setup.data_dir().join("hookonce.db")).unwrap();
    let (sender, mut connection) = (Sender::new(), Connection::to(setup.port));
    for number in 0..EVENTS {
        let answer = connection.send(&sender.request(&format!("evt_{number}"))).await;
        assert_eq!(answer.expect("it answers").status, 200);
    }
    until("every handler has begun", Duration::from_secs(10), || async { sink.count() == EVENTS })
        .await;
    outside.execute_batch("BEGIN IMMEDIATE").unwrap();
    pause(5000).await; // longer than any lease
    outside.execute_batch("ROLLBACK").unwrap();
    until("everything is done", Duration::from_secs(30), || async {
        program.stats().await.total.done == EVENTS as u64
    })
    .await;
    assert_eq!(sink.count(), EVENTS, "some ran twice");
}

async fn load(port: u16, answers: Answers) {
    let send = |connection: usize| {
        let answers = Arc::clone(&answers);
        async move {
            let (sender, mut connection_to) = (Sender::new(), Connection::to(port));
            for number in 0.. {
                let id = format!("evt_{connection}_{number}");
                loop {
                    let answer =
                        connection_to.send(&sender.request(&id)).await.expect("it answers");
                    let status = answer.status;
                    answers.lock().unwrap().push((Instant::now(), id.clone(), answer));
                    if status == 200 {
                        break;
                    }
                    pause(20).await;
                }
            }
        }
    };
    futures_util::future::join_all((0..CONNECTIONS).map(send)).await;
}

/// Lets some time pass; says from when to when.
async fn during(_: &Answers, millis: u64) -> (Instant, Instant) {
    let from = Instant::now();
    pause(millis).await;
    (from, Instant::now())
}

fn check_unavailable(answers: &Answers, from: Instant, to: Instant) {
    let answers = answers.lock().unwrap();
    let asked_within =
        |(at, _, answer): &&(Instant, String, Answer)| *at - answer.took > from && *at < to;
    let meanwhile: Vec<_> = answers.iter().filter(asked_within).collect();
    assert!(meanwhile.len() >= CONNECTIONS, "only {} answers in an outage", meanwhile.len());
    for (_, _, answer) in meanwhile {
        assert_eq!((answer.status, answer.word.as_str()), (503, "unavailable"), "{answer:?}");
        assert!(answer.head.to_ascii_lowercase().contains("\r\nretry-after: "), "{answer:?}");
        assert!(answer.took < Duration::from_millis(1100), "answered only after {:?}", answer.took);
    }
}

fn check_all_accepted_after(answers: &Answers, from: Instant, to: Instant) {
    let answers = answers.lock().unwrap();
    let asked = answers.iter().filter(|(at, _, answer)| *at - answer.took > from && *at < to);
    let statuses: Vec<u16> = asked.map(|(_, _, answer)| answer.status).collect();
    assert!(!statuses.is_empty() && statuses.iter().all(|status| *status == 200), "{statuses:?}");
}

async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}
