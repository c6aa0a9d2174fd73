//! Who serves a bucket now: asked whenever a connection is opened, and never trusted for long.
//!
//! The client's own cluster mode is not used: it sends on by itself, and a WAIT means only something on
//! the connection that wrote. So each bucket has a connection of its own to the primary it finds here,
//! and finds anew whenever that one fails or says that it is not the one any more.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use redis::{AsyncConnectionConfig, Client, FromRedisValue};
use tokio::{sync::Mutex, time::timeout};

use super::address::{Address, Host, Kind};
use crate::{clock::Clock, store::StoreError};

/// How long a node or a sentinel has to say who is the primary: one that hangs must not use up the time
/// of the call that waits for it.
const ASK_TIMEOUT: Duration = Duration::from_millis(250);

/// How long an answer is good for. All buckets lose their connection at once, and ask once.
const ANSWER_LIVES: Duration = Duration::from_millis(100);

/// How many slots a cluster has.
const SLOTS: u16 = 16384;

/// Finds the primaries of one store.
#[derive(Debug)]
pub(super) struct Primaries {
    pub(super) address: Arc<Address>,
    clock: Arc<dyn Clock>,
    latest: Mutex<Option<Latest>>,
    /// Nodes that the cluster told of: seeds may go, and the rest still knows.
    learned: Mutex<Vec<Host>>,
}

#[derive(Debug)]
struct Latest {
    told_at: Duration,
    told: Result<Vec<Owner>, StoreError>,
}

/// A node and the slots it says are its own.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner {
    host: Host,
    /// Of two that claim a slot, the one with the higher epoch has it.
    epoch: u64,
    slots: Vec<(u16, u16)>,
}

impl Primaries {
    pub(super) fn new(address: Arc<Address>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let (latest, learned) = (Mutex::default(), Mutex::default());
        Arc::new(Self { address, clock, latest, learned })
    }

    /// The server that takes writes to keys with this hash tag, as far as anybody knows.
    pub(super) async fn of(&self, tag: &[u8]) -> Result<Host, StoreError> {
        match &self.address.kind {
            Kind::Single => self.address.hosts.first().cloned().ok_or_else(|| unknown("no host")),
            Kind::Sentinel(name) => self.told_by_sentinels(name).await,
            Kind::Cluster => {
                let slot = slot(tag);
                let owners = self.owners().await?;
                let has = |owner: &&Owner| {
                    owner.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot))
                };
                let owner = owners.iter().filter(has).max_by_key(|owner| owner.epoch);
                let nobody = || unknown(&format!("no node of the cluster serves slot {slot}"));
                owner.map(|owner| owner.host.clone()).ok_or_else(nobody)
            }
        }
    }

    async fn owners(&self) -> Result<Vec<Owner>, StoreError> {
        let mut latest = self.latest.lock().await;
        let now = self.clock.monotonic();
        if let Some(Latest { told_at, told }) = &*latest
            && now.saturating_sub(*told_at) < ANSWER_LIVES
        {
            return told.clone();
        }
        let told = self.told_by_nodes().await;
        *latest = Some(Latest { told_at: self.clock.monotonic(), told: told.clone() });
        told
    }

    /// What all nodes that answer say. One of them may be cut off from the rest, and wrong.
    async fn told_by_nodes(&self) -> Result<Vec<Owner>, StoreError> {
        let mut learned = self.learned.lock().await;
        let mut hosts = self.address.hosts.clone();
        hosts.extend(learned.iter().filter(|host| !self.address.hosts.contains(host)).cloned());
        let asked = hosts.iter().map(|host| async move {
            let mut command = redis::cmd("CLUSTER");
            command.arg("NODES");
            let text: String = ask(self.address.client(host)?, &command).await?;
            Ok::<_, StoreError>((nodes(&text, host), text))
        });
        let mut owners = Vec::new();
        let mut problem = None;
        for answer in join_all(asked).await {
            match answer {
                Ok((told, _)) => owners.extend(told),
                Err(error) => problem = Some(error),
            }
        }
        if owners.is_empty() {
            return Err(problem.unwrap_or_else(|| unknown("no node of the cluster has any slot")));
        }
        for Owner { host, .. } in &owners {
            if !learned.contains(host) {
                learned.push(host.clone());
            }
        }
        // Addresses come and go where nodes are containers: the oldest are forgotten.
        let surplus = learned.len().saturating_sub(LEARNED_MAX);
        learned.drain(..surplus);
        Ok(owners)
    }

    /// The address that most of the sentinels name.
    async fn told_by_sentinels(&self, name: &str) -> Result<Host, StoreError> {
        let asked = self.address.hosts.iter().map(|host| async move {
            let mut command = redis::cmd("SENTINEL");
            command.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
            ask::<Option<Host>>(self.address.client_of_sentinel(host)?, &command).await
        });
        let mut named: Vec<Host> = Vec::new();
        let mut problem = unknown(&format!("no sentinel knows a primary of the name {name}"));
        for answer in join_all(asked).await {
            match answer {
                Ok(Some(host)) => named.push(host),
                Ok(None) => {}
                Err(error) => problem = error,
            }
        }
        let votes = |host: &&Host| named.iter().filter(|other| other == host).count();
        named.iter().max_by_key(votes).cloned().ok_or(problem)
    }
}

