//! One `connection` of mosquitto as a bridge of ours.

use crate::address;
use crate::desk::Desk;
use crate::directive::Directive;
use crate::finish;
use crate::output::{BridgeOut, Section, list, quoted, seconds};
use crate::pem::{self, Kind};
use crate::report::Report;
use crate::topic::{self, Rule};
use crate::value::{flag, number, text, tls_version, words, wrong};

use super::Block;

/// The longest wait that ours can have between two attempts, in seconds.
const LONGEST_WAIT: i64 = 86_400;

/// The bounds of `bridge.remote.max_packet_size`, in bytes.
const SMALLEST_PACKET: i64 = 64;
const LARGEST_PACKET: i64 = 268_435_460;

/// Adds the bridge of `block`.
pub(super) fn add(block: &Block, desk: &mut Desk<'_>) {
    if block.opens.value.is_empty() {
        return desk.report.wrong(&block.opens.place, "connection: it needs a name");
    }
    let mut bridge = BridgeOut {
        name: finish::bridge_name(&block.opens, &block.opens.value, desk),
        origin: block.opens.clone(),
        section: Section::default(),
        tls: Section::default(),
        queue: Section::default(),
        remote: Section::default(),
        topics: Vec::new(),
    };
    let encrypted = tls(block, &mut bridge, desk);
    if urls(block, encrypted, &mut bridge, &mut desk.report).is_none() {
        return;
    }
    let speaks_5 = block.last("bridge_protocol_version").is_none_or(|directive| directive.value == "mqttv50");
    for directive in &block.options {
        if directive.name == "bridge_session_expiry_interval" && !speaks_5 {
            desk.report.fine(directive, "before 5.0 there is none, as before");
            continue;
        }
        link(directive, &mut bridge, &mut desk.report);
    }
    if let (None, Some(directive)) = (bridge.section.get("username"), password(block)) {
        desk.report.act(
            directive,
            "a password needs a user name before 5.0; it is left out",
            "set username and password",
        );
    } else if let Some(directive) = password(block) {
        bridge.section.set("password", quoted(&directive.value), directive);
    }
    rules(block, &mut bridge, &mut desk.report);
    if !bridge.topics.is_empty() {
        desk.output.bridges.push(bridge);
    }
}

fn password(block: &Block) -> Option<&Directive> {
    block.options.iter().rev().find(|directive| matches!(directive.name.as_str(), "password" | "remote_password"))
}

/// Whom it dials; `None` when nobody.
fn urls(block: &Block, encrypted: bool, bridge: &mut BridgeOut, report: &mut Report) -> Option<()> {
    let mut urls = Vec::new();
    let mut last = None;
    for directive in block.options.iter().filter(|directive| matches!(directive.name.as_str(), "address" | "addresses"))
    {
        last = Some(directive);
        for word in directive.value.split_whitespace() {
            // 1883 with TLS too: mosquitto has one default port.
            match address::url(word, encrypted, Some(1883)) {
                // Twice the same is once: it is tried again with the next round.
                Some(url) if urls.contains(&url) => {
                    report.fine(directive, format!("{word} is named twice, and each address is tried once in a round"));
                }
                Some(url) => urls.push(url),
                None => return wrong(directive, "host[:port] ...", report),
            }
        }
    }
    let Some(directive) = last.filter(|_| !urls.is_empty()) else {
        report.wrong(&block.opens.place, "connection: it has no address");
        return None;
    };
    let value = match urls.as_slice() {
        [only] => quoted(only),
        _ => list(&urls),
    };
    bridge.section.set("url", value, directive);
    Some(())
}

