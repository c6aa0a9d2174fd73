//! A payment, and all that a client may do to it: an API behind hookonce, which charges once per key.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::join_all;
use hookonce::handler::http_client;
use serde::Serialize;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use url::Url;
use uuid::Uuid;

use super::counter::{Counter, EVENT_LABEL};

/// What a client did, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Payment {
    pub(super) what: &'static str,
    /// The statuses it got, those of saved answers marked as such.
    pub(super) answers: Vec<String>,
    /// How often the API was called under this key so far.
    pub(super) calls: usize,
    /// Whether all of it is as promised.
    pub(super) is_right: bool,
}

/// Pays, as clients do, at the API at `url`, behind which `counter` is.
pub(super) async fn rehearse(url: &Url, counter: &Counter) -> anyhow::Result<Vec<Payment>> {
    let (order, other) = (Order::new(url, counter), Order::new(url, counter));

    order.send_and_hang_up().await?;
    let retry = order.pay(AMOUNT).await?;
    let lost = order.payment(
        "the answer is lost, and the client retries",
        vec![retry.clone()],
        retry == "200, the saved answer",
    );
    let changed = order.pay("2000").await?;
    let is_refused = changed == "422";
    let changed =
        order.payment("the same key comes with another amount", vec![changed], is_refused);

    let both = join_all([other.pay_once(AMOUNT), other.pay_once(AMOUNT)]).await;
    let both = both.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let is_one = |answer: &&String| *answer == "200";
    let is_harmless = |answer: &String| answer.starts_with("200") || answer == "409";
    let once = both.iter().filter(is_one).count() == 1 && both.iter().all(is_harmless);
    let at_once = other.payment("two requests come at once", both, once);
    Ok(vec![lost, changed, at_once])
}

const AMOUNT: &str = "1000";

/// How long a client goes on asking, and how long between.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// An order, with the key that stands for it.
struct Order<'a> {
    key: String,
    url: Url,
    counter: &'a Counter,
    client: reqwest::Client,
}

impl<'a> Order<'a> {
    fn new(url: &Url, counter: &'a Counter) -> Self {
        let key = Uuid::now_v7().to_string();
        Self { key, url: url.clone(), counter, client: http_client() }
    }

    /// Sends the request and hangs up as soon as the API has it, without reading the answer.
    async fn send_and_hang_up(&self) -> anyhow::Result<()> {
        let host = self.url.authority();
        let mut stream = TcpStream::connect(host).await?;
        let request = format!(
            "POST {} HTTP/1.1\r\nhost: {host}\r\nidempotency-key: {}\r\n{EVENT_LABEL}: {}\r\ncontent-length: {}\r\n\r\n{AMOUNT}",
            self.url.path(),
            self.key,
            self.key,
            AMOUNT.len(),
        );
        stream.write_all(request.as_bytes()).await?;
        let called = async {
            while self.counter.calls(&self.key).is_empty() {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(PATIENCE, called).await.context("the API was not called")
    }

    /// Pays, again and again while the answer is that it is in progress.
    async fn pay(&self, amount: &'static str) -> anyhow::Result<String> {
        let paying = async {
            loop {
                match self.pay_once(amount).await {
                    Ok(answer) if answer == "409" => tokio::time::sleep(PAUSE).await,
                    answer => return answer,
                }
            }
        };
        tokio::time::timeout(PATIENCE, paying).await.context("the payment stays in progress")?
    }

    async fn pay_once(&self, amount: &'static str) -> anyhow::Result<String> {
        let request = self.client.post(self.url.clone()).header("idempotency-key", &self.key);
        let answer = request.header(EVENT_LABEL, &self.key).body(amount).send().await?;
        let saved = answer.headers().contains_key("idempotent-replayed");
        let status = answer.status().as_u16();
        Ok(if saved { format!("{status}, the saved answer") } else { status.to_string() })
    }

    fn payment(&self, what: &'static str, answers: Vec<String>, is_right: bool) -> Payment {
        let calls = self.counter.calls(&self.key).len();
        Payment { what, answers, calls, is_right: is_right && calls == 1 }
    }
}
