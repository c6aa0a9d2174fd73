//! What Postgres' errors mean to whoever asked.

use tokio_postgres::{
    Error,
    error::{Severity, SqlState},
};

use crate::store::{StoreError, moving::Standing};

/// The code of `in_time` in `schema.sql`.
const LATE: &str = "HKL01";

/// The code of `enter` there. What it says is how the store stands.
const MOVING: &str = "HKL02";

/// Why a transaction came to nothing.
#[derive(Debug)]
pub(super) struct Trouble {
    /// What it is to whoever asked.
    pub(super) error: StoreError,
    /// Whether it may be about one call in a batch, so that the others are worth trying alone.
    pub(super) is_of_one: bool,
    /// Whether the connection can be used again, once the transaction is rolled back.
    pub(super) is_connected: bool,
}

impl Trouble {
    /// The server holds, or answered, what nobody here wrote.
    pub(super) fn odd(what: &str) -> Self {
        let error = StoreError::Failed(format!("postgres answered oddly: {what}"));
        Self { error, is_of_one: true, is_connected: true }
    }

    /// We break the transaction off ourselves.
    pub(super) fn refused(error: StoreError) -> Self {
        Self { error, is_of_one: false, is_connected: true }
    }

    /// No answer, or none in time: what was asked may have been done or not.
    pub(super) fn silent(why: impl Into<String>) -> Self {
        let error = StoreError::Unavailable(why.into());
        Self { error, is_of_one: false, is_connected: false }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let Some(said) = error.as_db_error() else { return Self::silent(told(&error)) };
        let code = said.code();
        let text = format!("postgres said: {} ({})", said.message(), code.code());
        let class = code.code().get(..2).unwrap_or_default();
        let is_session_over =
            matches!(said.parsed_severity(), Some(Severity::Fatal | Severity::Panic) | None);
        // A primary that became a standby takes no write any more: another may have its address. And
        // what was prepared before a migration may not fit any more.
        let is_stale = *code == SqlState::READ_ONLY_SQL_TRANSACTION
            || *code == SqlState::FEATURE_NOT_SUPPORTED;
        let is_moving = code.code() == MOVING;
        let is_of_one =
            !is_moving && !matches!(class, "08" | "25" | "28" | "3D" | "53" | "57" | "58" | "XX");
        let error = match class {
            _ if code.code() == LATE => StoreError::Late,
            _ if is_moving => moving(said.message()),
            "53" => StoreError::Full(text),
            "08" | "0A" | "25" | "40" | "55" | "57" | "58" => StoreError::Unavailable(text),
            _ => StoreError::Failed(text),
        };
        Self { error, is_of_one, is_connected: !is_session_over && !is_stale }
    }
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        trouble.error
    }
}

/// What whoever wants to serve from a store that stands like this is told.
fn moving(standing: &str) -> StoreError {
    match standing.parse::<Standing>() {
        Ok(standing) => standing.refusal_or("it does not serve now"),
        Err(unknown) => unknown,
    }
}

/// What the client says about an error that the server did not send, with its cause.
fn told(error: &Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    match cause {
        Some(cause) => format!("postgres: {error}: {cause}"),
        None => format!("postgres: {error}"),
    }
}
