//! The admin API: each route asks [`Admin`] and writes down what it says.

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
    web,
};
use serde::Serialize;

use super::{answer, tail};
use crate::{
    admin::{
        Admin, AdminError, DeliveryQuery, EventQuery, MoveRequest, RefusalQuery, ReplayRequest,
        Selection, SlowRedrive,
        keys::{KeyQuery, ResolveRequest},
    },
    control::Limits,
    delivery::DeliveryId,
    event::EventId,
    key::KeyId,
    refusal::RefusalId,
    store::StoreError,
};

/// The routes, grouped by who calls them.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        // Machines
        .route("/healthz", web::get().to(healthz))
        .route("/readyz", web::get().to(readyz))
        .route("/metrics", web::get().to(metrics))
        // People and the commands
        .route("/api/v1/reload", web::post().to(reload))
        .route("/api/v1/stats", web::get().to(stats))
        .route("/api/v1/tail", web::get().to(tail::tail))
        .route("/api/v1/events", web::get().to(events))
        .route("/api/v1/events/{id}", web::get().to(event))
        .route("/api/v1/events/{id}/request", web::get().to(request))
        .route("/api/v1/events/{id}/replay", web::post().to(replay))
        .route("/api/v1/events/{id}/admit", web::post().to(admit))
        .route("/api/v1/refusals", web::get().to(refusals))
        .route("/api/v1/refusals/{id}", web::get().to(refusal))
        .route("/api/v1/refusals/{id}/readmit", web::post().to(readmit))
        .route("/api/v1/handlers", web::get().to(handlers))
        .route("/api/v1/handlers/{name}/pause", web::post().to(pause))
        .route("/api/v1/handlers/{name}/resume", web::post().to(resume))
        .route("/api/v1/handlers/{name}/limits", web::post().to(limit))
        .route("/api/v1/deliveries", web::get().to(deliveries))
        .route("/api/v1/deliveries/redrive", web::post().to(redrive))
        .route("/api/v1/redrives", web::get().to(redrives))
        .route("/api/v1/redrives", web::post().to(begin_redrive))
        .route("/api/v1/redrives/{handler}/stop", web::post().to(stop_redrive))
        .route("/api/v1/deliveries/move", web::post().to(move_to))
        .route("/api/v1/deliveries/kill", web::post().to(kill))
        .route("/api/v1/deliveries/unblock", web::post().to(unblock))
        .route("/api/v1/deliveries/{id}/unblock", web::post().to(unblock_one))
        .route("/api/v1/deliveries/{id}/attempts", web::get().to(attempts))
        .route("/api/v1/keys", web::get().to(keys))
        .route("/api/v1/keys/{id}", web::get().to(key))
        .route("/api/v1/keys/{id}/resolve", web::post().to(resolve_key));
}

type Asked = web::Data<Admin>;

/// Alive: the process answers. Says nothing about the store, so that nobody restarts us for its sake.
async fn healthz() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain").body("ok\n")
}

async fn readyz(admin: Asked) -> HttpResponse {
    let readiness = admin.readiness().await;
    let mut response =
        if readiness.ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.json(readiness)
}

async fn metrics(admin: Asked) -> HttpResponse {
    let asked = async { Ok::<_, AdminError>((admin.stats().await?, admin.key_counts().await?)) };
    let told = tokio::time::timeout(crate::limits::ANSWER_DEADLINE, asked).await;
    let told = told.ok().and_then(Result::ok);
    HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(
        admin
            .app
            .metrics
            .text(told.as_ref().map(|(stats, keys)| (stats, keys)), admin.app.store.cache()),
    )
}

async fn reload(admin: Asked) -> HttpResponse {
    told(admin.reload())
}

async fn stats(admin: Asked) -> HttpResponse {
    told(admin.stats().await)
}

async fn events(admin: Asked, query: web::Query<EventQuery>) -> HttpResponse {
    told(admin.events(query.into_inner()).await)
}

async fn event(admin: Asked, id: web::Path<EventId>) -> HttpResponse {
    told(admin.event(id.into_inner()).await)
}

/// A download, whatever is in it: no browser shows what a stranger may have sent.
async fn request(admin: Asked, id: web::Path<EventId>) -> HttpResponse {
    let id = id.into_inner();
    match admin.request(id).await {
        Ok(body) => HttpResponse::Ok()
            .content_type("application/octet-stream")
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .insert_header((header::CONTENT_DISPOSITION, format!("attachment; filename=\"{id}\"")))
            .body(body),
        Err(error) => not_told(&error),
    }
}

