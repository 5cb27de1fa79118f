//! Durations and sizes as text.
//!
//! In: `"30s"`, `"1MiB"`. Out: milliseconds and bytes, and back for messages. Must never: round or overflow silently.

use std::time::Duration;

/// Longest first where one ends like another.
const DURATIONS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// A duration such as `"1h30m"`; `None` when it is not that.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    to_duration(text).map(Duration::from_millis)
}

/// A size such as `"64KiB"`, or whole bytes; `None` when it is not that.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    text.parse().ok().or_else(|| to_bytes(text))
}

/// Milliseconds in `text`: whole numbers with the units ms, s, m, h, d, largest unit first, each once (`"1m30s"`).
/// `None` when it is not that or does not fit.
pub(crate) fn to_duration(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut total: u64 = 0;
    let mut smallest = u64::MAX;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let (_, factor) = DURATIONS.into_iter().find(|(name, _)| *name == unit)?;
        if factor >= smallest {
            return None;
        }
        smallest = factor;
        total = total.checked_add(number.checked_mul(factor)?)?;
        rest = next;
    }
    Some(total)
}

/// Bytes in `text`: a whole number and a unit, a space between them allowed. `None` when it is not that.
pub(crate) fn to_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text.trim())?;
    let unit = unit.trim_start();
    let (_, factor) = SIZES.into_iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(factor)
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    Some((number.parse().ok()?, rest))
}

/// Milliseconds in the largest unit that divides them.
pub(crate) fn show_duration(milliseconds: u64) -> String {
    if milliseconds == 0 {
        return "\"0s\"".into();
    }
    let (unit, factor) =
        DURATIONS.into_iter().rev().find(|(_, factor)| milliseconds.is_multiple_of(*factor)).unwrap_or(("ms", 1));
    format!("\"{}{unit}\"", milliseconds / factor)
}

/// Bytes in the largest binary unit that divides them.
pub(crate) fn show_size(bytes: u64) -> String {
    let (unit, factor) = SIZES
        .into_iter()
        .find(|(name, factor)| {
            (name.contains('i') || *name == "B") && bytes.is_multiple_of(*factor) && bytes >= *factor
        })
        .unwrap_or(("B", 1));
    format!("\"{}{unit}\"", bytes / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_units() {
        let good = [
            ("30s", 30_000),
            ("500ms", 500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
            ("1m30s", 90_000),
            ("1h0m1ms", 3_600_001),
            ("0s", 0),
            (" 5s ", 5_000),
        ];
        for (text, milliseconds) in good {
            assert_eq!(to_duration(text), Some(milliseconds), "{text}");
        }
        for text in
            ["", "30", "s", "1.5s", "-1s", "1 s", "1S", "30s1m", "1s1s", "1x", "1sec", "99999999999999999999s", "½s"]
        {
            assert_eq!(to_duration(text), None, "{text}");
        }
        assert_eq!(to_duration("18446744073709551615d"), None);
    }

    #[test]
    fn sizes_are_a_whole_number_with_a_unit() {
        let good = [
            ("1MiB", 1 << 20),
            ("64KiB", 65_536),
            ("1MB", 1_000_000),
            ("512B", 512),
            ("2 GiB", 2 << 30),
            ("0B", 0),
            ("3TB", 3_000_000_000_000),
        ];
        for (text, bytes) in good {
            assert_eq!(to_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "1", "MiB", "1.5MiB", "-1B", "1mb", "1M", "1MiBs", "18446744073709551615KiB"] {
            assert_eq!(to_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for milliseconds in [0, 1, 999, 1_000, 90_000, 86_400_000, 65_535_000] {
            assert_eq!(to_duration(show_duration(milliseconds).trim_matches('"')), Some(milliseconds));
        }
        for bytes in [1, 1_000, 1_024, 268_435_460, 1 << 50] {
            assert_eq!(to_bytes(show_size(bytes).trim_matches('"')), Some(bytes));
        }
    }
}
