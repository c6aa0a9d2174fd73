//! `Idempotency-Key` in front of an API: what its clients and its upstream see.

mod answers;
mod client;
mod concurrent;
mod crash;
mod middleware;
mod operators;
mod outage;
mod outcomes;
mod scope;
mod uploads;
mod upstream;

use std::path::Path;

use self::upstream::Upstream;
use crate::support::program::{Program, Setup};

/// The program in front of an upstream, on a store in memory, with `more` under `[apis.payments]`.
async fn payments(folder: &Path, upstream: &Upstream, more: &str) -> Program {
    setup(folder, "memory:", upstream.port, more).start().await
}

fn setup(folder: &Path, store: &str, upstream_port: u16, more: &str) -> Setup {
    let config = format!(
        "[store]\nurl = \"{store}\"\n[apis.payments]\nupstream = \"http://127.0.0.1:{upstream_port}\"\n{more}"
    );
    Setup::new(folder, &config)
}
