//! The live tail: server-sent events, which a browser reads by itself and a program line by line.

use std::{convert::Infallible, sync::Arc};

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
    web,
};
use bytes::Bytes;
use futures_util::stream;
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer;
use crate::{
    admin::Admin,
    app::App,
    limits,
    telemetry::tail::{Happening, Seen, Watch},
};

/// What to tell.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TailQuery {
    /// Only what is about this source.
    source: Option<String>,
    /// Only what is about this handler.
    handler: Option<String>,
}

impl TailQuery {
    fn takes(&self, happening: &Happening) -> bool {
        let of_source = self.source.as_deref().is_none_or(|wanted| wanted == happening.source());
        let of_handler =
            self.handler.as_deref().is_none_or(|wanted| Some(wanted) == happening.handler());
        of_source && of_handler
    }
}

/// Tells what happens until the client goes away, or the server does.
pub(super) async fn tail(admin: web::Data<Admin>, query: web::Query<TailQuery>) -> HttpResponse {
    let app = Arc::clone(&admin.app);
    let Some(watch) = app.tail.watch() else {
        let (status, why) = (StatusCode::SERVICE_UNAVAILABLE, "too many watch already");
        return answer::problem_with(status, "too_many_watchers", why);
    };
    let begun =
        stream::once(async { Ok::<_, Infallible>(Bytes::from_static(b": here it comes\n\n")) });
    let state = (watch, query.into_inner(), app);
    let lines = stream::unfold(state, |(mut watch, query, app)| async move {
        let text = next(&mut watch, &query, &app).await?;
        Some((Ok(Bytes::from(text)), (watch, query, app)))
    });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("x-accel-buffering", "no")) // nginx would hold it back
        .streaming(futures_util::StreamExt::chain(begun, lines))
}

/// The next piece of the stream. `None`: it ends.
async fn next(watch: &mut Watch, query: &TailQuery, app: &App) -> Option<String> {
    loop {
        tokio::select! {
            seen = watch.next() => match seen? {
                Seen::Happening(happening) if query.takes(&happening) => {
                    let json = serde_json::to_string(&*happening).expect("plain data is always JSON");
                    return Some(format!("data: {json}\n\n"));
                }
                Seen::Happening(_) => {}
                Seen::Missed(count) => return Some(format!("event: missed\ndata: {count}\n\n")),
            },
            // So that a client that has gone away is noticed, and no proxy takes the silence for an end.
            () = tokio::time::sleep(limits::TAIL_KEEP_ALIVE) => return Some(": still here\n\n".to_owned()),
            () = app.tasks.stopping() => return None,
        }
    }
}
