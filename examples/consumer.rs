//! A Kafka-style consumer that works on each message once, although the topic delivers it at least once.
//!
//! `cargo run --example consumer` runs it on a topic in memory, which hands messages out again as
//! Kafka does: after a lost commit, after a rebalance, and to two workers at once. With a real client
//! `Topic` is its consumer, `poll` its `recv` and `commit` its `commit_message`; and the store is one that
//! every worker shares, such as `redis://…`, so that it knows what another machine has done.
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::{error::Error, io, time::Duration};

use hookonce::{
    clock::SystemClock,
    idempotency::once::{Consumer, Once},
    store::{self, Durability},
};

/// Longer than the topic keeps a message, and so than it can hand it out again.
const WINDOW: Duration = Duration::from_hours(24 * 7);

/// A message, as a partition of a topic has it.
struct Message {
    partition: u32,
    offset: u64,
    order: &'static str,
}

/// A topic with one partition that delivers from the last commit on, again and again.
struct Topic {
    messages: Vec<Message>,
    committed: usize,
}

impl Topic {
    fn poll(&self) -> Option<&Message> {
        self.messages.get(self.committed)
    }

    fn commit(&mut self) {
        self.committed += 1;
    }

    fn rebalance(&mut self) {
        self.committed = 0; // the commits were lost with the worker that made them
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let clock = SystemClock::start();
    let store = store::connect("memory:", Durability::Always, None, &clock).await?;
    let orders = Consumer::new("orders", store, clock);

    let orders_placed = ["espresso", "flat white", "ristretto"];
    let numbered = orders_placed.into_iter().zip(0..);
    let messages = numbered.map(|(order, offset)| Message { partition: 0, offset, order });
    let mut topic = Topic { messages: messages.collect(), committed: 0 };

    println!("the first delivery:");
    drain(&orders, &mut topic).await?;
    println!("the same messages again, after a rebalance:");
    topic.rebalance();
    drain(&orders, &mut topic).await?;

    println!("one message at two workers at once:");
    let message = Message { partition: 0, offset: 3, order: "cortado" };
    let (one, other) = tokio::join!(work_on(&orders, &message), work_on(&orders, &message));
    println!("  one worker may commit it: {}, the other: {}", one?, other?);
    Ok(())
}

/// Works on whatever was not committed yet.
async fn drain(orders: &Consumer, topic: &mut Topic) -> Result<(), Box<dyn Error>> {
    while let Some(message) = topic.poll() {
        if work_on(orders, message).await? {
            topic.commit();
        } else {
            tokio::time::sleep(Duration::from_millis(100)).await; // it is handed out again
        }
    }
    Ok(())
}

/// Works on a message unless that was done before. Says whether it may be committed.
///
/// An error is not committed either: the topic hands the message out again, and its key is free.
async fn work_on(orders: &Consumer, message: &Message) -> Result<bool, Box<dyn Error>> {
    // Partition and offset name a message in its topic. Where its producer may send it twice, take
    // an id from its headers instead: then that is noticed too.
    let key = format!("{}-{}", message.partition, message.offset);
    Ok(match orders.once(&key, WINDOW, charge(message.order)).await? {
        Once::Done(receipt) => {
            println!("  {key}: charged, {receipt}");
            true
        }
        Once::AlreadyDone(receipt) => {
            println!("  {key}: charged before, {receipt}");
            true
        }
        Once::InFlight { retry_in } => {
            println!("  {key}: another worker is at it, for {} s at most", retry_in.as_secs());
            false
        }
        Once::Unknown { note } => {
            // A worker died while it was charging. Put it where a person looks, and go on.
            println!("  {key}: nobody knows whether it was charged ({note:?})");
            true
        }
    })
}

/// The work: what must not happen twice. Hand the key on to whatever you call, where it takes one.
async fn charge(order: &str) -> Result<String, io::Error> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    Ok(format!("receipt for {order}"))
}
