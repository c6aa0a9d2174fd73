//! The admin listener as it meets slow clients, probes, and somebody who has left.

use std::time::Duration;

use reqwest::{Method, header};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    TOKEN,
    access::{ask, form_key, log_in},
    config, config_with_tokens, send,
};
use crate::support::program::Setup;

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_held_back_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let impatient = format!("body_within = \"1s\"\n{}", config_with_tokens("log = true"));
    let setup = Setup::new(folder.path(), &impatient);
    let _program = setup.start().await;
    let mut connection = TcpStream::connect(("127.0.0.1", setup.admin_port)).await.unwrap();
    let head = "POST /login HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/x-www-form-urlencoded\r\n\
        content-length: 20\r\n\r\ntoken=";
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = connection.read_to_string(&mut answer);
    tokio::time::timeout(PATIENCE, read).await.expect("the connection is closed").unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn head_is_answered_like_get_without_the_body() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(folder.path(), &config("log = true"));
    let program = setup.start().await;
    for path in ["/", "/healthz", "/readyz", "/metrics", "/events", "/api/v1/stats", "/nothing"] {
        let got = ask(&program, &Method::GET, path).send().await.unwrap();
        let head = ask(&program, &Method::HEAD, path).send().await.unwrap();
        assert_eq!(head.status(), got.status(), "{path}");
        assert_eq!(head.headers()[header::CONTENT_TYPE], got.headers()[header::CONTENT_TYPE]);
        assert!(head.headers().contains_key("content-security-policy"), "{path}");
        assert_eq!(head.text().await.unwrap(), "", "{path}");
    }
    let endless = ask(&program, &Method::HEAD, "/api/v1/tail").send();
    let endless = tokio::time::timeout(PATIENCE, endless).await.expect("it ends").unwrap();
    assert_eq!((endless.status().as_u16(), &*endless.text().await.unwrap()), (200, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_logged_out_sees_nothing_more_of_what_happens() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(folder.path(), &config_with_tokens("log = true"));
    let program = setup.start().await;
    let cookie = log_in(&program, TOKEN).await;
    let watch = ask(&program, &Method::GET, "/api/v1/tail").header(header::COOKIE, &cookie);
    let mut watched = watch.send().await.unwrap();
    send(&setup, &["evt_before"], 1).await;
    let mut seen = String::new();
    while !seen.contains("evt_before") {
        let chunk = tokio::time::timeout(PATIENCE, watched.chunk()).await.unwrap().unwrap();
        seen += std::str::from_utf8(&chunk.expect("it goes on")).unwrap();
    }
    let key = form_key(&program, "/dead", &cookie).await;
    let out = ask(&program, &Method::POST, "/logout").header(header::COOKIE, &cookie);
    let out = out.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let out = out.body(format!("form_key={key}")).send().await.unwrap();
    assert_eq!(out.status(), 303);

    send(&setup, &["evt_after"], 1).await;
    let rest = tokio::time::timeout(PATIENCE, watched.text()).await.expect("it ends").unwrap();
    assert!(!rest.contains("evt_after"), "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_id_names_nothing_and_the_page_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(folder.path(), &config("log = true"));
    let program = setup.start().await;
    for (path, problem) in [
        ("/events/x1", "there is no event x1"),
        ("/refusals/x1", "there is no refusal x1"),
        ("/events/x1/replay", "there is no event x1"),
        ("/deliveries/x1/redrive", "there is no delivery x1"),
        ("/keys/x1/resolve", "there is no key x1"),
    ] {
        let method = if path.matches('/').count() == 2 { Method::GET } else { Method::POST };
        let answer = ask(&program, &method, path).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
        let text = answer.text().await.unwrap();
        assert!(text.contains(problem), "{path}: {text}");
        assert!(text.contains("href=\"/dead\""), "{path}: the navigation is there: {text}");
    }
}
