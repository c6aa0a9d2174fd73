//! What people say about handlers is kept.

use hookonce::control::{Control, Limits, Setting};

use super::bench::Bench;

pub(crate) async fn what_was_said_of_a_handler_last_holds(bench: Bench) {
    let say = async |handler: &str, setting| {
        bench.store.control(handler, setting).await.expect("the store keeps it");
    };
    let held = async || bench.store.controls().await.expect("the store tells it");
    assert!(held().await.is_empty());

    let limits = Limits { concurrency: Some(3), rate: "50/s".parse().ok() };
    say("billing", Setting::Paused(true)).await;
    say("billing", Setting::Limits(limits)).await;
    say("mail room", Setting::Paused(true)).await;
    assert_eq!(held().await["billing"], Control { paused: true, limits });
    assert!(held().await["mail room"].paused);

    say("billing", Setting::Paused(false)).await;
    say("billing", Setting::Paused(false)).await;
    assert_eq!(held().await["billing"], Control { paused: false, limits });
    say("billing", Setting::Limits(Limits::default())).await;
    assert_eq!(held().await["billing"], Control::default());
    assert!(held().await["mail room"].paused, "one handler is not another");
}
