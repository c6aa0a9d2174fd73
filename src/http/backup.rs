//! A backup, taken by the server and written down by whoever asked for it: what holds the admin token
//! must not get to write files on the server.

use std::io;

use actix_web::{HttpResponse, body::SizedStream, http::header, web};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use tokio::{fs::File, io::AsyncReadExt as _};

use super::admin::not_told;
use crate::{
    admin::{Admin, AdminError},
    store::snapshot::Snapshot,
};

/// How much of the copy is read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Takes a snapshot of the store, and gives it with its length in front: an answer that is cut off cannot
/// pass for a whole one.
///
/// It is a POST because it is work, and for those who may do more than look.
pub(super) async fn backup(admin: web::Data<Admin>) -> HttpResponse {
    let snapshot = match admin.app.store.snapshot().await {
        Ok(Some(snapshot)) => snapshot,
        Ok(None) => {
            let why = "this store is backed up with its own tools: docs/OPERATIONS.md says how";
            return not_told(&AdminError::Invalid(why.to_owned()));
        }
        Err(error) => return not_told(&error.into()),
    };
    tracing::info!(bytes = snapshot.bytes, "somebody takes a backup of the store");
    HttpResponse::Ok()
        .content_type("application/vnd.sqlite3")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CONTENT_DISPOSITION, "attachment; filename=\"hookonce.db\""))
        .body(SizedStream::new(snapshot.bytes, chunks(snapshot)))
}

fn chunks(snapshot: Snapshot) -> impl Stream<Item = io::Result<Bytes>> {
    let Snapshot { file, turn, .. } = snapshot;
    let begun = (File::from_std(file), turn);
    stream::try_unfold(begun, |(mut file, turn)| async move {
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        let read = file.read_buf(&mut chunk).await?;
        Ok((read > 0).then(|| (chunk.freeze(), (file, turn))))
    })
}
