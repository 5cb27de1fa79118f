//! The topic rules of a bridge: those of both brokers, taken apart, as ours.
//!
//! In: [`Rule`]s with string prefixes. Out: tables of the bridge that our check takes; what it would refuse is left out and
//! noted. Must never: carry a message where the other broker did not.

use std::collections::HashSet;

use viaduct_codec::TopicFilter;

use crate::directive::Directive;
use crate::output::{BridgeOut, Section, quoted};
use crate::report::Report;

/// Rules that one bridge may have.
const RULES: usize = 10_000;

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) origin: Directive,
    pub(crate) filter: String,
    pub(crate) out: bool,
    pub(crate) inward: bool,
    pub(crate) qos: u8,
    pub(crate) local_prefix: String,
    pub(crate) remote_prefix: String,
}

/// The direction of a rule, as both brokers write it.
pub(crate) fn direction(word: &str) -> Option<(bool, bool)> {
    match word {
        "out" => Some((true, false)),
        "in" => Some((false, true)),
        "both" => Some((true, true)),
        _ => None,
    }
}

/// Adds `rules` to `bridge`.
pub(crate) fn add(bridge: &mut BridgeOut, rules: Vec<Rule>, report: &mut Report) {
    let mut kept: Vec<Rule> = Vec::new();
    let mut taken = Taken::default();
    for rule in rules {
        if let Some(rule) = fit(rule, &mut taken, report) {
            kept.push(rule);
        }
        if kept.len() >= RULES {
            report.act(&bridge.origin, format!("it has more than {RULES} rules"), "make bridges of fewer rules");
            break;
        }
    }
    let same_name = |rule: &&Rule| rule.local_prefix == rule.remote_prefix;
    // Nothing at the remote holds back what the bridge published: a fixed 3.x level without the private bit.
    let is_unprotected = bridge.section.get("try_private") == Some("false")
        && matches!(bridge.section.get("protocol_version"), Some("3" | "4"));
    let loops = is_unprotected
        && kept.iter().filter(same_name).any(|rule| rule.out)
        && kept.iter().filter(same_name).any(|rule| rule.inward);
    if loops {
        report.act(
            &bridge.origin,
            "its rules go both ways with a fixed level and without try_private: allow_loop is set, as it ran before",
            "remove protocol_version and allow_loop, so that 5.0 or the private bit keeps messages from coming back",
        );
    }
    for rule in kept {
        let allow_loop = loops && rule.local_prefix == rule.remote_prefix;
        let direction = match (rule.out, rule.inward) {
            (true, true) => "both",
            (true, false) => "out",
            (false, _) => "in",
        };
        bridge.topics.push(section(&rule, direction, allow_loop));
    }
}

fn section(rule: &Rule, direction: &'static str, allow_loop: bool) -> Section {
    let mut section = Section::default();
    section.set("filter", quoted(&rule.filter), &rule.origin);
    section.because("direction", quoted(direction), "");
    section.because("qos", rule.qos.to_string(), "");
    if !rule.local_prefix.is_empty() {
        section.because("local_prefix", quoted(&rule.local_prefix), "");
    }
    if !rule.remote_prefix.is_empty() {
        section.because("remote_prefix", quoted(&rule.remote_prefix), "");
    }
    if allow_loop {
        section.because("allow_loop", "true", "");
    }
    section
}

/// The filters that a bridge subscribes to already, on either side.
#[derive(Debug, Default)]
struct Taken {
    local: HashSet<String>,
    remote: HashSet<String>,
}

