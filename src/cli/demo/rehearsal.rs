//! What is sent, provider by provider, and what came of it.

use bytes::Bytes;
use futures_util::future::join_all;
use hookonce::{
    clock::Timestamp,
    fixture::Template,
    provider::Provider,
    request::Unverified,
    source::{Proof, Source},
    store::Counts,
};

use super::{
    counter::{Counter, EVENT_LABEL, FAILING},
    report::{AT_ONCE, Observed, RETRIES, Report, Sending},
    stage::Stage,
};
use crate::cli::{
    sender::{Answer, SigningSender},
    stand_in::suitable_fixture,
    tally::Tally,
};

/// Rehearses every provider of the stage.
pub(super) async fn rehearse(stage: &mut Stage, counter: &Counter) -> anyhow::Result<Report> {
    let begun = stage.clock().monotonic();
    let before = stage.counts().await?;
    let mut observed = Vec::new();
    let mut firsts = Vec::new();
    for provider in stage.providers() {
        let act = Act::new(stage, counter, provider)?;
        // Where the same bytes can be a new fact, nothing is a retry.
        if act.template.is_one_known_again(&act.sender.source, stage.clock().now()) {
            firsts.push((provider, act.run(&mut observed).await?));
        }
    }
    if stage.can_restart() {
        stage.restart().await?;
        for (provider, first) in firsts {
            let act = Act::new(stage, counter, provider)?;
            observed.push(act.after_restart(&first).await?);
        }
    }
    let counts = since(before, stage.counts().await?);
    let took = stage.clock().monotonic().saturating_sub(begun);
    Ok(Report::new(stage.store_url(), observed, counts, took))
}

/// One provider's part.
struct Act<'a> {
    stage: &'a Stage,
    counter: &'a Counter,
    provider: &'static dyn Provider,
    sender: SigningSender,
    template: Template,
}

impl<'a> Act<'a> {
    fn new(
        stage: &'a Stage,
        counter: &'a Counter,
        provider: &'static dyn Provider,
    ) -> anyhow::Result<Self> {
        let sender = stage.sender(provider)?;
        let (url, now) = (sender.sender.url(), stage.clock().now());
        let fixture = suitable_fixture(&sender.source, url, now)?;
        let template = fixture.template(&sender.source, url, now)?;
        Ok(Self { stage, counter, provider, sender, template })
    }

    /// Everything but the restart, before which the first event is given back.
    async fn run(&self, observed: &mut Vec<Observed>) -> anyhow::Result<Unverified> {
        let first = self.event("/first");
        let answers = vec![self.sender.send(&first).await];
        observed.push(self.observe(Sending::First, &first, &answers).await?);

        let mut answers = Vec::new();
        for _ in 0..RETRIES {
            answers.push(self.sender.send(&first).await);
        }
        observed.push(self.observe(Sending::Retries, &first, &answers).await?);

        let event = self.event("/at-once");
        let answers = join_all((0..AT_ONCE).map(|_| self.sender.send(&event))).await;
        observed.push(self.observe(Sending::AtOnce, &event, &answers).await?);

        let event = self.event("/forged");
        let forged =
            forged(&self.sender.source, &self.sender.signed(&event), self.stage.clock().now());
        let answers = vec![self.sender.sender.send(&forged).await];
        observed.push(self.observe(Sending::Forged, &event, &answers).await?);

        let event = self.event(FAILING);
        let answers = vec![self.sender.send(&event).await];
        observed.push(self.observe(Sending::FailingHandler, &event, &answers).await?);
        Ok(first)
    }

    async fn after_restart(&self, first: &Unverified) -> anyhow::Result<Observed> {
        let answers = vec![self.sender.send(first).await];
        self.observe(Sending::AfterRestart, first, &answers).await
    }

    /// A new event that the handler will know by a label.
    fn event(&self, label: &str) -> Unverified {
        let mut event = self.template.draft(&mut rand::rng());
        event.headers.set(EVENT_LABEL, format!("{}{label}", self.provider.name()));
        event
    }

    async fn observe(
        &self,
        sending: Sending,
        event: &Unverified,
        answers: &[Answer],
    ) -> anyhow::Result<Observed> {
        self.stage.settled().await?;
        let mut tally = Tally::default();
        for answer in answers {
            tally.count(std::slice::from_ref(answer));
        }
        let label = event.headers.first(EVENT_LABEL).unwrap_or_default();
        Ok(Observed {
            provider: self.provider.name(),
            sending,
            answers: tally.rows(),
            calls: self.counter.calls(label),
        })
    }
}

/// The request with one bit flipped after it was signed: in the middle of its body, or where the body
/// is not covered, of what shows who sent it.
fn forged(source: &Source, request: &Unverified, now: Timestamp) -> Unverified {
    let in_body = |at: usize| {
        let mut forged = request.clone();
        forged.body = flipped(&request.body, at);
        forged
    };
    let in_header = |(name, value): (&str, &[u8])| {
        let mut forged = request.clone();
        forged.headers.set(name, flipped(value, value.len() / 2));
        forged
    };
    let middle = request.body.len() / 2;
    let mut forgeries = std::iter::once(in_body(middle))
        .chain(request.headers.iter().map(in_header))
        .chain((0..request.body.len()).map(in_body));
    let is_noticed =
        |forged: &Unverified| !matches!(source.verify(forged.clone(), now), Ok(Proof::Holds(_)));
    forgeries.find(is_noticed).unwrap_or_else(|| in_body(middle))
}

fn flipped(bytes: &[u8], at: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    match bytes.get_mut(at) {
        Some(byte) => *byte ^= 1,
        None => bytes.push(b'!'),
    }
    bytes.into()
}

/// What was counted in between; what waits, as it is now.
fn since(before: Counts, now: Counts) -> Counts {
    Counts {
        events: now.events.saturating_sub(before.events),
        duplicates: now.duplicates.saturating_sub(before.duplicates),
        done: now.done.saturating_sub(before.done),
        dead: now.dead.saturating_sub(before.dead),
        ..now
    }
}
