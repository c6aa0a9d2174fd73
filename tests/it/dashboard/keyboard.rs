//! Who has no mouse, or does not see the page, gets everywhere all the same.

use super::{browser::Browser, config, page, send};
use crate::support::program::Setup;

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

/// Controls without a name, or that the keyboard passes over or meets out of order.
const LOST: &str = "
    const controls = [...document.querySelectorAll(
        'a[href], button, input:not([type=hidden]), select, textarea, summary, .scroll, pre.body')];
    const name = (control) => control.matches('a, button, summary') ? control.textContent
        : control.ariaLabel || control.getAttribute('aria-labelledby') || control.labels?.[0]?.textContent || '';
    const isLost = (control) => !name(control).trim() || control.tabIndex !== 0;
    return controls.filter(isLost).map(control => control.outerHTML.slice(0, 200));";

#[tokio::test(flavor = "multi_thread")]
async fn every_control_has_a_name_and_is_reached_by_keyboard_and_pages_fit_a_phone() {
    let folder = tempfile::tempdir().unwrap();
    let handler = "command = [\"false\"]\nretry = { attempts = 1 }";
    let setup = Setup::new(folder.path(), &config(handler));
    let program = setup.start().await;
    send(&setup, &["evt_1"], 2).await;
    let browser = Browser::start().await;
    browser.open(&page(&program, "/dead")).await;
    browser.reload_until("exited with 1").await;
    let event = program.api("GET", "/api/v1/events", None).await;
    let event = format!("/events/{}", event["events"][0]["id"].as_str().unwrap());
    for path in ["/", "/events", &event, "/dead", "/handlers", "/refusals", "/keys", "/tail"] {
        browser.open(&page(&program, path)).await;
        assert_eq!(browser.run(LOST).await, serde_json::json!([]), "{path}");
        for width in [1200, 500] {
            browser.resize(width).await;
            let wide = "return document.documentElement.scrollWidth - innerWidth";
            let over = browser.run(wide).await.as_i64().unwrap();
            assert!(over <= 0, "{path} is wider than a window of {width}, by {over}");
        }
    }

    browser.open(&page(&program, "/events")).await;
    browser.write("body", TAB).await;
    let focused = "return document.activeElement.className || document.activeElement.id";
    assert_eq!(browser.run(focused).await, "skip", "the first stop leads past the navigation");
    browser.write(":focus", ENTER).await;
    assert_eq!(browser.run(focused).await, "main");
    browser.write(":focus", TAB).await;
    assert_eq!(browser.run(focused).await, "id", "the search comes next");
    browser.write(":focus", "evt_1").await;
    browser.write(":focus", ENTER).await;
    browser.wait_for("Duplicates").await;
    assert_eq!(browser.run("return document.querySelectorAll('tbody tr').length").await, 1);
}
