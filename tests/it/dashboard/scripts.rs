//! Somebody who writes HTML into every field that reaches a page: nothing of it becomes more than text.

use std::time::Duration;

use super::{api_that_hangs_up, browser::Browser, config, page};
use crate::support::{
    program::{Program, Setup},
    sender::{Connection, Sender},
    until,
};

/// Breaks out of attributes, elements and scripts, and leaves a trace if it gets anywhere. It says in which
/// field it was written, so that a page is known to show that field.
fn evil(field: &str) -> String {
    format!(
        "{field}'\"></title></pre></script><b class=pwned></b><script>window.pwned=1</script><img src=x onerror=window.pwned=1>"
    )
}

const PATIENCE: Duration = Duration::from_secs(30);

/// A source whose events die, with what its handler says; and an API of which nobody knows what it did.
fn evil_config() -> String {
    let script = format!("printf '%s' {}; exit 65", shell_quoted(&evil("said")));
    let command = serde_json::to_string(&script).unwrap();
    let handler = format!("command = [\"sh\", \"-c\", {command}]\nretry = {{ attempts = 1 }}");
    config(&handler) + &api_that_hangs_up()
}

/// What a stranger, a provider, a client and a handler could write, as far as requests can hold it.
async fn write_everywhere(setup: &Setup, program: &Program) {
    let json = |field: &str| serde_json::to_string(&evil(field)).unwrap();
    let body = format!(
        "{{\"id\":{},\"type\":{},\"data\":{},{}:1}}",
        json("id"),
        json("type"),
        json("data"),
        json("name")
    );
    let header = evil("header");
    let request = Sender::new().signed(&body, &[("x-evil", &header), ("user-agent", &header)]);
    let request = String::from_utf8(request).unwrap();
    let mut connection = Connection::to(setup.port);
    for _ in 0..2 {
        assert_eq!(connection.send(request.as_bytes()).await.unwrap().status, 200);
    }
    // A path with `<`, `>` or `"` in it is no request at all, so there they come encoded.
    let forged = request.replace("v1=", "v1=0");
    let forged =
        forged.replace("/webhooks/stripe ", "/webhooks/stripe?path='%22%3E%3Cscript%3Ealert(1) ");
    assert_eq!(connection.send(forged.as_bytes()).await.unwrap().status, 401);
    let unknown = forged.replace("/webhooks/stripe", "/webhooks/%22%3E%3Cb%20class=pwned%3E");
    assert_eq!(connection.send(unknown.as_bytes()).await.unwrap().status, 404);
    let keyed = format!(
        "POST /payments/'%22%3E%3Cscript%3E HTTP/1.1\r\nhost: 127.0.0.1\r\nidempotency-key: \"{}\"\r\ncontent-length: 2\r\n\r\n{{}}",
        evil("key").replace('"', "\\\"")
    );
    let status = Connection::to(setup.port).send(keyed.as_bytes()).await.unwrap().status;
    assert_eq!(status, 502, "nobody knows what became of it");
    until("it is dead and the refusal is kept", PATIENCE, || async {
        let refusals = program.api("GET", "/api/v1/refusals", None).await;
        let dead = program.stats().await.total.dead_now == 1;
        dead && !refusals["refusals"].as_array().unwrap().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_writes_stays_text_on_every_page() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(folder.path(), &evil_config());
    let program = setup.start().await;
    let browser = Browser::start().await;
    write_everywhere(&setup, &program).await;
    let event = first_id(&program, "events").await;
    let refusal = first_id(&program, "refusals").await;
    let in_an_address =
        "%22%3E%3Cb%20class%3Dpwned%3E%3C/b%3E%3Cscript%3Ewindow.pwned=1%3C/script%3E";
    // The page, and the fields that it shows.
    let pages: &[(&str, &[&str])] = &[
        ("/", &[]),
        ("/events", &["id", "type"]),
        (&format!("/events/{event}"), &["id", "type", "data", "name", "header", "said"]),
        (&format!("/events?id={in_an_address}&type={in_an_address}"), &[]),
        (&format!("/events?source={in_an_address}&state={in_an_address}"), &[]),
        (&format!("/events?since={in_an_address}&before={in_an_address}"), &[]),
        (&format!("/events/{in_an_address}"), &[]),
        ("/dead", &[]),
        (&format!("/dead?handler={in_an_address}"), &[]),
        ("/handlers", &[]),
        ("/refusals", &[]),
        (&format!("/refusals?source={in_an_address}"), &[]),
        (&format!("/refusals/{refusal}"), &["id", "type", "data", "name", "header"]),
        ("/keys", &["key"]),
        (&format!("/keys?api={in_an_address}&state={in_an_address}"), &[]),
        ("/tail", &["type"]),
        (&format!("/login?next={in_an_address}"), &[]),
        (&format!("/{in_an_address}"), &[]),
    ];
    for (path, fields) in pages {
        browser.open(&page(&program, path)).await;
        check(&browser, path).await;
        // All of it, also what is folded; in a body a quote has a backslash before it.
        let text = browser.run("return document.body.textContent").await;
        let text = text.as_str().unwrap().replace("\\\"", "\"");
        for field in *fields {
            assert!(text.contains(&shown(field)), "{path} shows {field}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_writes_stays_text_on_the_live_page() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(folder.path(), &evil_config());
    let program = setup.start().await;
    let browser = Browser::start().await;
    browser.open(&page(&program, "/tail")).await;
    browser.wait_for("live").await;
    write_everywhere(&setup, &program).await;
    browser.wait_for("attempt 1").await;
    browser.wait_for("refused").await;
    check(&browser, "/tail").await;
    assert!(browser.text().await.contains(&shown("type")), "the live page shows the text");
}

/// What would slip through the templates would still be met by the policy; and these tests would see what
/// slips through both.
#[tokio::test(flavor = "multi_thread")]
async fn the_policy_stops_what_is_put_into_a_page_and_without_it_this_test_would_see_it() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(folder.path(), &config("log = true"));
    let program = setup.start().await;
    let browser = Browser::start().await;
    let written = serde_json::to_string(&evil("all")).unwrap();
    let write = format!(
        "document.body.innerHTML = {written};
         const script = document.createElement('script');
         script.textContent = 'window.pwned = 1';
         document.body.append(script);"
    );
    browser.open(&page(&program, "/")).await;
    browser.run(&write).await;
    assert!(elements(&browser).await > 0, "it is in the page");
    let is_gone = "return [...document.images].every(image => image.complete)";
    until("the image is not there", PATIENCE, || async { browser.run(is_gone).await == true })
        .await;
    assert!(!has_run(&browser).await, "the policy lets no script in a page run");

    browser.open("about:blank").await;
    browser.run(&write).await;
    until("it runs", PATIENCE, || async { has_run(&browser).await }).await;
}

async fn first_id(program: &Program, list: &str) -> String {
    let found = program.api("GET", &format!("/api/v1/{list}"), None).await;
    found[list][0]["id"].as_str().unwrap().to_owned()
}

/// How a field looks as text.
fn shown(field: &str) -> String {
    evil(field).split("<script").next().unwrap().to_owned()
}

async fn check(browser: &Browser, path: &str) {
    assert_eq!(elements(browser).await, 0, "{path}: what a stranger wrote became elements");
    assert!(!has_run(browser).await, "{path}: a script ran");
    let refresh = browser.run("return document.querySelectorAll('base, meta[http-equiv]').length");
    assert_eq!(refresh.await, 0, "{path}");
}

/// How many elements there are that only a stranger can have written.
async fn elements(browser: &Browser) -> u64 {
    let written =
        "return document.querySelectorAll('.pwned, [onerror], body img, body script').length";
    browser.run(written).await.as_u64().unwrap()
}

async fn has_run(browser: &Browser) -> bool {
    browser.run("return window.pwned === 1").await == true
}

fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
