//! A real Redis server for one test: on a free port, in a folder of its own, ended with the test.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use redis::Connection;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A running server.
pub(crate) struct RedisServer {
    port: u16,
    folder: TempDir,
    settings: Vec<String>,
    child: Child,
}

impl RedisServer {
    /// A server that keeps every promise.
    pub(crate) fn start() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// A server with these settings; the last of two for the same thing counts.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port is free")
            .port();
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        let child = run(port, &folder, &settings);
        let server = Self { port, folder, settings, child };
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
        self.child = run(self.port, &self.folder, &self.settings);
        self.wait_until_it_answers();
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Tries to open a connection beside the store's.
    pub(crate) fn try_connection(&self) -> redis::RedisResult<Connection> {
        redis::Client::open(self.url())?.get_connection_with_timeout(Duration::from_secs(5))
    }

    fn wait_until_it_answers(&self) {
        for _ in 0..1000 {
            let answer = self
                .try_connection()
                .and_then(|mut open| redis::cmd("PING").query::<String>(&mut open));
            if answer.is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("redis-server does not answer on port {}", self.port);
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn run(port: u16, folder: &TempDir, settings: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--maxmemory-policy", "noeviction", "--dir"])
        .arg(folder.path())
        .args(settings)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}
