//! Many long bodies at once, from somebody who has not said yet who they are.

use std::{fs, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    alone,
    program::{Program, Setup},
    sender::{Connection, SECRET, Sender},
    until,
};

const ANNOUNCED: usize = 25 << 20;
const SENT: usize = ANNOUNCED - (1 << 20);
const STRANGERS: usize = 16;

/// What may be had by all bodies together, and as much again for what else a server under load needs.
const MORE_KIB_MAX: u64 = (2 * 128) << 10;

#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_decide_how_much_memory_bodies_take() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[store]\nurl = \"memory:\"\n[sources.stripe]\nsecrets = [\"{SECRET}\"]\nbody_bytes_max = \"25MiB\"\n"
    );
    let program = Setup::new(folder.path(), &config).start().await;
    let before = resident_kib(&program);

    let strangers: Vec<_> =
        (0..STRANGERS).map(|_| tokio::spawn(stop_short(program.port))).collect();
    let refused = || async {
        let (_, metrics) = program.ask("GET", "/metrics", None).await.unwrap();
        let line = "hookonce_requests_total{source=\"stripe\",status=\"unavailable\"} ";
        metrics.lines().find_map(|text| text.strip_prefix(line)?.parse::<usize>().ok()).unwrap_or(0)
    };
    // Five of them have room for what they sent.
    until("the others are refused", Duration::from_secs(9), || async {
        refused().await >= STRANGERS - 5
    })
    .await;
    let more = resident_kib(&program) - before;
    assert!(more < MORE_KIB_MAX, "{more} KiB");

    // What is short is not concerned, and what is long has room again when they have gone.
    let short = Connection::to(program.port).send(&Sender::new().request("evt_short")).await;
    assert_eq!(short.unwrap().word, "accepted");
    for stranger in &strangers {
        stranger.abort();
    }
    let long = Sender::new()
        .signed(&format!(r#"{{"id":"evt_long","x":"{}"}}"#, "x".repeat(20 << 20)), &[]);
    until("a long one is accepted", Duration::from_secs(9), || async {
        let answer = Connection::to(program.port).send(&long).await;
        answer.is_some_and(|answer| answer.word == "accepted")
    })
    .await;
}

/// Sends a body less its last part, and then nothing more.
async fn stop_short(port: u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let head = format!(
        "POST /webhooks/stripe HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {ANNOUNCED}\r\n\r\n"
    );
    let (mut reading, mut writing) = stream.split();
    let sending = async {
        drop(writing.write_all(head.as_bytes()).await);
        drop(writing.write_all(&vec![b'x'; SENT]).await); // who is refused is cut off half-way
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = sending => {}
        _ = reading.read_to_end(&mut answer) => {}
    }
}

/// How much memory the program has just now.
fn resident_kib(program: &Program) -> u64 {
    let pid = program.pid().as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
