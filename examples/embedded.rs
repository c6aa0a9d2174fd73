//! hookonce inside an actix-web server of your own, with a handler that is Rust code.
//!
//! `STRIPE_WEBHOOK_SECRET=whsec_… cargo run --example embedded` receives at `/webhooks/stripe`.
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::{error::Error, net::Ipv4Addr, time::Duration};

use actix_web::{App, HttpServer, web};
use hookonce::{Hookonce, config::process_environment, from, on};

#[derive(serde::Deserialize)]
struct InvoiceEvent {
    id: String,
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let secret = process_environment("STRIPE_WEBHOOK_SECRET").ok_or("set STRIPE_WEBHOOK_SECRET")?;
    let hooks = Hookonce::builder()
        .store("sqlite:hookonce.db")
        .source("stripe", from("stripe").secret(secret))
        .handler("billing", on("stripe", ["invoice.*"]), |event, attempt| async move {
            let invoice: InvoiceEvent = event.json()?; // an error here is tried again later
            // Hand `attempt.delivery` to whatever you call: it is the same on every attempt.
            println!("attempt {} at {}: {}", attempt.number, invoice.id, attempt.delivery);
            Ok::<_, serde_json::Error>(())
        })
        .build()
        .await?;
    let workers = hooks.spawn_workers();
    HttpServer::new(move || {
        App::new().configure(hooks.routes()).route("/", web::to(|| async { "my own page" }))
    })
    .bind((Ipv4Addr::UNSPECIFIED, 8080))?
    .run()
    .await?; // until Ctrl-C
    workers.shut_down(Duration::from_secs(25)).await;
    Ok(())
}
