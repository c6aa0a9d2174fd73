//! What people have said about handlers.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::writer::Work;
use crate::control::{Controls, Setting};

impl Work<'_> {
    pub(super) fn control(&self, handler: &str, setting: Setting) -> rusqlite::Result<()> {
        let sql = "INSERT INTO controls (handler, name, value) VALUES (?1, ?2, ?3)
                   ON CONFLICT (handler, name) DO UPDATE SET value = excluded.value";
        let row = params![handler, setting.name(), setting.value()];
        self.connection.prepare_cached(sql)?.execute(row)?;
        Ok(())
    }
}

pub(super) fn controls(connection: &Connection) -> rusqlite::Result<Controls> {
    let mut controls = Controls::new();
    let mut statement = connection.prepare_cached("SELECT handler, name, value FROM controls")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (handler, name, value): (String, String, String) =
            (row.get(0)?, row.get(1)?, row.get(2)?);
        if let Some(setting) = Setting::read(&name, &value) {
            controls.entry(Arc::from(handler)).or_default().set(setting);
        }
    }
    Ok(controls)
}
