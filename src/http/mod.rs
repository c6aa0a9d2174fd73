//! The only place that knows actix: routes, bodies, answers.

mod admin;
mod answer;
mod api;
mod body;
mod dashboard;
mod guard;
mod idempotency;
mod sessions;
mod tail;
mod webhook;

use std::{
    future::{Ready, ready},
    net::TcpListener,
    sync::Arc,
    time::Duration,
};

use actix_web::{App as ActixApp, HttpResponse, HttpServer, dev::Server, middleware::from_fn, web};

pub(crate) use self::idempotency::middleware;
use crate::{admin::Admin, app::App, limits};

/// The public routes: one for each source and for each API that has an upstream, and an answer for every
/// other path under `/webhooks/`.
///
/// They can be mounted into any actix-web App: `App::new().configure(hookonce.routes())`.
pub fn public_routes(app: Arc<App>) -> impl FnOnce(&mut web::ServiceConfig) + Clone {
    let endpoints = api::endpoints(&app);
    move |config| {
        for endpoint in endpoints {
            let below = format!("{}/{{below:.*}}", endpoint.api.path);
            for path in [endpoint.api.path.clone(), below] {
                let endpoint = endpoint.clone();
                config.service(
                    web::resource(path).to(move |request, payload| {
                        api::endpoint(endpoint.clone(), request, payload)
                    }),
                );
            }
        }
        for source in app.sources.values() {
            let (app, source) = (Arc::clone(&app), Arc::clone(source));
            let path = source.path.clone();
            config.service(web::resource(path).to(move |request, payload| {
                webhook::endpoint(Arc::clone(&app), Arc::clone(&source), request, payload)
            }));
        }
        config.service(web::resource("/webhooks/{source}").to(unknown_source(app)));
    }
}

/// The endpoint of every path that is no source's.
fn unknown_source(app: Arc<App>) -> impl Fn() -> Ready<HttpResponse> + Clone {
    move || ready(webhook::unknown_source(&app))
}

/// The admin routes: the dashboard, `/api/v1`, `/metrics`, `/healthz`, `/readyz`, each behind the guard.
pub fn admin_routes(admin: Arc<Admin>) -> impl FnOnce(&mut web::ServiceConfig) + Clone {
    let guard = Arc::new(guard::Guard::new(Arc::clone(&admin.app)));
    move |config| {
        let known = web::Data::from(Arc::clone(&guard));
        let payload = web::PayloadConfig::new(limits::ADMIN_BODY_BYTES_MAX);
        config.service(
            web::scope("")
                .wrap(from_fn(move |request, next| guard::check(Arc::clone(&guard), request, next)))
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

/// Serves the public routes on `listener`. The server runs when it is awaited or spawned.
///
/// # Errors
/// When the listener cannot be used.
pub fn serve_public(app: Arc<App>, listener: TcpListener) -> std::io::Result<Server> {
    let routes = public_routes(Arc::clone(&app));
    let server = HttpServer::new(move || {
        let elsewhere = web::to(unknown_source(Arc::clone(&app)));
        ActixApp::new().configure(routes.clone()).default_service(elsewhere)
    });
    Ok(server
        .client_request_timeout(limits::HEAD_DEADLINE)
        .shutdown_timeout(SERVER_STOP_SECONDS)
        .disable_signals()
        .listen(listener)?
        .run())
}

/// Serves the admin routes on `listener`. The server runs when it is awaited or spawned.
///
/// # Errors
/// When the listener cannot be used.
pub fn serve_admin(admin: Arc<Admin>, listener: TcpListener) -> std::io::Result<Server> {
    let routes = admin_routes(admin);
    let server = HttpServer::new(move || ActixApp::new().configure(routes.clone()));
    Ok(server
        .workers(1)
        .client_request_timeout(limits::HEAD_DEADLINE)
        .shutdown_timeout(SERVER_STOP_SECONDS)
        .disable_signals()
        .listen(listener)?
        .run())
}

/// A request has its answer within the body's and the answer's deadline, so nothing is left longer.
const SERVER_STOP_SECONDS: u64 = 15;

const _: () = assert!(
    Duration::from_secs(SERVER_STOP_SECONDS).as_millis()
        > limits::BODY_DEADLINE.as_millis() + limits::ANSWER_DEADLINE_MAX.as_millis()
);
