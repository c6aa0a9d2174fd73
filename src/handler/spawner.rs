//! Starts processes that do not outlive this one.
//!
//! A command that went on after hookonce was killed would run beside its own next attempt. Linux
//! can send a child a signal when its parent dies, but "parent" means the thread that started it,
//! and the threads of a runtime come and go. So one thread that lives as long as the process starts
//! them all, through util-linux's `setpriv`, which asks for that signal. Where there is no
//! `setpriv`, commands run without it. What a command starts itself is not covered, unless it is
//! killed with the group.

use std::{
    ffi::OsString,
    io,
    process::{ExitStatus, Stdio},
    sync::{LazyLock, Mutex, PoisonError, mpsc},
    thread,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    process::{Child, ChildStdin, Command},
    runtime::Handle,
    sync::oneshot,
};

/// A running process, the leader of a group of its own. Dropping it before it has been waited for
/// kills the whole group.
#[derive(Debug)]
pub(super) struct Running(Child);

/// The command that runs `program` so that it dies with this process, where the machine can do
/// that.
///
/// The first call looks for `setpriv` by running it.
pub(super) fn command(program: &OsString, arguments: &[OsString]) -> Command {
    let mut command = if *SETPRIV_WORKS {
        let mut command = Command::new("setpriv");
        command.args(DIE_WITH_PARENT).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.args(arguments);
    command
}

/// Starts `command` in a process group of its own, from the thread that outlives it.
pub(super) async fn spawn(mut command: Command) -> io::Result<Running> {
    command.process_group(0).kill_on_drop(true);
    let (reply, started) = oneshot::channel();
    let order = Order { command, runtime: Handle::current(), reply };
    let gone = || io::Error::other("the thread that starts commands is gone");
    thread_that_outlives()?.send(order).map_err(|_| gone())?;
    started.await.map_err(|_| gone())?
}

impl Running {
    /// The writing end of its standard input, the first time.
    pub(super) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.0.stdin.take()
    }

    /// Waits until it has exited.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.0.wait().await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Once it has been waited for it has no id any more: the number may be somebody else's.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id.and_then(Pid::from_raw) {
            // It fails only when all of the group are gone. The runtime reaps the leader.
            kill_process_group(group, Signal::KILL).ok();
        }
    }
}

/// A wish for a process.
struct Order {
    command: Command,
    /// The runtime that the process will be waited for on.
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Running>>,
}

/// The thread's inbox. It is a static because the thread must not end while the process lives: its
/// end is what the children take for their parent's death.
static ORDERS: Mutex<Option<mpsc::Sender<Order>>> = Mutex::new(None);

/// Starts the thread, the first time.
fn thread_that_outlives() -> io::Result<mpsc::Sender<Order>> {
    let mut orders = ORDERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(orders) = &*orders {
        return Ok(orders.clone());
    }
    let (sender, inbox) = mpsc::channel();
    thread::Builder::new().name("hookonce-spawner".to_owned()).spawn(|| start_all(inbox))?;
    Ok(orders.insert(sender).clone())
}

#[expect(clippy::needless_pass_by_value, reason = "the thread owns its inbox")]
fn start_all(inbox: mpsc::Receiver<Order>) {
    for mut order in inbox.iter() {
        let _runtime = order.runtime.enter();
        let running = order.command.spawn().map(Running);
        // An attempt that was given up meanwhile hears nothing, and what it ordered is dropped
        // here.
        order.reply.send(running).ok();
    }
}

const DIE_WITH_PARENT: [&str; 3] = ["--pdeathsig", "KILL", "--"];

/// Whether there is a `setpriv`, and one that knows this option: smaller ones do not.
static SETPRIV_WORKS: LazyLock<bool> = LazyLock::new(|| {
    let tried = std::process::Command::new("setpriv")
        .args(DIE_WITH_PARENT)
        .arg("true")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let works = tried.is_ok_and(|status| status.success());
    if !works {
        tracing::warn!(
            "no `setpriv --pdeathsig` on this machine: a running command outlives a killed hookonce; install util-linux"
        );
    }
    works
});
