//! The live tail: server-sent events, which a browser reads by itself and a program line by line.

use std::{convert::Infallible, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web,
};
use bytes::Bytes;
use futures_util::stream;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    answer,
    guard::{Caller, Guard, session_of},
};
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

/// Tells what happens until the client goes away or is logged out, or the server ends.
pub(super) async fn tail(
    admin: web::Data<Admin>,
    guard: web::Data<Guard>,
    caller: Caller,
    request: HttpRequest,
    query: web::Query<TailQuery>,
) -> HttpResponse {
    let Some(watch) = admin.app.tail.watch() else {
        let (status, why) = (StatusCode::SERVICE_UNAVAILABLE, "too many watch already");
        return answer::problem_with(status, "too_many_watchers", why);
    };
    let session = session_of(request.headers()).filter(|_| caller.has_session).map(str::to_owned);
    let app = Arc::clone(&admin.app);
    let teller =
        Teller { watch, query: query.into_inner(), app, guard: guard.into_inner(), session };
    let begun =
        stream::once(async { Ok::<_, Infallible>(Bytes::from_static(b": here it comes\n\n")) });
    let lines = stream::unfold(teller, |mut teller| async move {
        let text = teller.next().await?;
        Some((Ok(Bytes::from(text)), teller))
    });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("x-accel-buffering", "no")) // nginx would hold it back
        .streaming(futures_util::StreamExt::chain(begun, lines))
}

/// Tells one client.
struct Teller {
    watch: Watch,
    query: TailQuery,
    app: Arc<App>,
    guard: Arc<Guard>,
    /// The session that it is told by. `None`: by a token, or to anybody.
    session: Option<String>,
}

impl Teller {
    /// The next piece of the stream. `None`: it ends.
    async fn next(&mut self) -> Option<String> {
        let text = self.wait().await?;
        // The session was open when this was asked for, and that may be hours ago.
        let is_logged_in = self.session.as_ref().is_none_or(|session| self.guard.is_open(session));
        is_logged_in.then_some(text)
    }

    async fn wait(&mut self) -> Option<String> {
        loop {
            tokio::select! {
                seen = self.watch.next() => match seen? {
                    Seen::Happening(happening) if self.query.takes(&happening) => {
                        let json = serde_json::to_string(&*happening).expect("plain data is always JSON");
                        return Some(format!("data: {json}\n\n"));
                    }
                    Seen::Happening(_) => {}
                    Seen::Missed(count) => return Some(format!("event: missed\ndata: {count}\n\n")),
                },
                // So that a client that has gone away is noticed, and no proxy takes the silence for an end.
                () = tokio::time::sleep(limits::TAIL_KEEP_ALIVE) => return Some(": still here\n\n".to_owned()),
                () = self.app.tasks.stopping() => return None,
            }
        }
    }
}
