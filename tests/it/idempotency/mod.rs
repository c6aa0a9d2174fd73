//! `Idempotency-Key` in front of an API: what its clients and its upstream see.

mod client;
mod upstream;

use std::{path::Path, time::Duration};

use self::{
    client::{Message, charge, request, send},
    upstream::{Reply, Upstream, answer, ok},
};
use crate::support::program::{Program, Setup};

/// The program in front of an upstream, with `more` under `[apis.payments]`.
async fn payments(folder: &Path, upstream: &Upstream, more: &str) -> Program {
    setup(folder, "memory:", upstream.port, more).start().await
}

fn setup(folder: &Path, store: &str, upstream_port: u16, more: &str) -> Setup {
    let config = format!(
        "[store]\nurl = \"{store}\"\n[apis.payments]\nupstream = \"http://127.0.0.1:{upstream_port}\"\n{more}"
    );
    Setup::new(folder, &config)
}

#[tokio::test]
async fn a_retry_gets_the_first_answer_again() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|_, before| ok(&format!("charge {before}"))).await;
    let program = payments(folder.path(), &upstream, "").await;

    let first = charge(program.port, "k1").await;
    assert_eq!((first.status(), first.text()), (200, "charge 0".to_owned()));
    assert!(!first.is_replayed());
    let again = charge(program.port, "\"k1\"").await;
    assert_eq!((again.status(), again.text()), (200, "charge 0".to_owned()));
    assert!(again.is_replayed());
    assert!(!again.header("hookonce-key-expires").is_empty());
    let other = charge(program.port, "k2").await;
    assert_eq!(other.text(), "charge 1");
    assert_eq!(upstream.count(), 2);
}