/// Its TLS; whether there is any.
fn tls(block: &Block, bridge: &mut BridgeOut, desk: &mut Desk<'_>) -> bool {
    let shared_key = block.last("bridge_psk").or_else(|| block.last("bridge_identity"));
    if let Some(directive) = shared_key {
        bridge.section.set("enabled", "false", directive);
        return true;
    }
    let public =
        block.last("bridge_tls_use_os_certs").filter(|directive| flag(directive, &mut desk.report).unwrap_or(false));
    let authorities = block.last("bridge_cafile").or_else(|| block.last("bridge_capath"));
    if public.is_none() && authorities.is_none() {
        let others = ["bridge_certfile", "bridge_keyfile", "bridge_insecure", "bridge_alpn", "bridge_tls_version"];
        if let Some(directive) = others.iter().find_map(|name| block.last(name)) {
            let why = "without bridge_cafile, bridge_capath or bridge_tls_use_os_certs there is no TLS, as before";
            desk.report.act(directive, why, "write mqtts:// in url and ca_file in [bridge.tls]");
        }
        return false;
    }
    for (name, ours, kind) in [
        ("bridge_cafile", "ca_file", Kind::Certificates),
        ("bridge_certfile", "cert_file", Kind::Certificates),
        ("bridge_keyfile", "key_file", Kind::Key),
    ] {
        let Some(directive) = block.last(name) else { continue };
        let Some(path) = text(directive, &mut desk.report).map(|path| desk.reader.resolve(path)) else { continue };
        pem::look(directive, &path, kind, desk);
        bridge.tls.set(ours, quoted(&path), directive);
    }
    if let (None, Some(directive)) = (bridge.tls.get("ca_file"), block.last("bridge_capath")) {
        let text = pem::gather(directive, &desk.reader.resolve(&directive.value), desk);
        let beside = format!("{}.{}", desk.request.beside, bridge.name);
        let path = finish::side_file(&beside, ".ca.pem", text, "the authorities of a bridge's remote", &mut desk.files);
        bridge.tls.set("ca_file", quoted(&path), directive);
    }
    if bridge.tls.get("cert_file").is_some() != bridge.tls.get("key_file").is_some() {
        desk.report.wrong(&block.opens.place, "bridge_certfile and bridge_keyfile need each other");
    }
    if let Some(directive) = block.last("bridge_insecure")
        && flag(directive, &mut desk.report) == Some(true)
    {
        bridge.tls.set("verify", quoted("ca"), directive);
    }
    if let Some(directive) = block.last("bridge_alpn")
        && let Some(protocol) = text(directive, &mut desk.report)
    {
        if protocol.len() > 255 {
            desk.report.wrong(&directive.place, "bridge_alpn has more than 255 bytes");
        } else {
            bridge.tls.set("alpn", list([protocol]), directive);
        }
    }
    if let Some(directive) = block.last("bridge_tls_version")
        && let Some(version) = tls_version(directive, &mut desk.report)
    {
        bridge.tls.set("min_version", version, directive);
    }
    true
}

/// One line that is about the link as a whole.
fn link(directive: &Directive, bridge: &mut BridgeOut, report: &mut Report) -> Option<()> {
    let BridgeOut { section, remote, .. } = bridge;
    match directive.name.as_str() {
        "bridge_protocol_version" => {
            let level = match directive.value.as_str() {
                "mqttv31" => "3",
                "mqttv311" => "4",
                "mqttv50" => "5",
                _ => return wrong(directive, "mqttv31, mqttv311 or mqttv50", report),
            };
            section.set("protocol_version", level, directive);
        }
        "try_private" => section.set("try_private", flag(directive, report)?.to_string(), directive),
        "cleansession" => section.set("clean_session", flag(directive, report)?.to_string(), directive),
        "notifications" => section.set("notifications", flag(directive, report)?.to_string(), directive),
        "clientid" | "remote_clientid" => section.set("client_id", quoted(text(directive, report)?), directive),
        "username" | "remote_username" => section.set("username", quoted(text(directive, report)?), directive),
        "keepalive_interval" => {
            section.set("keepalive", seconds(number(directive, 5, 65_535, report)?), directive);
        }
        "bridge_bind_address" => match address::ip(text(directive, report)?) {
            Some(ip) => section.set("bind_address", quoted(&ip.to_string()), directive),
            None => report.act(
                directive,
                "a bridge dials from an address, and this is a name or a device; the system chooses",
                "set bridge.bind_address to an IP address of this machine",
            ),
        },
        "bridge_session_expiry_interval" => {
            let value = match directive.value.to_ascii_lowercase().as_str() {
                "0xffffffff" | "4294967295" => quoted("never"),
                _ => seconds(number(directive, 0, 4_294_967_294, report)?),
            };
            section.set("session_expiry", value, directive);
        }
        "bridge_max_packet_size" => {
            if let most @ 1.. = number(directive, 0, LARGEST_PACKET, report)? {
                remote.set("max_packet_size", most.max(SMALLEST_PACKET).to_string(), directive);
            }
        }
        "bridge_attempt_unsubscribe" => remote.set("unsubscribe", flag(directive, report)?.to_string(), directive),
        "bridge_outgoing_retain" => remote.set("retain", flag(directive, report)?.to_string(), directive),
        "restart_timeout" => {
            let numbers: Vec<i64> = directive.value.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            let (shortest, longest) = match *numbers.as_slice() {
                [only] => (only, only),
                [base, cap] | [base, cap, _] => (base, cap),
                _ => return wrong(directive, "seconds, or the shortest and the longest", report),
            };
            if shortest < 1 || longest < shortest {
                return wrong(directive, "at least 1, and the longest not shorter than the shortest", report);
            }
            section.set("reconnect_min", seconds(shortest.min(LONGEST_WAIT)), directive);
            section.set("reconnect_max", seconds(longest.min(LONGEST_WAIT)), directive);
        }
        _ => {}
    }
    Some(())
}

