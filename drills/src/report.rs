//! What a drill says.

use std::fmt;
use std::time::Duration;

use crate::judge::{Breach, Promise, counted};

/// How many broken promises are told one by one.
const TOLD: usize = 25;

/// What came of a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was as it must be.
    Passed,
    /// It was not, and what was not has been printed.
    Failed,
    /// It can't run here, and why.
    Skipped(String),
}

impl Outcome {
    pub(crate) const fn of(is_good: bool) -> Self {
        if is_good { Self::Passed } else { Self::Failed }
    }
}

/// Numbers over all rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) rounds: u32,
    pub(crate) acknowledged: u64,
    pub(crate) arrivals: u64,
    pub(crate) crossings: u64,
    pub(crate) slowest_start: Duration,
    pub(crate) breaches: Vec<Breach>,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = counted(&self.breaches);
        let count = |promise: Promise| counts.get(&promise).copied().unwrap_or(0);
        let Self { rounds, acknowledged, arrivals, crossings, .. } = self;
        write!(f, "{rounds} rounds, {acknowledged} messages acknowledged, {arrivals} deliveries")?;
        if *crossings > 0 {
            write!(f, " ({crossings} of them over the bridge)")?;
        }
        f.write_str(": ")?;
        write!(
            f,
            "{} lost, {} doubled, {} out of order; ",
            count(Promise::Lost),
            count(Promise::Doubled),
            count(Promise::Order)
        )?;
        write!(
            f,
            "{} retained, {} wills, {} sessions, ",
            count(Promise::Retained),
            count(Promise::Will),
            count(Promise::Session)
        )?;
        write!(f, "{} unasked, {} of the protocol, ", count(Promise::Unasked), count(Promise::Protocol))?;
        write!(f, "{} store checks wrong; slowest start {} ms", count(Promise::Check), self.slowest_start.as_millis())
    }
}

/// Prints broken promises, the first of each kind at least.
pub(crate) fn tell(breaches: &[Breach]) {
    let mut told = std::collections::BTreeMap::new();
    for Breach { promise, what } in breaches {
        let count = told.entry(*promise).or_insert(0_usize);
        *count += 1;
        if *count <= TOLD {
            println!("  {promise:?}: {what}");
        }
    }
    for (promise, count) in told.into_iter().filter(|(_, count)| *count > TOLD) {
        println!("  {promise:?}: {} more", count - TOLD);
    }
}
