//! What people have said about handlers: one hash in the first bucket, whose fields are the thing, a space, the handler.

use std::{collections::HashMap, sync::Arc};

use super::{
    bucket::Served,
    scripts::{self, Call},
};
use crate::{
    control::{Controls, Setting},
    store::StoreError,
};

/// The bucket it lies in.
pub(super) const HOME: usize = 0;

/// The field of a setting.
pub(super) fn field(handler: &str, setting: Setting) -> String {
    format!("{} {handler}", setting.name())
}

pub(super) async fn set(
    served: &Served,
    handler: &str,
    setting: Setting,
) -> Result<(), StoreError> {
    let session = served.connection.session().await?;
    let mut call = Call::of(&scripts::CONTROL, &session);
    call.arg(field(handler, setting)).arg(setting.value());
    session.call(&call).await
}

pub(super) async fn all(served: &Served) -> Result<Controls, StoreError> {
    let mut command = redis::cmd("HGETALL");
    command.arg(key(served));
    let fields: HashMap<String, String> =
        served.connection.session().await?.query(&command).await?;
    let mut controls = Controls::new();
    for (field, value) in &fields {
        let Some((name, handler)) = field.split_once(' ') else { continue };
        if let Some(setting) = Setting::read(name, value) {
            controls.entry(Arc::from(handler)).or_default().set(setting);
        }
    }
    Ok(controls)
}

fn key(served: &Served) -> Vec<u8> {
    served.bucket.key("C", b"")
}
