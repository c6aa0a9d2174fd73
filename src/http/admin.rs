//! The admin API: each route asks [`Admin`] and writes down what it says. What
//! stands in the list is what is served, and what `/openapi.json` says.

use std::sync::LazyLock;

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
    web,
};
use serde::Serialize;
use serde_json::Value;

use super::{
    answer,
    backup::backup,
    openapi::{self, Operation, get, post},
    tail::{self, TailQuery},
};
use crate::{
    admin::{
        Accepted, Admin, AdminError, Changed, DeliveryPage, DeliveryQuery, EraseRequest, EventPage,
        EventQuery, EventView, HandlerList, HandlerView, MoveRequest, Readiness, Readmitted,
        RedriveProgress, RedriveRequest, RefusalPage, RefusalQuery, RefusalRecord, ReplayRequest,
        Selection, SlowRedrive,
        keys::{KeyPage, KeyQuery, ResolveRequest, ResolvedKey},
    },
    control::Limits,
    delivery::{Attempt, DeliveryId},
    event::EventId,
    key::{KeyId, KeyRecord},
    refusal::RefusalId,
    setup::Reloaded,
    store::{Stats, StoreError},
    telemetry::tail::Happening,
};

/// The routes and the document about them.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    openapi::serve(operations(), config);
}

/// All there is, grouped by who calls it.
fn operations() -> Vec<Operation> {
    let mut all = for_machines();
    all.extend(about_events());
    all.extend(about_deliveries());
    all.extend(about_the_rest());
    all
}

fn for_machines() -> Vec<Operation> {
    vec![
        get("/healthz", healthz, "Whether the process lives").open(),
        get("/readyz", readyz, "Whether requests can be accepted, and what to look at")
            .gives::<Readiness>()
            .or(StatusCode::SERVICE_UNAVAILABLE)
            .open(),
        get("/metrics", metrics, "The metrics, for Prometheus"),
        get("/openapi.json", document, "This document").gives_text("application/json"),
    ]
}

fn about_events() -> Vec<Operation> {
    vec![
        get("/api/v1/events", events, "One page of events, newest first")
            .with_query::<EventQuery>()
            .gives::<EventPage>(),
        get("/api/v1/events/{id}", event, "Everything about one event").gives::<EventView>(),
        get("/api/v1/events/{id}/request", request, "The body of its request, byte for byte")
            .gives_text("application/octet-stream"),
        post("/api/v1/events/{id}/replay", replay, "Delivers an event again, as a new delivery")
            .with_body::<ReplayRequest>()
            .gives::<Changed>(),
        post("/api/v1/events/{id}/admit", admit, "Routes a held event").gives::<Changed>(),
        post("/api/v1/events/{id}/erase", erase, "Erases what its sender has written, for good")
            .with_body::<EraseRequest>()
            .gives::<Changed>(),
        get("/api/v1/refusals", refusals, "One page of refused requests, newest first")
            .with_query::<RefusalQuery>()
            .gives::<RefusalPage>(),
        get("/api/v1/refusals/{id}", refusal, "Everything about one, but its credentials")
            .gives::<RefusalRecord>(),
        post("/api/v1/refusals/{id}/readmit", readmit, "Verifies it again, and admits it then")
            .gives::<Readmitted>(),
    ]
}

fn about_deliveries() -> Vec<Operation> {
    vec![
        get("/api/v1/deliveries", deliveries, "One page of deliveries, newest first")
            .with_query::<DeliveryQuery>()
            .gives::<DeliveryPage>(),
        get("/api/v1/deliveries/{id}/attempts", attempts, "Its attempts, oldest first")
            .gives::<Vec<Attempt>>(),
        post("/api/v1/deliveries/redrive", redrive, "Queues dead letters, with a fresh budget")
            .with_body::<RedriveRequest>()
            .gives::<Changed>(),
        post("/api/v1/deliveries/move", move_to, "Gives queued and dead ones to another handler")
            .with_body::<MoveRequest>()
            .gives::<Changed>(),
        post("/api/v1/deliveries/kill", kill, "Makes queued ones dead letters")
            .with_body::<Selection>()
            .gives::<Changed>(),
        post("/api/v1/deliveries/unblock", unblock, "Takes dead ones out of the way of others")
            .with_body::<Selection>()
            .gives::<Changed>(),
        post("/api/v1/deliveries/{id}/unblock", unblock_one, "Takes one dead one out of the way")
            .gives::<Changed>(),
        get("/api/v1/redrives", redrives, "The last redrive at a rate of each handler")
            .gives::<Vec<RedriveProgress>>(),
        post("/api/v1/redrives", begin_redrive, "Redrives all of a handler, at a rate")
            .with_body::<SlowRedrive>()
            .gives::<RedriveProgress>(),
        post("/api/v1/redrives/{handler}/stop", stop_redrive, "Stops that")
            .gives::<RedriveProgress>(),
    ]
}

