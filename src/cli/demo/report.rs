//! What was seen, judged: pure, so that a broken receiver can be made up in a test.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use hookonce::store::Counts;
use serde::Serialize;

use super::{
    counter::{Call, FAILURES},
    payments::Payment,
};
use crate::cli::{output::table, sender::Became, tally::Row};

/// How many retries come one after another, and how many copies at once.
pub(super) const RETRIES: u64 = 4;
pub(super) const AT_ONCE: u64 = 20;

/// What is rehearsed with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Sending {
    First,
    Retries,
    AtOnce,
    Forged,
    FailingHandler,
    AfterRestart,
}

/// One thing that was sent, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Observed {
    pub(super) provider: &'static str,
    pub(super) sending: Sending,
    pub(super) answers: Vec<Row>,
    /// Every call of the handler about this event so far.
    pub(super) calls: Vec<Call>,
}

/// What the demo has to say.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) all_kept: bool,
    pub(super) promises: Vec<Promise>,
    pub(super) observed: Vec<Observed>,
    pub(super) counts: Counts,
    /// What a client did at an API with keys.
    pub(super) payments: Vec<Payment>,
    pub(super) seconds: f64,
    /// What could not be rehearsed on this store.
    pub(super) skipped: Option<&'static str>,
    /// Where the store was kept.
    pub(super) folder: Option<PathBuf>,
}

/// A promise, and what broke it.
#[derive(Debug, Serialize)]
pub(super) struct Promise {
    pub(super) promise: &'static str,
    pub(super) kept: bool,
    pub(super) broken_by: Vec<String>,
}

impl Report {
    pub(super) fn new(
        store_url: &str,
        mut observed: Vec<Observed>,
        counts: Counts,
        took: Duration,
    ) -> Self {
        observed.sort_by_key(|seen| seen.provider); // what came after the restart, back to its own
        let promises = judge(&observed, &counts);
        let memory = store_url == "memory:";
        Self {
            all_kept: promises.iter().all(|promise| promise.kept),
            promises,
            observed,
            counts,
            payments: Vec::new(),
            seconds: took.as_secs_f64(),
            skipped: memory.then_some("no restart: this store does not outlive its process"),
            folder: None,
        }
    }

    /// The same report with a walk-through of payments in it, and the promise that is about them.
    pub(super) fn with_payments(mut self, payments: Vec<Payment>) -> Self {
        let wrong = payments.iter().filter(|payment| !payment.is_right);
        let tell = |payment: &Payment| {
            let (what, answers) = (payment.what, payment.answers.join("; "));
            format!("{what}: {answers}; the API was called {} times", payment.calls)
        };
        let broken_by: Vec<_> = wrong.map(tell).collect();
        let promise = "a payment with an Idempotency-Key is made once, whatever its client does";
        self.promises.push(promise_of(promise, broken_by));
        self.all_kept = self.promises.iter().all(|promise| promise.kept);
        Self { payments, ..self }
    }

    pub(super) fn text(&self) -> String {
        let mut sent = table(["provider", "sent", "answered", "handler ran"]);
        let mut last = "";
        for observed in &self.observed {
            let provider = if observed.provider == last { "" } else { observed.provider };
            last = observed.provider;
            sent.add_row([
                provider,
                &observed.sending.text(),
                &observed.answers_text(),
                &observed.calls_text(),
            ]);
        }
        let mut paid = table(["payment", "answered", "API called"]);
        for payment in &self.payments {
            let calls = if payment.calls == 1 {
                "once".to_owned()
            } else {
                format!("{} times", payment.calls)
            };
            paid.add_row([payment.what.to_owned(), payment.answers.join("; "), calls]);
        }
        let mut lines = vec![sent.to_string(), String::new(), paid.to_string(), String::new()];
        for promise in &self.promises {
            let mark = if promise.kept { '✓' } else { '✗' };
            lines.push(format!("{mark} {}", promise.promise));
            lines.extend(promise.broken_by.iter().map(|broken_by| format!("    {broken_by}")));
        }
        lines.extend(self.skipped.map(|skipped| format!("- skipped: {skipped}")));
        let Counts { events, duplicates, done, .. } = self.counts;
        let verdict = if self.all_kept { "every promise was kept" } else { "a promise was broken" };
        lines.push(format!(
            "\n{verdict}: {events} events, {duplicates} duplicates, {done} deliveries done, in {:.1} s",
            self.seconds
        ));
        lines.extend(self.folder.iter().map(|folder| format!("kept in {}", folder.display())));
        lines.join("\n")
    }
}

