//! An upstream that counts what reaches it and answers in exactly these bytes, or in other ways.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::support::until;

use super::client::{Message, read_message};

/// How the upstream treats one request.
pub(super) enum Reply {
    /// With these bytes; the connection stays open.
    Bytes(Vec<u8>),
    /// With these bytes, and then it closes the connection.
    ThenClose(Vec<u8>),
    /// With these bytes, as soon as the gate is opened.
    Gated(Vec<u8>),
    /// Never.
    Hang,
    /// With a reset of the connection.
    Reset,
}

/// A 200 with this body.
pub(super) fn ok(body: &str) -> Reply {
    Reply::Bytes(answer(200, &[], body.as_bytes()))
}

/// The bytes of an answer.
pub(super) fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let lines: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = match status {
        204 | 304 => String::new(),
        _ => format!("content-length: {}\r\n", body.len()),
    };
    let mut bytes = format!("HTTP/1.1 {status} Said\r\n{lines}{length}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

type Rule = dyn Fn(&Message, usize) -> Reply + Send + Sync;

/// A running upstream; it ends with the test's runtime.
#[derive(Clone)]
pub(super) struct Upstream {
    pub(super) port: u16,
    calls: Arc<Mutex<Vec<Message>>>,
    gate: Arc<watch::Sender<bool>>,
}

impl Upstream {
    /// An upstream that treats each request as `rule` says, which also gets how many came before.
    pub(super) async fn start(
        rule: impl Fn(&Message, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Self {
            port: listener.local_addr().unwrap().port(),
            calls: Arc::default(),
            gate: Arc::new(watch::Sender::new(false)),
        };
        let (running, rule): (_, Arc<Rule>) = (upstream.clone(), Arc::new(rule));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(running.clone().serve(stream, Arc::clone(&rule)));
            }
        });
        upstream
    }

    /// Lets every gated answer go, from now on.
    pub(super) fn open_gate(&self) {
        self.gate.send_replace(true);
    }

    pub(super) fn calls(&self) -> Vec<Message> {
        self.calls.lock().unwrap().clone()
    }

    pub(super) fn count(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    /// Waits until this many requests have come in.
    pub(super) async fn called(&self, times: usize) {
        let what = format!("{times} calls of the upstream");
        until(&what, Duration::from_secs(20), || async { self.count() >= times }).await;
    }

    async fn serve(self, mut stream: TcpStream, rule: Arc<Rule>) {
        stream.set_nodelay(true).unwrap();
        let mut rest = Vec::new();
        while let Some(request) = read_message(&mut stream, &mut rest, false).await {
            let before = {
                let mut calls = self.calls.lock().unwrap();
                calls.push(request.clone());
                calls.len() - 1
            };
            match rule(&request, before) {
                Reply::Bytes(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Reply::ThenClose(bytes) => {
                    drop(stream.write_all(&bytes).await);
                    drop(stream.shutdown().await);
                    return;
                }
                Reply::Gated(bytes) => {
                    let mut gate = self.gate.subscribe();
                    drop(gate.wait_for(|open| *open).await);
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Reply::Hang => {
                    drop(stream.read(&mut [0; 1]).await); // until the other side gives up
                    return;
                }
                Reply::Reset => {
                    stream.set_zero_linger().unwrap();
                    return;
                }
            }
        }
    }
}
