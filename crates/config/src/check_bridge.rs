//! What does not go together inside one bridge: its login, its TLS, its topic rules.
//!
//! In: a bridge as it is read, and the reader that knows the places. Out: findings. Must never: let a rule through whose
//! filters are not valid on both sides, or that would carry messages round without an end.

use viaduct_codec::TopicFilter;

use crate::error::Problem;
use crate::model::{Bridge, BridgeTopic, BridgeVersion, Direction, Verify};
use crate::reader::{At, Reader};

/// A string on the wire has two bytes of length.
const STRING_MAX: usize = 65_535;

/// Everything but the topic rules.
pub(crate) fn bridge(reader: &mut Reader, at: &At<'_>, bridge: &Bridge) {
    if bridge.reconnect_min > bridge.reconnect_max {
        let involved = [at.key("reconnect_max")];
        let message = format!(
            "reconnect_min ({:?}) is longer than reconnect_max ({:?})",
            bridge.reconnect_min, bridge.reconnect_max
        );
        reader.contradiction(
            &at.key("reconnect_min"),
            &involved,
            message,
            "raise reconnect_max or lower reconnect_min",
        );
    }
    login(reader, at, bridge);
    tls(reader, at, bridge);
    way(reader, at, bridge);
    let version_3 = matches!(bridge.protocol_version, BridgeVersion::V31 | BridgeVersion::V311);
    if at.has("session_expiry") && version_3 {
        let message = "session_expiry has no effect: protocol_version is fixed to one without session expiry";
        reader.warn(&at.key("session_expiry"), message, "remove it; clean_session decides");
    }
}

fn login(reader: &mut Reader, at: &At<'_>, bridge: &Bridge) {
    let with_password = bridge.password.is_some() || bridge.password_file.is_some();
    if bridge.password.is_some() && bridge.password_file.is_some() {
        let involved = [at.key("password")];
        let message = "there is a password and a password_file";
        reader.contradiction(&at.key("password_file"), &involved, message, "remove one of them, rather `password`");
    }
    if with_password && bridge.username.is_none() && bridge.protocol_version != BridgeVersion::V5 {
        let key = at.key(if bridge.password.is_some() { "password" } else { "password_file" });
        let message = "there is a password without a username, which 3.1 and 3.1.1 do not have (MQTT-3.1.2-22)";
        reader.contradiction(&key, &[at.key("username")], message, "set username, or protocol_version = 5");
    }
    let texts = [("client_id", Some(bridge.client_id.as_str())), ("username", bridge.username.as_deref())];
    for (key, text) in texts {
        if text.is_some_and(|text| text.contains('\0') || text.len() > STRING_MAX) {
            let message = format!("{key} has to be at most {STRING_MAX} bytes without NUL");
            reader.contradiction(&at.key(key), &[], message, "shorten it");
        }
    }
    if bridge.password.as_ref().is_some_and(|password| password.expose().len() > STRING_MAX) {
        let message = format!("a password has to be at most {STRING_MAX} bytes");
        reader.contradiction(&at.key("password"), &[], message, "shorten it");
    }
    if bridge.client_id.is_empty() && !bridge.clean_session {
        let message = "an empty client_id needs clean_session = true: the remote could not find the session again";
        reader.contradiction(&at.key("client_id"), &[at.key("clean_session")], message, "remove client_id");
    }
}

fn tls(reader: &mut Reader, at: &At<'_>, bridge: &Bridge) {
    let encrypted = bridge.urls.iter().filter(|url| url.tls).count();
    let key = |name: &str| format!("{}.tls.{name}", at.path);
    if at.has("tls") && encrypted == 0 {
        let message = "there are TLS settings, but no address is mqtts:// or wss://: the link would not be encrypted";
        let help = "write mqtts:// or wss:// in `url`, or remove `tls`";
        reader.contradiction(&at.key("tls"), &[at.key("url")], message, help);
    }
    let tls = &bridge.tls;
    if tls.cert_file.is_some() != tls.key_file.is_some() {
        let (has, lacks) = if tls.cert_file.is_some() { ("cert_file", "key_file") } else { ("key_file", "cert_file") };
        let message = format!("there is a {has} without a {lacks}");
        reader.contradiction(&key(has), &[key(lacks)], message, &format!("set {lacks} too, or neither"));
    }
    if tls.min_version > tls.max_version {
        let message = "min_version is newer than max_version";
        reader.contradiction(&key("min_version"), &[key("max_version")], message, "exchange them or remove one");
    }
    if tls.verify == Verify::None && encrypted > 0 {
        let message = "the remote's certificate is not checked: anybody in between can read and write";
        reader.warn(&key("verify"), message, "set ca_file and verify = \"full\"");
    }
    if let Some(name) = tls.server_name.as_deref().filter(|name| !is_server_name(name)) {
        let message = format!("server_name is {name:?}, which is neither a DNS name nor an IP address");
        reader.contradiction(&key("server_name"), &[], message, "write the name that the remote's certificate is for");
    }
    for protocol in &tls.alpn {
        if protocol.is_empty() || protocol.len() > 255 {
            reader.contradiction(&key("alpn"), &[], "a protocol name has 1 to 255 bytes", "correct the name");
        }
    }
}

