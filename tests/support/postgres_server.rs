//! A real Postgres server: on a free port, with data of its own, ended with the process that started it.
//!
//! Making one takes seconds, so the tests of a binary share one, each with a database of its own. Those
//! that stop or kill their server start another on a copy of the same fresh data.

use std::{
    io::Write as _,
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Where Debian has the programs.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// A running server.
pub(crate) struct PostgresServer {
    port: u16,
    folder: Folder,
    settings: Vec<String>,
    child: Mutex<Child>,
    databases: AtomicU32,
    /// Databases that nobody uses any more.
    left: Mutex<Vec<String>>,
}

/// An empty database of a shared server, for one test.
pub(crate) struct Database {
    pub(crate) url: String,
}

impl PostgresServer {
    /// The server that the tests of this binary share. They must leave it as it is.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<PostgresServer> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]))
    }

    /// A server of the test's own, with these settings.
    pub(crate) fn start(settings: &[&str]) -> Self {
        let folder = Folder::new();
        copy_fresh_data(folder.path.path());
        Self::start_in(folder, settings)
    }

    /// The same with its data on `disk`, which the user it runs as may write to.
    pub(crate) fn start_on(disk: &Path, settings: &[&str]) -> Self {
        let folder = Folder::new();
        copy_fresh_data(disk);
        let synced = Command::new("sync").arg("--file-system").arg(disk).status();
        assert!(synced.expect("sync runs").success(), "the data is on the disk");
        symlink(disk.join("data"), folder.data()).expect("the folder is ours");
        Self::start_in(folder, settings)
    }

    fn start_in(folder: Folder, settings: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port is free")
            .port();
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        let child = Mutex::new(run(port, &folder, &settings));
        let server = Self {
            port,
            folder,
            settings,
            child,
            databases: AtomicU32::new(0),
            left: Mutex::default(),
        };
        server.wait_until_it_answers();
        server
    }

    /// A server that speaks TLS, with a certificate for `localhost`, and the file that vouches for it.
    pub(crate) fn start_with_tls() -> (Self, String) {
        const REQUEST: &str = "[req]\ndistinguished_name = name\nx509_extensions = extensions\n\
            [name]\n[extensions]\nsubjectAltName = DNS:localhost\nbasicConstraints = CA:FALSE\n";
        let folder = fresh_data().path.path();
        let [request, key, certificate] =
            ["request", "key.pem", "certificate.pem"].map(|name| text(&folder.join(name)));
        std::fs::write(&request, REQUEST).expect("the folder is ours");
        let made = as_postgres("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-config", &request])
            .args(["-keyout", &key, "-out", &certificate])
            .stderr(Stdio::null())
            .status();
        assert!(made.expect("openssl came with postgres").success(), "a certificate is made");
        let settings = [format!("ssl_key_file={key}"), format!("ssl_cert_file={certificate}")];
        (Self::start(&["ssl=on", &settings[0], &settings[1]]), certificate)
    }

    /// A database of the shared server. Emptying one that was left is quicker than making one.
    pub(crate) fn shared_database() -> Database {
        const EMPTY: &str = "DO $$
            DECLARE name text;
            BEGIN
                FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'hookonce'
                        AND tablename NOT IN
                            ('schema_version', 'generations', 'probe', 'moving') LOOP
                    EXECUTE format('DELETE FROM hookonce.%I', name);
                END LOOP;
                UPDATE hookonce.moving SET standing = 'serving';
            END $$";
        let server = Self::shared();
        let left = server.left.lock().expect("nobody panicked").pop();
        let url = left.inspect(|url| drop(server.run(url, EMPTY)));
        Database { url: url.unwrap_or_else(|| server.database()) }
    }

    /// The URL of a fresh database.
    pub(crate) fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::SeqCst));
        self.run(&self.url("postgres"), &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// The URL of a database, for the superuser.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// Runs SQL beside the store, and gives what it prints.
    pub(crate) fn run(&self, url: &str, sql: &str) -> String {
        self.try_run(url, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// A session beside the store's that begins a transaction, reads, and does nothing more.
    pub(crate) fn idle_in_transaction(&self, url: &str) -> Session {
        let mut child = Command::new(program("psql"))
            .args(["-X", "-q", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("psql is installed");
        let begin = b"BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class;\n";
        let stdin = child.stdin.as_mut().expect("it is piped");
        stdin.write_all(begin).expect("it listens");
        Session(child)
    }

    /// Stops it in its tracks: connections stay open, nothing is answered, and nothing more is written.
    pub(crate) fn freeze(&self) {
        // The one that makes the others first, so that none is made meanwhile.
        kill_process(self.postmaster(), Signal::STOP).expect("it can be stopped");
        let processes = self.processes();
        for pid in &processes {
            kill_process(*pid, Signal::STOP).ok(); // it may have ended meanwhile
        }
        // Whoever is writing to the disk stops only then.
        self.wait_until("stopped", || processes.iter().all(|pid| is_in(*pid, &['T', 'Z'])));
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        for pid in self.processes() {
            kill_process(pid, Signal::CONT).expect("it can go on");
        }
    }

    /// Kills it without a warning: every process of it, as a power cut would, but for the disk.
    pub(crate) fn kill(&self) {
        let processes = self.processes();
        for pid in &processes {
            kill_process(*pid, Signal::KILL).ok(); // a backend may have ended meanwhile
        }
        self.child.lock().expect("nobody panicked").wait().expect("it ends");
        // As long as one of them lives, another server would refuse the data.
        self.wait_until("gone", || processes.iter().all(|pid| is_in(*pid, &['Z'])));
    }

    /// Starts it again on what it left on disk, and waits until it answers.
    pub(crate) fn restart(&self) {
        *self.child.lock().expect("nobody panicked") = run(self.port, &self.folder, &self.settings);
        self.wait_until_it_answers();
    }

    fn postmaster(&self) -> Pid {
        Pid::from_child(&self.child.lock().expect("nobody panicked"))
    }

    /// The postmaster and its children.
    fn processes(&self) -> Vec<Pid> {
        let postmaster = self.postmaster();
        let list = std::fs::read_to_string(format!(
            "/proc/{0}/task/{0}/children",
            postmaster.as_raw_nonzero()
        ));
        let children = list.unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        std::iter::once(postmaster).chain(children.filter_map(Pid::from_raw)).collect()
    }

    /// Runs SQL beside the store, or says why that cannot be done.
    pub(crate) fn try_run(&self, url: &str, sql: &str) -> Result<String, String> {
        let ran = Command::new(program("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", url, "-c", sql])
            .env("PGCONNECT_TIMEOUT", "5")
            .output()
            .expect("psql is installed");
        match ran.status.success() {
            true => Ok(String::from_utf8_lossy(&ran.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&ran.stderr).into_owned()),
        }
    }

    fn wait_until_it_answers(&self) {
        self.wait_until("up", || self.try_run(&self.url("postgres"), "SELECT 1").is_ok());
    }

    fn wait_until(&self, state: &str, condition: impl Fn() -> bool) {
        for _ in 0..500 {
            if condition() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("postgres on port {} is not {state}", self.port);
    }
}

/// A session that ends when it is dropped.
pub(crate) struct Session(Child);

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let server = PostgresServer::shared();
        server.left.lock().expect("nobody panicked").push(std::mem::take(&mut self.url));
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A folder that is gone, and its server ended, with the process that made it, however that ends.
struct Folder {
    path: TempDir,
    /// It waits at the other end of a pipe for us to be gone.
    _watcher: Child,
}

impl Folder {
    /// A folder that the user the server runs as may write to.
    fn new() -> Self {
        const WATCH: &str = r#"cat >/dev/null
            server=$(head -n 1 "$0/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$server" &&
            while kill -0 "$server"; do sleep 0.1; done
            rm -rf "$0""#;
        let path = tempfile::tempdir().expect("a folder can be made");
        let everybody = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(path.path(), everybody).expect("it is ours");
        let watcher = Command::new("sh")
            .args(["-c", WATCH, &text(path.path())])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self { path, _watcher: watcher.expect("there is a shell") }
    }

    fn data(&self) -> String {
        text(&self.path.path().join("data"))
    }
}

/// The data of a server that has never run, made once.
fn fresh_data() -> &'static Folder {
    static FRESH: OnceLock<Folder> = OnceLock::new();
    FRESH.get_or_init(|| {
        let folder = Folder::new();
        let made = as_postgres(&program("initdb"))
            .args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "-U", "postgres"])
            .args(["-D", &folder.data()])
            .stdout(Stdio::null())
            .status();
        assert!(made.expect("initdb is installed").success(), "initdb makes the data");
        folder
    })
}

fn copy_fresh_data(to: &Path) {
    let copied = as_postgres("cp").args(["-a", &fresh_data().data(), &text(to)]).status();
    assert!(copied.expect("cp runs").success(), "the data can be copied");
}

/// Whether a process is gone, or in one of these states, which are letters of the kernel's.
fn is_in(pid: Pid, states: &[char]) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let stat = stat.unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, after_name)| after_name.chars().next());
    state.is_none_or(|state| states.contains(&state))
}

fn run(port: u16, folder: &Folder, settings: &[String]) -> Child {
    let mut command = as_postgres(&program("postgres"));
    command
        .args(["-D", &folder.data(), "-p", &port.to_string()])
        .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
        .args(["-c", "max_connections=200", "-c", "fsync=on"])
        .args(settings.iter().flat_map(|setting| ["-c", setting]))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().expect("postgres is installed")
}

/// Postgres refuses to run as root.
fn as_postgres(program: &str) -> Command {
    if !rustix::process::getuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", program]);
    command
}

fn program(name: &str) -> String {
    let here = PathBuf::from(PROGRAMS).join(name);
    if here.exists() { text(&here) } else { name.to_owned() }
}

fn text(path: &Path) -> String {
    path.to_str().expect("paths here are text").to_owned()
}
