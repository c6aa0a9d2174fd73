//! Traces: from a provider's request to the attempts that it led to.
//!
//! An event's trace has the event's own id, and the spans that others stand under have ids that follow
//! from what the store keeps anyway. So nothing is kept for a trace, and an attempt joins the request
//! that brought its event, though it run in another process, after a restart, or next week.
//!
//! A trace begins with a request that verified: what is refused has none, so that a stranger cannot make
//! any. What a sender says of a trace of its own decides nothing and goes nowhere.

use std::{fmt, sync::Arc, time::Duration};

use sha2::{Digest as _, Sha256};

use crate::{
    clock::Timestamp,
    delivery::{AttemptOutcome, Lease, Leased},
    event::EventId,
    receipt::Admission,
    store::StoreError,
};

/// The id of a trace: that of its event.
pub type TraceId = [u8; 16];

/// The id of a span within its trace.
pub type SpanId = [u8; 8];

/// One step on the way of an event, when it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The trace it is in.
    pub trace: TraceId,
    /// Its own id.
    pub id: SpanId,
    /// What it was a part of, or followed from.
    pub parent: Option<SpanId>,
    /// What was done, and by which source or handler.
    pub name: String,
    /// Which side of a call it is.
    pub kind: SpanKind,
    /// When it began, to a millisecond, and how much later than that.
    pub began: (Timestamp, Duration),
    /// How long it took.
    pub took: Duration,
    /// What else there is to say. The names are those of the log's fields.
    pub attributes: Vec<(&'static str, String)>,
    /// What went wrong.
    pub error: Option<String>,
}

/// Which side of a call a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// We were called.
    Server,
    /// We called.
    Client,
    /// Neither.
    Internal,
}

/// Where spans go.
pub trait Exporter: fmt::Debug + Send + Sync {
    /// Takes a span to be sent when there is time. It never waits; what is too much is dropped.
    fn export(&self, span: Span);

    /// Sends what it has, waiting at most so long. It blocks, and takes nothing more.
    fn shut_down(&self, patience: Duration);
}

/// The traces of one hookonce. By default there are none, and they cost nothing.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Kept>);

#[derive(Clone, Debug)]
struct Kept {
    exporter: Arc<dyn Exporter>,
    one_in: u64,
}

/// A request whose events were admitted, or could not be.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The source that received it.
    pub source: &'a str,
    /// When its last byte was there.
    pub at: Timestamp,
    /// How long it took until it was verified, and its events were named.
    pub verified_after: Duration,
    /// How long it took until the store had answered.
    pub admitted_after: Duration,
    /// The ids that its events were given.
    pub events: &'a [EventId],
    /// What the store said of each.
    pub admitted: Result<&'a [(EventId, Admission)], &'a StoreError>,
}

/// An attempt that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Attempted<'a> {
    /// What was attempted.
    pub leased: &'a Leased,
    /// When it began.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// What went wrong.
    pub error: Option<&'a str>,
}

impl Traces {
    /// Sends the spans of one event in `one_in`. Which of them that is follows from its id, so all
    /// processes with the same `one_in` agree.
    pub fn to(exporter: Arc<dyn Exporter>, one_in: u64) -> Self {
        Self(Some(Kept { exporter, one_in: one_in.max(1) }))
    }

    /// Whether there are any.
    pub fn are_kept(&self) -> bool {
        self.0.is_some()
    }

    /// What the handler of this attempt is told, as <https://www.w3.org/TR/trace-context/> has it: the
    /// attempt is the parent of what the handler does.
    pub fn traceparent(&self, leased: &Leased) -> Option<String> {
        let kept = self.0.as_ref()?;
        let event = leased.event.id;
        let flags = if kept.keeps(event) { "01" } else { "00" };
        let (trace, span) =
            (hex::encode(event.as_bytes()), hex::encode(attempt_span(leased.lease)));
        Some(format!("00-{trace}-{span}-{flags}"))
    }

    /// A request was received: each of its events has a span for it in its own trace.
    pub fn received(&self, received: &Received<'_>) {
        let Some(kept) = &self.0 else { return };
        for (number, given) in received.events.iter().enumerate() {
            let admitted = received.admitted.ok().and_then(|all| all.get(number).copied());
            let event = admitted.map_or(*given, |(event, _)| event);
            if kept.keeps(event) {
                let status = admitted.map_or("unavailable", |(_, admission)| admission.status());
                // A copy joins the trace of the first, under the request that brought that one.
                let is_copy = event != *given || status == "duplicate";
                request_spans(received, event, status, is_copy)
                    .into_iter()
                    .for_each(|span| kept.exporter.export(span));
            }
        }
    }

