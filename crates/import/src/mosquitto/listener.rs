//! One listener of mosquitto as ours.
//!
//! Must never: listen on more addresses than mosquitto did, or without the TLS that it had. What can't be said so is left
//! out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::address;
use crate::desk::Desk;
use crate::directive::Directive;
use crate::finish;
use crate::output::{ListenerOut, Section, quoted};
use crate::pem::{self, Kind};
use crate::report::Report;
use crate::value::{flag, number, text, tls_version, words, wrong};

use super::Block;
use super::general::General;

/// What makes a TLS listener.
const TLS: [&str; 8] = [
    "cafile",
    "capath",
    "certfile",
    "keyfile",
    "require_certificate",
    "use_identity_as_username",
    "use_subject_as_username",
    "crlfile",
];

/// The listener of a mosquitto without one.
pub(super) fn local_only(file: &str, anonymous: bool) -> ListenerOut {
    let origin = Directive::implied(file, "no listener: local only", "");
    ListenerOut {
        name: "default".into(),
        bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1883),
        origin,
        anonymous,
        by_certificate: false,
        section: Section::default(),
        tls: None,
    }
}

/// Adds the listener of `block`, if it can be one of ours.
pub(super) fn add(block: &Block, general: &mut General, desk: &mut Desk<'_>) {
    // Both are noted where they stand.
    if block.last("psk_hint").is_some() || block.last("bind_interface").is_some() {
        return;
    }
    let Some(bind) = bind(block, &mut desk.report) else { return };
    let mut listener = ListenerOut {
        name: format!("port-{}", bind.port()),
        bind,
        origin: block.opens.clone(),
        anonymous: anonymous(block, general, &mut desk.report),
        by_certificate: false,
        section: Section::default(),
        tls: None,
    };
    if options(block, general, &mut listener, desk).is_none() {
        return;
    }
    if tls(block, &mut listener, desk).is_none() {
        return;
    }
    finish::add_listener(listener, desk);
}

fn anonymous(block: &Block, general: &General, report: &mut Report) -> bool {
    let own = if general.per_listener { block.last("allow_anonymous") } else { None };
    match block.last("listener_allow_anonymous").or(own) {
        Some(directive) => flag(directive, report).unwrap_or(false),
        None => general.anonymous.unwrap_or(false),
    }
}

