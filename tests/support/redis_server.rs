//! A real Redis server for one test: on a free port, in a folder of its own, ended with the test.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use redis::Connection;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A running server.
pub(crate) struct RedisServer {
    pub(crate) program: Vec<String>,
    pub(crate) port: u16,
    pub(crate) folder: TempDir,
    pub(crate) settings: Vec<String>,
    pub(crate) child: Child,
}

impl RedisServer {
    /// A server that keeps every promise.
    pub(crate) fn start() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Valkey, keeping the same: where `tests/run` has put it, or the one that is installed.
    pub(crate) fn start_valkey() -> Self {
        #[expect(clippy::disallowed_methods, reason = "`tests/run` says where it is")]
        let program = std::env::var("VALKEY_SERVER").unwrap_or_else(|_| "valkey-server".to_owned());
        Self::start_program(&[&program], &["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// A server with these settings; the last of two for the same thing counts.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        Self::start_program(&["redis-server"], settings)
    }

    /// The same with another program that is run as redis-server is, with words in front of it or none.
    pub(crate) fn start_program(program: &[&str], settings: &[&str]) -> Self {
        // In memory where that can be: what is synced there survives all that a test does to a server,
        // and a slow disk is no reason for a test to fail.
        let in_memory = Path::new("/dev/shm");
        let folder = if in_memory.is_dir() { in_memory.to_owned() } else { std::env::temp_dir() };
        let folder = tempfile::tempdir_in(folder).expect("a folder can be made");
        let port = free_port();
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        let program: Vec<String> = program.iter().map(ToString::to_string).collect();
        let child = run(&program, port, &folder, &settings);
        let server = Self { program, port, folder, settings, child };
        server.wait_until_it_answers();
        server
    }

    /// Its URL, for the default user.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Stops it in its tracks: connections stay open, and nothing is answered.
    pub(crate) fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).expect("it can be stopped");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).expect("it can go on");
    }

    /// Kills it without a warning.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Starts it again on what it left on disk.
    pub(crate) fn restart(&mut self) {
        self.child = run(&self.program, self.port, &self.folder, &self.settings);
        self.wait_until_it_answers();
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Tries to open a connection beside the store's.
    pub(crate) fn try_connection(&self) -> redis::RedisResult<Connection> {
        redis::Client::open(self.url())?.get_connection_with_timeout(Duration::from_secs(5))
    }

    pub(crate) fn wait_until_it_answers(&self) {
        for _ in 0..1000 {
            let answer = self
                .try_connection()
                .and_then(|mut open| redis::cmd("PING").query::<String>(&mut open));
            if answer.is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{:?} does not answer on port {}", self.program, self.port);
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A port that nobody listens on just now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port is free")
        .port()
}

fn run(program: &[String], port: u16, folder: &TempDir, settings: &[String]) -> Child {
    let (program, words) = program.split_first().expect("a program is named");
    Command::new(program)
        .args(words)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--maxmemory-policy", "noeviction", "--dir"])
        .arg(folder.path())
        .args(settings)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is not installed: {error}"))
}