    /// An attempt has ended.
    pub fn attempted(&self, attempted: &Attempted<'_>) {
        let (Some(kept), leased) = (&self.0, attempted.leased) else { return };
        let event = &leased.event;
        if !kept.keeps(event.id) {
            return;
        }
        let mut attributes = vec![
            ("source.name", event.source.to_string()),
            ("handler.name", leased.handler.to_string()),
            ("event.id", event.id.to_string()),
            ("delivery.id", leased.lease.delivery.to_string()),
            ("attempt.number", leased.attempt.to_string()),
            ("attempt.outcome", attempted.outcome.name().to_owned()),
        ];
        attributes.extend(event.event_type.clone().map(|name| ("event.type", name)));
        kept.exporter.export(Span {
            trace: *event.id.as_bytes(),
            id: attempt_span(leased.lease),
            parent: Some(request_span(event.id)),
            name: format!("attempt {}", leased.handler),
            kind: SpanKind::Client,
            began: (attempted.at, Duration::ZERO),
            took: attempted.took,
            attributes,
            error: attempted.error.map(str::to_owned),
        });
    }

    /// Sends what is left, waiting at most so long. It blocks.
    pub fn shut_down(&self, patience: Duration) {
        if let Some(kept) = &self.0 {
            kept.exporter.shut_down(patience);
        }
    }
}

impl Kept {
    /// Whether the trace of this event is one of those that are sent.
    fn keeps(&self, event: EventId) -> bool {
        let [.., a, b, c, d, e, f, g] = *event.as_bytes(); // random in every id of version 7
        u64::from_be_bytes([0, a, b, c, d, e, f, g]).is_multiple_of(self.one_in)
    }
}

/// The span of a request in the trace of one of its events, after those of its steps.
fn request_spans(
    received: &Received<'_>,
    event: EventId,
    status: &'static str,
    is_copy: bool,
) -> [Span; 3] {
    let (id, parent) = match is_copy {
        true => (rand::random(), Some(request_span(event))),
        false => (request_span(event), None),
    };
    let step = |name: &str, from: Duration, to: Duration| Span {
        trace: *event.as_bytes(),
        id: rand::random(),
        parent: Some(id),
        name: name.to_owned(),
        kind: SpanKind::Internal,
        began: (received.at, from),
        took: to.saturating_sub(from),
        attributes: Vec::new(),
        error: None,
    };
    let whole = Span {
        id,
        parent,
        kind: SpanKind::Server,
        attributes: vec![
            ("source.name", received.source.to_owned()),
            ("event.id", event.to_string()),
            ("status", status.to_owned()),
        ],
        error: received.admitted.err().map(ToString::to_string),
        ..step(&format!("receive {}", received.source), Duration::ZERO, received.admitted_after)
    };
    [
        step("verify", Duration::ZERO, received.verified_after),
        step("admit", received.verified_after, received.admitted_after),
        whole,
    ]
}

/// The span of the request that brought an event.
fn request_span(event: EventId) -> SpanId {
    let [_, _, _, _, _, _, _, _, id @ ..] = *event.as_bytes(); // the random half
    id
}