impl Sending {
    fn text(self) -> String {
        match self {
            Self::First => "a new event".to_owned(),
            Self::Retries => format!("its retries, {RETRIES} one after another"),
            Self::AtOnce => format!("another event, {AT_ONCE} copies at once"),
            Self::Forged => "a forged one: one bit flipped".to_owned(),
            Self::FailingHandler => format!("one whose handler fails {FAILURES} times"),
            Self::AfterRestart => "the first one again, after a restart".to_owned(),
        }
    }

    /// How often which answer is right.
    fn right_answers(self) -> &'static [(Became, u64)] {
        match self {
            Self::First | Self::FailingHandler => &[(Became::Accepted, 1)],
            Self::Retries => &[(Became::Duplicate, RETRIES)],
            Self::AtOnce => &[(Became::Accepted, 1), (Became::Duplicate, AT_ONCE - 1)],
            Self::Forged => &[(Became::Refused, 1)],
            Self::AfterRestart => &[(Became::Duplicate, 1)],
        }
    }

    /// How often the right answers say so.
    fn right_count(self, became: Became) -> u64 {
        let answers = self.right_answers().iter();
        answers.filter(|(right, _)| *right == became).map(|(_, count)| count).sum()
    }
}

impl Observed {
    fn is_answered_right(&self) -> bool {
        let given = self.answers.iter().map(|row| (row.status, row.count));
        given.eq(self.sending.right_answers().iter().copied())
            && self.answers.iter().all(|row| is_right_status(row.status, row.http))
    }

    fn answers_text(&self) -> String {
        let shown = |row: &Row| {
            let http = row.http.map(|http| format!(" ({http})")).unwrap_or_default();
            format!("{} {}{http}", row.count, row.status)
        };
        self.answers.iter().map(shown).collect::<Vec<_>>().join(", ")
    }

    fn calls_text(&self) -> String {
        let failed = self.calls.iter().filter(|call| call.answered != 200).count();
        match (self.calls.len(), failed) {
            (0, _) => "never".to_owned(),
            (1, 0) => "once".to_owned(),
            (runs, 0) => format!("{runs} times"),
            (runs, failed) => format!("{runs} times: {failed} failed, {} done", runs - failed),
        }
    }
}

/// Whether the HTTP status fits the word: some providers want another yes than 200.
fn is_right_status(became: Became, http: Option<u16>) -> bool {
    match became {
        Became::Refused => http == Some(401),
        _ => http.is_some_and(|http| (200..300).contains(&http)),
    }
}

/// The promises, each checked against everything that was seen.
fn judge(observed: &[Observed], counts: &Counts) -> Vec<Promise> {
    use Sending::{AfterRestart, AtOnce, FailingHandler, First, Forged, Retries};
    let answered = |sendings: &'static [Sending]| {
        move |seen: &Observed| !sendings.contains(&seen.sending) || seen.is_answered_right()
    };
    let all = |promise, holds: &dyn Fn(&Observed) -> bool| {
        let broken = observed.iter().filter(|seen| !holds(seen));
        let tell = |seen: &Observed| {
            let (sent, answers) = (seen.sending.text(), seen.answers_text());
            format!("{}, {sent}: {answers}; the handler ran {}", seen.provider, seen.calls_text())
        };
        promise_of(promise, broken.map(tell).collect())
    };
    vec![
        all(
            "a new event is accepted once, however many copies come at once",
            &answered(&[First, AtOnce, FailingHandler]),
        ),
        all(
            "a retry is answered yes, as a duplicate, also after a restart",
            &answered(&[Retries, AfterRestart]),
        ),
        all("a handler that succeeds runs once per event", &|seen| {
            let runs_once = matches!(seen.sending, First | Retries | AtOnce | AfterRestart);
            !runs_once || seen.calls.len() == 1
        }),
        all("a handler that fails runs again, under the same key, until it is done", &|seen| {
            seen.sending != FailingHandler || is_tried_until_done(&seen.calls)
        }),
        all("what is forged is refused, and reaches no handler", &|seen| {
            seen.sending != Forged || (seen.is_answered_right() && seen.calls.is_empty())
        }),
        promise_of("the counters agree, and nothing is left over", miscounts(observed, counts)),
    ]
}

fn promise_of(promise: &'static str, broken_by: Vec<String>) -> Promise {
    Promise { promise, kept: broken_by.is_empty(), broken_by }
}

