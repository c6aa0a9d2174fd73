//! The dashboard as a person sees it, and as somebody who has no business there.

mod access;
mod browser;
mod buttons;
mod keyboard;
mod listener;
mod million;
mod outdated;
mod people;
mod scripts;
mod watching;

use std::{io::Read as _, net::TcpListener};

use crate::support::{
    program::{Program, Setup},
    sender::{Connection, SECRET, Sender},
};

/// One source, and a handler that this says how to reach.
fn config(handler: &str) -> String {
    format!(
        "[store]\nurl = \"sqlite:hookonce.db\"\n[sources.stripe]\nsecrets = [\"{SECRET}\"]\n\
         [handlers.billing]\n{handler}\n"
    )
}

/// The same with tokens for the admin address.
fn config_with_tokens(handler: &str) -> String {
    format!(
        "admin_token = \"{TOKEN}\"\nadmin_token_readonly = \"{READ_ONLY}\"\n{}",
        config(handler)
    )
}

const TOKEN: &str = "a-long-token-for-the-operator";
const READ_ONLY: &str = "a-long-token-for-who-only-looks";

/// An API called `payments`, whose calls break off in the middle: what became of them is unknown.
fn api_that_hangs_up() -> String {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let api =
        format!("[apis.payments]\nupstream = \"http://{}\"\n", upstream.local_addr().unwrap());
    std::thread::spawn(move || {
        for call in upstream.incoming() {
            drop(call.unwrap().read(&mut [0; 1024]));
        }
    });
    api
}

fn page(program: &Program, path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", program.admin_port)
}

/// Sends these events, each so many times, and sees a yes to each.
async fn send(setup: &Setup, ids: &[&str], copies: usize) {
    let (sender, mut connection) = (Sender::new(), Connection::to(setup.port));
    for id in ids {
        for _ in 0..copies {
            let answer = connection.send(&sender.request(id)).await;
            assert_eq!(answer.unwrap().status, 200);
        }
    }
}