/// The span of the attempt that holds this lease: its token is another one for every attempt.
fn attempt_span(lease: Lease) -> SpanId {
    let mut hash = Sha256::new();
    hash.update(lease.delivery.as_bytes());
    hash.update(lease.token.to_be_bytes());
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, MutexGuard};

    use bytes::Bytes;

    use super::*;
    use crate::{delivery::DeliveryId, event::Event, request::Headers};

    /// Keeps what it gets.
    #[derive(Debug, Default)]
    struct Collected(Mutex<Vec<Span>>);

    impl Exporter for Collected {
        fn export(&self, span: Span) {
            self.spans().push(span);
        }

        fn shut_down(&self, _: Duration) {}
    }

    impl Collected {
        fn spans(&self) -> MutexGuard<'_, Vec<Span>> {
            self.0.lock().unwrap()
        }

        /// The only span whose name begins like this.
        fn one(&self, name: &str) -> Span {
            let spans = self.spans();
            let mut named = spans.iter().filter(|span| span.name.starts_with(name));
            let one = named.next().expect(name).clone();
            assert_eq!(named.next(), None);
            one
        }
    }

    fn traces(one_in: u64) -> (Traces, Arc<Collected>) {
        let collected = Arc::new(Collected::default());
        (Traces::to(Arc::clone(&collected) as _, one_in), collected)
    }

    fn received<'a>(
        events: &'a [EventId],
        admitted: Result<&'a [(EventId, Admission)], &'a StoreError>,
    ) -> Received<'a> {
        let (verified_after, admitted_after) =
            (Duration::from_micros(80), Duration::from_millis(1));
        let at = Timestamp::default();
        Received { source: "stripe", at, verified_after, admitted_after, events, admitted }
    }

    fn leased(event: EventId, token: u64) -> Leased {
        let event = Event {
            id: event,
            source: "stripe".into(),
            event_id: None,
            event_type: None,
            received_at: Timestamp::default(),
            shadow: false,
            resent_under_new_id: false,
            retry_marker: None,
            query: String::new(),
            headers: Headers::default(),
            body: Bytes::new(),
        };
        Leased {
            lease: Lease { delivery: DeliveryId::from_bytes([7; 16]), token },
            handler: "billing".into(),
            attempt: 1,
            attempts_before_redrive: 0,
            replay_of: None,
            deaths_in_a_row: 0,
            event: Arc::new(event),
        }
    }

    #[test]
    fn an_attempt_stands_under_the_request_that_brought_its_event() {
        let (traces, collected) = traces(1);
        let event = EventId::new(Timestamp::default());
        traces.received(&received(&[event], Ok(&[(event, Admission::Fresh)])));
        let (elsewhere, attempts) = self::traces(1); // another process knows the same
        let (leased, at) = (leased(event, 1), Timestamp::default());
        let (took, outcome) = (Duration::from_millis(5), AttemptOutcome::Done);
        elsewhere.attempted(&Attempted { leased: &leased, at, took, outcome, error: None });

        let (request, attempt) = (collected.one("receive stripe"), attempts.one("attempt billing"));
        assert_eq!((request.trace, request.parent), (*event.as_bytes(), None));
        assert_eq!((attempt.trace, attempt.parent), (request.trace, Some(request.id)));
        assert_eq!(collected.one("verify").parent, Some(request.id));
        assert_eq!(collected.one("admit").took, Duration::from_micros(920));
        let told = traces.traceparent(&leased).unwrap();
        assert_eq!(
            told,
            format!("00-{}-{}-01", hex::encode(event.as_bytes()), hex::encode(attempt.id))
        );
    }

    #[test]
    fn every_attempt_has_a_span_of_its_own() {
        let (first, second) = (attempt_span(leased(EventId::from_bytes([1; 16]), 1).lease), 2);
        assert_ne!(first, attempt_span(leased(EventId::from_bytes([1; 16]), second).lease));
    }

    #[test]
    fn a_duplicate_joins_the_trace_of_the_first() {
        let (traces, collected) = traces(1);
        let (first, given) =
            (EventId::new(Timestamp::default()), EventId::new(Timestamp::default()));
        traces.received(&received(&[given], Ok(&[(first, Admission::Duplicate)])));
        let copy = collected.one("receive");
        assert_eq!((copy.trace, copy.parent), (*first.as_bytes(), Some(request_span(first))));
        assert!(copy.attributes.contains(&("status", "duplicate".to_owned())));
    }

    #[test]
    fn what_could_not_be_admitted_says_why() {
        let (traces, collected) = traces(1);
        let event = EventId::new(Timestamp::default());
        traces.received(&received(&[event], Err(&StoreError::Late)));
        assert_eq!(collected.one("receive").error, Some(StoreError::Late.to_string()));
    }

    #[test]
    fn one_in_so_many_is_sent_and_handlers_are_told_which() {
        let (traces, collected) = traces(10);
        for _ in 0..1000 {
            let event = EventId::new(Timestamp::default());
            collected.spans().clear();
            traces.received(&received(&[event], Ok(&[(event, Admission::Fresh)])));
            let told = traces.traceparent(&leased(event, 1)).unwrap();
            assert_eq!(told.ends_with("-01"), !collected.spans().is_empty());
        }
        let kept = traces.0.unwrap();
        let of_many =
            (0..10_000).filter(|_| kept.keeps(EventId::new(Timestamp::default()))).count();
        assert!((700..1300).contains(&of_many), "{of_many}");
    }

    #[test]
    fn without_traces_a_handler_is_told_nothing() {
        assert_eq!(Traces::default().traceparent(&leased(EventId::from_bytes([1; 16]), 1)), None);
    }
}
