//! Sends a request on to the upstream of its API, and brings back the answer.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use http_body::{Body as HttpBody, Frame};
use reqwest::{Method, Response};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use url::Url;

use super::{
    Answer, Body, Called, Client, KeyedRequest,
    hop::{to_client, to_upstream},
};
use crate::{api::UpstreamUrl, handler::cause, request::Headers};

/// An upstream and the connections to it. Clones share them.
///
/// Each connection is served on the runtime that opened it, and breaks when that ends. So call it only
/// from tasks of [`Tasks::spawn`](crate::shutdown::Tasks::spawn), which live as long as we do: a connection that the thread of a server
/// had opened would be used for a keyed call, and end with that thread.
#[derive(Clone, Debug)]
pub struct Upstream {
    client: reqwest::Client,
    url: UpstreamUrl,
}

/// A request as it is sent on, less its body.
#[derive(Clone, Debug)]
pub struct Head {
    /// The method.
    pub method: String,
    /// The path, as the client wrote it.
    pub path: String,
    /// The query.
    pub query: Option<String>,
    /// The headers.
    pub headers: Headers,
    /// Who sent it.
    pub client: Client,
}

impl Upstream {
    /// The upstream at `url`, whose path stands before that of every request.
    pub fn new(client: reqwest::Client, url: UpstreamUrl) -> Self {
        Self { client, url }
    }

    /// Carries out a request with a key: its answer is read to the end within `within`, unless it is
    /// longer than `answer_bytes_max`.
    pub async fn call(
        &self,
        request: KeyedRequest,
        client: Client,
        within: Duration,
        answer_bytes_max: usize,
    ) -> Called {
        let KeyedRequest { method, path, query, headers, body } = request;
        let head = Head { method, path, query, headers, client };
        let deadline = Instant::now() + within;
        let answer = match self.send(&head, body.into(), deadline).await {
            Ok(response) => read(response, answer_bytes_max, deadline).await,
            Err(called) => return called,
        };
        answer.map_or_else(|why| self.no_answer(why), Called::Answered)
    }

    /// Sends on a request without a key; neither its body nor that of the answer is held here. The head
    /// of the answer is there within `within`.
    pub async fn pass(&self, head: &Head, body: reqwest::Body, within: Duration) -> Called {
        match self.send(head, body, Instant::now() + within).await {
            Ok(response) => Called::Answered(flowing(response, Bytes::new())),
            Err(called) => called,
        }
    }

    async fn send(
        &self,
        head: &Head,
        body: reqwest::Body,
        deadline: Instant,
    ) -> Result<Response, Called> {
        let not_sent = |why: &str| Called::NotSent(why.to_owned());
        let method = Method::from_bytes(head.method.as_bytes());
        let method = method.map_err(|_| not_sent("its method is none"))?;
        let url = self
            .url_of(&head.path, head.query.as_deref())
            .ok_or_else(|| not_sent("its path is none"))?;
        let headers = to_upstream(&head.headers, &head.client);
        let request = self.client.request(method, url).headers(headers).body(body);
        match timeout_at(deadline, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_connect() || error.is_builder() => {
                let why = format!("cannot connect to {}: {}", self.url.origin(), cause(&error));
                Err(Called::NotSent(why))
            }
            Ok(Err(error)) => Err(self.no_answer(NoAnswer::Broken(cause(&error)))),
            Err(_) => Err(self.no_answer(NoAnswer::TimedOut)),
        }
    }

    /// Where a request goes. `None` where the path would be another one by the time it gets there.
    fn url_of(&self, path: &str, query: Option<&str>) -> Option<Url> {
        is_final(path).then_some(())?;
        let mut url = self.url.0.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}{path}"));
        url.set_query(query);
        Some(url)
    }

    fn no_answer(&self, why: NoAnswer) -> Called {
        let origin = self.url.origin();
        let (timed_out, why) = match why {
            NoAnswer::TimedOut => (true, format!("no whole answer from {origin} in time")),
            NoAnswer::Broken(cause) => (false, format!("{origin} broke off: {cause}")),
        };
        Called::NoAnswer { timed_out, why }
    }
}

/// Whether nobody on the way would take a path for another one: it has no segment `.` or `..`, however
/// written, and no `\`, which some read as `/`.
pub fn is_final(path: &str) -> bool {
    let is_dots = |segment: &str| {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        matches!(segment.as_str(), "." | "..")
    };
    path.starts_with('/') && !path.contains(['\\', '#']) && !path.split('/').any(is_dots)
}

