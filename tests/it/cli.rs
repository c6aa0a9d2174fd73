//! The program as a person or a script uses it: help, exit codes, what is printed, and what never is.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/vectors.jsonl");
const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/stripe/invoice_paid.http");

/// The program in a folder, with an empty environment: the machine's own secrets are none of its.
fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookonce"));
    command.current_dir(folder).env_clear().args(arguments).stdin(Stdio::null());
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {output:?}"))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running `hookonce serve` without a configuration file, killed when it is dropped.
struct Served {
    child: Child,
    /// Where webhooks go.
    to: String,
    /// Where the admin API is.
    server: String,
}

impl Served {
    fn start(folder: &Path) -> Self {
        let (public, admin) = (free_port(), free_port());
        let (listen, admin) = (format!("127.0.0.1:{public}"), format!("127.0.0.1:{admin}"));
        let child = command(folder, &["serve", "--listen", &listen, "--admin-listen", &admin])
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let served =
            Self { child, to: format!("http://{listen}"), server: format!("http://{admin}") };
        until("it is ready", || {
            run(folder, &["health", "--server", &served.server]).status.success()
        });
        served
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn every_command_has_a_help_text() {
    let folder = tempfile::tempdir().unwrap();
    let help = run(folder.path(), &["--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    let commands = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let names: Vec<_> = commands
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help")
        .collect();
    for wanted in ["serve", "demo", "check", "send", "sign", "verify", "events", "health"] {
        assert!(names.contains(&wanted), "{wanted} is not in {names:?}");
    }
    for name in names {
        let help = run(folder.path(), &[name, "--help"]);
        let text = String::from_utf8(help.stdout).unwrap();
        assert!(help.status.success() && text.contains("Usage: hookonce"), "{name}: {text}");
    }
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let no_dir = format!(
        "[server]\ndata_dir = \"/dev/null/x\"\nadmin_listen = \"127.0.0.1:{}\"\n[store]\nurl = \"redis://127.0.0.1:1\"\n",
        free_port()
    );
    fs::write(folder.path().join("nodir.toml"), no_dir).unwrap();
    let away = format!(
        "[server]\nadmin_listen = \"127.0.0.1:{}\"\n[store]\nurl = \"rediss://127.0.0.1:1\"\n",
        free_port()
    );
    fs::write(folder.path().join("away.toml"), away).unwrap();
    let cases: [(&[&str], i32, &str); 16] = [
        (&["stats", "--server", "localhost:8081"], 64, "write http://localhost:8081"),
        (&["events", "--since", "yesterday"], 2, "2026-01-31T12:00:00Z"),
        (&["events", "--since", "1d", "--server", &nobody], 69, "no server answers"),
        (&["doctor", "--since", "2026-01-31T12:00:00Z", "--server", &nobody], 69, ""),
        (&["store", "restore", "nothere.db"], 64, "there is no file nothere.db"),
        (&["migrate", "--config", "away.toml"], 0, ""),
        (&["redrive", "--handler", "a", "--config", "nodir.toml"], 69, "`data_dir`"),
        (&["frobnicate"], 2, "unrecognized subcommand"),
        (&["send", "stripe", "--events", "0"], 2, "--events"),
        (&["check", "--config", "none.toml"], 64, ""),
        (&["send", "stripe", "--config", "none.toml"], 64, "none.toml"),
        (&["send", "nobody", "--to", &nobody], 64, "there is no source `nobody`"),
        (&["send", "stripe", "none", "--to", &nobody], 64, "neither a file nor a fixture"),
        (&["verify", "none.http", "--provider", "nobody"], 64, "there is no provider `nobody`"),
        (&["send", "stripe", "--to", &nobody], 69, "start `hookonce serve` first"),
        (&["stats", "--server", &nobody], 69, "no server answers"),
    ];
    for (arguments, code, said) in cases {
        let output = run(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert!(stderr(&output).contains(said), "{arguments:?}: {output:?}");
    }
}

#[test]
fn what_cannot_be_reached_is_named_and_a_server_starts_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[server]\nadmin_listen = \"127.0.0.1:{}\"\n[store]\nurl = \"redis://user:hidden@127.0.0.1:1\"\n",
        free_port()
    );
    fs::write(folder.path().join("hookonce.toml"), config).unwrap();
    let checked = run(folder.path(), &["check"]);
    assert_eq!(checked.status.code(), Some(69), "{checked:?}");
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(said.contains("redis://127.0.0.1:1: "), "{said}");
    assert!(said.contains("a server starts, and answers 503"), "{said}");
    assert!(!said.contains("hidden"), "{said}");
    let migrated = run(folder.path(), &["migrate"]);
    assert!(String::from_utf8_lossy(&migrated.stdout).contains("schema of redis"), "{migrated:?}");
}

#[test]
fn an_address_that_is_not_the_admin_address_is_told_from_one_where_nobody_is() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    let stats = |server: &str| stderr(&run(folder.path(), &["stats", "--server", server]));
    assert!(stats(&served.to).contains("is no admin address of hookonce"), "{}", stats(&served.to));
    let encrypted = served.server.replace("http:", "https:");
    assert!(stats(&encrypted).contains("no TLS"), "{}", stats(&encrypted));
    let taken = served.to.trim_start_matches("http://");
    let second = run(folder.path(), &["serve", "--listen", taken, "--admin-listen", "127.0.0.1:0"]);
    assert!(stderr(&second).contains("another hookonce"), "{second:?}");
    let nowhere = run(folder.path(), &["serve", "--listen", "192.0.2.1:80"]);
    assert!(stderr(&nowhere).contains("this machine has no such address"), "{nowhere:?}");
}

#[test]
fn without_a_configuration_five_copies_are_one_event_handled_once() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    let send = ["send", "stripe", "--copies", "5", "--concurrent", "--json", "--to", &served.to];
    let sent = run(folder.path(), &send);
    assert!(sent.status.success(), "{sent:?}");
    let report = json(&sent);
    assert_eq!((&report["requests"], &report["acknowledged"]), (&5.into(), &5.into()));
    let answers = serde_json::json!([
        { "status": "accepted", "http": 200, "count": 1 },
        { "status": "duplicate", "http": 200, "count": 4 },
    ]);
    assert_eq!(report["answers"], answers);
    assert!(report["latency_ms"]["p99"].as_f64().unwrap() > 0.0);

    let stats = || json(&run(folder.path(), &["stats", "--json", "--server", &served.server]));
    until("the event is done", || stats()["done"] == 1);
    let counted = stats();
    assert_eq!((&counted["events"], &counted["duplicates"]), (&1.into(), &4.into()));
    assert_eq!(counted["handlers"]["log"]["done"], 1);
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert_eq!(log.matches("came from stripe").count(), 1, "{log}");
}

#[test]
fn a_refused_request_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    let elsewhere = tempfile::tempdir().unwrap(); // with development secrets of its own
    let sent = run(elsewhere.path(), &["send", "stripe", "--json", "--to", &served.to]);
    assert_eq!(sent.status.code(), Some(1));
    let report = json(&sent);
    assert_eq!(report["answers"][0]["status"], "refused");
    assert_eq!(report["answers"][0]["http"], 401);
    assert_eq!(report["acknowledged"], 0);
}

