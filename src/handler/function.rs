//! The handler that is Rust code: an async closure.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use crate::{
    event::Event,
    handler::{Attempt, Handler, Outcome},
};

/// Runs an async closure for every attempt.
///
/// ```
/// use hookonce::handler::{FunctionHandler, Outcome};
///
/// #[derive(serde::Deserialize)]
/// struct Invoice {
///     total: u64,
/// }
///
/// let billing = FunctionHandler::new(|event, attempt| async move {
///     let invoice: Invoice = event.json()?;
///     if invoice.total == 0 {
///         return Ok(Outcome::rejected("an invoice over nothing"));
///     }
///     // Charge with `attempt.delivery` as the idempotency key.
///     # let _ = attempt;
///     anyhow::Ok(Outcome::done())
/// });
/// # let _ = billing;
/// ```
pub struct FunctionHandler<F>(F);

/// What a handler's closure may return.
pub trait IntoOutcome {
    /// How the attempt ended.
    fn into_outcome(self) -> Outcome;
}

impl<F, R> FunctionHandler<F>
where
    F: Fn(Arc<Event>, Attempt) -> R + Send + Sync,
    R: Future<Output: IntoOutcome> + Send,
{
    /// The handler that runs `function`.
    ///
    /// Its future returns nothing (done), a `Result` (an error is a failed attempt, to be tried
    /// again), or an [`Outcome`], bare or in a `Result`.
    pub fn new(function: F) -> Self {
        Self(function)
    }
}

#[async_trait]
impl<F, R> Handler for FunctionHandler<F>
where
    F: Fn(Arc<Event>, Attempt) -> R + Send + Sync,
    R: Future<Output: IntoOutcome> + Send,
{
    async fn handle(&self, event: Arc<Event>, attempt: Attempt) -> Outcome {
        (self.0)(event, attempt).await.into_outcome()
    }
}

impl<F> fmt::Debug for FunctionHandler<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FunctionHandler(…)")
    }
}

/// Nothing to say: done.
impl IntoOutcome for () {
    fn into_outcome(self) -> Outcome {
        Outcome::done()
    }
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

/// An error is a failed attempt. It is written in its long form, which for `anyhow` tells the
/// causes.
impl<T: IntoOutcome, E: fmt::Display> IntoOutcome for Result<T, E> {
    fn into_outcome(self) -> Outcome {
        match self {
            Ok(value) => value.into_outcome(),
            Err(error) => Outcome::failed(format_args!("{error:#}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;
    use crate::handler::tests::{attempt, event};

    async fn outcome(handler: impl Handler + 'static) -> Outcome {
        let handler: Arc<dyn Handler> = Arc::new(handler);
        handler.handle(event(), attempt()).await
    }

    #[tokio::test]
    async fn nothing_and_ok_are_done() {
        let nothing = FunctionHandler::new(|_, _| async {});
        assert_eq!(outcome(nothing).await, Outcome::done());
        let ok = FunctionHandler::new(|_, _| async { Ok::<_, String>(()) });
        assert_eq!(outcome(ok).await, Outcome::done());
    }

    #[tokio::test]
    async fn an_outcome_is_itself() {
        let bare = FunctionHandler::new(|_, _| async { Outcome::rejected("never") });
        assert_eq!(outcome(bare).await, Outcome::rejected("never"));
        let wrapped = FunctionHandler::new(|_, _| async { anyhow::Ok(Outcome::rejected("never")) });
        assert_eq!(outcome(wrapped).await, Outcome::rejected("never"));
    }

    #[tokio::test]
    async fn errors_of_several_types_go_through_a_question_mark() {
        type Problem = Box<dyn std::error::Error + Send + Sync>;
        let handler = FunctionHandler::new(|event, attempt| async move {
            let _body: serde_json::Value = event.json()?;
            let _number: u8 = "no number".parse()?;
            assert_eq!(attempt.number, 2, "never reached");
            Ok::<_, Problem>(())
        });
        let failed = Outcome::failed("invalid digit found in string");
        assert_eq!(outcome(handler).await, failed);
    }

    #[tokio::test]
    async fn the_causes_of_an_error_are_told() {
        let handler = FunctionHandler::new(|_, _| async {
            "x".parse::<u8>().context("no amount")?;
            anyhow::Ok(())
        });
        let failed = Outcome::failed("no amount: invalid digit found in string");
        assert_eq!(outcome(handler).await, failed);
    }
}