/// A body that is sent on as it comes in. It is whole only when its end was said: one whose chunks stop
/// coming breaks the request off, so that what came in half is never taken for a whole.
pub struct Inflow {
    parts: mpsc::Receiver<Part>,
    is_whole: bool,
}

/// What a body that is sent on consists of.
#[derive(Debug)]
pub enum Part {
    /// The next bytes.
    Chunk(Bytes),
    /// There are no more.
    End,
}

impl Inflow {
    /// A body, and where its parts are put.
    pub fn new() -> (mpsc::Sender<Part>, Self) {
        let (sender, parts) = mpsc::channel(crate::limits::CHUNKS_WAITING_MAX);
        (sender, Self { parts, is_whole: false })
    }
}

impl From<Inflow> for reqwest::Body {
    fn from(body: Inflow) -> Self {
        Self::wrap(body)
    }
}

impl HttpBody for Inflow {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.is_whole {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.parts.poll_recv(context)) {
            Some(Part::Chunk(chunk)) => Some(Ok(Frame::data(chunk))),
            Some(Part::End) => {
                self.is_whole = true;
                None
            }
            None => {
                let half = "the request's body did not come to its end";
                Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, half)))
            }
        })
    }
}

impl std::fmt::Debug for Inflow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inflow(…)")
    }
}

enum NoAnswer {
    TimedOut,
    Broken(String),
}

/// Reads an answer to its end, or until it is too long to be kept.
async fn read(
    mut response: Response,
    bytes_max: usize,
    deadline: Instant,
) -> Result<Answer, NoAnswer> {
    let mut body = BytesMut::new();
    loop {
        let chunk = timeout_at(deadline, response.chunk()).await;
        let chunk = chunk.map_err(|_| NoAnswer::TimedOut)?;
        match chunk.map_err(|error| NoAnswer::Broken(cause(&error)))? {
            Some(chunk) => body.extend_from_slice(&chunk),
            None => {
                let headers = to_client(response.headers());
                return Ok(Answer::whole(response.status().as_u16(), headers, body));
            }
        }
        if body.len() > bytes_max {
            return Ok(flowing(response, body.freeze()));
        }
    }
}

/// An answer whose body follows as it comes in.
fn flowing(response: Response, first: Bytes) -> Answer {
    let (status, headers) = (response.status().as_u16(), to_client(response.headers()));
    let rest = stream::unfold(response, |mut response| async {
        let chunk = response.chunk().await.map_err(io::Error::other).transpose()?;
        Some((chunk, response))
    });
    Answer { status, headers, body: Body::Flowing(first, rest.boxed()) }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::handler::http_client;

    #[tokio::test]
    async fn a_body_is_whole_only_when_its_end_was_said() {
        for is_whole in [true, false] {
            let (parts, mut body) = Inflow::new();
            parts.send(Part::Chunk(Bytes::from_static(b"half"))).await.unwrap();
            if is_whole {
                parts.send(Part::End).await.unwrap();
            }
            drop(parts);
            let mut next =
                async || poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            assert_eq!(next().await.unwrap().unwrap().into_data().unwrap(), "half");
            assert_eq!(next().await.is_none(), is_whole);
        }
    }

    #[test]
    fn a_path_goes_on_only_if_it_stays_the_same() {
        for path in ["/payments", "/payments/a%2Fb", "/payments//x", "/a/...", "/a/.b", "/é"] {
            assert!(is_final(path), "{path}");
        }
        for path in
            ["", "a", "/a/..", "/a/../b", "/./a", "/a/%2e%2E/b", "/a/.%2e", "/a\\..\\b", "/a#b"]
        {
            assert!(!is_final(path), "{path}");
        }
    }

    #[test]
    fn the_host_is_the_upstreams_whatever_the_path_says() {
        let upstream =
            |url: &str| Upstream::new(http_client(), UpstreamUrl(Url::parse(url).unwrap()));
        for (base, path, query, url) in [
            ("http://u:9000", "/payments/1", None, "http://u:9000/payments/1"),
            ("http://u/base/", "/payments", Some("a=%20&b"), "http://u/base/payments?a=%20&b"),
            ("http://u", "//evil.example/x", None, "http://u//evil.example/x"),
            ("http://u", "/@evil.example", Some("x?y"), "http://u/@evil.example?x?y"),
        ] {
            assert_eq!(upstream(base).url_of(path, query).unwrap().as_str(), url);
        }
        assert_eq!(upstream("http://u").url_of("/a/../b", None), None);
    }
}
