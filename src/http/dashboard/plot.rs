//! Plots, drawn here as SVG: bars for what happened, lines for how it stood.

use std::time::Duration;

use crate::{clock::Timestamp, telemetry::history::Point};

/// A stretch of time in equal parts, each with what happened in it.
pub(super) struct Stretch {
    from: Timestamp,
    part: Duration,
    parts: Vec<Option<Point>>,
}

/// A plot, ready to be written down. Its area is [`WIDTH`] by [`HEIGHT`], stretched to fit the page.
pub(super) struct Plot {
    pub(super) title: &'static str,
    /// What the top of the area stands for.
    pub(super) top: String,
    /// The times at its ends.
    pub(super) ends: (String, String),
    /// The kinds, for the legend: class and name.
    pub(super) legend: Vec<(&'static str, &'static str)>,
    pub(super) bars: Vec<Bar>,
    pub(super) lines: Vec<Line>,
    /// One strip over every part, which says in words what is in it.
    pub(super) strips: Vec<Strip>,
}

pub(super) struct Bar {
    pub(super) class: &'static str,
    pub(super) x: String,
    pub(super) y: String,
    pub(super) width: String,
    pub(super) height: String,
}

pub(super) struct Line {
    pub(super) class: &'static str,
    pub(super) path: String,
}

pub(super) struct Strip {
    pub(super) x: String,
    pub(super) width: String,
    pub(super) words: String,
}

/// The size of the area, in its own units.
pub(super) const WIDTH: f64 = 600.0;
/// See [`WIDTH`].
pub(super) const HEIGHT: f64 = 120.0;

/// One kind of thing in a plot.
pub(super) struct Kind {
    pub(super) class: &'static str,
    pub(super) name: &'static str,
    /// How much of it there was. `None`: nobody knows.
    pub(super) of: fn(&Point) -> Option<f64>,
}

impl Stretch {
    /// The time before `now` in so many parts, of these points.
    pub(super) fn before(now: Timestamp, whole: Duration, count: u32, points: &[Point]) -> Self {
        let (from, part) = (now.minus(whole), whole / count);
        let mut parts: Vec<Option<Point>> = vec![None; usize::try_from(count).unwrap_or(0)];
        for point in points.iter().filter(|point| point.ended_at > from) {
            let at =
                point.ended_at.since(from).as_millis().saturating_sub(1) / part.as_millis().max(1);
            let Some(slot) = usize::try_from(at).ok().and_then(|at| parts.get_mut(at)) else {
                continue; // the clock was set back: it is from the future
            };
            match slot {
                Some(sum) => sum.add(point),
                None => *slot = Some(point.clone()),
            }
        }
        Self { from, part, parts }
    }

    /// Kinds that add up, as bars.
    pub(super) fn bars(&self, title: &'static str, kinds: &[Kind]) -> Plot {
        let sum = |part: &Point| kinds.iter().filter_map(|kind| (kind.of)(part)).sum::<f64>();
        let top = round_up(self.parts.iter().flatten().map(sum).fold(0.0, f64::max));
        let mut bars = Vec::new();
        for (at, part) in self.parts.iter().enumerate() {
            let Some(part) = part else { continue };
            let mut foot = HEIGHT;
            for kind in kinds {
                let height = (kind.of)(part).unwrap_or(0.0) / top * HEIGHT;
                if height > 0.0 {
                    foot -= height;
                    bars.push(Bar {
                        class: kind.class,
                        x: number(self.x(at) + 0.5),
                        y: number(foot),
                        width: number(self.width() - 1.0),
                        height: number(height),
                    });
                }
            }
        }
        Plot { bars, ..self.empty(title, kinds, count(top), count) }
    }

