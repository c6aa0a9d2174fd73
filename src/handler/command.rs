//! The handler that is a program.
//!
//! The body comes on its standard input, the facts of the attempt in variables named `HOOKONCE_*`,
//! and its exit code is the answer. No shell is between us, so nothing in an event can be taken for
//! one.
//!
//! It inherits our environment, secrets included: it is a program of the same owner and may read
//! `/proc` as well, so hiding a few names would only pretend. It runs in a process group of its
//! own, which is killed whole when the attempt ends before it does. What it leaves running in the
//! background when it exits goes on, but its output is not read any more.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt as _,
    pin::pin,
    process::{ExitStatus, Stdio},
    sync::Arc,
};

use async_trait::async_trait;
use futures_util::future::{self, Either};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::unix::pipe,
    process::{ChildStdin, Command},
    time::timeout,
};

use crate::{
    event::Event,
    handler::{Answer, Attempt, Handler, Outcome, excerpt::Excerpt, facts::facts, spawner},
    limits,
};

/// The exit code that asks for another attempt: `EX_TEMPFAIL`. Any other failure does so too.
const EXIT_RETRY: i32 = 75;

/// The exit code that says never: `EX_DATAERR`.
const EXIT_REJECTED: i32 = 65;

/// The exit code by which `setpriv` and shells say that there is no such program.
const EXIT_NOT_FOUND: i32 = 127;

/// Runs a program for each event.
///
/// Exit code 0 is done, 65 is rejected, 75 and anything else fails, as does an end by a signal.
#[derive(Clone, Debug)]
pub struct CommandHandler {
    program: OsString,
    arguments: Vec<OsString>,
    variables: Vec<(&'static str, String)>,
}

impl CommandHandler {
    /// The handler that runs `program`, found as a shell would find it, with these arguments.
    pub fn new<A: Into<OsString>>(
        program: impl Into<OsString>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Self { program: program.into(), arguments, variables: Vec::new() }
    }

    /// The same with these variables besides.
    #[must_use]
    pub fn with_variables(&self, variables: Vec<(&'static str, String)>) -> Self {
        Self { variables, ..self.clone() }
    }

    /// Runs the program to its end. Dropped before, it leaves nothing of its process group alive.
    async fn run(
        &self,
        event: &Event,
        attempt: &Attempt,
        said: &mut Excerpt,
    ) -> io::Result<ExitStatus> {
        // One pipe for both, so that what it said stays in the order in which it was said.
        let (output, output_writer) = io::pipe()?;
        let output = pipe::Receiver::from_owned_fd(output.into())?;
        let mut command = self.command(event, attempt);
        command.stdin(Stdio::piped()).stdout(output_writer.try_clone()?).stderr(output_writer);
        let mut running = spawner::spawn(command).await?;

        let stdin = running.take_stdin();
        let conversation = pin!(future::join(feed(stdin, &event.body), listen(output, said)));
        match future::select(pin!(running.wait()), conversation).await {
            Either::Left((exit, conversation)) => {
                // What it said last is still in the pipe, but something it left behind may hold
                // that open.
                timeout(limits::COMMAND_OUTPUT_GRACE, conversation).await.ok();
                exit
            }
            Either::Right((_, exit)) => exit.await,
        }
    }

    fn command(&self, event: &Event, attempt: &Attempt) -> Command {
        let mut command = spawner::command(&self.program, &self.arguments);
        let mut tell = |name: &str, value: Option<&str>| {
            match value {
                // A variable cannot hold a NUL; an id or a type can.
                Some(value) => command.env(name, value.replace('\0', " ")),
                // One that was inherited would be taken for a fact.
                None => command.env_remove(name),
            };
        };
        for fact in facts(event, attempt) {
            tell(&fact.variable(), fact.value.as_deref());
        }
        tell("HOOKONCE_IDEMPOTENCY_KEY", Some(&attempt.delivery.to_string()));
        tell("HOOKONCE_CONTENT_TYPE", event.headers.first("content-type"));
        tell("HOOKONCE_QUERY", Some(&event.query));
        tell("TRACEPARENT", attempt.traceparent.as_deref()); // the name that others read, too
        for (name, value) in &self.variables {
            tell(name, Some(value));
        }
        command
    }
}

#[async_trait]
impl Handler for CommandHandler {
    async fn handle(&self, event: Arc<Event>, attempt: Attempt) -> Outcome {
        let mut said = Excerpt::default();
        let run = timeout(attempt.patience(), self.run(&event, &attempt, &mut said)).await;
        let excerpt = said.into_text();
        match run {
            Ok(Ok(exit)) => outcome(exit, excerpt),
            Ok(Err(error)) => {
                let program = self.program.display();
                Outcome::failed(format_args!("the command `{program}` could not be run: {error}"))
            }
            Err(_) => {
                let waited = humantime::format_duration(attempt.timeout);
                let error = format!("did not exit within {waited}, and was killed with its group");
                let answer = Answer { status: None, error: Some(error), excerpt };
                Outcome::Failed { retry_after: None, answer }
            }
        }
    }
}

/// Writes the body. A program that does not read it, or not to its end, need not.
async fn feed(stdin: Option<ChildStdin>, body: &[u8]) {
    if let Some(mut stdin) = stdin {
        stdin.write_all(body).await.ok();
    }
}

/// Reads to the end of the output, so that the program never waits for a reader, and keeps its
/// beginning.
async fn listen(mut output: pipe::Receiver, said: &mut Excerpt) {
    let mut buffer = vec![0; 8 << 10];
    while let Ok(length @ 1..) = output.read(&mut buffer).await {
        said.add(buffer.get(..length).unwrap_or_default());
    }
}

/// What an exit means.
fn outcome(exit: ExitStatus, excerpt: Option<String>) -> Outcome {
    let answer = |error: Option<String>| Answer { status: exit.code(), error, excerpt };
    let error = match (exit.code(), exit.signal()) {
        (Some(0), _) => return Outcome::Done(answer(None)),
        (Some(EXIT_REJECTED), _) => {
            return Outcome::Rejected(answer(Some("exited with 65: rejected".to_owned())));
        }
        (Some(EXIT_RETRY), _) => "exited with 75: asks to be tried again".to_owned(),
        (Some(EXIT_NOT_FOUND), _) => "exited with 127: is there such a program?".to_owned(),
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    };
    Outcome::Failed { retry_after: None, answer: answer(Some(error)) }
}
