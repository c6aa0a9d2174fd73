//! hookonce receives webhooks: it checks who sent them, remembers each event once, queues it in the
//! same step, answers, and runs the handler from the queue.

pub mod clock;
pub mod config;
pub mod delivery;
pub mod event;
pub mod fixture;
pub mod handler;
pub mod limits;
pub mod provider;
pub mod receipt;
pub mod refusal;
pub mod request;
pub mod retry;
pub mod secret;
pub mod source;
pub mod store;
pub mod verify;
