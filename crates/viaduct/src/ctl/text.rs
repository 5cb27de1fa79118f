//! Answers as people read them: words, tables, times.
//!
//! In: JSON. Out: text without control characters, whatever a client called itself.

use std::fmt;

use serde_json::Value;

use crate::{Failure, say};

/// Columns that are as wide as their widest cell.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let wide = |cell: &String| cell.chars().count();
        let width =
            |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(wide).max().unwrap_or_default();
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (index, row) in self.rows.iter().enumerate() {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            let line = cells.join("  ");
            let end = if index + 1 < self.rows.len() { "\n" } else { "" };
            write!(f, "{}{end}", line.trim_end())?;
        }
        Ok(())
    }
}

/// One value as a word; `-` when there is none.
pub(super) fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => plain(text),
        Value::Array(_) => texts(value).join(", "),
        other => other.to_string(),
    }
}

/// Each item of a list as a word.
pub(super) fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(word).collect()
}

/// On one line, without what a terminal would obey.
fn plain(text: &str) -> String {
    let harmless = |character: char| match character {
        '\n' => ' ',
        character if character.is_control() => char::REPLACEMENT_CHARACTER,
        character => character,
    };
    text.chars().map(harmless).collect()
}

/// At most `most` characters of it.
pub(super) fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most.saturating_sub(3)).collect();
    short.push_str("...");
    short
}

/// How long, by its two largest units.
pub(super) fn duration(seconds: &Value) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let Some(seconds) = seconds.as_f64() else { return "-".to_owned() };
    if seconds < 0.0 {
        return format!("-{}", duration(&(-seconds).into()));
    }
    if seconds < 10.0 {
        return format!("{seconds:.1}s");
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is for people")]
    let whole = seconds as u64;
    let first = UNITS.iter().position(|(_, unit)| whole >= *unit).unwrap_or(UNITS.len() - 1);
    let mut left = whole;
    let mut words = String::new();
    for (name, unit) in UNITS.iter().skip(first).take(2) {
        if left / unit > 0 {
            words.push_str(&format!("{}{name}", left / unit));
        }
        left %= unit;
    }
    words
}

/// A number that need not be exact.
pub(super) fn rate(value: &Value) -> String {
    match value.as_f64() {
        None => "-".to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(rate) if rate < 10.0 => format!("{rate:.2}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

/// `1 message`, `2 messages`.
pub(super) fn count(value: &Value, what: &str) -> String {
    match value.as_u64().unwrap_or_default() {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

/// Says how to go on when a list has more than was asked for.
pub(super) fn more(answer: &Value) -> Result<(), Failure> {
    match answer["next"].as_str() {
        // As it is, to be given back, but for what a terminal would obey.
        Some(next) => say(&format!("there may be more: --after {:?}", plain(next))),
        None => Ok(()),
    }
}

/// What is wrong with one value, and what to do about it.
pub(super) fn finding(finding: &Value) -> String {
    let mut words = format!("{}: {}", word(&finding["path"]), word(&finding["detail"]));
    if finding["place"].is_string() {
        words.push_str(&format!(" [{}]", word(&finding["place"])));
    }
    if finding["suggestion"].is_string() {
        words.push_str(&format!(" ({})", word(&finding["suggestion"])));
    }
    words
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_is_obeyed() {
        let mut table = Table::new(&["A", "LONGER", "C"]);
        table.row([word(&json!("x\u{1b}[2J")), word(&json!(5)), word(&Value::Null)]);
        table.row([word(&json!("much longer")), word(&json!(true)), String::new()]);
        assert_eq!(table.to_string(), "A            LONGER  C\nx\u{fffd}[2J        5       -\nmuch longer  yes");
    }

    #[test]
    fn durations_have_two_units() {
        for (seconds, words) in [
            (0.25, "0.2s"),
            (59.9, "59s"),
            (60.0, "1m"),
            (3_725.0, "1h2m"),
            (90_000.0, "1d1h"),
            (86_400.0, "1d"),
            (-61.0, "-1m1s"),
        ] {
            assert_eq!(duration(&json!(seconds)), words);
        }
        assert_eq!(duration(&Value::Null), "-");
    }
}
