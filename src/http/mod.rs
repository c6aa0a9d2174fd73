//! The only place that knows actix: routes, bodies, answers.

mod admin;
mod answer;
mod api;
mod backup;
mod body;
mod dashboard;
mod guard;
mod head;
mod idempotency;
mod openapi;
mod sessions;
mod tail;
mod webhook;

use std::{
    net::TcpListener,
    sync::{Arc, OnceLock},
    time::Duration,
};

use actix_web::{
    App as ActixApp, HttpRequest, HttpResponse, HttpServer, dev::Server, middleware::from_fn, web,
};

pub(crate) use self::idempotency::middleware;
use tracing::{Instrument as _, field::Empty};
use uuid::Uuid;

use crate::{
    admin::Admin, app::App, handler::http_client, idempotency::forward::Upstream, limits,
    setup::Endpoint, tls::Certificate,
};

/// The public routes: one for each source and for each API that has an upstream, and an answer for every
/// other path under `/webhooks/`.
///
/// They can be mounted into any actix-web App: `App::new().configure(hookonce.routes())`. What is at a
/// path is looked up for each request; a source that a reload puts at a path of its own outside
/// `/webhooks/` is only found by [`serve_public`], which has all paths to itself.
pub fn public_routes(app: Arc<App>) -> impl FnOnce(&mut web::ServiceConfig) + Clone {
    let public = Arc::new(Public::new(app));
    move |config| {
        let setup = public.app.setup();
        for api in setup.apis.values().filter(|api| api.upstream.is_some()) {
            for pattern in [api.path.clone(), format!("{}/{{below:.*}}", api.path)] {
                let (public, path) = (Arc::clone(&public), api.path.clone());
                config.service(web::resource(pattern).to(move |request, payload| {
                    endpoint(Arc::clone(&public), path.clone(), request, payload)
                }));
            }
        }
        for source in setup.sources.values() {
            let (public, path) = (Arc::clone(&public), source.path.clone());
            config.service(web::resource(path.clone()).to(move |request, payload| {
                endpoint(Arc::clone(&public), path.clone(), request, payload)
            }));
        }
        config.service(web::resource("/webhooks/{source}").to(
            move |source: web::Path<String>, request, payload| {
                let path = format!("/webhooks/{source}");
                endpoint(Arc::clone(&public), path, request, payload)
            },
        ));
    }
}

/// What the public endpoints share.
struct Public {
    app: Arc<App>,
    /// Calls the upstreams of all APIs, and keeps the connections of each apart; made when there is one.
    client: OnceLock<reqwest::Client>,
}

impl Public {
    fn new(app: Arc<App>) -> Self {
        Self { app, client: OnceLock::new() }
    }
}

/// Takes one request to `path`. The setup is looked at once: what is found there answers the request
/// to its end, whatever is reloaded meanwhile.
async fn endpoint(
    public: Arc<Public>,
    path: String,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let app = Arc::clone(&public.app);
    // On every line about it, at every level.
    let span = tracing::error_span!("request", request.id = %Uuid::now_v7(), event.id = Empty);
    answer(&public, app, path, request, payload).instrument(span).await
}

async fn answer(
    public: &Public,
    app: Arc<App>,
    path: String,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    match app.setup().endpoint(&path) {
        Some(Endpoint::Source(source)) => webhook::endpoint(app, source, request, payload).await,
        Some(Endpoint::Api(api, url)) => {
            let client = public.client.get_or_init(http_client).clone();
            let upstream = Upstream::new(client, url);
            api::endpoint(api::Endpoint { app, api, upstream }, request, payload).await
        }
        None => webhook::unknown_source(&app),
    }
}

/// The admin routes: the dashboard, `/api/v1`, `/openapi.json`, `/metrics`, `/healthz`, `/readyz`, each behind the guard.
pub fn admin_routes(admin: Arc<Admin>) -> impl FnOnce(&mut web::ServiceConfig) + Clone {
    let guard = Arc::new(guard::Guard::new(Arc::clone(&admin.app)));
    let body_within = admin.app.server.body_within;
    move |config| {
        let known = web::Data::from(Arc::clone(&guard));
        let payload = web::PayloadConfig::new(limits::ADMIN_BODY_BYTES_MAX);
        config.service(
            web::scope("")
                .wrap(from_fn(move |request, next| body::in_time(body_within, request, next)))
                .wrap(from_fn(move |request, next| guard::check(Arc::clone(&guard), request, next)))
                .wrap(from_fn(head::like_get))
                .wrap(dashboard::headers())
                .app_data(web::Data::from(admin))
                .app_data(known)
                .app_data(payload)
                .app_data(web::JsonConfig::default().limit(limits::ADMIN_BODY_BYTES_MAX))
                .configure(admin::routes)
                .configure(dashboard::routes)
                .default_service(web::to(dashboard::nothing_here)),
        );
    }
}

/// Where a server listens, and with which certificate if it speaks TLS. It speaks HTTP/1.1 either way.
#[derive(Debug)]
pub struct Listener {
    /// The socket, which does not block.
    pub socket: TcpListener,
    /// The certificate, which may change while it is served.
    pub tls: Option<Arc<Certificate>>,
}

/// A listener without TLS.
impl From<TcpListener> for Listener {
    fn from(socket: TcpListener) -> Self {
        Self { socket, tls: None }
    }
}

/// Serves the public routes on `listener`. The server runs when it is awaited or spawned.
///
/// # Errors
/// When the listener cannot be used.
pub fn serve_public(app: Arc<App>, listener: impl Into<Listener>) -> std::io::Result<Server> {
    let public = Arc::new(Public::new(app));
    // No table of routes: it would be as old as the server.
    let everything = move |config: &mut web::ServiceConfig| {
        config.default_service(web::to(move |request: HttpRequest, payload| {
            let path = request.match_info().as_str().to_owned();
            endpoint(Arc::clone(&public), path, request, payload)
        }));
    };
    serve(everything, None, listener.into())
}

/// Serves the admin routes on `listener`. The server runs when it is awaited or spawned.
///
/// # Errors
/// When the listener cannot be used.
pub fn serve_admin(admin: Arc<Admin>, listener: impl Into<Listener>) -> std::io::Result<Server> {
    serve(admin_routes(admin), Some(1), listener.into())
}

/// Serves these routes, with so many threads or else one for each core.
fn serve(
    routes: impl FnOnce(&mut web::ServiceConfig) + Clone + Send + 'static,
    threads: Option<usize>,
    Listener { socket, tls }: Listener,
) -> std::io::Result<Server> {
    let server = HttpServer::new(move || ActixApp::new().configure(routes.clone()))
        .client_request_timeout(limits::HEAD_DEADLINE)
        .tls_handshake_timeout(limits::TLS_HANDSHAKE_DEADLINE)
        .shutdown_timeout(SERVER_STOP_SECONDS)
        .disable_signals();
    let server = match threads {
        Some(threads) => server.workers(threads),
        None => server,
    };
    let bound = match tls {
        Some(certificate) => server.listen_rustls_0_23(socket, certificate.server_config()),
        None => server.listen(socket),
    };
    Ok(bound?.run())
}

/// A request has its answer within the body's and the answer's deadline, so nothing is left longer.
const SERVER_STOP_SECONDS: u64 = 15;

const _: () = assert!(
    Duration::from_secs(SERVER_STOP_SECONDS).as_millis()
        > limits::BODY_DEADLINE.as_millis() + limits::ANSWER_DEADLINE_MAX.as_millis()
);
