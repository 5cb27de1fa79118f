//! The tables of `tests/vectors`, read; the format is in their README.
#![allow(dead_code, reason = "each test file that includes this uses a part of it")]

use viaduct_codec::Version;

/// The limit that the tables assume.
pub(crate) const MAX_PACKET_SIZE: u32 = 1000;

/// One line of a table.
pub(crate) struct Vector {
    /// The table, the line number and the line, for messages.
    pub(crate) place: String,
    /// The first column.
    pub(crate) version: Version,
    /// The second column.
    pub(crate) bytes: Vec<u8>,
    /// The third column.
    pub(crate) verdict: String,
}

/// Every line of every table.
pub(crate) fn vectors() -> Vec<Vector> {
    let tables = [
        ("mqtt31.txt", include_str!("../vectors/mqtt31.txt")),
        ("mqtt311.txt", include_str!("../vectors/mqtt311.txt")),
        ("mqtt5.txt", include_str!("../vectors/mqtt5.txt")),
    ];
    let mut all = Vec::new();
    for (table, text) in tables {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
            let place = format!("{table}:{}: {line}", number + 1);
            let columns: Vec<&str> = line.split(" | ").collect();
            let [version, bytes, verdict, clause] = columns[..] else { panic!("four columns: {place}") };
            assert!(!clause.trim().is_empty(), "a clause: {place}");
            let version = match version {
                "3.1" => Version::V31,
                "3.1.1" => Version::V311,
                "5.0" => Version::V5,
                _ => panic!("a version: {place}"),
            };
            all.push(Vector { version, bytes: hex(bytes, &place), verdict: verdict.to_owned(), place });
        }
    }
    all
}

/// Hexadecimal with blanks.
pub(crate) fn hex(text: &str, place: &str) -> Vec<u8> {
    let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    assert!(digits.len().is_multiple_of(2), "whole bytes: {place}");
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect(place)).collect()
}
