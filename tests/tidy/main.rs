//! The rules of this house as tests: who may know whom, what must be said where, what must not rot.
//!
//! A rule worth having is a test. What is made from the code is written again by
//! `UPDATE=1 cargo test --test tidy`.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod documents;
mod metrics;
mod modules;
mod project;
mod text;
