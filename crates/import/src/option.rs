//! What becomes of an option of another broker: the row type of the tables, from which come the notes and the matrix.

use crate::directive::Directive;
use crate::report::Report;

/// One option.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opt {
    /// As it is written there. In VerneMQ's, `$name` is any one part and a last `**` any number of them.
    pub(crate) name: &'static str,
    pub(crate) fate: Fate,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// It becomes this key, or these; and what is not quite the same, if anything.
    Becomes(&'static str, &'static str),
    /// It has no equal.
    Lost {
        /// Values with which nothing is lost.
        harmless: &'static [&'static str],
        why: &'static str,
        advice: &'static str,
    },
    /// It has no equal, and nothing is lost by that.
    Idle(&'static str),
}

/// Shorter tables.
pub(crate) const fn becomes(name: &'static str, ours: &'static str) -> Opt {
    Opt { name, fate: Fate::Becomes(ours, "") }
}

/// [`becomes`], with a difference that is worth a word in the matrix.
pub(crate) const fn nearly(name: &'static str, ours: &'static str, difference: &'static str) -> Opt {
    Opt { name, fate: Fate::Becomes(ours, difference) }
}

pub(crate) const fn lost(
    name: &'static str,
    harmless: &'static [&'static str],
    why: &'static str,
    advice: &'static str,
) -> Opt {
    Opt { name, fate: Fate::Lost { harmless, why, advice } }
}

pub(crate) const fn idle(name: &'static str, why: &'static str) -> Opt {
    Opt { name, fate: Fate::Idle(why) }
}

impl Opt {
    /// Says what is to be said when there is nothing to write for it; true when there is.
    pub(crate) fn is_ours(&self, directive: &Directive, report: &mut Report) -> bool {
        match self.fate {
            Fate::Becomes(..) => return true,
            Fate::Lost { harmless, .. } if harmless.contains(&directive.value.as_str()) => {}
            Fate::Lost { why, advice, .. } => report.act(directive, why, advice),
            Fate::Idle(why) => report.fine(directive, why),
        }
        false
    }
}