#[test]
fn development_secrets_are_their_owners_alone_and_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    let (to, server) = (served.to.as_str(), served.server.as_str());
    let mut printed = String::new();
    let cases: [&[&str]; 10] = [
        &["send", "stripe", "--to", to],
        &["send", "twilio", "--to", to, "--json"],
        &["send", "slack", "--list"],
        &["sign", "stripe", "invoice_paid"],
        &["sign", "hmac", "plain", "--curl"],
        &["check"],
        &["providers", "--json"],
        &["stats", "--server", server],
        &["events", "--server", server, "--json"],
        &["deliveries", "--server", server],
    ];
    for arguments in cases {
        let output = run(folder.path(), arguments);
        assert!(!output.stdout.is_empty(), "{arguments:?}: {output:?}");
        printed += &String::from_utf8_lossy(&output.stdout);
        printed += &stderr(&output);
    }
    printed += &fs::read_to_string(folder.path().join("log")).unwrap();

    let file = folder.path().join("hookonce-data/development-secrets.toml");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let secrets: toml::Table = fs::read_to_string(file).unwrap().parse().unwrap();
    assert!(secrets.len() >= 7, "{} secrets", secrets.len());
    for (provider, secret) in &secrets {
        let secret = secret.as_str().unwrap();
        assert!(!printed.contains(secret), "the secret of {provider} was printed");
    }
}

#[test]
fn every_mistake_of_a_configuration_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[server]\nlisten = \"nowhere\"\n[store]\nurl = \"floppy:a\"\n\
                  [sources.stripe]\nprovider = \"stripe\"\nsecrets = []\ncolour = \"red\"\n";
    fs::write(folder.path().join("hookonce.toml"), config).unwrap();
    let checked = run(folder.path(), &["check", "--json"]);
    assert_eq!(checked.status.code(), Some(64), "{checked:?}");
    let report = json(&checked);
    assert_eq!(report["ok"], false);
    let told = report["mistakes"].to_string();
    for key in ["server.listen", "store.url", "sources.stripe.secrets", "sources.stripe.colour"] {
        assert!(told.contains(key), "{key} is not in {told}");
    }
    assert_eq!(run(folder.path(), &["serve"]).status.code(), Some(64));
}

