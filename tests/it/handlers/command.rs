//! The program handler against real processes.

use std::{sync::Arc, time::Duration};

use hookonce::{
    delivery::DeliveryId,
    event::Event,
    handler::{Answer, Attempt, CommandHandler, Handler, Outcome},
    limits,
};
use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::{Pid, Signal, kill_process},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::unix::pipe,
    time::timeout,
};

use super::given::{attempt, event_with};

/// The handler that runs this script of the shell.
fn shell(script: &str) -> CommandHandler {
    CommandHandler::new("sh", ["-c", script])
}

/// What a script makes of a small event.
async fn outcome_of(script: &str) -> Outcome {
    shell(script).handle(event_with("{}"), attempt()).await
}

fn done(excerpt: &str) -> Outcome {
    let excerpt = (!excerpt.is_empty()).then(|| excerpt.to_owned());
    Outcome::Done(Answer { status: Some(0), error: None, excerpt })
}

fn failed(status: Option<i32>, error: &str) -> Outcome {
    let answer = Answer { status, error: Some(error.to_owned()), excerpt: None };
    Outcome::Failed { retry_after: None, answer }
}

/// A pipe with a name. Scripts write their process ids to it, and when nobody holds its writing end
/// any more, all of them have ended.
struct Line {
    folder: TempDir,
    reader: BufReader<pipe::Receiver>,
    /// Keeps the end from being seen before a script has begun.
    writer: pipe::Sender,
}

impl Line {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("line");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let reader = pipe::OpenOptions::new().open_receiver(&path).unwrap();
        let writer = pipe::OpenOptions::new().open_sender(&path).unwrap();
        Self { folder, reader: BufReader::new(reader), writer }
    }

    /// Its name, for the shell.
    fn path(&self) -> String {
        self.folder.path().join("line").display().to_string()
    }

    /// The process ids a script wrote.
    async fn process_ids(&mut self) -> Vec<Pid> {
        let mut text = String::new();
        self.reader.read_line(&mut text).await.unwrap();
        text.split_whitespace().map(|id| Pid::from_raw(id.parse().unwrap()).unwrap()).collect()
    }

    /// Waits until every process that had it open has ended.
    async fn all_ended(mut self) {
        drop(self.writer);
        let mut rest = String::new();
        let end = timeout(Duration::from_secs(10), self.reader.read_to_string(&mut rest)).await;
        end.expect("a process is still running").unwrap();
    }
}

#[tokio::test]
async fn exit_codes_are_answers() {
    assert_eq!(outcome_of("exit 0").await, done(""));
    let retry = "exited with 75: asks to be tried again";
    assert_eq!(outcome_of("exit 75").await, failed(Some(75), retry));
    assert_eq!(outcome_of("exit 1").await, failed(Some(1), "exited with 1"));
    let rejected = Answer {
        status: Some(65),
        error: Some("exited with 65: rejected".to_owned()),
        excerpt: Some("no such customer".to_owned()),
    };
    let outcome = outcome_of("echo no such customer >&2; exit 65").await;
    assert_eq!(outcome, Outcome::Rejected(rejected));
}

#[tokio::test]
async fn an_end_by_a_signal_is_a_failure_that_says_so() {
    assert_eq!(outcome_of("kill -TERM $$").await, failed(None, "was killed by signal 15"));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_failure_that_says_so() {
    let handler = CommandHandler::new("/no/such/program", [""; 0]);
    let Outcome::Failed { answer, .. } = handler.handle(event_with("{}"), attempt()).await else {
        panic!("it must fail");
    };
    let error = answer.error.unwrap();
    assert!(
        error.contains("is there such a program?") || error.contains("could not be run"),
        "{error}"
    );
}

#[tokio::test]
async fn the_body_comes_on_standard_input_byte_for_byte() {
    let body: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let digest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&body));
    let outcome = shell("sha256sum").handle(event_with(body), attempt()).await;
    assert_eq!(outcome, done(&format!("{digest}  -")));
}

#[tokio::test]
async fn arguments_are_not_seen_by_a_shell() {
    let handler = CommandHandler::new("echo", ["$HOME; `id`", "*"]);
    assert_eq!(handler.handle(event_with("{}"), attempt()).await, done("$HOME; `id` *"));
}