/// What it carries.
fn rules(block: &Block, bridge: &mut BridgeOut, report: &mut Report) {
    let rules: Vec<Rule> = block
        .options
        .iter()
        .filter(|directive| directive.name == "topic")
        .filter_map(|directive| rule(directive, report))
        .collect();
    if rules.is_empty() {
        report.act(&block.opens, "it has no topics and carries nothing, so it is left out", "give it topics first");
    }
    if let Some(directive) = block.last("notifications_local_only")
        && flag(directive, report) == Some(true)
    {
        bridge.section.set("notifications", "false", directive);
    }
    topic::add(bridge, rules, report);
}

/// `pattern [direction [qos [local-prefix [remote-prefix]]]]`; prefixes are strings, and `""` is none.
fn rule(directive: &Directive, report: &mut Report) -> Option<Rule> {
    const FORM: &str = "pattern [in|out|both [qos [local-prefix [remote-prefix]]]]";
    let Some(words) = words(&directive.value).filter(|words| (1..=5).contains(&words.len())) else {
        return wrong(directive, FORM, report);
    };
    let word = |index: usize| words.get(index).map(String::as_str);
    let Some((out, inward)) = topic::direction(word(1).unwrap_or("out")) else {
        return wrong(directive, FORM, report);
    };
    let qos = match word(2).unwrap_or("0") {
        "0" => 0,
        "1" => 1,
        "2" => 2,
        _ => return wrong(directive, FORM, report),
    };
    Some(Rule {
        origin: directive.clone(),
        filter: word(0).unwrap_or_default().to_owned(),
        out,
        inward,
        qos,
        local_prefix: word(3).unwrap_or_default().to_owned(),
        remote_prefix: word(4).unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<Rule> {
        rule(&Directive::implied("f", "topic", value), &mut Report::default())
    }

    #[test]
    fn prefixes_are_strings() {
        let rule = read("a/# both 1 here there/").unwrap();
        assert_eq!((rule.filter.as_str(), rule.out, rule.inward, rule.qos), ("a/#", true, true, 1));
        assert_eq!((rule.local_prefix.as_str(), rule.remote_prefix.as_str()), ("here", "there/"));
        let rule = read("# in 2 \"\" r/").unwrap();
        assert_eq!((rule.local_prefix.as_str(), rule.remote_prefix.as_str()), ("", "r/"));
    }

    #[test]
    fn what_is_not_written_is_out_at_qos_0() {
        let rule = read("a").unwrap();
        assert_eq!((rule.out, rule.inward, rule.qos), (true, false, 0));
        assert!(rule.local_prefix.is_empty() && rule.remote_prefix.is_empty());
    }

    #[test]
    fn anything_else_is_a_mistake() {
        for bad in ["", "a sideways", "a out 3", "a out 0 l r more", "\"a"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