/// Whether a certificate can be asked for under `name`: an IP address, or labels of a DNS name. A wildcard stands in certificates,
/// and is no name itself.
#[must_use]
pub fn is_server_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(fits) && !label.starts_with('-') && !label.ends_with('-')
    };
    let dns = name.strip_suffix('.').unwrap_or(name);
    name.parse::<std::net::IpAddr>().is_ok() || (dns.len() <= 253 && dns.split('.').all(is_label))
}

/// What leads to the remote.
fn way(reader: &mut Reader, at: &At<'_>, bridge: &Bridge) {
    if at.has("proxy_password_file") {
        let key = at.key("proxy_password_file");
        match &bridge.proxy {
            Some(proxy) if proxy.password.is_some() => {
                let message = "there is a password in `proxy` and a proxy_password_file";
                reader.contradiction(&key, &[at.key("proxy")], message, "remove the password from `proxy`");
            }
            Some(proxy) if proxy.username.is_none() => {
                let message = "there is a proxy_password_file, and `proxy` names no user";
                reader.contradiction(&key, &[at.key("proxy")], message, "write proxy = \"http://user@host:port\"");
            }
            Some(_) => {}
            None => {
                let message = "there is a proxy_password_file without a proxy";
                reader.contradiction(&key, &[at.key("proxy")], message, "set proxy, or remove it");
            }
        }
    }
    if at.has("failback") && bridge.failback.is_some() && bridge.urls.len() == 1 {
        let message = "failback has no effect: there is one address";
        reader.warn(&at.key("failback"), message, "write a list of addresses in `url`, or remove it");
    }
}

/// What can be said of one rule before its filters are put together; false when they should not be.
pub(crate) fn rule(reader: &mut Reader, at: &At<'_>, filter: &str, local_prefix: &str, remote_prefix: &str) -> bool {
    let mut good = true;
    for (key, text) in [("filter", filter), ("local_prefix", local_prefix), ("remote_prefix", remote_prefix)] {
        if text.starts_with("$share/") || text == "$share" {
            let problem =
                Problem::BadValue { expected: "a filter that is not shared".into(), found: format!("{text:?}") };
            let help = "a bridge carries every message itself; write the filter without $share/<name>/";
            reader.refuse(&at.key(key), problem, help);
            good = false;
        }
        if key != "filter" && text.contains(['+', '#']) {
            let problem =
                Problem::BadValue { expected: "a prefix without '+' and '#'".into(), found: format!("{text:?}") };
            reader.refuse(&at.key(key), problem, "wildcards belong into `filter`");
            good = false;
        }
        let joins =
            !text.is_empty() && !text.ends_with('/') && !filter.is_empty() && !filter.starts_with(['/', '#', '+']);
        if key != "filter" && joins && good {
            let message = format!("the prefix does not end in '/': together they are \"{text}{filter}\"");
            reader.warn(&at.key(key), message, &format!("write \"{text}/\" if a level of its own was meant"));
        }
    }
    if filter.is_empty() && (local_prefix.is_empty() || remote_prefix.is_empty()) && good {
        let problem = Problem::BadValue { expected: "a topic filter".into(), found: "\"\"".into() };
        let help = "\"#\" is everything; an empty filter needs both prefixes and renames one topic";
        reader.refuse(&at.key("filter"), problem, help);
        good = false;
    }
    good
}

/// The filter with its prefix, if that is a valid filter.
pub(crate) fn joined(reader: &mut Reader, at: &At<'_>, key: &str, prefix: &str, filter: &str) -> Option<TopicFilter> {
    let whole = format!("{prefix}{filter}");
    match TopicFilter::new(&whole) {
        Ok(filter) => Some(filter),
        Err(error) => {
            let prefix_is_to_blame = filter.is_empty() || TopicFilter::new(filter).is_ok();
            let blamed = at.key(if prefix_is_to_blame { key } else { "filter" });
            if !reader.is_wrong(&blamed) {
                let found = format!("{whole:?}: {error}");
                let problem = Problem::BadValue { expected: "a valid topic filter".into(), found };
                let help = if prefix_is_to_blame && !prefix.ends_with('/') {
                    format!("end the prefix with '/': \"{prefix}/\"")
                } else {
                    "such as \"sensors/#\" or \"sensors/+/temperature\"".to_owned()
                };
                reader.refuse(&blamed, problem, &help);
            }
            None
        }
    }
}

/// `$SYS` belongs to each broker itself: a bridge may carry it away to another name, but not write into it.
pub(crate) fn refuse_sys(
    reader: &mut Reader,
    at: &At<'_>,
    direction: Direction,
    local: &TopicFilter,
    remote: &TopicFilter,
) {
    let sides = [
        (direction.is_in(), local, "local_prefix", "here"),
        (direction.is_out(), remote, "remote_prefix", "at the remote"),
    ];
    for (written, filter, prefix, place) in sides {
        if written && (filter.as_str() == "$SYS" || filter.as_str().starts_with("$SYS/")) {
            let key = if at.has(prefix) { prefix } else { "filter" };
            let message =
                format!("the rule would publish to \"{filter}\" {place}, and $SYS is written by that broker alone");
            let help = format!("set {prefix} so that it becomes another topic, such as \"bridged/\"");
            reader.contradiction(&at.key(key), &[], message, &help);
        }
    }
}

