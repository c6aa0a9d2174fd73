//! A server that does to each request what it was told to, well or badly.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

/// What the server does once it has read a request.
#[derive(Clone)]
pub(crate) enum Reaction {
    /// Answers with this status and body, and further header lines.
    Answer(u16, &'static str, String),
    /// Answers 200, and then hangs up without having said that it would.
    AnswerAndHangUp,
    /// Sends this, and nothing more, and keeps the connection open.
    Stall(&'static str),
    /// Sends this and closes the connection.
    Close(&'static str),
    /// Leaves the body unread and closes the connection, which resets it.
    Reset,
}

/// A request as the server read it.
pub(crate) struct Received {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Server {
    pub(crate) origin: String,
    connections: Arc<AtomicUsize>,
    received: mpsc::Receiver<Received>,
    hung_up: mpsc::Receiver<()>,
}

impl Server {
    /// A server with one reaction for each request, in order.
    pub(crate) fn start(reactions: impl IntoIterator<Item = Reaction>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let reactions = Arc::new(Mutex::new(reactions.into_iter().collect::<VecDeque<_>>()));
        let connections = Arc::new(AtomicUsize::new(0));
        let (tell_received, received) = mpsc::channel();
        let (tell_hung_up, hung_up) = mpsc::channel();

        let accepted = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming() {
                accepted.fetch_add(1, Ordering::SeqCst);
                let (stream, reactions) = (stream.unwrap(), Arc::clone(&reactions));
                let (tell_received, tell_hung_up) = (tell_received.clone(), tell_hung_up.clone());
                thread::spawn(move || {
                    serve(stream, &reactions, &tell_received);
                    tell_hung_up.send(()).ok();
                });
            }
        });
        Self { origin, connections, received, hung_up }
    }

    /// How many connections were made to it.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The next request it received.
    pub(crate) fn received(&self) -> Received {
        self.received.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    /// Waits until it has closed a connection.
    pub(crate) fn wait_for_hang_up(&self) {
        self.hung_up.recv_timeout(Duration::from_secs(10)).unwrap();
    }
}

impl Received {
    /// The values of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The one value of a header.
    pub(crate) fn only(&self, name: &str) -> &str {
        let values = self.all(name);
        assert_eq!(values.len(), 1, "{name}: {values:?}");
        values[0]
    }
}

/// Serves one connection until either side closes it.
fn serve(
    stream: TcpStream,
    reactions: &Mutex<VecDeque<Reaction>>,
    tell_received: &mpsc::Sender<Received>,
) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::with_capacity(1, stream); // it must not read ahead into the body
    while let Some((line, headers)) = read_head(&mut reader) {
        let reaction = reactions.lock().unwrap().pop_front().expect("no reaction left");
        if matches!(reaction, Reaction::Reset) {
            return;
        }
        let received = Received { line, body: Vec::new(), headers };
        let length: usize = received.only("content-length").parse().unwrap();
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        tell_received.send(Received { body, ..received }).ok();

        match reaction {
            Reaction::Answer(status, lines, body) => {
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status} X\r\n{lines}content-length: {length}\r\n\r\n");
                // The client may have gone before the end of a long answer.
                writer
                    .write_all(head.as_bytes())
                    .and_then(|()| writer.write_all(body.as_bytes()))
                    .ok();
            }
            Reaction::AnswerAndHangUp => {
                writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                return;
            }
            Reaction::Close(text) => {
                writer.write_all(text.as_bytes()).unwrap();
                return;
            }
            Reaction::Stall(text) => {
                writer.write_all(text.as_bytes()).unwrap();
                reader.read_exact(&mut [0]).ok(); // until the client gives up
                return;
            }
            Reaction::Reset => unreachable!("handled above"),
        }
    }
}

fn read_head(reader: &mut impl BufRead) -> Option<(String, Vec<(String, String)>)> {
    let mut next_line = || {
        let mut line = String::new();
        let length = reader.read_line(&mut line).unwrap_or(0);
        (length > 0).then(|| line.trim_end().to_owned())
    };
    let first = next_line()?;
    let mut headers = Vec::new();
    loop {
        let line = next_line()?;
        let Some((name, value)) = line.split_once(':') else {
            return Some((first, headers));
        };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}