/// The rule, or as much of it as can be one of ours beside those that took their filters.
fn fit(mut rule: Rule, taken: &mut Taken, report: &mut Report) -> Option<Rule> {
    let origin = rule.origin.clone();
    if let Err((why, advice)) = whole(&rule) {
        report.act(&origin, format!("{why}; the rule is left out"), advice);
        return None;
    }
    let local = format!("{}{}", rule.local_prefix, rule.filter);
    let remote = format!("{}{}", rule.remote_prefix, rule.filter);
    let is_sys = |filter: &str| filter == "$SYS" || filter.starts_with("$SYS/");
    let sys = "would write into $SYS, which belongs to each broker itself; it is left out";
    if rule.out && is_sys(&remote) {
        rule.out = false;
        report.act(
            &origin,
            format!("the way out {sys}"),
            "add a rule with a remote_prefix that makes another topic of it",
        );
    }
    if rule.inward && is_sys(&local) {
        rule.inward = false;
        report.act(
            &origin,
            format!("the way in {sys}"),
            "add a rule with a local_prefix that makes another topic of it",
        );
    }
    let twice = |way: &str, filter: &str| {
        (
            format!("the way {way} subscribes to {filter:?} once more, which is the same subscription; it is left out"),
            "if it goes to another place than the first, give it a bridge of its own",
        )
    };
    if rule.out && !taken.local.insert(local.clone()) {
        rule.out = false;
        let (why, advice) = twice("out", &local);
        report.act(&origin, why, advice);
    }
    if rule.inward && !taken.remote.insert(remote.clone()) {
        rule.inward = false;
        let (why, advice) = twice("in", &remote);
        report.act(&origin, why, advice);
    }
    (rule.out || rule.inward).then_some(rule)
}

/// What makes the whole rule impossible, and what to do.
fn whole(rule: &Rule) -> Result<(), (String, &'static str)> {
    let Rule { filter, local_prefix, remote_prefix, .. } = rule;
    for text in [filter, local_prefix, remote_prefix] {
        if text == "$share" || text.starts_with("$share/") {
            let why = "a bridge has no shared subscriptions: every message goes across once".to_owned();
            return Err((why, "add a rule without $share/NAME/"));
        }
    }
    if local_prefix.contains(['+', '#']) || remote_prefix.contains(['+', '#']) {
        return Err(("a prefix has no wildcards".to_owned(), "put them into the filter"));
    }
    if filter.is_empty() && (local_prefix.is_empty() || remote_prefix.is_empty()) {
        return Err(("an empty topic needs both prefixes".to_owned(), "add a rule with a topic"));
    }
    for prefix in [local_prefix, remote_prefix] {
        let whole = format!("{prefix}{filter}");
        if let Err(error) = TopicFilter::new(&whole) {
            return Err((format!("{whole:?} is no topic filter: {error}"), "correct it and add the rule"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(filter: &str, way: &str, local: &str, remote: &str) -> Rule {
        let (out, inward) = direction(way).unwrap();
        Rule {
            origin: Directive::implied("f", "topic", ""),
            filter: filter.into(),
            out,
            inward,
            qos: 1,
            local_prefix: local.into(),
            remote_prefix: remote.into(),
        }
    }

    fn fitted(rules: &[Rule]) -> (Vec<Rule>, usize) {
        let mut report = Report::default();
        let mut taken = Taken::default();
        let kept = rules.iter().filter_map(|rule| fit(rule.clone(), &mut taken, &mut report)).collect();
        (kept, report.into_notes().len())
    }

    #[test]
    fn good_rules_stay_as_they_are() {
        let rules = [rule("a/#", "both", "", ""), rule("", "out", "x/y", "z"), rule("#", "in", "$SYS-of/", "")];
        assert_eq!(fitted(&rules), (rules.to_vec(), 0));
    }

    #[test]
    fn what_our_check_would_refuse_is_left_out() {
        for bad in [
            rule("$share/g/a", "in", "", ""),
            rule("a", "out", "+/", ""),
            rule("", "out", "x", ""),
            rule("a#", "out", "", ""),
            rule("x", "out", "", "$SYS/"),
            rule("$SYS/#", "in", "", ""),
        ] {
            assert_eq!(fitted(std::slice::from_ref(&bad)), (Vec::new(), 1), "{bad:?}");
        }
        let (kept, notes) = fitted(&[rule("$SYS/#", "both", "", "from/")]);
        assert_eq!((kept.len(), notes), (1, 1));
        assert!(kept[0].out && !kept[0].inward, "out to from/$SYS/# is fine, in to $SYS is not");
    }

    #[test]
    fn a_filter_is_subscribed_to_once() {
        let (kept, notes) = fitted(&[rule("a", "both", "", ""), rule("a", "both", "", "r/"), rule("b", "out", "", "")]);
        assert_eq!((kept.len(), notes), (3, 1));
        assert!(!kept[1].out && kept[1].inward, "{kept:?}");
    }
}