fn about_the_rest() -> Vec<Operation> {
    vec![
        get("/api/v1/stats", stats, "What was counted, and what waits now").gives::<Stats>(),
        get("/api/v1/tail", tail::tail, "What happens, as it happens")
            .with_query::<TailQuery>()
            .gives_stream_of::<Happening>(),
        post("/api/v1/store/accept", accept_store, "Goes on with a store that lost what it held")
            .gives::<Accepted>(),
        post("/api/v1/store/backup", backup, "A copy of an SQLite store as it is now")
            .gives_text("application/vnd.sqlite3"),
        post("/api/v1/reload", reload, "Reads the configuration again").gives::<Reloaded>(),
        get("/api/v1/handlers", handlers, "How every handler runs").gives::<HandlerList>(),
        post("/api/v1/handlers/{name}/pause", pause, "Begins no attempt of it any more")
            .gives::<HandlerView>(),
        post("/api/v1/handlers/{name}/resume", resume, "Goes on with what waits")
            .gives::<HandlerView>(),
        post("/api/v1/handlers/{name}/limits", limit, "Sets what stands over its configuration")
            .with_body::<Limits>()
            .gives::<HandlerView>(),
        get("/api/v1/keys", keys, "One page of keys, those begun last first")
            .with_query::<KeyQuery>()
            .gives::<KeyPage>(),
        get("/api/v1/keys/{id}", key, "Everything about one but its answer").gives::<KeyRecord>(),
        post("/api/v1/keys/{id}/resolve", resolve_key, "Says how an unknown outcome ended")
            .with_body::<ResolveRequest>()
            .gives::<ResolvedKey>(),
    ]
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
    HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(admin.metrics().await)
}

/// Made once: it is the same for as long as the process lives.
async fn document() -> HttpResponse {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(|| openapi::document(&operations()));
    HttpResponse::Ok().json(&*DOCUMENT)
}

async fn reload(admin: Asked) -> HttpResponse {
    told(admin.reload())
}

async fn accept_store(admin: Asked) -> HttpResponse {
    told(admin.accept_store().await)
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

/// The body may be left out. One that cannot be read is refused: it may have named the one handler that
/// was meant.
async fn replay(admin: Asked, id: web::Path<EventId>, body: web::Bytes) -> HttpResponse {
    let ask = match body.as_ref() {
        [] => Ok(ReplayRequest::default()),
        text => serde_json::from_slice(text),
    };
    match ask {
        Ok(ask) => told(admin.replay(id.into_inner(), ask).await),
        Err(error) => not_told(&AdminError::Invalid(error.to_string())),
    }
}

async fn admit(admin: Asked, id: web::Path<EventId>) -> HttpResponse {
    told(admin.admit(id.into_inner()).await)
}

async fn erase(admin: Asked, id: web::Path<EventId>, ask: web::Json<EraseRequest>) -> HttpResponse {
    told(admin.erase(id.into_inner(), ask.into_inner()).await)
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

async fn redrive(admin: Asked, ask: web::Json<RedriveRequest>) -> HttpResponse {
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

pub(super) fn not_told(error: &AdminError) -> HttpResponse {
    let (status, code) = match error {
        AdminError::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
        AdminError::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
        AdminError::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid"),
        AdminError::NotReloaded(_) => (StatusCode::UNPROCESSABLE_ENTITY, "not_reloaded"),
        AdminError::Store(StoreError::Full(_)) => (StatusCode::SERVICE_UNAVAILABLE, "full"),
        AdminError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    answer::problem_with(status, code, &error.to_string())
}