/// Where it listens; `None` when that is said already.
fn bind(block: &Block, report: &mut Report) -> Option<SocketAddr> {
    let opens = &block.opens;
    let everywhere = match block.last("socket_domain").map(|directive| directive.value.as_str()) {
        Some("ipv6") => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let (port, host, said) = if opens.name == "listener" {
        let words = words(&opens.value).unwrap_or_default();
        let port = words.first().and_then(|word| word.parse::<u16>().ok());
        let Some(port) = port else { return wrong(opens, "a port", report) };
        (port, words.get(1).cloned(), opens)
    } else {
        let port = match block.last("port") {
            Some(directive) => u16::try_from(number(directive, 0, 65_535, report)?).ok()?,
            None => 1883,
        };
        let address = block.last("bind_address");
        (port, address.map(|directive| directive.value.clone()), address.unwrap_or(opens))
    };
    let host = host.filter(|host| !host.is_empty());
    if port == 0 {
        match host {
            Some(_) => report.act(said, "there are no UNIX sockets; it is left out", "use a listener on 127.0.0.1"),
            None => report.fine(said, "port 0 is no listener"),
        }
        return None;
    }
    match &host {
        None => {
            if everywhere.is_ipv4() && block.last("socket_domain").is_none() {
                let advice = format!("write bind = \"[::]:{port}\" if clients come over IPv6 too");
                report.act(said, "it is every IPv4 address here", advice);
            }
            Some(SocketAddr::new(everywhere, port))
        }
        Some(host) => match address::ip(host) {
            Some(ip) => Some(SocketAddr::new(ip, port)),
            None => {
                let why = format!("{host:?} would have to be looked up; the listener is left out");
                report.act(said, why, "write the listener with the IP address of that name");
                None
            }
        },
    }
}

/// What is not TLS; `None` when there can be no such listener.
fn options(block: &Block, general: &mut General, listener: &mut ListenerOut, desk: &mut Desk<'_>) -> Option<()> {
    for directive in &block.options {
        match directive.name.as_str() {
            "protocol" => match directive.value.as_str() {
                "mqtt" => {}
                "websockets" => {
                    listener.section.set("transport", quoted("ws"), directive);
                    listener.section.because("path", quoted("/mqtt"), "mosquitto takes every path");
                    let advice = "let clients ask for /mqtt, or set path to what they ask for";
                    desk.report.act(directive, "a WebSocket listener has one path", advice);
                }
                "http_api" => {
                    desk.report.act(directive, "HTTP is on admin.bind; the listener is left out", "set admin.bind");
                    return None;
                }
                _ => return wrong(directive, "mqtt, websockets or http_api", &mut desk.report),
            },
            "max_connections" => {
                let most = number(directive, -1, i64::MAX, &mut desk.report)?;
                if most >= 0 {
                    let most = most.clamp(1, 1_000_000_000);
                    listener.section.set("max_connections", most.to_string(), directive);
                }
            }
            "mount_point" => {
                if let Some(prefix) = text(directive, &mut desk.report) {
                    if prefix.contains(['+', '#']) {
                        return wrong(directive, "a prefix of topics, without wildcards", &mut desk.report);
                    }
                    listener.section.set("mountpoint", quoted(prefix), directive);
                    if let Some(rules) = general.auth.acl_files.first() {
                        let why =
                            format!("rules are about topics as clients write them, without the mount_point {prefix:?}");
                        desk.report.act(rules, why, "take the mount_point off the topics of its rules");
                    }
                }
            }
            "accept_protocol_versions" => {
                if let Some(levels) = levels(directive, &mut desk.report) {
                    listener.section.set("allowed_protocol_versions", levels, directive);
                }
            }
            "max_topic_alias" => {
                let most = number(directive, 0, 65_535, &mut desk.report)?;
                if general.topic_aliases.is_none_or(|before| most > before) {
                    general.topic_aliases = Some(most);
                    desk.output.limits.set("topic_alias_maximum", most.to_string(), directive);
                }
            }
            "socket_domain" if !matches!(directive.value.as_str(), "ipv4" | "ipv6") => {
                return wrong(directive, "ipv4 or ipv6", &mut desk.report);
            }
            _ => {}
        }
    }
    Some(())
}

/// Protocol levels; the private ones come with those that they are variants of.
fn levels(directive: &Directive, report: &mut Report) -> Option<String> {
    let mut levels = Vec::new();
    for word in directive.value.split([',', ' ']).filter(|word| !word.is_empty()) {
        match word {
            "3" => levels.extend(["3", "131"]),
            "4" => levels.extend(["4", "132"]),
            "5" => levels.push("5"),
            _ => return wrong(directive, "3, 4 and 5 with commas between them", report),
        }
    }
    if levels.is_empty() {
        return wrong(directive, "3, 4 and 5 with commas between them", report);
    }
    levels.dedup();
    Some(format!("[{}]", levels.join(", ")))
}

/// TLS, if it has any; `None` when there can be no such listener.
fn tls(block: &Block, listener: &mut ListenerOut, desk: &mut Desk<'_>) -> Option<()> {
    let (certificate, key) = match (block.last("certfile"), block.last("keyfile")) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => {
            if let Some(directive) = TLS.iter().find_map(|name| block.last(name)) {
                desk.report.act(
                    directive,
                    "there is no certfile, so the listener has no TLS, as before",
                    "set cert_file and key_file",
                );
            }
            return Some(());
        }
        (Some(lonely), None) | (None, Some(lonely)) => {
            desk.report.wrong(&lonely.place, "certfile and keyfile need each other");
            return None;
        }
    };
    let mut section = Section::default();
    for (name, directive, kind) in [("cert_file", certificate, Kind::Certificates), ("key_file", key, Kind::Key)] {
        let path = desk.reader.resolve(text(directive, &mut desk.report)?);
        pem::look(directive, &path, kind, desk);
        section.set(name, quoted(&path), directive);
    }
    if let Some(directive) = block.last("tls_version") {
        section.set("min_version", tls_version(directive, &mut desk.report)?, directive);
    }
    let is_on =
        |name: &str, report: &mut Report| block.last(name).filter(|directive| flag(directive, report).unwrap_or(false));
    let by_subject = is_on("use_subject_as_username", &mut desk.report);
    let by_name = is_on("use_identity_as_username", &mut desk.report);
    let required = is_on("require_certificate", &mut desk.report).or(by_name).or(by_subject);
    match required {
        Some(required) => {
            authorities(block, required, listener, &mut section, desk)?;
            section.set("require_client_certificate", "true", required);
            if let Some(directive) = block.last("crlfile") {
                let path = desk.reader.resolve(text(directive, &mut desk.report)?);
                pem::look(directive, &path, Kind::Revoked, desk);
                section.set("crl_file", quoted(&path), directive);
            }
        }
        None => {
            for directive in ["cafile", "capath", "crlfile"].iter().filter_map(|name| block.last(name)) {
                let why = "without require_certificate no client is asked for a certificate; append intermediate certificates in it to cert_file";
                desk.report.fine(directive, why);
            }
        }
    }
    if let Some(directive) = by_name.or(by_subject) {
        section.set("username_from", quoted(if by_name.is_some() { "cn" } else { "subject" }), directive);
        listener.by_certificate = true;
    }
    listener.tls = Some(section);
    Some(())
}

/// Whom client certificates are checked against; without anybody there is no such listener.
fn authorities(
    block: &Block,
    required: &Directive,
    listener: &ListenerOut,
    section: &mut Section,
    desk: &mut Desk<'_>,
) -> Option<()> {
    if let Some(directive) = block.last("cafile") {
        let path = desk.reader.resolve(text(directive, &mut desk.report)?);
        pem::look(directive, &path, Kind::Certificates, desk);
        section.set("client_ca_file", quoted(&path), directive);
        return Some(());
    }
    if let Some(directive) = block.last("capath") {
        let folder = desk.reader.resolve(text(directive, &mut desk.report)?);
        let text = pem::gather(directive, &folder, desk);
        let beside = format!("{}.{}", desk.request.beside, listener.name);
        let path =
            finish::side_file(&beside, ".ca.pem", text, "the authorities of client certificates", &mut desk.files);
        section.set("client_ca_file", quoted(&path), directive);
        return Some(());
    }
    let why = "client certificates are asked for, and nothing says whose; the listener is left out";
    desk.report.act(required, why, "write it with client_ca_file");
    None
}
