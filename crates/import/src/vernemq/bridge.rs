//! One bridge of VerneMQ as ours.
//!
//! Its prefixes are levels: with the prefix `a` the topic `x` is `a/x` there, where mosquitto and ours make `ax` of them. So
//! `a/` is what becomes of `a`.

use crate::address;
use crate::desk::Desk;
use crate::directive::Directive;
use crate::finish;
use crate::output::{BridgeOut, Section, quoted, seconds};
use crate::pem::{self, Kind};
use crate::report::Report;
use crate::topic::{self, Rule};
use crate::value::{flag, number, text, tls_version, wrong};

use super::{Parts, Which};

/// The longest wait that ours can have between two attempts, in seconds.
const LONGEST_WAIT: i64 = 86_400;
/// What stands for an empty prefix.
const EMPTY: &str = "$empty";

/// Adds the bridge that `directive` opens; `running` says whether VerneMQ ran it.
pub(super) fn add(parts: &Parts, which: &Which, directive: &Directive, running: bool, desk: &mut Desk<'_>) {
    let (protocol, name) = which;
    let encrypted = protocol == "ssl";
    let Some(url) = address::url(&directive.value, encrypted, None) else {
        wrong::<()>(directive, "host:port", &mut desk.report);
        return;
    };
    let mut bridge = BridgeOut {
        name: finish::bridge_name(directive, name, desk),
        origin: directive.clone(),
        section: Section::default(),
        tls: Section::default(),
        queue: Section::default(),
        remote: Section::default(),
        topics: Vec::new(),
    };
    bridge.section.set("url", quoted(&url), directive);
    let here: Vec<(&str, &Directive)> = parts
        .bridge_options
        .range((which.clone(), String::new())..)
        .take_while(|((other, _), _)| other == which)
        .filter(|(_, directive)| !directive.value.is_empty())
        .map(|((_, option), directive)| (option.as_str(), directive))
        .collect();
    let find = |option: &str| here.iter().find(|(name, _)| *name == option).map(|(_, directive)| *directive);
    if let Some(directive) = find("psk").or_else(|| find("identity")) {
        bridge.section.set("enabled", "false", directive);
    } else if !running {
        bridge.section.because("enabled", "false", "plugins.vmq_bridge is off");
        desk.report.act(directive, "plugins.vmq_bridge is off, so it does not run", "set enabled = true if it is to");
    }
    for (option, directive) in &here {
        let _ = link(option, directive, &mut bridge, &mut desk.report);
        if encrypted {
            let _ = tls(option, directive, &mut bridge, desk);
        }
    }
    login(find("username"), find("password"), &mut bridge, &mut desk.report);
    if bridge.tls.get("cert_file").is_some() != bridge.tls.get("key_file").is_some() {
        desk.report.wrong(&directive.place, "certfile and keyfile need each other");
    }
    rules(directive, &here, &mut bridge, &mut desk.report);
    if !bridge.topics.is_empty() {
        desk.output.bridges.push(bridge);
    }
}

fn login(username: Option<&Directive>, password: Option<&Directive>, bridge: &mut BridgeOut, report: &mut Report) {
    match (username, password) {
        (None, Some(password)) => {
            let advice = "set username and password";
            report.act(password, "a password needs a user name before 5.0; it is left out", advice);
        }
        (Some(username), password) => {
            bridge.section.set("username", quoted(&username.value), username);
            if let Some(password) = password {
                bridge.section.set("password", quoted(&password.value), password);
            }
        }
        (None, None) => {}
    }
}

/// One option that is about the link as a whole.
fn link(option: &str, directive: &Directive, bridge: &mut BridgeOut, report: &mut Report) -> Option<()> {
    let section = &mut bridge.section;
    match option {
        "mqtt_version" => {
            let level = number(directive, 3, 5, report)?;
            section.set("protocol_version", level.to_string(), directive);
        }
        "try_private" => section.set("try_private", flag(directive, report)?.to_string(), directive),
        "cleansession" => section.set("clean_session", flag(directive, report)?.to_string(), directive),
        "client_id" if directive.value != "auto" => section.set("client_id", quoted(&directive.value), directive),
        "keepalive_interval" => {
            let every = number(directive, 0, 65_535, report)?;
            if every == 0 {
                report.fine(directive, "a silent link is always probed here");
            } else {
                section.set("keepalive", seconds(every), directive);
            }
        }
        "restart_timeout" => {
            let wait = number(directive, 1, i64::MAX, report)?.min(LONGEST_WAIT);
            section.set("reconnect_min", seconds(wait), directive);
            section.set("reconnect_max", seconds(wait), directive);
        }
        "max_outgoing_buffered_messages" => {
            let most = number(directive, 0, i64::MAX, report)?;
            if most == 0 {
                report.fine(directive, "nothing was kept without a link; a bridge always keeps what waits here");
            } else {
                bridge.queue.set("max_messages", most.min(1_000_000_000).to_string(), directive);
            }
        }
        _ => {}
    }
    Some(())
}

