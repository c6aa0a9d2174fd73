//! The handler of the demo: a URL that counts what reaches it, and fails where it is to fail.
//!
//! It speaks just enough HTTP for that. It does not rely on anything that hookonce says about an
//! event: it goes by a header that the sender has put on each event, so that a run too many is seen
//! under whatever key it comes.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hookonce::shutdown::Tasks;
use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};
use url::Url;

/// The header that names an event, from the sender to the handler.
pub(super) const EVENT_LABEL: &str = "demo-event";

/// How often the handler fails for an event whose label ends with [`FAILING`].
pub(super) const FAILURES: usize = 2;

/// See [`FAILURES`].
pub(super) const FAILING: &str = "/failing";

/// Longer than the head of any request in the demo.
const HEAD_BYTES_MAX: u64 = 64 << 10;

/// A running handler.
pub(super) struct Counter {
    url: Url,
    calls: Calls,
    tasks: Tasks,
}

/// One call of the handler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Call {
    /// The delivery: `Idempotency-Key`.
    pub(super) key: String,
    pub(super) attempt: u32,
    /// What the handler answered.
    pub(super) answered: u16,
}

/// The calls so far, by the event's label.
type Calls = Arc<Mutex<HashMap<String, Vec<Call>>>>;

impl Counter {
    /// Starts it on a free port.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = Url::parse(&format!("http://{}/handler", listener.local_addr()?))?;
        let (calls, tasks) = (Calls::default(), Tasks::default());
        tasks.spawn(listen(listener, Arc::clone(&calls), tasks.clone()));
        Ok(Self { url, calls, tasks })
    }

    pub(super) fn url(&self) -> Url {
        self.url.clone()
    }

    /// The calls about this event so far, in order.
    pub(super) fn calls(&self, label: &str) -> Vec<Call> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.get(label).cloned().unwrap_or_default()
    }

    pub(super) async fn stop(self) {
        self.tasks.shut_down(Duration::from_secs(1)).await;
    }
}

async fn listen(listener: TcpListener, calls: Calls, tasks: Tasks) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = tasks.stopping() => return,
        };
        let Ok((stream, _)) = accepted else { continue };
        let (calls, told) = (Arc::clone(&calls), tasks.clone());
        tasks.spawn(async move {
            tokio::select! {
                // A connection that breaks is the worker's to notice, and to try again.
                ended = serve(stream, &calls) => drop(ended),
                () = told.stopping() => {}
            }
        });
    }
}

/// Answers one request after the other until the connection ends.
async fn serve(stream: TcpStream, calls: &Calls) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(headers) = read_head(&mut stream).await? {
        let length = headers.get("content-length").and_then(|length| length.parse().ok());
        let mut body = (&mut stream).take(length.unwrap_or(0));
        tokio::io::copy(&mut body, &mut tokio::io::sink()).await?;
        let status = take(&headers, calls);
        let answer = format!("HTTP/1.1 {status} counted\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

/// The headers of the next request, their names in lower case. `None`: there is no next one.
async fn read_head(
    stream: &mut BufReader<TcpStream>,
) -> io::Result<Option<HashMap<String, String>>> {
    let mut lines = stream.take(HEAD_BYTES_MAX).lines();
    if lines.next_line().await?.is_none() {
        return Ok(None);
    }
    let mut headers = HashMap::new();
    while let Some(line) = lines.next_line().await? {
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok(Some(headers))
}

/// Counts a call and decides its answer.
fn take(headers: &HashMap<String, String>, calls: &Calls) -> u16 {
    let text = |name: &str| headers.get(name).cloned().unwrap_or_default();
    let label = text(EVENT_LABEL);
    let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
    let before = calls.entry(label.clone()).or_default();
    let fails = label.ends_with(FAILING) && before.len() < FAILURES;
    let answered = if fails { 500 } else { 200 };
    let attempt = text("hookonce-attempt").parse().unwrap_or(0);
    before.push(Call { key: text("idempotency-key"), attempt, answered });
    answered
}
