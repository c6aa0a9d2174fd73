//! How durations and sizes are written, and which known name a mistyped one is nearest to.

use std::time::Duration;

/// A duration as it would be written in the file: in the largest unit that divides it.
pub(super) fn written(duration: Duration) -> String {
    const UNITS: [(u128, &str); 5] =
        [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];
    let millis = duration.as_millis();
    let fits = |unit: &&(u128, &str)| millis >= unit.0 && millis.is_multiple_of(unit.0);
    match UNITS.iter().find(fits) {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None => "0s".to_owned(),
    }
}

/// A size as it would be written in the file: in the largest unit that divides it.
pub(super) fn written_size(bytes: usize) -> String {
    match bytes {
        bytes if bytes > 0 && bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        bytes if bytes > 0 && bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        bytes => format!("{bytes}B"),
    }
}

/// The one of `known` that `name` was probably meant to be, if any is near enough.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near_enough = (name.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= near_enough)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many characters must be put in, taken out or changed to make one name the other.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    // One row of the table of distances: from what was read of `left` to each beginning of `right`.
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (read, left) in left.chars().enumerate() {
        let mut next = vec![read + 1];
        let steps = row.iter().zip(row.iter().skip(1)).zip(&right);
        for ((&diagonal, &above), &right) in steps {
            let beside = next.last().copied().unwrap_or(0);
            let changed = diagonal + usize::from(left != right);
            next.push(changed.min(above + 1).min(beside + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_written_in_its_largest_whole_unit() {
        for (millis, text) in [
            (0, "0s"),
            (10, "10ms"),
            (2500, "2500ms"),
            (60_000, "1m"),
            (90_000, "90s"),
            (31 * 86_400_000, "31d"),
        ] {
            assert_eq!(written(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn a_size_is_written_in_its_largest_whole_unit() {
        for (bytes, text) in [(0, "0B"), (1000, "1000B"), (1 << 10, "1KiB"), (64 << 20, "64MiB")] {
            assert_eq!(written_size(bytes), text);
        }
    }

    #[test]
    fn a_mistyped_name_finds_the_one_it_was_meant_to_be() {
        let known = ["secrets", "public_keys", "path", "window"];
        for (typed, meant) in [
            ("secret", Some("secrets")),
            ("public-keys", Some("public_keys")),
            ("widnow", Some("window")),
            ("nothing_like_it", None),
        ] {
            assert_eq!(nearest(typed, known), meant, "{typed}");
        }
    }
}
