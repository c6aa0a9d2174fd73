//! What people have said about handlers.

use std::sync::Arc;

use tokio_postgres::types::ToSql;

use super::{
    codes::get,
    connection::{Purpose, Turn},
    error::Trouble,
};
use crate::control::{Controls, Setting};

/// The statements of this file that write.
pub(super) const STATEMENTS: &[&str] = &[SET];

/// Those that read.
pub(super) const READING_STATEMENTS: &[&str] = &[ALL];

const SET: &str = "INSERT INTO controls (handler, name, value) VALUES ($1, $2, $3)
    ON CONFLICT (handler, name) DO UPDATE SET value = excluded.value";

const ALL: &str = "SELECT handler, name, value FROM controls";

/// See [`Store::control`](crate::store::Store::control).
pub(super) async fn set(turn: &Turn<'_>, handler: &str, setting: Setting) -> Result<(), Trouble> {
    let begin = turn.begin(Purpose::Serve);
    tokio::try_join!(biased; begin, write(turn, handler, setting), turn.commit()).map(drop)
}

/// Writes it, in a transaction that is begun.
pub(super) async fn write(turn: &Turn<'_>, handler: &str, setting: Setting) -> Result<(), Trouble> {
    let (name, value) = (setting.name(), setting.value());
    let values: [&(dyn ToSql + Sync); 3] = [&handler, &name, &value];
    turn.execute(SET, &values).await.map(drop)
}

/// See [`Store::controls`](crate::store::Store::controls).
pub(super) async fn all(turn: &Turn<'_>) -> Result<Controls, Trouble> {
    let mut controls = Controls::new();
    for row in turn.query(ALL, &[]).await? {
        let handler: String = get(&row, "handler")?;
        if let Some(setting) = Setting::read(get(&row, "name")?, get(&row, "value")?) {
            controls.entry(Arc::from(handler)).or_default().set(setting);
        }
    }
    Ok(controls)
}
