//! A request without a key whose body is still coming in when its upstream answers.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::setup;
use crate::support::program::Program;

const END: &[u8] = b"0\r\n\r\n";

#[tokio::test]
async fn an_upload_goes_on_after_its_upstream_has_begun_to_answer() {
    let upload = Upload::begin().await;
    let Upload { mut client, received, program: _program, .. } = upload;
    client.write_all(b"5\r\nworld\r\n0\r\n\r\n").await.unwrap();
    assert!(text(&received.await.unwrap()).ends_with("5\r\nworld\r\n0\r\n\r\n"));
    read_to(&mut client, END).await;
}

#[tokio::test]
async fn half_an_upload_is_never_handed_on_as_a_whole_one() {
    let upload = Upload::begin().await;
    let Upload { client, received, program: _program, .. } = upload;
    drop(client);
    let received = text(&received.await.unwrap());
    assert!(received.ends_with("5\r\nhello\r\n"), "{received}");
}

/// A chunked upload of which the first chunk has been sent, and whose answer has begun.
struct Upload {
    client: TcpStream,
    /// All that the upstream has read: up to the end of the body, or of the connection.
    received: JoinHandle<Vec<u8>>,
    program: Program,
    _folder: tempfile::TempDir,
}

impl Upload {
    async fn begin() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let received = tokio::spawn(answering_early(listener));
        let program = setup(folder.path(), "memory:", port, "").start().await;
        let mut client = TcpStream::connect(("127.0.0.1", program.port)).await.unwrap();
        let head = "PUT /payments/file HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        client.write_all(format!("{head}5\r\nhello\r\n").as_bytes()).await.unwrap();
        read_to(&mut client, b"early\r\n").await;
        Self { client, received, program, _folder: folder }
    }
}

/// An upstream that begins its answer as soon as it has the first chunk, and ends it with the body.
async fn answering_early(listener: TcpListener) -> Vec<u8> {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut received = read_to(&mut stream, b"hello\r\n").await;
    let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nearly\r\n";
    stream.write_all(answer).await.unwrap();
    received.extend(read_to(&mut stream, END).await);
    drop(stream.write_all(END).await); // who has hung up does not read it
    received
}

/// Reads until this has come, or the connection ends.
async fn read_to(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    let reading = async {
        while !read.ends_with(end) && matches!(stream.read_buf(&mut read).await, Ok(1..)) {}
    };
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("it ends");
    read
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
