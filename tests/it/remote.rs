//! The commands against a server that is elsewhere: all they have is its address and its token.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::support::{
    program::Setup,
    sender::{Connection, SECRET, Sender},
    sink::{Behaviour, Sink},
    until,
};

const TOKEN: &str = "a-long-token-for-the-operator";
const READ_ONLY: &str = "a-long-token-for-who-only-looks";
const PATIENCE: Duration = Duration::from_secs(20);

/// Somebody in a folder with nothing in it, who knows a server and perhaps its token.
struct Person<'a> {
    folder: &'a Path,
    server: String,
    token: Option<&'a str>,
}

impl Person<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookonce"));
        command.current_dir(self.folder).env_clear().stdin(Stdio::null());
        command.envs(self.token.map(|token| ("HOOKONCE_TOKEN", token)));
        command.args(arguments).args(["--server", &self.server]);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command prints as JSON; it does so, and prints text as well when it is not asked for that.
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_works_on_a_server_elsewhere_with_its_token_alone() {
    let sink = Sink::behaving(|call| match call.event_id.starts_with("evt_dead") {
        true => Behaviour::Status(410, None),
        false => Behaviour::Status(200, None),
    });
    let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = format!(
        "admin_token = \"{TOKEN}\"\nadmin_token_readonly = \"{READ_ONLY}\"\n[store]\nurl = \"sqlite:hookonce.db\"\n[sources.stripe]\nsecrets = [\"{SECRET}\"]\n[handlers.billing]\nurl = \"{}\"\n[apis.payments]\nupstream = \"{}\"\n",
        sink.url(),
        sink.url(),
    );
    let setup = Setup::new(there.path(), &config);
    let program = setup.start().await;
    let server = format!("http://127.0.0.1:{}", setup.admin_port);
    let person = |token| Person { folder: here.path(), server: server.clone(), token };
    let (operator, reader, stranger) = (person(Some(TOKEN)), person(Some(READ_ONLY)), person(None));

    let (sender, mut to) = (Sender::new(), Connection::to(setup.port));
    for id in ["evt_1", "evt_dead"] {
        assert_eq!(to.send(&sender.request(id)).await.unwrap().status, 200);
    }
    let forged = Sender::with("whsec_of_a_forger").request("evt_forged");
    assert_eq!(to.send(&forged).await.unwrap().status, 401);
    let settled = || async {
        let stats = operator.json(&["stats"]);
        let refused = operator.json(&["refusals"])["refusals"].as_array().unwrap().len();
        stats["done"] == 1 && stats["dead_now"] == 1 && refused == 1
    };
    until("there is something to see of everything", PATIENCE, settled).await;

    let event = operator.json(&["events", "--event-id", "evt_1"])["events"][0]["id"].clone();
    let dead = operator.json(&["deliveries", "--state", "dead"])["deliveries"][0]["id"].clone();
    let refusal = operator.json(&["refusals"])["refusals"][0]["id"].clone();
    let [event, dead, refusal] = [&event, &dead, &refusal].map(|id| id.as_str().unwrap());
    let looks: [&[&str]; 10] = [
        &["stats"],
        &["events"],
        &["events", "show", event],
        &["events", "show", event, "--request"],
        &["deliveries"],
        &["deliveries", "show", dead],
        &["refusals"],
        &["refusals", "show", refusal],
        &["keys"],
        &["handlers"],
    ];
    let wishes: [&[&str]; 6] = [
        &["replay", event, "--reason", "asked for"],
        &["redrive", dead],
        &["handlers", "pause", "billing"],
        &["handlers", "resume", "billing"],
        &["handlers", "set", "billing", "--concurrency", "2"],
        &["reload"],
    ];
    for command in looks.iter().chain(&wishes) {
        let refused = stranger.run(command);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{command:?}: {said}");
        assert!(said.contains("HOOKONCE_TOKEN"), "{command:?}: {said}");
    }
    for command in looks {
        let seen = reader.run(command);
        assert!(seen.status.success() && !seen.stdout.is_empty(), "{command:?}: {seen:?}");
        operator.json(command);
    }
    for command in wishes {
        assert_eq!(reader.run(command).status.code(), Some(1), "{command:?} only looks");
        let done = operator.run(command);
        assert!(done.status.success() && !done.stdout.is_empty(), "{command:?}: {done:?}");
    }
    let readmitted = operator.run(&["refusals", "readmit", refusal]);
    assert_eq!(readmitted.status.code(), Some(1), "it is forged still: {readmitted:?}");
    let by_option = stranger.run(&["stats", "--token", TOKEN]);
    assert!(by_option.status.success(), "{by_option:?}");

    to = Connection::to(setup.port); // the first one has been idle for long
    let mut tail = operator.command(&["tail", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let watching = async {
        loop {
            assert_eq!(to.send(&sender.request("evt_1")).await.unwrap().word, "duplicate");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let line = tokio::task::spawn_blocking(move || lines.next().unwrap().unwrap());
    let line = tokio::select! { line = line => line.unwrap(), never = watching => never };
    tail.kill().unwrap();
    tail.wait().unwrap();
    let happening: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(happening["what"], "received");

    assert_eq!(std::fs::read_dir(here.path()).unwrap().count(), 0, "nothing was left here");
    assert!(!program.log().contains(TOKEN));
}