#[tokio::test]
async fn the_facts_are_variables() {
    let replay_of = Some(DeliveryId::from_bytes([9; 16]));
    let event_type = Some("a\0b".to_owned());
    let event = Event { event_type, shadow: true, ..Event::clone(&event_with("{}")) };
    let outcome = shell("env | grep ^HOOKONCE_ | sort")
        .handle(Arc::new(event.clone()), Attempt { replay_of, ..attempt() })
        .await;
    let expected = [
        "HOOKONCE_ATTEMPT=3".to_owned(),
        "HOOKONCE_CONTENT_TYPE=application/json; charset=utf-8".to_owned(),
        format!("HOOKONCE_EVENT_ID={}", event.id),
        "HOOKONCE_EVENT_TYPE=a b".to_owned(),
        format!("HOOKONCE_IDEMPOTENCY_KEY={}", attempt().delivery),
        "HOOKONCE_LEASE_TOKEN=7".to_owned(),
        "HOOKONCE_PROVIDER_EVENT_ID=evt_1".to_owned(),
        "HOOKONCE_QUERY=a=1&b=%20".to_owned(),
        "HOOKONCE_RECEIVED_AT=2026-01-01T00:00:00.000Z".to_owned(),
        format!("HOOKONCE_REPLAY_OF={}", DeliveryId::from_bytes([9; 16])),
        "HOOKONCE_SHADOW=true".to_owned(),
        "HOOKONCE_SOURCE=stripe".to_owned(),
    ];
    assert_eq!(outcome, done(&expected.join(" ")));
}

#[tokio::test]
async fn a_body_that_is_not_read_harms_nobody() {
    let large = event_with(vec![b'x'; 4 << 20]);
    for script in ["exit 0", "exec <&-; exit 0", "head -c 10 >/dev/null"] {
        let outcome = shell(script).handle(Arc::clone(&large), attempt()).await;
        assert_eq!(outcome, done(""), "{script}");
    }
}

#[tokio::test]
async fn a_flood_of_output_blocks_nobody_and_is_not_kept() {
    let outcome = outcome_of("head -c 3000000 /dev/zero | tr '\\0' x; echo >&2").await;
    assert_eq!(outcome, done(&"x".repeat(limits::EXCERPT_BYTES_MAX)));
}

#[tokio::test]
async fn output_and_errors_stay_in_order() {
    assert_eq!(outcome_of("echo 1; echo 2 >&2; echo 3").await, done("1 2 3"));
}

#[tokio::test]
async fn what_is_left_in_the_background_does_not_hold_the_attempt_up() {
    let mut line = Line::open();
    let handler = shell(&format!("echo started; sleep 1000 & echo $! >{}", line.path()));
    let (outcome, left) =
        tokio::join!(handler.handle(event_with("{}"), attempt()), line.process_ids());
    assert_eq!(outcome, done("started"));
    kill_process(left[0], Signal::KILL).expect("it was left alone");
}

/// A script that tells its own id and that of a process it started, and ignores polite signals.
fn endless(line: &Line) -> CommandHandler {
    let path = line.path();
    shell(&format!(
        "trap '' TERM HUP INT; exec 3>{path}; sleep 1000 & echo up; echo $$ $! >&3; wait"
    ))
}

#[tokio::test]
async fn at_the_time_out_the_whole_group_is_killed() {
    let mut line = Line::open();
    let handler = endless(&line);
    let brief = Attempt { timeout: Duration::from_millis(500), ..attempt() };
    let (outcome, processes) =
        tokio::join!(handler.handle(event_with("{}"), brief), line.process_ids());
    let answer = Answer {
        status: None,
        error: Some("did not exit within 500ms, and was killed with its group".to_owned()),
        excerpt: Some("up".to_owned()),
    };
    assert_eq!(outcome, Outcome::Failed { retry_after: None, answer });
    assert_eq!(processes.len(), 2);
    line.all_ended().await;
}

#[tokio::test]
async fn an_attempt_that_is_dropped_leaves_nothing_running_and_no_zombie() {
    let mut line = Line::open();
    let handler = endless(&line);
    let processes = tokio::select! {
        outcome = handler.handle(event_with("{}"), attempt()) => panic!("{outcome:?}"),
        processes = line.process_ids() => processes,
    };
    line.all_ended().await;

    // The runtime reaps it soon, when it next looks at its sockets; running commands makes it look.
    let status = format!("grep State /proc/{}/status 2>&1 || true", processes[0].as_raw_nonzero());
    let mut tries = 0;
    while format!("{:?}", outcome_of(&status).await).contains("zombie") {
        tries += 1;
        assert!(tries < 100, "a zombie is left");
    }
}

#[tokio::test]
async fn a_command_dies_with_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    let shown = folder.path().join("shown");
    let outcome = outcome_of(&format!("exec setpriv --dump >{}", shown.display())).await;
    assert_eq!(outcome, done(""));
    let shown = std::fs::read_to_string(shown).unwrap();
    assert!(shown.contains("Parent death signal: KILL"), "{shown}");
}
