//! Meeting a bucket: whether it is what it was when it was last seen.

use std::sync::Arc;

use redis::{Value, from_redis_value};
use uuid::Uuid;

use super::{
    admit::unexpected,
    connection::{Connection, Open, not_replicated, store_error},
    scripts::{self, Call},
};
use crate::store::{Durability, StoreError, generation::Generation};

/// The schema this program writes.
const SCHEMA: i64 = 1;

/// How far a counter may go back where the durability may lose the last seconds.
const SLACK_MS: i64 = 10_000;

/// How many generations are remembered behind the one that is.
const GENERATIONS_MAX: usize = 16;

/// Looks at the bucket, lets its counter rise, and remembers what was seen: the generation it is in.
pub(super) async fn meet(way: &Connection, open: &Open) -> Result<Arc<str>, StoreError> {
    let part = way.bucket.tag();
    let seen = way.seen.of(part).unwrap_or(Generation { id: String::new(), counter: 0 });
    let mut call = Call::alone(&scripts::MEET, way.bucket.head());
    call.arg(SCHEMA)
        .arg(way.buckets())
        .arg(&seen.id)
        .arg(seen.counter)
        .arg(slack_ms(way))
        .arg(new_id());
    let answer = called(open, &call).await?;
    let answer: Vec<String> = from_redis_value(answer).map_err(|_| unexpected())?;
    let words: Vec<&str> = answer.iter().map(String::as_str).collect();
    let [word, facts @ ..] = words.as_slice() else { return Err(unexpected()) };
    let number = |text: &str| text.parse::<i64>().map_err(|_| unexpected());
    let (id, counter, back) = match (*word, facts) {
        ("newer", [found]) => {
            return Err(StoreError::Newer { found: number(found)?, known: SCHEMA });
        }
        ("buckets", [found]) => return Err(other_number_of_buckets(found, way.buckets())),
        ("forgotten", _) => {
            return Err(forgotten(part, "is empty, and was not when it was last seen"));
        }
        ("other", _) => return Err(forgotten(part, "is another one than when it was last seen")),
        ("back", [back]) => {
            return Err(forgotten(part, &format!("is {back} ms older than when it was last seen")));
        }
        ("new" | "follows" | "slipped" | "known", [id, counter, back]) => {
            (*id, number(counter)?, *back)
        }
        _ => return Err(unexpected()),
    };
    say(way, word, back);
    if word == &"slipped" {
        way.seen.stepped_back();
    }
    let generation = Generation { id: id.to_owned(), counter };
    if way.seen.note(part, generation, way.clock.monotonic()) {
        let seen = Arc::clone(&way.seen);
        drop(tokio::task::spawn_blocking(move || seen.save()));
    }
    Ok(id.into())
}

/// Begins a new generation, and remembers it: for whoever has accepted what was lost.
pub(super) async fn accept(way: &Connection, open: &Open) -> Result<(), StoreError> {
    let part = way.bucket.tag();
    let id = new_id();
    let mut call = Call::alone(&scripts::ACCEPT, way.bucket.head());
    call.arg(&id)
        .arg(way.seen.of(part).map(|seen| seen.id).unwrap_or_default())
        .arg(GENERATIONS_MAX);
    let answer = called(open, &call).await?;
    let counter = from_redis_value(answer).map_err(|_| unexpected())?;
    if way.seen.note(part, Generation { id, counter }, way.clock.monotonic()) {
        way.seen.save();
    }
    Ok(())
}

async fn called(open: &Open, call: &Call) -> Result<Value, StoreError> {
    match open.script(call).await {
        Ok((answer, true)) => Ok(answer),
        Ok((_, false)) => Err(not_replicated()),
        Err(error) => Err(store_error(&error)),
    }
}

/// What the durability may lose is no sign that more is lost. What it may not lose is.
fn slack_ms(way: &Connection) -> i64 {
    match way.durability {
        Durability::Relaxed => SLACK_MS,
        // A replica may take over that has not got the last of it.
        Durability::Always if way.may_fail_over() => SLACK_MS,
        Durability::Always | Durability::Replicated => 0,
    }
}

fn say(way: &Connection, word: &str, back: &str) {
    let bucket = way.bucket.tag();
    match word {
        "new" => tracing::warn!(
            store.bucket = bucket,
            "the store was empty, and this process has never seen it: it is used from now on. If it held \
             events before, they are lost"
        ),
        "follows" => tracing::warn!(
            store.bucket = bucket,
            "somebody has accepted that the store has lost what it held; it is used as it is"
        ),
        "slipped" => tracing::warn!(
            store.bucket = bucket,
            "the store went back by {back} ms, which its durability allows: what was answered in that \
             time may be lost"
        ),
        _ => {}
    }
}

fn forgotten(bucket: &str, what: &str) -> StoreError {
    StoreError::Forgotten(format!("bucket {bucket} {what}"))
}

fn other_number_of_buckets(found: &str, asked: u8) -> StoreError {
    StoreError::Failed(format!(
        "the store was made with {found} buckets, and {asked} are asked for: that number is fixed, write \
         ?buckets={found} behind its url"
    ))
}

fn new_id() -> String {
    Uuid::now_v7().simple().to_string()
}