fn is_tried_until_done(calls: &[Call]) -> bool {
    let keys: BTreeSet<_> = calls.iter().map(|call| &call.key).collect();
    let attempts = calls.iter().map(|call| call.attempt);
    let done = calls.iter().filter(|call| call.answered == 200).count();
    calls.len() == FAILURES + 1 && done == 1 && keys.len() == 1 && attempts.eq(1..=3)
}

/// Where the store has counted something else than was sent.
fn miscounts(observed: &[Observed], counts: &Counts) -> Vec<String> {
    let sent = |became| observed.iter().map(|seen| seen.sending.right_count(became)).sum();
    let (events, duplicates): (u64, u64) = (sent(Became::Accepted), sent(Became::Duplicate));
    let pairs = [
        ("events", counts.events, events),
        ("duplicates", counts.duplicates, duplicates),
        ("deliveries done", counts.done, events),
        ("dead letters", counts.dead, 0),
        ("deliveries queued", counts.queued, 0),
        ("deliveries leased", counts.leased, 0),
    ];
    let wrong = pairs.into_iter().filter(|(_, counted, right)| counted != right);
    wrong.map(|(what, counted, right)| format!("{counted} {what} counted, not {right}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo;

    type Break = fn(&mut Observed, &mut Counts);

    /// What a broken receiver would do, where it would show, and the promise it breaks.
    const BROKEN: [(Sending, Break, &str); 9] = [
        (Sending::First, |seen, _| seen.calls.extend(seen.calls.clone()), "runs once per event"),
        (Sending::Retries, |seen, _| seen.calls.extend(seen.calls.clone()), "runs once per event"),
        (Sending::AtOnce, |seen, _| seen.calls.clear(), "runs once per event"),
        (Sending::AtOnce, |seen, _| seen.answers[0].count = 2, "accepted once"),
        (Sending::Retries, |seen, _| seen.answers[0].status = Became::Accepted, "as a duplicate"),
        (Sending::Forged, |seen, _| seen.answers[0].http = Some(200), "forged is refused"),
        (Sending::FailingHandler, |seen, _| drop(seen.calls.pop()), "until it is done"),
        (Sending::FailingHandler, |seen, _| seen.calls[1].key.push('x'), "under the same key"),
        (Sending::First, |_, counts| counts.duplicates += 1, "the counters agree"),
    ];

    #[tokio::test(flavor = "multi_thread")]
    async fn a_broken_promise_is_reported_wherever_it_shows() {
        let report = demo::rehearse("memory:").await.unwrap();
        assert!(report.all_kept, "{}", report.text());
        for (sending, damage, promise) in BROKEN {
            let (mut observed, mut counts) = (report.observed.clone(), report.counts);
            let at_fault = observed.iter_mut().filter(|seen| seen.sending == sending).nth(1);
            damage(at_fault.unwrap(), &mut counts);
            let broken = Report::new("memory:", observed, counts, Duration::ZERO);
            assert!(!broken.all_kept, "{promise}");
            let told: Vec<_> = broken.promises.iter().filter(|promise| !promise.kept).collect();
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].promise.contains(promise), "{} {promise}", told[0].promise);
            assert_eq!(told[0].broken_by.len(), 1, "{told:?}");
            assert!(broken.text().contains("✗"));
        }
    }

    #[test]
    fn a_payment_that_is_made_twice_is_reported() {
        let payment = |calls| Payment {
            what: "two requests come at once",
            answers: vec!["200".to_owned(), "200".to_owned()],
            calls,
            is_right: calls == 1,
        };
        let report = |calls| {
            let nothing = Report::new("memory:", Vec::new(), Counts::default(), Duration::ZERO);
            nothing.with_payments(vec![payment(calls)])
        };
        let fine = report(1);
        assert!(fine.promises.last().unwrap().kept && fine.all_kept);
        let broken = report(2);
        assert!(!broken.all_kept && broken.text().contains("called 2 times"), "{}", broken.text());
    }

    #[test]
    fn silence_is_no_kept_promise() {
        let nothing_answered = Observed {
            provider: "stripe",
            sending: Sending::First,
            answers: Vec::new(),
            calls: Vec::new(),
        };
        let counts = Counts::default();
        let report = Report::new("memory:", vec![nothing_answered], counts, Duration::ZERO);
        let broken = report.promises.iter().filter(|promise| !promise.kept).count();
        assert_eq!(broken, 3, "{}", report.text());
    }
}
