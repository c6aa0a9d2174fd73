//! Everything that talks to a running hookonce: the real program, on a real store, over real sockets.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![expect(
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "tests are no server: they may panic, and they read the clock they need"
)]

#[path = "../support/postgres_server.rs"]
#[expect(dead_code, reason = "tests/store.rs uses the rest of it")]
mod postgres_server;
#[path = "../support/redis_cluster.rs"]
#[expect(dead_code, reason = "tests/store.rs uses the rest of it")]
mod redis_cluster;
#[path = "../support/redis_server.rs"]
mod redis_server;
mod support;

mod at_once;
mod backup;
mod batch;
mod bodies;
mod cli;
mod config;
mod controls;
mod crash;
mod dashboard;
mod doctor;
mod exactly_once;
mod failover;
mod faults;
mod handlers;
mod idempotency;
mod installation;
mod leftovers;
mod moving;
mod notices;
mod openapi;
mod order;
mod outage;
mod power_cut;
mod privacy;
mod receive;
mod reload;
mod remote;
mod sdk;
mod shadow;
mod telemetry;
mod tls;
mod wishes;
