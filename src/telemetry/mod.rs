//! What the operator sees: logs, metrics and traces. None ever shows a secret, a body or a header.

pub mod history;
pub mod log;
pub mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod tail;
pub mod trace;
