//! The store goes away while calls are carried out.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use hookonce::{
    api::Api,
    app::App,
    clock::SystemClock,
    idempotency::{self, Answer, Called, Key, KeyedRequest, Taken},
    request::Headers,
    store::{self, Durability},
};

use crate::{redis_server::RedisServer, support::until};

/// Requests that are not let begin, in each of two rounds: both together are more than there are places.
const REFUSED: usize = 3000;

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_never_began_do_not_push_out_the_result_of_one_that_was_carried_out() {
    let _alone = crate::support::alone().await;
    let redis = RedisServer::start();
    let clock = SystemClock::start();
    let store = store::connect(&redis.url(), Durability::Always, None, &clock).await.unwrap();
    let api = Api::new("payments");
    let app = Arc::new(App::new(Vec::new(), Vec::new(), store, clock));

    let carried_out = |_| async {
        redis.freeze();
        for round in 0..2 {
            let refused = (0..REFUSED).map(|number| {
                let taken = taken(&app, &format!("refused-{round}-{number}"));
                idempotency::answer(&app, &api, taken, |_| async { unreachable!("no key began") })
            });
            for answer in join_all(refused).await {
                assert_eq!(answer.status, 503);
            }
        }
        Called::Answered(Answer::whole(201, Headers::default(), "charged"))
    };
    let first = idempotency::answer(&app, &api, taken(&app, "k1"), carried_out).await;
    assert_eq!(first.status, 201);
    redis.thaw();
    until("the answer is written down", Duration::from_secs(20), || async {
        let again = |_| async { unreachable!("it was carried out") };
        let again = idempotency::answer(&app, &api, taken(&app, "k1"), again).await;
        again.status == 201 && again.headers.first("idempotent-replayed") == Some("true")
    })
    .await;
}

fn taken(app: &App, key: &str) -> Taken {
    let headers: Headers = [("idempotency-key", key.to_owned())].into_iter().collect();
    let key = Key::read(&headers, "idempotency-key").unwrap();
    let request = KeyedRequest {
        method: "POST".to_owned(),
        path: "/payments/charges".to_owned(),
        query: None,
        headers,
        body: Vec::new().into(),
    };
    let place = Arc::clone(&app.calls).try_acquire_owned().unwrap();
    Taken { key, request, place }
}
