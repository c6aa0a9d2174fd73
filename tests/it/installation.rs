//! The commands on an installation as a person has it: run from any folder, by a user who has none of the
//! server's variables, with and without a server.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::support::program::Setup;

/// Runs a command in a folder, with an empty environment.
fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hookonce"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn a_command_run_in_the_wrong_folder_makes_no_store() {
    let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = home.path().join("hookonce.toml");
    let port = crate::support::free_port();
    fs::write(&config, format!("[server]\nadmin_listen = \"127.0.0.1:{port}\"\n")).unwrap();
    let config = config.to_str().unwrap();
    let missing = elsewhere.path().join("hookonce-data/hookonce.db");
    let target = format!("sqlite:{}", elsewhere.path().join("target.db").display());
    let copy = ["store", "copy", "--from", "sqlite:hookonce.db", "--to", &target];
    let backup = ["store", "backup", "backup.db"];
    let commands: [&[&str]; 8] = [
        &copy,
        &["store", "copy", "--from", "sqlite:hookonce.db", "--call-off"],
        &backup,
        &["store", "accept"],
        &["stats"],
        &["events"],
        &["redrive", "--handler", "billing"],
        &["keys"],
    ];
    for command in commands {
        let output = run(elsewhere.path(), &[command, &["--config", config]].concat());
        assert_eq!(output.status.code(), Some(69), "{command:?}: {output:?}");
        let there_is_none = format!("there is no store at {}", missing.display());
        assert!(said(&output).contains(&there_is_none), "{command:?}: {output:?}");
        assert!(is_empty(elsewhere.path()), "{command:?} has made something");
    }
    let without_config = run(elsewhere.path(), &copy); // no server is asked, whoever runs one here
    assert_eq!(without_config.status.code(), Some(69), "{without_config:?}");
    assert!(is_empty(elsewhere.path()), "not even development secrets");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_makes_its_target_and_tells_what_it_found_also_where_that_is_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(folder.path(), "[store]\nurl = \"sqlite:hookonce.db\"\n");
    setup.start().await.kill();
    let copied = setup.command_alone(&[
        "store",
        "copy",
        "--from",
        "sqlite:hookonce.db",
        "--to",
        "sqlite:target.db",
    ]);
    assert!(copied.status.success(), "{copied:?}");
    for kind in ["events", "marks", "keys"] {
        assert!(said(&copied).contains(&format!("0 {kind}")), "{copied:?}");
    }
    assert!(setup.data_dir().join("target.db").exists());
}
