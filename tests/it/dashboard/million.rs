//! A million events: every page and every search a person can ask for is there before they notice.

use std::time::{Duration, Instant};

use hookonce::{clock::SystemClock, handler::http_client};

use super::{config, page, send};
use crate::support::{
    alone,
    program::{Program, Setup},
};

/// How long the server may take for a page.
const SERVER_TIME_MAX: Duration = Duration::from_millis(300);

/// A million events of three sources and sixty types, nearly all of them done. Those that are looked for
/// are the oldest, so that looking along the list finds them last; the unrouted ones are too many to be
/// sorted, besides.
const FILL: &str = "
BEGIN;
WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 999999)
INSERT INTO events (
    id, source, event_id, event_type, received_at, state, ended_at, deliveries_open, deliveries_dead,
    resent, retry_marker, identity, mark_until, body_bytes, content)
SELECT
    CAST(unhex(printf('%012x', BEGUN + n * 20)) || randomblob(10) AS BLOB),
    CASE WHEN n = 3 THEN 'rare' ELSE 'source_' || (n % 3) END,
    printf('evt_%08d_of_a_million', n),
    CASE WHEN n < 40 THEN 'rare.type' ELSE printf('invoice.kind_%02d', n % 60) END,
    BEGUN + n * 20,
    CASE WHEN n = 4 THEN 2 WHEN n = 5 THEN 4 WHEN n = 6 THEN 0 WHEN n < 10000 THEN 3 ELSE 1 END,
    BEGUN + n * 20 + 50, 0, 0, 0, NULL,
    CASE WHEN n % 100 = 7 THEN NULL WHEN n % 3 = 0 THEN printf('evt_%08d_of_a_million', n)
        ELSE printf('evt_%08d_of_a_million|0123456789abcdef', n) END,
    BEGUN + 2592000000, 2000, 1
FROM numbers;
INSERT INTO marks (source, identity, event)
    SELECT source, identity, id FROM events
    WHERE identity IS NOT NULL AND source <> 'stripe' ORDER BY source, identity;
INSERT INTO counts (source, handler, events, duplicates, held, unrouted, done, dead, queued, leased, dead_now, held_now)
    SELECT DISTINCT source, '', 1, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM events WHERE source <> 'stripe';
COMMIT;";

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_million_events_opens_in_time_whatever_is_looked_for() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(folder.path(), &config("log = true"));
    let program = setup.start().await;
    send(&setup, &["evt_new"], 2).await;
    assert!(program.terminate().success());
    let file = setup.data_dir().join("hookonce.db");
    // Of today, so that nothing of it is pruned.
    let begun = SystemClock::start().now().minus(Duration::from_hours(6));
    let fill = FILL.replace("BEGUN", &begun.as_millis().to_string());
    let filling = tokio::task::spawn_blocking(move || {
        rusqlite::Connection::open(file).unwrap().execute_batch(&fill).unwrap();
    });
    filling.await.unwrap();

    let program = setup.start().await;
    // The page as a person opens it, and how many events it shows.
    let at = |after: Duration| begun.plus(after).to_string().replace(".000", "");
    let (second, hour) = (Duration::from_secs(1), Duration::from_hours(1));
    let far_back = id_before(&program, &at(second * 60)).await;
    let pages: &[(&str, usize)] = &[
        ("/events", 50),
        (&format!("/events?before={far_back}"), 50),
        ("/events?id=evt_00000042_of_a_million", 1),
        ("/events?id=evt_00000043_of_a_million", 1),
        ("/events?id=evt_00000007_of_a_million", 1),
        ("/events?id=evt_new", 1),
        ("/events?id=evt_that_never_came", 0),
        ("/events?source=source_1", 50),
        ("/events?source=rare", 1),
        ("/events?source=nobody", 0),
        ("/events?type=invoice.kind_07", 50),
        ("/events?type=invoice.*", 50),
        ("/events?type=rare.type", 40),
        ("/events?type=rare.*", 40),
        ("/events?type=nothing.*", 0),
        ("/events?state=open", 1),
        ("/events?state=done", 50),
        ("/events?state=dead", 1),
        ("/events?state=held", 1),
        ("/events?state=unrouted", 50),
        (&format!("/events?since={}&until={}", at(hour), at(hour + second)), 50),
        (&format!("/events?until={}", at(Duration::ZERO)), 0),
        ("/events?since=2100-01-01T00:00", 0),
        ("/events?source=source_1&type=invoice.kind_07&state=unrouted", 50),
        ("/events?source=source_1&type=invoice.kind_06&state=unrouted", 0),
        ("/events?type=invoice.*&state=dead", 0),
        ("/", 0),
        ("/dead", 0),
        ("/tail", 20),
    ];
    let mut late = Vec::new();
    for (path, rows) in pages {
        let took = opened(&program, path, *rows).await;
        println!("{:>7.1} ms {path}", took.as_secs_f64() * 1000.0);
        late.extend((took > SERVER_TIME_MAX).then_some((path, took)));
    }
    assert!(late.is_empty(), "{late:?}");
}

/// Opens a page until it is there in time, and gives the shortest time: what else the machine does only
/// adds to it, and other tests may keep it busy for a while.
async fn opened(program: &Program, path: &str, rows: usize) -> Duration {
    let client = http_client();
    let mut shortest = Duration::MAX;
    for _ in 0..100 {
        let begun = Instant::now();
        let answer = client.get(page(program, path)).send().await.unwrap();
        let html = answer.text().await.unwrap();
        shortest = shortest.min(begun.elapsed());
        let links = html.matches("<td class=\"cut\"><a href=\"/events/").count();
        assert!(links == rows || !path.starts_with("/events"), "{path} shows {links}");
        if shortest <= SERVER_TIME_MAX {
            break;
        }
    }
    shortest
}

async fn id_before(program: &Program, until: &str) -> String {
    let found = program.api("GET", &format!("/api/v1/events?limit=1&until={until}"), None).await;
    found["events"][0]["id"].as_str().unwrap().to_owned()
}
