//! Time comes in as an argument: everything that asks what time it is holds a [`Clock`].
//!
//! Two times are told apart. The wall clock ([`Timestamp`]) is what signatures, windows and
//! due times are about, and it may jump. The monotonic one (a [`Duration`] since the clock was
//! made) is what leases and deadlines are measured by, and it never jumps.

use std::{
    borrow::Cow,
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A point in wall time: milliseconds since the Unix epoch.
///
/// As JSON it is RFC 3339 text in UTC, to the millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(transparent)]
pub struct Timestamp(#[schemars(with = "String", extend("format" = "date-time"))] i64);

impl Timestamp {
    /// The due time of what waits for something else than time: the year 9999.
    pub const NEVER: Self = Self::from_seconds(253_370_764_800);

    /// The time `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// The time `seconds` seconds after the Unix epoch.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This time, later by `span`; it stops at the end of time instead of wrapping.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// This time, earlier by `span`; it stops at the beginning of time instead of wrapping.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }

    /// This time as a clock tells it that is so many milliseconds ahead; never stays never.
    #[must_use]
    pub fn shifted(self, millis: i64) -> Self {
        if self >= Self::NEVER { Self::NEVER } else { Self(self.0.saturating_add(millis)) }
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// RFC 3339 in UTC, to the millisecond: what people and the API read.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => write!(f, "{} ms", self.0), // outside of what a calendar can say
        }
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.parse::<jiff::Timestamp>()?.as_millisecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Whole milliseconds of `span`, as many as fit.
fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Tells the time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The wall time. It may jump, forwards and backwards.
    fn now(&self) -> Timestamp;

    /// Time passed since some fixed moment. It never jumps.
    fn monotonic(&self) -> Duration;
}

/// The machine's own clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: std::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic time begins now.
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of the machine's clocks")]
    pub fn start() -> Arc<dyn Clock> {
        Arc::new(Self { started: std::time::Instant::now() })
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one reader of the machine's clocks")]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default(); // a clock set before 1970 reads as 1970: signatures are refused
        Timestamp(millis(since_epoch))
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that moves when it is told to: for tests and for checking requests of the past.
#[derive(Debug)]
pub struct ManualClock {
    now: AtomicI64,
    monotonic: AtomicI64,
}

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: Timestamp) -> Arc<Self> {
        Arc::new(Self { now: AtomicI64::new(now.0), monotonic: AtomicI64::new(0) })
    }

    /// Moves both times on by `span`.
    pub fn advance(&self, span: Duration) {
        self.now.fetch_add(millis(span), Ordering::SeqCst);
        self.monotonic.fetch_add(millis(span), Ordering::SeqCst);
    }

    /// Moves the wall time alone, as somebody who sets the clock does.
    pub fn set_on(&self, span: Duration) {
        self.now.fetch_add(millis(span), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.monotonic.load(Ordering::SeqCst)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_reads_as_rfc_3339() {
        assert_eq!(
            Timestamp::from_millis(1_767_225_600_123).to_string(),
            "2026-01-01T00:00:00.123Z"
        );
    }

    #[test]
    fn json_brings_a_timestamp_back() {
        let time = Timestamp::from_millis(1_767_225_600_123);
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(json, "\"2026-01-01T00:00:00.123Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time);
    }

    #[test]
    fn arithmetic_stops_at_the_ends_of_time() {
        assert_eq!(Timestamp::from_millis(i64::MAX).plus(Duration::MAX).as_millis(), i64::MAX);
        assert_eq!(Timestamp::from_millis(5).since(Timestamp::from_millis(9)), Duration::ZERO);
    }
}
