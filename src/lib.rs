//! hookonce receives webhooks: it checks who sent them, remembers each event once, queues it in the
//! same step, answers, and runs the handler from the queue. A provider's retry never triggers a
//! handler twice, and nothing that was answered 200 is lost.
//!
//! It is a program (`hookonce serve`) and this library, which mounts into your own actix-web App:
//!
//! ```no_run
//! use hookonce::{Hookonce, from, on};
//!
//! # async fn start() -> Result<(), Box<dyn std::error::Error>> {
//! let hooks = Hookonce::builder()
//!     .store("sqlite:hookonce.db")
//!     .source("stripe", from("stripe").secret("whsec_…"))
//!     .handler("billing", on("stripe", ["invoice.*"]), |event, attempt| async move {
//!         println!("attempt {}: {:?}", attempt.number, event.event_type);
//!     })
//!     .build()
//!     .await?; // everything that can be wrong is told here, at once
//! let workers = hooks.spawn_workers();
//! let routes = hooks.routes(); // for `actix_web::App::configure`
//! # Ok(())
//! # }
//! ```
//!
//! To read the code, begin with the three paths, [`receive`], [`work`] and [`idempotency`]; every other module is a part
//! that one of them names. `docs/ARCHITECTURE.md` draws the house.

// The paths.
pub mod idempotency;
pub mod receive;
pub mod work;

// What is left to do after an answer.
pub mod notifier;
pub mod outbound;

// What work stands on.
mod leases;
mod schedule;
mod unwritten;

// What they share, and who puts it together.
pub mod admin;
pub mod app;
pub mod config;
mod configured;
pub mod controls;
pub mod doctor;
pub mod hookonce;
pub mod prune;
pub mod refusal_log;
pub mod reload;

// The parts.
pub mod catalogue;
pub mod errands;
pub mod fixture;
pub mod handed_over;
pub mod handler;
pub mod http;
pub mod keyring;
pub mod notice;
pub mod provider;
pub mod store;
pub mod verify;

// The nouns: plain data.
pub mod api;
pub mod control;
pub mod delivery;
pub mod event;
mod id;
pub mod key;
pub mod order;
pub mod rate;
pub mod receipt;
pub mod refusal;
pub mod request;
pub mod retry;
pub mod secret;
pub mod setup;
pub mod source;

// What everything stands on.
pub mod clock;
pub mod limits;
mod private;
pub mod seal;
pub mod shutdown;
pub mod telemetry;
pub mod tls;

pub use crate::{
    event::Event,
    handler::{Attempt, Handler, Outcome},
    hookonce::{BuildError, Hookonce, Interest, SourceSpec, Workers, from, on},
};
