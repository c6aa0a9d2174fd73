//! What a person does with it, in a real browser.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{TOKEN, browser::Browser, config, config_with_tokens, page, send};
use crate::support::{
    program::Setup,
    sink::{Behaviour, Sink},
    until,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A handler that refuses until it is told to be well.
fn ill() -> (Sink, Arc<AtomicBool>) {
    let is_well = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_well);
    let sink = Sink::behaving(move |_| match asked.load(Ordering::SeqCst) {
        true => Behaviour::Status(200, None),
        false => Behaviour::Status(500, None),
    });
    (sink, is_well)
}

fn two_attempts(sink: &Sink) -> String {
    format!(
        "url = \"{}\"\nretry = {{ attempts = 2, first = \"10ms\", max = \"10ms\" }}",
        sink.url()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_found_and_replayed_while_others_come_in() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let setup = Setup::new(folder.path(), &config(&format!("url = \"{}\"", sink.url())));
    let program = setup.start().await;
    let browser = Browser::start().await;
    send(&setup, &["evt_wanted"], 3).await;
    let others = async {
        for number in 0.. {
            send(&setup, &[&format!("evt_{number}")], 1).await;
        }
    };
    let overview = page(&program, "/");
    tokio::select! {
        () = others => unreachable!("they come until the person has done"),
        () = find_and_replay(&browser, &overview) => {}
    }
    assert!(sink.count() > 10, "others came in meanwhile");
    let of_wanted = sink.calls().into_iter().filter(|call| call.event_id == "evt_wanted");
    let mut keys: Vec<_> = of_wanted.map(|call| call.key).collect();
    keys.dedup();
    assert_eq!(keys.len(), 2, "a replay has a key of its own");
    assert!(program.log().contains("a customer asked"), "the reason is in the log");
}

async fn find_and_replay(browser: &Browser, overview: &str) {
    browser.open(overview).await;
    assert!(browser.text().await.contains("What a yes survives here"));

    browser.click("nav a[href='/events']").await;
    browser.write("#id", "evt_wanted\n").await;
    browser.wait_for("evt_wanted").await;
    assert_eq!(browser.run("return document.querySelectorAll('tbody tr').length").await, 1);
    browser.click("tbody a").await;
    browser.reload_until("Ended").await;
    let text = browser.text().await;
    assert!(text.contains("1 attempt."), "{text}");
    assert!(text.contains("\"id\": \"evt_wanted\""), "the body is shown: {text}");
    let duplicates =
        "return [...document.querySelectorAll('[aria-labelledby=duplicates] tbody time')]
        .filter(time => time.dateTime.endsWith('Z')).length";
    assert_eq!(browser.run(duplicates).await, 2, "each duplicate with its time: {text}");
    let attempt = "return [...document.querySelectorAll('[aria-label=Attempts] tbody td')]
        .slice(0, 5).map(cell => cell.innerText.replace(/.* ago|now|\\d+ ms/, '*')).join()";
    assert_eq!(browser.run(attempt).await, "1,*,done,200,*", "{text}");

    browser.click("summary").await;
    browser.write("#reason", "a customer asked").await;
    browser.click("form[action$='/replay'] button").await;
    browser.reload_until("replay of").await;
    let done = "return [...document.querySelectorAll('.delivery > .row .badge')].map(b => b.textContent).join()";
    until("both are done", PATIENCE, || async {
        browser.open(&browser.url().await).await;
        browser.run(done).await == "done,done"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_redriven_one_by_one_and_all_at_a_rate() {
    let folder = tempfile::tempdir().unwrap();
    let (sink, is_well) = ill();
    let setup = Setup::new(folder.path(), &config(&two_attempts(&sink)));
    let program = setup.start().await;
    let browser = Browser::start().await;
    let ids: Vec<String> = (0..30).map(|number| format!("evt_{number}")).collect();
    send(&setup, &ids.iter().map(String::as_str).collect::<Vec<_>>(), 1).await;
    until("all are dead", PATIENCE, || async { program.stats().await.total.dead_now == 30 }).await;
    is_well.store(true, Ordering::SeqCst);

    browser.open(&page(&program, "/dead")).await;
    browser.click("tbody a").await;
    assert!(browser.text().await.contains("said the handler"), "the answer's excerpt is shown");
    browser.click("form[action$='/redrive'] button").await;
    browser.wait_for("queued again").await;
    browser.reload_until("3 attempts.").await;

    browser.open(&page(&program, "/dead")).await;
    browser.run("document.getElementById('per_second').value = '10'").await;
    browser.click("form[action='/dead/redrive'] button").await;
    browser.wait_for("of 29").await;
    assert!(program.stats().await.total.dead_now > 0, "a rate of 10 a second takes its time");
    browser.reload_until("all are queued again").await;
    browser.reload_until("None.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_the_token_logs_in_and_out_and_who_does_not_sees_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(folder.path(), &config_with_tokens("log = true"));
    let program = setup.start().await;
    let browser = Browser::start().await;
    send(&setup, &["evt_hidden"], 1).await;

    browser.open(&page(&program, "/events")).await;
    assert!(!browser.text().await.contains("invoice.paid"));
    browser.write("#token", "a guess\n").await;
    browser.wait_for("That is not the token.").await;
    browser.write("#token", &format!("{TOKEN}\n")).await;
    browser.wait_for("invoice.paid").await;
    assert!(browser.url().await.ends_with("/events"), "it leads where one was going");
    assert_eq!(browser.run("return document.cookie").await, "", "no script reads the cookie");

    browser.click("form[action='/logout'] button").await;
    browser.open(&page(&program, "/events")).await;
    assert!(!browser.text().await.contains("invoice.paid"));
}
