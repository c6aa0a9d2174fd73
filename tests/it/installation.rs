//! The commands on an installation as a person has it: run from any folder, by a user who has none of the
//! server's variables, with and without a server.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use crate::{
    redis_server::RedisServer,
    support::{
        program::Setup,
        sender::{Connection, SECRET, Sender},
        until,
    },
};

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

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_server_a_command_needs_none_of_its_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(
        folder.path(),
        &format!(
            "[store]\nurl = \"sqlite:hookonce.db\"\n[sources.stripe]\nsecrets = [\"{SECRET}\"]\n"
        ),
    );
    let program = setup.start().await;
    // The caller's view of the same file: its variables are the server's alone.
    let with_variable = "[store]\nurl = \"${STORE_URL}\"\n[sources.stripe]\nsecrets = [\"${STRIPE_WEBHOOK_SECRET}\"]\n";
    let config = setup.write(with_variable);
    let config = config.to_str().unwrap();
    let commands: [&[&str]; 8] = [
        &["stats"],
        &["events"],
        &["handlers"],
        &["health"],
        &["health", "--alive"],
        &["check"],
        &["doctor"],
        &["store", "accept"],
    ];
    for command in commands {
        let output = run(folder.path(), &[command, &["--config", config]].concat());
        assert!(output.status.success(), "{command:?}: {}", said(&output));
    }
    let checked = run(folder.path(), &["check", "--config", config]);
    assert!(said(&checked).contains("the running server may have it"), "{}", said(&checked));

    let server = format!("http://127.0.0.1:{}", setup.admin_port);
    fs::copy(config, folder.path().join("hookonce.toml")).unwrap();
    let elsewhere = run(folder.path(), &["stats", "--server", &server]);
    assert!(elsewhere.status.success(), "a file in the folder is no hindrance: {elsewhere:?}");

    program.kill();
    let alone = run(folder.path(), &["stats", "--config", config]);
    assert_eq!(alone.status.code(), Some(64), "the store is to be opened: {alone:?}");
    let checked = run(folder.path(), &["check", "--config", config]);
    assert_eq!(checked.status.code(), Some(64), "a server could not start: {checked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_and_doctor_ask_the_server_they_are_given_and_touch_nothing_here() {
    let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let setup = Setup::new(there.path(), "[store]\nurl = \"sqlite:hookonce.db\"\n");
    let program = setup.start().await;
    let live = format!("http://127.0.0.1:{}", setup.admin_port);
    let nobody = format!("http://127.0.0.1:{}", crate::support::free_port());
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let strange = format!("http://{}", stranger.local_addr().unwrap());
    thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for mut connection in stranger.incoming().flatten() {
            drop(connection.read(&mut [0; 4096]));
            drop(
                connection.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
                ),
            );
        }
    });
    for command in ["check", "doctor"] {
        let well = run(here.path(), &[command, "--server", &live]);
        assert!(well.status.success(), "{command}: {}", said(&well));
        assert!(said(&well).contains("SQLite"), "{command}: {}", said(&well));
        let none = run(here.path(), &[command, "--server", &nobody]);
        assert_eq!(none.status.code(), Some(69), "{command}: {}", said(&none));
        assert!(said(&none).contains("no server answers"), "{command}: {}", said(&none));
        let other = run(here.path(), &[command, "--server", &strange]);
        assert_eq!(other.status.code(), Some(69), "{command}: {}", said(&other));
        assert!(
            said(&other).contains("no admin address of hookonce"),
            "{command}: {}",
            said(&other)
        );
        assert!(is_empty(here.path()), "{command} has made something");
    }
    program.kill();
}

#[test]
fn check_makes_nothing_and_says_where_the_store_will_be() {
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start();
    let port = crate::support::free_port();
    let server = format!("[server]\nadmin_listen = \"127.0.0.1:{port}\"\n");
    let config = folder.path().join("hookonce.toml");
    for (url, says) in [
        (
            "sqlite:hookonce.db".to_owned(),
            folder.path().join("hookonce-data/hookonce.db").display().to_string(),
        ),
        (redis.url(), "a yes survives".to_owned()),
    ] {
        let store = format!("[store]\nurl = \"{url}\"\ndurability = \"relaxed\"\n");
        fs::write(&config, format!("{server}{store}")).unwrap();
        let checked = run(folder.path(), &["check"]);
        assert!(said(&checked).contains(&says), "{}", said(&checked));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only the file is there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_was_emptied_can_be_copied_into() {
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start();
    let used = Setup::new(
        &folder.path().join("used"),
        &format!(
            "[store]\nurl = \"{}\"\n[sources.stripe]\nsecrets = [\"{SECRET}\"]\n",
            redis.url()
        ),
    );
    fs::create_dir(&used.folder).unwrap();
    let program = used.start().await;
    let answer = Connection::to(used.port).send(&Sender::new().request("evt_1")).await.unwrap();
    assert_eq!(answer.status, 200);
    program.kill();

    let source = Setup::new(folder.path(), "[store]\nurl = \"sqlite:hookonce.db\"\n");
    source.start().await.kill();
    let copy = ["store", "copy", "--from", "sqlite:hookonce.db", "--to", &redis.url()];
    let refused = source.command_alone(&copy);
    assert!(said(&refused).contains("has events in it"), "{refused:?}");
    redis::cmd("FLUSHALL").exec(&mut redis.try_connection().unwrap()).unwrap();
    let copied = source.command_alone(&copy);
    assert!(copied.status.success(), "{}", said(&copied));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_gone_and_a_refused_request_are_not_well() {
    let folder = tempfile::tempdir().unwrap();
    let stripe = format!(
        "[sources.stripe]\nsecrets = [\"{SECRET}\"]\n[handlers.log]\nsources = [\"stripe\"]\nlog = true\n"
    );
    let encrypted = format!(
        "[store]\nencryption_keys = [\"Y2FuYXJ5LW9mLXRoZS1lbmNyeXB0aW9uLWtleSEhISE=\"]\n{stripe}"
    );
    let with_key = Setup::new(folder.path(), &encrypted);
    let program = with_key.start().await;
    let mut to = Connection::to(with_key.port);
    assert_eq!(to.send(&Sender::new().request("evt_1")).await.unwrap().status, 200);
    assert!(said(&with_key.command(&program, &["check"])).contains("all is well"));
    let forged = Sender::with("whsec_of_a_forger").request("evt_2");
    assert_eq!(to.send(&forged).await.unwrap().status, 401);
    let doctor = || with_key.command(&program, &["doctor"]);
    until("the refusal is written down", Duration::from_secs(20), || async {
        doctor().status.code() == Some(1)
    })
    .await;
    let refused = said(&doctor());
    assert!(refused.contains("refused at `no_match`"), "{refused}");
    assert!(!refused.contains("all is well"), "{refused}");
    program.kill();

    let without_key = Setup { config: stripe, ..with_key };
    let program = without_key.start().await;
    for command in ["check", "doctor", "health"] {
        let warned = said(&without_key.command(&program, &[command]));
        assert!(warned.contains("encrypted with key"), "{command}: {warned}");
        assert!(!warned.contains("all is well"), "{command}: {warned}");
    }
}
