//! What people have said about handlers: one hash, whose fields are the thing, a space, the handler.

use std::{collections::HashMap, sync::Arc};

use super::{connection::Session, keys::Bucket};
use crate::{
    control::{Controls, Setting},
    store::StoreError,
};

pub(super) async fn set(
    session: &Session,
    bucket: &Bucket,
    handler: &str,
    setting: Setting,
) -> Result<(), StoreError> {
    let mut command = redis::cmd("HSET");
    command.arg(key(bucket)).arg(format!("{} {handler}", setting.name())).arg(setting.value());
    session.query(&command).await
}

pub(super) async fn all(session: &Session, bucket: &Bucket) -> Result<Controls, StoreError> {
    let mut command = redis::cmd("HGETALL");
    command.arg(key(bucket));
    let fields: HashMap<String, String> = session.query(&command).await?;
    let mut controls = Controls::new();
    for (field, value) in &fields {
        let Some((name, handler)) = field.split_once(' ') else { continue };
        if let Some(setting) = Setting::read(name, value) {
            controls.entry(Arc::from(handler)).or_default().set(setting);
        }
    }
    Ok(controls)
}

fn key(bucket: &Bucket) -> Vec<u8> {
    bucket.key("C", b"")
}
