//! The live tail, over the API and by the command.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use super::{config, page, send};
use crate::support::program::Setup;

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_sees_what_comes_and_what_became_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(folder.path(), &config("log = true"));
    let program = setup.start().await;
    let client = hookonce::handler::http_client();
    let mut tail = client.get(page(&program, "/api/v1/tail")).send().await.unwrap();
    let mut attempts_only =
        client.get(page(&program, "/api/v1/tail?handler=billing")).send().await.unwrap();
    send(&setup, &["evt_1"], 2).await;
    let mut seen = String::new();
    let mut of_handler = String::new();
    let all = async {
        while !(seen.contains("\"duplicate\"") && seen.contains("\"attempted\"")) {
            seen += std::str::from_utf8(&tail.chunk().await.unwrap().unwrap()).unwrap();
        }
        while !of_handler.contains("\"attempted\"") {
            of_handler +=
                std::str::from_utf8(&attempts_only.chunk().await.unwrap().unwrap()).unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all).await.unwrap();
    assert!(seen.contains("\"event_id\":\"evt_1\""), "{seen}");
    assert!(!of_handler.contains("\"received\""), "{of_handler}");
    let status = program.terminate();
    assert!(status.success(), "a watcher does not keep the server from ending");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_prints_a_line_for_each() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(folder.path(), &config("log = true"));
    let program = setup.start().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookonce"))
        .args(["tail", "--server", &page(&program, "")])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(command.stdout.take().unwrap());
    let first = tokio::task::spawn_blocking(move || lines.lines().next().unwrap().unwrap());
    // It may take a moment to connect: whatever comes until then, it does not see.
    let mut number = 0;
    while !first.is_finished() {
        number += 1;
        send(&setup, &[&format!("evt_{number}")], 1).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(number < 300, "it prints nothing");
    }
    let first = first.await.unwrap();
    assert!(first.contains("invoice.paid evt_") || first.contains("billing attempt 1"), "{first}");
    command.kill().unwrap();
    command.wait().unwrap();
}
