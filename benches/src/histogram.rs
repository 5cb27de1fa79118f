//! Latencies: in come nanoseconds, out go percentiles that are at most a sixteenth too high.

/// Bits of a value that are kept.
const BITS: u32 = 4;

/// Counts by the first bits of the value and its length.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; (64 << BITS) as usize], total: 0 }
    }

    pub(crate) fn add(&mut self, value: u64) {
        let place = if value < 1 << BITS {
            value as usize
        } else {
            let shift = value.ilog2() - BITS;
            ((u64::from(shift + 1) << BITS) + (value >> shift) - (1 << BITS)) as usize
        };
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
            self.total += 1;
        }
    }

    /// The value that `share` (0 to 1) of all values do not exceed; 0 without values.
    pub(crate) fn percentile(&self, share: f64) -> u64 {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && *count > 0 {
                return upper_end(place as u64);
            }
        }
        0
    }
}

fn upper_end(place: u64) -> u64 {
    if place < 1 << BITS {
        return place;
    }
    let shift = (place >> BITS) - 1;
    let first = (place & ((1 << BITS) - 1)) + (1 << BITS);
    ((first + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_at_most_a_sixteenth_too_high() {
        let mut histogram = Histogram::new();
        (1..=100_000_u64).for_each(|value| histogram.add(value));
        for share in [0.5, 0.99, 0.999] {
            let exact = 100_000.0 * share;
            let got = histogram.percentile(share) as f64;
            assert!(got >= exact && got <= exact * (1.0 + 1.0 / 16.0), "{share}: {got}");
        }
        assert_eq!(Histogram::new().percentile(0.5), 0);
    }
}