    /// Kinds that stand beside each other, as lines.
    pub(super) fn lines(
        &self,
        title: &'static str,
        kinds: &[Kind],
        words: fn(f64) -> String,
    ) -> Plot {
        let values = self.parts.iter().flatten();
        let values = values.flat_map(|part| kinds.iter().filter_map(|kind| (kind.of)(part)));
        let top = round_up(values.fold(0.0, f64::max));
        let lines = kinds.iter().map(|kind| {
            let mut path = String::new();
            let mut pen = 'M';
            for (at, part) in self.parts.iter().enumerate() {
                let Some(value) = part.as_ref().and_then(kind.of) else {
                    pen = 'M'; // a gap stays a gap
                    continue;
                };
                let y = HEIGHT - value / top * HEIGHT;
                let (left, right) = (self.x(at), self.x(at) + self.width());
                let (left, right, y) = (number(left), number(right), number(y));
                path.push_str(&format!("{pen}{left} {y}H{right}"));
                pen = 'L';
            }
            Line { class: kind.class, path }
        });
        let lines = lines.collect();
        Plot { lines, ..self.empty(title, kinds, words(top), words) }
    }

    fn empty(
        &self,
        title: &'static str,
        kinds: &[Kind],
        top: String,
        words: fn(f64) -> String,
    ) -> Plot {
        let strip = |(at, part): (usize, &Option<Point>)| {
            let part = part.as_ref()?;
            let value = |kind: &Kind| Some(format!("{} {}", words((kind.of)(part)?), kind.name));
            let values: Vec<String> = kinds.iter().filter_map(value).collect();
            let words = format!("{}: {}", self.time(at), values.join(", "));
            Some(Strip { x: number(self.x(at)), width: number(self.width()), words })
        };
        Plot {
            title,
            top,
            ends: (self.time(0), self.time(self.parts.len())),
            legend: kinds.iter().map(|kind| (kind.class, kind.name)).collect(),
            bars: Vec::new(),
            lines: Vec::new(),
            strips: self.parts.iter().enumerate().filter_map(strip).collect(),
        }
    }

    /// When a part begins, as hours and minutes.
    fn time(&self, at: usize) -> String {
        let after = self.part * u32::try_from(at).unwrap_or(0);
        let time = self.from.plus(after).to_string();
        time.get(11..16).unwrap_or_default().to_owned()
    }

    fn width(&self) -> f64 {
        WIDTH / places(self.parts.len())
    }

    fn x(&self, at: usize) -> f64 {
        self.width() * places(at)
    }
}

fn places(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn number(value: f64) -> String {
    format!("{value:.1}")
}

/// A count as words.
pub(super) fn count(value: f64) -> String {
    format!("{value:.0}")
}

/// A span in seconds as words.
pub(super) fn milliseconds(seconds: f64) -> String {
    match seconds * 1000.0 {
        small if small < 10.0 => format!("{small:.1} ms"),
        large => format!("{large:.0} ms"),
    }
}

/// The next round number: 1, 2 or 5 and zeros.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let unit = 10.0_f64.powf(value.log10().floor());
    let fits = |steps: &&f64| **steps * unit >= value * 0.999_999;
    [1.0, 2.0, 5.0, 10.0].iter().find(fits).map_or(value, |steps| steps * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCEPTED: Kind =
        Kind { class: "good", name: "accepted", of: |point| Some(point.accepted as f64) };

    fn at(seconds: i64, accepted: u64) -> Point {
        Point { ended_at: Timestamp::from_seconds(seconds), accepted, ..Point::default() }
    }

    #[test]
    fn what_happened_falls_into_its_part() {
        let (now, hour) = (Timestamp::from_seconds(7200), Duration::from_hours(1));
        let points = [at(3600, 9), at(3615, 1), at(3660, 2), at(3661, 4), at(7200, 8), at(9000, 9)];
        let stretch = Stretch::before(now, hour, 60, &points);
        let accepted = |part: usize| stretch.parts[part].as_ref().map(|point| point.accepted);
        assert_eq!((accepted(0), accepted(1), accepted(59)), (Some(3), Some(4), Some(8)));
        assert_eq!(accepted(2), None);
        let plot = stretch.bars("Requests", &[ACCEPTED]);
        assert_eq!((plot.bars.len(), &*plot.top), (3, "10"));
        assert_eq!(plot.ends, ("01:00".to_owned(), "02:00".to_owned()));
        assert_eq!(plot.strips[0].words, "01:00: 3 accepted");
    }

    #[test]
    fn the_top_is_a_round_number() {
        for (value, top) in [(0.0, 1.0), (1.0, 1.0), (1.1, 2.0), (30.0, 50.0), (0.003, 0.005)] {
            assert!((round_up(value) - top).abs() < 1e-9, "{value}: {}", round_up(value));
        }
    }
}
