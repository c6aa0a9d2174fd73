//! kill -9 at every point of a keyed request: nothing is sent a second time, and no key is stuck.

use std::time::Duration;

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{
    client::{charge, charging},
    setup,
    upstream::{Reply, Upstream, answer},
};
use crate::support::alone;

const KILLS_PER_PHASE: usize = 25;

/// Where the process is when it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Somewhere between the first byte of the request and the call.
    Claimed,
    /// The upstream has the request.
    Sent,
    /// It has answered half.
    Answered,
    /// It has answered; the answer is on its way into the store and to the client.
    Saved,
}

const PHASES: [Phase; 4] = [Phase::Claimed, Phase::Sent, Phase::Answered, Phase::Saved];

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_point_nothing_is_sent_twice() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|request, _| {
        let phase = request.header("idempotency-key");
        let whole = answer(200, &[], b"charged");
        match phase.split('-').next().unwrap() {
            "Sent" => Reply::Hang,
            "Answered" => Reply::Bytes(whole[..whole.len() - 3].to_vec()),
            _ => Reply::Bytes(whole),
        }
    })
    .await;
    let setup = setup(folder.path(), "sqlite:a.db", upstream.port, "");
    let mut before: Option<String> = None;
    let mut ends = [0; 3];
    for at in 0..KILLS_PER_PHASE * PHASES.len() {
        let program = setup.start().await;
        if let Some(key) = before {
            ends[usize::from(check(program.port, &upstream, &key).await)] += 1;
        }
        let phase = PHASES[at % PHASES.len()];
        let key = format!("{phase:?}-{at}");
        let calls = upstream.count();
        let mut client = TcpStream::connect(("127.0.0.1", program.port)).await.unwrap();
        client.write_all(&charging(&key)).await.unwrap();
        match phase {
            Phase::Claimed => {}
            Phase::Sent | Phase::Answered | Phase::Saved => upstream.called(calls + 1).await,
        }
        if phase != Phase::Sent {
            tokio::time::sleep(Duration::from_micros(rand::random_range(0..4000))).await;
        }
        program.kill();
        before = Some(key);
    }
    let [replayed, unknown, fresh] = ends;
    assert!(replayed > 0 && unknown > 2 * KILLS_PER_PHASE - 2, "{ends:?}");
    assert!(fresh <= 2 * KILLS_PER_PHASE, "{ends:?}");
}

/// How a key stands after the crash: given again, unknown, or free and carried out now, since it never
/// was before.
async fn check(port: u16, upstream: &Upstream, key: &str) -> u8 {
    let calls = |upstream: &Upstream| {
        let all = upstream.calls();
        all.iter().filter(|call| call.header("idempotency-key") == key).count()
    };
    let sent_before = calls(upstream);
    let answer = charge(port, key).await;
    let end = match (answer.status(), answer.is_replayed(), answer.code().as_str()) {
        (200, true, "") => 0,
        (409, false, "outcome_unknown") => 1,
        (200, false, "") => {
            assert_eq!(sent_before, 0, "{key} was sent, and was sent again");
            2
        }
        _ => panic!("{key}: {answer:?}"),
    };
    assert!(calls(upstream) <= 1, "{key} was sent twice");
    assert!(charge(port, key).await.status() == answer.status(), "{key} changed its mind");
    end
}