async fn replay(
    admin: Asked,
    id: web::Path<EventId>,
    ask: Option<web::Json<ReplayRequest>>,
) -> HttpResponse {
    let ask = ask.map(web::Json::into_inner).unwrap_or_default();
    told(admin.replay(id.into_inner(), ask).await)
}

async fn admit(admin: Asked, id: web::Path<EventId>) -> HttpResponse {
    told(admin.admit(id.into_inner()).await)
}

async fn refusals(admin: Asked, query: web::Query<RefusalQuery>) -> HttpResponse {
    told(admin.refusals(query.into_inner()).await)
}

async fn refusal(admin: Asked, id: web::Path<RefusalId>) -> HttpResponse {
    told(admin.refusal(id.into_inner()).await)
}

async fn readmit(admin: Asked, id: web::Path<RefusalId>) -> HttpResponse {
    told(admin.readmit(id.into_inner()).await)
}

async fn handlers(admin: Asked) -> HttpResponse {
    told(admin.handlers().await)
}

async fn pause(admin: Asked, name: web::Path<String>) -> HttpResponse {
    told(admin.pause(&name).await)
}

async fn resume(admin: Asked, name: web::Path<String>) -> HttpResponse {
    told(admin.resume(&name).await)
}

async fn limit(admin: Asked, name: web::Path<String>, limits: web::Json<Limits>) -> HttpResponse {
    told(admin.limit(&name, limits.into_inner()).await)
}

async fn deliveries(admin: Asked, query: web::Query<DeliveryQuery>) -> HttpResponse {
    told(admin.deliveries(query.into_inner()).await)
}

async fn redrive(admin: Asked, ask: web::Json<Selection>) -> HttpResponse {
    told(admin.redrive(ask.into_inner()).await)
}

async fn unblock(admin: Asked, ask: web::Json<Selection>) -> HttpResponse {
    told(admin.unblock(ask.into_inner()).await)
}

async fn unblock_one(admin: Asked, id: web::Path<String>) -> HttpResponse {
    match id.parse() {
        Ok(id) => told(admin.unblock_one(id).await),
        Err(_) => told::<()>(Err(AdminError::NotFound(format!("there is no delivery {id}")))),
    }
}

async fn redrives(admin: Asked) -> HttpResponse {
    told(Ok(admin.redrives()))
}

async fn begin_redrive(admin: Asked, ask: web::Json<SlowRedrive>) -> HttpResponse {
    told(admin.into_inner().begin_redrive(ask.into_inner()).await)
}

async fn stop_redrive(admin: Asked, handler: web::Path<String>) -> HttpResponse {
    told(admin.stop_redrive(&handler))
}

async fn move_to(admin: Asked, ask: web::Json<MoveRequest>) -> HttpResponse {
    told(admin.move_to(ask.into_inner()).await)
}

async fn kill(admin: Asked, ask: web::Json<Selection>) -> HttpResponse {
    told(admin.kill(ask.into_inner()).await)
}

async fn attempts(admin: Asked, id: web::Path<DeliveryId>) -> HttpResponse {
    told(admin.attempts(id.into_inner()).await)
}

async fn keys(admin: Asked, query: web::Query<KeyQuery>) -> HttpResponse {
    told(admin.keys(query.into_inner()).await)
}

async fn key(admin: Asked, id: web::Path<KeyId>) -> HttpResponse {
    told(admin.key(id.into_inner()).await)
}

async fn resolve_key(
    admin: Asked,
    id: web::Path<KeyId>,
    ask: web::Json<ResolveRequest>,
) -> HttpResponse {
    told(admin.resolve_key(id.into_inner(), ask.into_inner()).await)
}

fn told<T: Serialize>(answer: Result<T, AdminError>) -> HttpResponse {
    match answer {
        Ok(answer) => {
            HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(answer)
        }
        Err(error) => not_told(&error),
    }
}

fn not_told(error: &AdminError) -> HttpResponse {
    let (status, code) = match error {
        AdminError::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
        AdminError::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid"),
        AdminError::NotReloaded(_) => (StatusCode::UNPROCESSABLE_ENTITY, "not_reloaded"),
        AdminError::Store(StoreError::Full(_)) => (StatusCode::SERVICE_UNAVAILABLE, "full"),
        AdminError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    answer::problem_with(status, code, &error.to_string())
}