/// What does not go together among the rules of one bridge; each comes with its path.
pub(crate) fn topics(reader: &mut Reader, bridge: &Bridge, topics: &[(String, BridgeTopic)]) {
    for (index, (path, rule)) in topics.iter().enumerate() {
        if !bridge.remote.dollar_topics && rule.remote.as_str().starts_with('$') {
            let message = format!(
                "the rule needs \"{}\" at the remote, and remote.dollar_topics says that it takes no such topics",
                rule.remote
            );
            reader.contradiction(&format!("{path}.filter"), &[], message, "remove the rule, or remote.dollar_topics");
        }
        if rule.direction == Direction::Both {
            comes_back(reader, bridge, path, rule, rule);
            crosses_links(reader, bridge, path, rule, rule);
        }
        for (other_path, other) in topics.iter().take(index) {
            let same = if rule.direction.is_out() && other.direction.is_out() && rule.local == other.local {
                Some(("here", &rule.local))
            } else if rule.direction.is_in() && other.direction.is_in() && rule.remote == other.remote {
                Some(("at the remote", &rule.remote))
            } else {
                None
            };
            if let Some((place, filter)) = same {
                let message = format!("it subscribes to \"{filter}\" {place}, as `{other_path}` does already");
                let help = "one filter is one subscription: keep one of the two rules";
                reader.contradiction(&format!("{path}.filter"), &[], message, help);
            } else if rule.direction.is_out() && other.direction.is_in() {
                comes_back(reader, bridge, path, rule, other);
                crosses_links(reader, bridge, path, rule, other);
            } else if rule.direction.is_in() && other.direction.is_out() {
                comes_back(reader, bridge, path, other, rule);
                crosses_links(reader, bridge, path, other, rule);
            }
        }
    }
}

/// Refuses, or warns of, a way out and a way in that meet on both sides while nothing at the remote keeps a bridge from
/// getting its own messages: neither No Local (5.0) nor the private bit. See docs/decisions/0004-allow-loop.md.
fn comes_back(reader: &mut Reader, bridge: &Bridge, path: &str, out: &BridgeTopic, back: &BridgeTopic) {
    let protected = match bridge.protocol_version {
        BridgeVersion::V5 => true,
        BridgeVersion::Auto | BridgeVersion::V31 | BridgeVersion::V311 => bridge.try_private,
    };
    let allowed = out.allow_loop && back.allow_loop;
    if protected || allowed || !meet(&out.local, &back.local) || !meet(&out.remote, &back.remote) {
        return;
    }
    let help = "set try_private = true or protocol_version = 5, or allow_loop = true if the remote is known to cope";
    let key = format!("{path}.filter");
    if bridge.protocol_version == BridgeVersion::Auto {
        let message = "if the remote does not take 5.0, this bridge's own messages come back to it and have to be \
                       recognised: try_private is false";
        reader.warn(&key, message, help);
    } else if out.local_prefix == out.remote_prefix && back.local_prefix == back.remote_prefix {
        let message = format!(
            "the rule would loop: what goes out on \"{}\" comes back in on \"{}\", and with this protocol_version and \
             try_private = false the remote has no means to prevent it",
            out.remote, back.remote
        );
        reader.contradiction(&key, &[], message, help);
    } else {
        let message =
            "this bridge's own messages come back to it and have to be recognised: the remote cannot hold them back";
        reader.warn(&key, message, help);
    }
}

/// Refuses a way out and a way in that meet on a side when there are several links: what one link brings is not the own
/// message of another, neither here nor at the remote. See docs/decisions/0017-parallel-links.md.
fn crosses_links(reader: &mut Reader, bridge: &Bridge, path: &str, out: &BridgeTopic, back: &BridgeTopic) {
    let place = if meet(&out.remote, &back.remote) { "at the remote" } else { "here" };
    if bridge.links == 1 || (!meet(&out.local, &back.local) && !meet(&out.remote, &back.remote)) {
        return;
    }
    let message = format!(
        "what goes out on \"{}\" and what comes in on \"{}\" meet {place}, and with links = {} a message that one link \
         carries would come back on another",
        out.local, back.remote, bridge.links
    );
    let help = "set links = 1, keep the ways apart by prefixes, or make a bridge of its own for one of them";
    reader.contradiction(&format!("{path}.filter"), &[], message, help);
}

/// Whether some topic is matched by both filters.
pub(crate) fn meet(a: &TopicFilter, b: &TopicFilter) -> bool {
    let (mut a, mut b) = (a.as_str().split('/'), b.as_str().split('/'));
    loop {
        match (a.next(), b.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(one), Some(other)) if one == other || one == "+" || other == "+" => {}
            _ => return false,
        }
    }
}
