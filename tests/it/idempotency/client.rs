//! A client that says exactly what it is told, and messages read byte for byte.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A request or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) first_line: String,
    /// Names in lower case, in the order they came.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Message {
    pub(super) fn status(&self) -> u16 {
        self.first_line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Every value of a header, in order.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let values = self.headers.iter().filter(|(known, _)| known == name);
        values.map(|(_, value)| value.as_str()).collect()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.all(name).first().copied().unwrap_or_default()
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The stable code of a problem document; empty for any other answer.
    pub(super) fn code(&self) -> String {
        if self.header("content-type") != "application/problem+json" {
            return String::new();
        }
        let document: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        let code = document["code"].as_str().unwrap().to_owned();
        assert_eq!(document["type"], format!("urn:hookonce:problem:{code}"));
        assert_eq!(document["status"], self.status());
        code
    }

    pub(super) fn is_replayed(&self) -> bool {
        self.header("idempotent-replayed") == "true"
    }
}

/// The bytes of a request.
pub(super) fn request(
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Vec<u8> {
    let lines: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut bytes = format!(
        "{method} {target} HTTP/1.1\r\nhost: api.example.com\r\n{lines}content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A connection that is used again.
pub(super) struct Connection {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl Connection {
    pub(super) async fn to(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, rest: Vec::new() }
    }

    pub(super) async fn send(&mut self, request: &[u8]) -> Option<Message> {
        self.stream.write_all(request).await.ok()?;
        let reading = read_message(&mut self.stream, &mut self.rest, false);
        tokio::time::timeout(Duration::from_secs(60), reading).await.ok()?
    }
}

/// Sends a request over a connection of its own. `None`: no whole answer came.
pub(super) async fn send(port: u16, request: &[u8]) -> Option<Message> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.set_nodelay(true).ok()?;
        stream.write_all(request).await.ok()?;
        read_message(&mut stream, &mut Vec::new(), request.starts_with(b"HEAD")).await
    };
    tokio::time::timeout(Duration::from_secs(60), exchange).await.ok()?
}

/// The bytes of a request to charge somebody under a key.
pub(super) fn charging(key: &str) -> Vec<u8> {
    let body = br#"{"amount": 1000}"#;
    request("POST", "/payments/charges", &[("Idempotency-Key", key)], body)
}

/// Charges somebody under a key.
pub(super) async fn charge(port: u16, key: &str) -> Message {
    send(port, &charging(key)).await.expect("it answers")
}

/// Reads one message; what came after it stays in `rest`.
pub(super) async fn read_message(
    stream: &mut TcpStream,
    rest: &mut Vec<u8>,
    answers_head: bool,
) -> Option<Message> {
    let head_end = loop {
        if let Some(at) = rest.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(rest).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&rest[..head_end]).into_owned();
    rest.drain(..head_end + 4);
    let mut lines = head.split("\r\n");
    let first_line = lines.next()?.to_owned();
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut message = Message { first_line, headers, body: Vec::new() };
    let is_empty = answers_head
        || ["HTTP/1.1 204", "HTTP/1.1 304"].iter().any(|no| message.first_line.starts_with(no));
    if is_empty {
        return Some(message);
    }
    if message.header("transfer-encoding") == "chunked" {
        message.body = read_chunks(stream, rest).await?;
    } else {
        let length: usize = message.header("content-length").parse().unwrap_or(0);
        message.body = take(stream, rest, length).await?;
    }
    Some(message)
}

async fn read_chunks(stream: &mut TcpStream, rest: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_end = loop {
            if let Some(at) = rest.windows(2).position(|window| window == b"\r\n") {
                break at;
            }
            if stream.read_buf(rest).await.ok()? == 0 {
                return None;
            }
        };
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line_end]).ok()?, 16).ok()?;
        rest.drain(..line_end + 2);
        let chunk = take(stream, rest, size + 2).await?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

async fn take(stream: &mut TcpStream, rest: &mut Vec<u8>, length: usize) -> Option<Vec<u8>> {
    while rest.len() < length {
        if stream.read_buf(rest).await.ok()? == 0 {
            return None;
        }
    }
    Some(rest.drain(..length).collect())
}
