//! What happened, as lines for a reader and as one number for a comparison.
//!
//! In: each event with its time. Out: a hash over all of them, and the lines themselves when they were asked for. Never
//! changes what happens.

use std::fmt::{self, Write as _};

use viaduct_codec::Time;

use crate::START;

/// FNV-1a, 64 bits: one multiplication for a byte, and the same on every machine.
#[derive(Debug)]
struct Hash(u64);

#[derive(Debug)]
pub(crate) struct Trace {
    hash: Hash,
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(crate) fn new(with_lines: bool) -> Self {
        Self { hash: Hash(0xcbf2_9ce4_8422_2325), lines: with_lines.then(Vec::new) }
    }

    pub(crate) fn note(&mut self, now: Time, what: fmt::Arguments<'_>) {
        let ms = now.since(START).as_millis();
        // The hash takes any text, so neither of the two can fail.
        _ = writeln!(self.hash, "{ms} {what}");
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>10}.{:03} {what}", ms / 1000, ms % 1000));
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.0
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}

impl fmt::Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}
