//! Somebody who writes HTML into every field that reaches a page: nothing of it becomes more than text.

use super::{browser::Browser, config, page};
use crate::support::{
    program::Setup,
    sender::{Connection, Sender},
    until,
};

/// Breaks out of attributes, elements and scripts, and leaves a trace if it gets anywhere.
const EVIL: &str = "'\"></title></pre></script><b class=pwned></b><script>window.pwned=1</script><img src=x onerror=window.pwned=1>";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sender_writes_stays_text_on_every_page() {
    let folder = tempfile::tempdir().unwrap();
    // The handler's answer and error text come from outside too.
    let handler = format!(
        "command = [\"sh\", \"-c\", {}]\nretry = {{ attempts = 1 }}",
        serde_json::to_string(&format!("printf '%s' {}; exit 65", shell_quoted(EVIL))).unwrap()
    );
    let setup = Setup::new(folder.path(), &config(&handler));
    let program = setup.start().await;
    let browser = Browser::start().await;
    let (sender, mut connection) = (Sender::new(), Connection::to(setup.port));
    let evil = serde_json::to_string(EVIL).unwrap();
    let body = format!(r#"{{"id":{evil},"type":{evil},"data":{evil},{evil}:1}}"#);
    let headers = [("x-evil", EVIL), ("user-agent", EVIL)];
    let request = sender.signed(&body, &headers);
    for _ in 0..2 {
        assert_eq!(connection.send(&request).await.unwrap().status, 200);
    }
    let forged = String::from_utf8(request.clone()).unwrap().replace("v1=", "v1=0");
    let forged = forged.replace("/webhooks/stripe ", "/webhooks/stripe?a=%22%3E%3Cscript%3E ");
    assert_eq!(connection.send(forged.as_bytes()).await.unwrap().status, 401);
    until("it is dead and the refusal is kept", std::time::Duration::from_secs(30), || async {
        let refusals = program.api("GET", "/api/v1/refusals", None).await;
        let dead = program.stats().await.total.dead_now == 1;
        dead && !refusals["refusals"].as_array().unwrap().is_empty()
    })
    .await;

    let event = program.api("GET", "/api/v1/events", None).await;
    let event = event["events"][0]["id"].as_str().unwrap().to_owned();
    let refusal = program.api("GET", "/api/v1/refusals", None).await;
    let refusal = refusal["refusals"][0]["id"].as_str().unwrap().to_owned();
    for (path, is_shown) in [
        ("/".to_owned(), false),
        ("/events".to_owned(), true),
        (format!("/events/{event}"), true),
        (
            "/events?id=%22%3E%3Cb%20class%3Dpwned%3E&type=%22%3E%3Cb%20class%3Dpwned%3E"
                .to_owned(),
            false,
        ),
        ("/events?before=%22%3E%3Cb%20class%3Dpwned%3E".to_owned(), false),
        ("/dead".to_owned(), false),
        ("/refusals".to_owned(), false),
        (format!("/refusals/{refusal}"), true),
        ("/keys".to_owned(), false),
        ("/login?next=%22%3E%3Cb%20class%3Dpwned%3E".to_owned(), false),
        ("/%22%3E%3Cb%20class=pwned%3E".to_owned(), false),
    ] {
        browser.open(&page(&program, &path)).await;
        check(&browser, &path).await;
        assert!(!is_shown || browser.text().await.contains("onerror="), "{path} shows the text");
    }

    browser.open(&page(&program, "/tail")).await;
    browser.wait_for("live").await;
    let again = body.replacen("\"id\":\"", "\"id\":\"another", 1);
    // A new connection: the server has closed the first one, which nobody used for long.
    let mut connection = Connection::to(setup.port);
    connection.send(&sender.signed(&again, &headers)).await.unwrap();
    browser.wait_for("attempt 1").await;
    check(&browser, "/tail").await;
    assert!(browser.text().await.contains("onerror="), "the live page shows the text");
}

async fn check(browser: &Browser, path: &str) {
    let made =
        "return document.querySelectorAll('.pwned, [onerror], main img, main script').length";
    assert_eq!(browser.run(made).await, 0, "{path}: HTML of a sender became elements");
    assert!(browser.run("return window.pwned ?? null").await.is_null(), "{path}: a script ran");
}

fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
