//! An API of your own in which a `POST` with an `Idempotency-Key` is carried out once.
//!
//! `cargo run --example payments`, and then twice:
//! `curl -i -X POST localhost:8080/payments -H 'Idempotency-Key: k1' -d amount=1000`.
//! The second answer is the first one again, with `Idempotent-Replayed: true`.

use std::{error::Error, net::Ipv4Addr, time::Duration};

use actix_web::{App, HttpResponse, HttpServer, web};
use hookonce::{
    Hookonce,
    api::{Api, Save},
};

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let hooks = Hookonce::builder()
        .store("sqlite:payments.db")
        // Money moves, and nothing behind us knows the key: keep whatever we answered.
        .api(Api { save: Save::All, ..Api::new("payments") })
        .build()
        .await?;
    let workers = hooks.spawn_workers();
    HttpServer::new(move || {
        App::new().wrap(hooks.idempotency("payments")).route("/payments", web::post().to(charge))
    })
    .bind((Ipv4Addr::LOCALHOST, 8080))?
    .run()
    .await?; // until Ctrl-C
    workers.shut_down(Duration::from_secs(25)).await;
    Ok(())
}

/// Charges somebody; with one key it is never called twice.
async fn charge(order: String) -> HttpResponse {
    HttpResponse::Created().json(serde_json::json!({ "charged": order }))
}