/// How many nodes are remembered beside those in the URL.
const LEARNED_MAX: usize = 32;

async fn ask<T: FromRedisValue>(client: Client, command: &redis::Cmd) -> Result<T, StoreError> {
    let silent = |_| unknown(&format!("no answer within {} ms", ASK_TIMEOUT.as_millis()));
    let asked = async {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ASK_TIMEOUT))
            .set_response_timeout(Some(ASK_TIMEOUT));
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        command.query_async(&mut connection).await
    };
    let answered = timeout(ASK_TIMEOUT, asked).await.map_err(silent)?;
    answered.map_err(|error| unknown(&error.to_string()))
}

/// The primaries in an answer to `CLUSTER NODES` with the slots they have; `asked` is who gave it.
fn nodes(text: &str, asked: &Host) -> Vec<Owner> {
    text.lines().filter_map(|line| node(line, asked)).collect()
}

/// `id host:port@bus,name flags primary ping pong epoch link slot…`
fn node(line: &str, asked: &Host) -> Option<Owner> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [_, place, flags, _, _, _, epoch, _, slots @ ..] = fields.as_slice() else { return None };
    let mut flags = flags.split(',');
    let is_failed = flags.clone().any(|flag| matches!(flag, "fail" | "noaddr" | "handshake"));
    if is_failed || !flags.any(|flag| flag == "master") {
        return None;
    }
    let (place, names) = place.split_once(',').unwrap_or((place, ""));
    let (ip, port) = place.split_once('@').unwrap_or((place, "")).0.rsplit_once(':')?;
    // A certificate is about a name, where a node has one. A node may not know its own address.
    let name = names.split(',').next().filter(|name| !name.is_empty() && !name.contains('='));
    let host = name.or((!ip.is_empty()).then_some(ip)).unwrap_or(&asked.0);
    let slots: Vec<_> = slots.iter().filter_map(|slots| range(slots)).collect();
    let owner =
        Owner { host: (host.to_owned(), port.parse().ok()?), epoch: epoch.parse().ok()?, slots };
    Some(owner)
}

/// `7`, `0-5460`; what is only on its way (`[93->-…]`) is none.
fn range(slots: &str) -> Option<(u16, u16)> {
    let (first, last) = slots.split_once('-').unwrap_or((slots, slots));
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// The slot of a hash tag: CRC-16 as in XMODEM, modulo the number of slots.
fn slot(tag: &[u8]) -> u16 {
    let crc = tag.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % SLOTS
}

fn unknown(why: &str) -> StoreError {
    StoreError::Unavailable(format!("nobody says who the primary is: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot(b"123456789"), 0x31C3);
        assert_eq!(slot(b"h00"), 268);
    }

    #[test]
    fn primaries_and_their_slots_are_read() {
        let text = "\
            a1 10.0.0.1:6379@16379,one myself,master - 0 0 7 connected 0-5460 9000 [93->-b2]\n\
            b2 10.0.0.2:6379@16379 slave a1 0 0 7 connected\n\
            c3 10.0.0.3:6379@16379 master,fail - 0 0 3 connected 5461-8999\n\
            d4 :6380@16380 myself,master - 0 0 9 connected 5461-8999\n";
        let found = nodes(text, &("seed".to_owned(), 1));
        let expected = [
            Owner {
                host: ("one".to_owned(), 6379),
                epoch: 7,
                slots: vec![(0, 5460), (9000, 9000)],
            },
            Owner { host: ("seed".to_owned(), 6380), epoch: 9, slots: vec![(5461, 8999)] },
        ];
        assert_eq!(found, expected);
    }
}