#[test]
fn our_vectors_are_as_expected_and_a_wrong_one_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let checked = run(folder.path(), &["verify", "--vectors", VECTORS]);
    assert!(checked.status.success(), "{}", stderr(&checked));
    let vectors = fs::read_to_string(VECTORS).unwrap();
    let results = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(results.lines().count(), vectors.lines().count());
    for line in results.lines() {
        let result: Value = serde_json::from_str(line).unwrap();
        for key in ["provider", "name", "verdict", "code"] {
            assert!(result[key].is_string(), "{line}");
        }
    }

    let mut vector: Value = serde_json::from_str(vectors.lines().next().unwrap()).unwrap();
    let flipped = if vector["expect"] == "accept" { "reject" } else { "accept" };
    vector["expect"] = flipped.into();
    fs::write(folder.path().join("wrong.jsonl"), vector.to_string()).unwrap();
    let checked = run(folder.path(), &["verify", "--vectors", "wrong.jsonl"]);
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
}

#[test]
fn what_is_signed_verifies_with_its_secret_alone() {
    let folder = tempfile::tempdir().unwrap();
    let signed = run(
        folder.path(),
        &["sign", "stripe", FIXTURE, "--secret", "whsec_one", "--now", "1800000000"],
    );
    assert!(signed.status.success(), "{signed:?}");
    assert!(!String::from_utf8_lossy(&signed.stdout).contains("whsec_one"));
    fs::write(folder.path().join("signed.http"), &signed.stdout).unwrap();
    let verify = |more: &[&str]| {
        let arguments = [&["verify", "signed.http", "--provider", "stripe", "--json"], more];
        run(folder.path(), &arguments.concat())
    };

    let right = verify(&["--secret", "whsec_one"]);
    assert!(right.status.success(), "{right:?}");
    let verdict = json(&right);
    assert_eq!((&verdict["verdict"], &verdict["code"]), (&"accept".into(), &"accepted".into()));
    assert_eq!(verdict["events"][0]["type"], "invoice.paid");
    assert_eq!(verdict["events"][0]["identity"], "evt_1SkQ2MB7WZ01zgkWUt5nJx0a");

    let wrong = verify(&["--secret", "whsec_two"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(json(&wrong)["reason"].as_str().unwrap().contains("no configured secret"));
    let stale = verify(&["--secret", "whsec_one", "--now", "1800009999"]);
    assert_eq!(stale.status.code(), Some(1));
    assert!(json(&stale)["reason"].as_str().unwrap().contains("9999 s old"), "{stale:?}");
}

#[test]
fn a_captured_request_is_checked_with_the_secret_of_its_configured_source() {
    let folder = tempfile::tempdir().unwrap();
    let sign = ["sign", "stripe", FIXTURE, "--secret", "whsec_one", "--now", "1800000000"];
    fs::write(folder.path().join("captured.http"), run(folder.path(), &sign).stdout).unwrap();
    let verify = |more: &[&str]| run(folder.path(), &[&["verify", "captured.http"], more].concat());
    let without = verify(&["--provider", "stripe"]);
    assert_eq!(without.status.code(), Some(64), "{without:?}");
    assert!(stderr(&without).contains("--secret"), "{without:?}");

    let source = |name: &str, secret: &str| {
        format!("[sources.{name}]\nprovider = \"stripe\"\nsecrets = [\"{secret}\"]\n")
    };
    let config = folder.path().join("hookonce.toml");
    fs::write(&config, source("billing", "whsec_one")).unwrap();
    assert!(verify(&["--provider", "stripe"]).status.success());
    let other = verify(&["--provider", "stripe", "--secret", "whsec_two"]);
    assert_eq!(other.status.code(), Some(1), "the command line stands before it: {other:?}");

    fs::write(&config, source("billing", "whsec_one") + &source("shop", "whsec_two")).unwrap();
    let several = verify(&["--provider", "stripe"]);
    assert!(stderr(&several).contains("name one with --source"), "{several:?}");
    assert!(verify(&["--source", "billing"]).status.success());
    assert_eq!(verify(&["--source", "shop"]).status.code(), Some(1));
    assert_eq!(verify(&["--source", "nobody"]).status.code(), Some(64));
}

#[test]
fn the_demo_keeps_every_promise_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let demo = command(folder.path(), &["demo", "--json"]).env("TMPDIR", folder.path()).output();
    let demo = demo.unwrap();
    assert!(demo.status.success(), "{demo:?}");
    let report = json(&demo);
    assert_eq!(report["all_kept"], true);
    assert!(report["promises"].as_array().unwrap().len() >= 6);
    assert_eq!(report["skipped"], Value::Null);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
