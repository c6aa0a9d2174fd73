//! What a page says while the store, or the server itself, is away: never that all is well.

use std::time::{Duration, Instant};

use super::{TOKEN, browser::Browser, config, config_with_tokens, page, send};
use crate::{
    redis_server::RedisServer,
    support::{program::Setup, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_not_shown_as_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut redis = RedisServer::start();
    let dies = "command = [\"sh\", \"-c\", \"exit 65\"]\nretry = { attempts = 1 }";
    let on_redis = config(dies).replace("sqlite:hookonce.db", &redis.url());
    let setup = Setup::new(folder.path(), &on_redis);
    let program = setup.start().await;
    send(&setup, &["evt_1"], 1).await;
    until("it is dead", Duration::from_secs(30), || async {
        program.stats().await.total.dead_now == 1
    })
    .await;
    let overview = async || program.ask("GET", "/", None).await.unwrap();
    let (status, text) = overview().await;
    assert_eq!(status, 200);
    assert!(text.contains("<dt>Dead letters</dt><dd><a href=\"/dead\">1</a>"), "{text}");

    redis.freeze();
    let begun = Instant::now();
    let (status, text) = overview().await;
    assert!(status == 200 && text.contains("The store does not answer."), "{status}: {text}");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "a page that hangs as well says nothing: {took:?}");
    redis.thaw();

    redis.kill();
    let (status, text) = overview().await;
    assert_eq!(status, 200, "that it is away is something to be seen: {text}");
    assert!(text.contains("The store does not answer."), "{text}");
    let unknown = [
        "<dt>Dead letters</dt>",
        "<dt>Waiting</dt>",
        "Nothing has come yet",
        "id=\"sources\"",
        "id=\"handlers\"",
    ];
    for unknown in unknown {
        assert!(!text.contains(unknown), "{unknown} is not known: {text}");
    }

    let unavailable = |command: &str| {
        let output = setup.command_alone(&[command]);
        assert_eq!(output.status.code(), Some(69), "{command}: {output:?}");
    };
    unavailable("stats");
    unavailable("events");
    program.kill();
    unavailable("stats"); // by itself, where no server runs
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_left_open_says_since_when_it_is_not_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(folder.path(), &config_with_tokens("log = true"));
    let program = setup.start().await;
    let browser = Browser::start().await;
    browser.open(&page(&program, "/")).await;
    browser.write("#token", &format!("{TOKEN}\n")).await;
    browser.wait_for("What a yes survives here").await;
    assert!(!browser.text().await.contains("Not up to date"));

    program.kill();
    browser.wait_for("UTC: the server does not answer.").await;
    let text = browser.text().await;
    assert!(text.contains("What a yes survives here"), "what was shown stays: {text}");

    let _program = setup.start().await; // it knows nothing of the session
    browser.wait_for("UTC: log in again.").await;
    let log_in = format!(
        "return fetch('/login', {{ method: 'POST', body: new URLSearchParams({{ token: '{TOKEN}' }}) }})
         .then(answer => answer.ok)"
    );
    assert_eq!(browser.run(&log_in).await, true);
    until("the notice is gone", Duration::from_secs(60), || async {
        !browser.text().await.contains("Not up to date")
    })
    .await;
}
