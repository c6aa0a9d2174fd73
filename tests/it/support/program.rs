//! The real program, with a configuration of its own in a folder of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use hookonce::store::Stats;
use serde_json::Value;

use super::free_port;

/// A running `hookonce serve`, killed when it is dropped.
pub(crate) struct Program {
    child: Child,
    folder: PathBuf,
    config: PathBuf,
    pub(crate) port: u16,
    pub(crate) admin_port: u16,
}

/// What to run: a folder, a configuration, and addresses that stay the same over restarts.
pub(crate) struct Setup {
    pub(crate) folder: PathBuf,
    /// The configuration, less `[server]`.
    pub(crate) config: String,
    pub(crate) port: u16,
    pub(crate) admin_port: u16,
}

impl Setup {
    /// A setup in `folder`; `config` is everything but `[server]`.
    pub(crate) fn new(folder: &Path, config: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            config: config.to_owned(),
            port: free_port(),
            admin_port: free_port(),
        }
    }

    /// Where its relative store files are.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Its configuration file, which is there once the program was started.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder.join(format!("hookonce-{}.toml", self.port))
    }

    /// Runs another command beside the running program, with the same configuration.
    pub(crate) fn command(&self, program: &Program, arguments: &[&str]) -> std::process::Output {
        run(arguments, &program.config)
    }

    /// Runs a command while the program is not running, with the configuration it had.
    pub(crate) fn command_alone(&self, arguments: &[&str]) -> std::process::Output {
        run(arguments, &self.config_file())
    }

    /// Starts the program and waits until it is ready.
    pub(crate) async fn start(&self) -> Program {
        let program = self.spawn();
        program.ready_within(Duration::from_secs(20)).await;
        program
    }

    /// Puts the file there that the program is started with, or reloads, with this in it: in one step,
    /// as an editor does.
    pub(crate) fn write(&self, config: &str) -> PathBuf {
        let (port, admin_port, data_dir) = (self.port, self.admin_port, self.data_dir());
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:{port}\"\nadmin_listen = \"127.0.0.1:{admin_port}\"\ndata_dir = {data_dir:?}\n{config}"
        );
        let file = self.config_file();
        let draft = file.with_extension("draft");
        fs::write(&draft, config).unwrap();
        fs::rename(&draft, &file).unwrap();
        file
    }

    /// Starts the program without waiting.
    pub(crate) fn spawn(&self) -> Program {
        let (port, admin_port) = (self.port, self.admin_port);
        let file = self.write(&self.config);
        let log =
            fs::File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_hookonce"))
            .args(["serve", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Program { child, folder: self.folder.clone(), config: file, port, admin_port }
    }
}

fn run(arguments: &[&str], config: &Path) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_hookonce"))
        .args(arguments)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

impl Program {
    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Waits until it says that it is ready; says how long that took.
    pub(crate) async fn ready_within(&self, patience: Duration) -> Duration {
        let begun = Instant::now();
        while self.ask("GET", "/readyz", None).await.is_none_or(|(status, _)| status != 200) {
            assert!(begun.elapsed() < patience, "not ready within {patience:?}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        begun.elapsed()
    }

    /// SIGHUP: it loads its configuration again, at some time.
    pub(crate) fn hang_up(&self) {
        rustix::process::kill_process(self.pid(), rustix::process::Signal::HUP).unwrap();
    }

    /// SIGSTOP: it stands still, and its connections stay open.
    pub(crate) fn freeze(&self) {
        rustix::process::kill_process(self.pid(), rustix::process::Signal::STOP).unwrap();
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; waits for its end and says how it ended.
    pub(crate) fn terminate(mut self) -> std::process::ExitStatus {
        rustix::process::kill_process(self.pid(), rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }

    /// Waits for its end; says how it ended, and what it had to say.
    pub(crate) fn wait(mut self) -> (std::process::ExitStatus, String) {
        let status = self.child.wait().unwrap();
        (status, self.log())
    }

    /// Asks the admin listener: the status and the body, if it answers.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Option<(u16, String)> {
        let url = format!("http://127.0.0.1:{}{path}", self.admin_port);
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let asked =
            hookonce::handler::http_client().request(method, url).timeout(Duration::from_secs(20));
        let asked = match body {
            Some(body) => asked.json(&body),
            None => asked,
        };
        let answer = asked.send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    /// Asks the admin API for JSON; anything but a 200 fails the test.
    pub(crate) async fn api(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, text) = self.ask(method, path, body).await.unwrap();
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) async fn stats(&self) -> Stats {
        serde_json::from_value(self.api("GET", "/api/v1/stats", None).await).unwrap()
    }

    /// Everything it has logged, with those before it in the same folder.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
