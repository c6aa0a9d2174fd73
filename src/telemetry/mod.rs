//! What the operator sees: logs and metrics. Neither ever shows a secret, a body or a header.

pub mod history;
pub mod log;
pub mod metrics;
pub mod tail;
