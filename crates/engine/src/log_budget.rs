//! How many lines about clients a worker may log: each of them is worth one, and a flood of them is not.
//!
//! In: that there is something to say, and when. Out: whether to say it, with how many went unsaid before. What goes unsaid is
//! still counted in the metrics.

use viaduct_codec::Time;

use crate::limits::{LOG_LINES, LOG_WINDOW};

/// The budget of one worker.
#[derive(Debug, Default)]
pub(crate) struct LogBudget {
    since: Time,
    lines: u32,
    left_out: u64,
}

impl LogBudget {
    /// Calls `say` with the number of lines that were left out since the last one, if there is budget for it.
    pub(crate) fn line(&mut self, now: Time, say: impl FnOnce(u64)) {
        if now.since(self.since) >= LOG_WINDOW {
            self.since = now;
            self.lines = 0;
        }
        if self.lines >= LOG_LINES {
            self.left_out += 1;
            return;
        }
        self.lines += 1;
        say(std::mem::take(&mut self.left_out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_what_was_left_out_is_said_with_the_next_line() {
        let mut log = LogBudget::default();
        let start = Time::from_millis(1_000_000);
        let mut said = Vec::new();
        for _ in 0..LOG_LINES + 7 {
            log.line(start, |more| said.push(more));
        }
        assert_eq!(said.len(), usize::try_from(LOG_LINES).unwrap());
        log.line(start.after(LOG_WINDOW), |more| said.push(more));
        assert_eq!(said.last(), Some(&7));
    }
}