/// One option that is about TLS.
fn tls(option: &str, directive: &Directive, bridge: &mut BridgeOut, desk: &mut Desk<'_>) -> Option<()> {
    let (ours, kind) = match option {
        "cafile" => ("ca_file", Kind::Certificates),
        "certfile" => ("cert_file", Kind::Certificates),
        "keyfile" => ("key_file", Kind::Key),
        "capath" => {
            // `cafile` comes before it in the order of the options.
            if bridge.tls.get("ca_file").is_none() {
                let text = pem::gather(directive, &desk.reader.resolve(&directive.value), desk);
                let beside = format!("{}.{}", desk.request.beside, bridge.name);
                let path = finish::side_file(
                    &beside,
                    ".ca.pem",
                    text,
                    "the authorities of a bridge's remote",
                    &mut desk.files,
                );
                bridge.tls.set("ca_file", quoted(&path), directive);
            }
            return Some(());
        }
        "insecure" => {
            if flag(directive, &mut desk.report)? {
                bridge.tls.set("verify", quoted("none"), directive);
                let advice = "set verify = \"full\" and ca_file, so that nobody in between can read and write";
                desk.report.act(directive, "the remote's certificate is not checked at all, as before", advice);
            }
            return Some(());
        }
        "tls_version" => {
            bridge.tls.set("min_version", tls_version(directive, &mut desk.report)?, directive);
            return Some(());
        }
        "sni" => {
            let name = text(directive, &mut desk.report)?;
            if viaduct_config::is_server_name(name) {
                bridge.tls.set("server_name", quoted(name), directive);
            } else {
                let advice = "set server_name if the certificate is for another name than the address";
                desk.report.act(directive, "this is neither a DNS name nor an IP address, and is left out", advice);
            }
            return Some(());
        }
        _ => return None,
    };
    let path = desk.reader.resolve(text(directive, &mut desk.report)?);
    pem::look(directive, &path, kind, desk);
    bridge.tls.set(ours, quoted(&path), directive);
    Some(())
}

/// What it carries, in the order of the numbers.
fn rules(origin: &Directive, here: &[(&str, &Directive)], bridge: &mut BridgeOut, report: &mut Report) {
    let mountpoint =
        here.iter().find(|(option, _)| *option == "mountpoint").map_or("", |(_, directive)| &directive.value);
    let mut numbered = Vec::new();
    for (option, directive) in here {
        let Some(number) = option.strip_prefix("topic.") else { continue };
        match number.parse::<u64>() {
            Ok(number @ 1..=100) => numbered.push((number, *directive)),
            _ => {
                let advice = "add the rule if it is needed";
                report.act(directive, "VerneMQ looks at topic.1 to topic.100 and left it out too", advice);
            }
        }
    }
    numbered.sort_by_key(|(number, _)| *number);
    let rules: Vec<Rule> =
        numbered.into_iter().filter_map(|(_, directive)| rule(directive, mountpoint, report)).collect();
    if rules.is_empty() {
        report.act(origin, "it has no topics and carries nothing, so it is left out", "give it topics first");
    }
    topic::add(bridge, rules, report);
}

/// `pattern [[[in|out|both] qos] local-prefix remote-prefix]`.
fn rule(directive: &Directive, mountpoint: &str, report: &mut Report) -> Option<Rule> {
    const FORM: &str = "pattern [[[in|out|both] qos] local-prefix remote-prefix]";
    let mut words = directive.value.split_whitespace().peekable();
    let filter = words.next().unwrap_or_default().replace('*', "#");
    let (out, inward) = match words.peek().and_then(|word| topic::direction(word)) {
        Some(direction) => {
            words.next();
            direction
        }
        None => (true, false),
    };
    let qos = match words.peek().copied() {
        Some("0") => Some(0),
        Some("1") => Some(1),
        Some("2") => Some(2),
        _ => None,
    };
    if qos.is_some() {
        words.next();
    }
    let (local, remote) = match words.collect::<Vec<_>>().as_slice() {
        [] => ("", ""),
        [local, remote] => (*local, *remote),
        _ => return wrong(directive, FORM, report),
    };
    if filter.is_empty() {
        return wrong(directive, FORM, report);
    }
    for prefix in [local, remote] {
        if prefix.ends_with('/') {
            let why =
                format!("VerneMQ puts '/' behind a prefix, so {prefix:?} makes an empty level, and so it does here");
            report.act(directive, why, "take one '/' away if that was never meant");
        }
    }
    Some(Rule {
        origin: directive.clone(),
        filter,
        out,
        inward,
        qos: qos.unwrap_or(0),
        local_prefix: format!("{}{}", level(mountpoint), level(local)),
        remote_prefix: level(remote),
    })
}

/// A prefix of levels as one of characters.
fn level(prefix: &str) -> String {
    if prefix.is_empty() || prefix == EMPTY { String::new() } else { format!("{prefix}/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<Rule> {
        rule(&Directive::implied("f", "topic.1", value), "", &mut Report::default())
    }

    #[test]
    fn prefixes_are_levels_and_a_star_is_everything_below() {
        let rule = read("a/* both 1 here there/there").unwrap();
        assert_eq!((rule.filter.as_str(), rule.out, rule.inward, rule.qos), ("a/#", true, true, 1));
        assert_eq!((rule.local_prefix.as_str(), rule.remote_prefix.as_str()), ("here/", "there/there/"));
        assert_eq!(read("* in 2 $empty r").unwrap().local_prefix, "");
        assert_eq!(read("* in a/ r").unwrap().local_prefix, "a//", "as VerneMQ has it");
    }

    #[test]
    fn direction_and_qos_may_be_left_out() {
        let rule = read("a").unwrap();
        assert_eq!((rule.out, rule.inward, rule.qos), (true, false, 0));
        let rule = read("a l r").unwrap();
        assert_eq!((rule.local_prefix.as_str(), rule.remote_prefix.as_str()), ("l/", "r/"));
        assert_eq!(read("a in l r").unwrap().qos, 0);
    }

    #[test]
    fn a_mountpoint_is_a_level_too() {
        let directive = Directive::implied("f", "topic.1", "a in 0 l r");
        assert_eq!(rule(&directive, "m", &mut Report::default()).unwrap().local_prefix, "m/l/");
    }

    #[test]
    fn anything_else_is_a_mistake() {
        for bad in ["", "a in 0 one", "a in 0 l r more", "a in 3"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
