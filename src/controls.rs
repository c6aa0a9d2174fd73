//! Follows what people say about handlers: it is in the store, and whoever says it may do so to another
//! process.

use std::sync::Arc;

use crate::{app::App, limits, shutdown::Tasks, store::StoreError};

/// Reads it again and again until it is told to stop. Until it was read once no handler runs: one that
/// is paused must not run for a moment after each restart.
pub async fn follow(app: Arc<App>, tasks: Tasks) {
    let mut failing = false;
    while !tasks.is_stopping() {
        let read = read(&app).await;
        if let (Err(error), false) = (&read, failing) {
            tracing::warn!(%error, "cannot read whether handlers are paused: what was known goes on");
        }
        failing = read.is_err();
        tokio::select! {
            () = tokio::time::sleep(limits::CONTROLS_INTERVAL) => {}
            () = tasks.stopping() => {}
        }
    }
}

/// Reads it once, and has it hold from here on.
///
/// # Errors
/// When the store cannot be read. Then what was known goes on.
pub async fn read(app: &App) -> Result<(), StoreError> {
    let controls = tokio::time::timeout(limits::ANSWER_DEADLINE, app.store.controls()).await;
    let no_answer = |_| StoreError::Unavailable("it does not answer".to_owned());
    app.set_controls(controls.map_err(no_answer)??);
    Ok(())
}
