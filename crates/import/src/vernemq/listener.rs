//! One listener of VerneMQ as ours.
//!
//! Must never: listen on more addresses than VerneMQ did, or without the TLS that it had. What can't be said so is left out.

use std::net::SocketAddr;

use crate::address;
use crate::desk::Desk;
use crate::directive::Directive;
use crate::finish;
use crate::output::{ListenerOut, Section, quoted};
use crate::pem::{self, Kind};
use crate::report::Report;
use crate::value::{flag, number, text, tls_version, wrong};

use super::general::General;
use super::{Parts, Which};

/// Adds the listener that `directive` opens; one for HTTP becomes `admin`.
pub(super) fn add<'a>(
    parts: &'a Parts,
    which: &Which,
    directive: &'a Directive,
    general: &mut General,
    admin: &mut Option<(SocketAddr, &'a Directive)>,
    desk: &mut Desk<'_>,
) {
    let (protocol, name) = which;
    match protocol.as_str() {
        "vmq" | "vmqs" => return desk.report.fine(directive, "only a cluster needs it, and this is one node"),
        "https" => {
            let advice = "set admin.bind, and let a proxy speak TLS before it";
            return desk.report.act(directive, "metrics, health and API are served without TLS", advice);
        }
        _ => {}
    }
    if directive.value.starts_with("local:") {
        return desk.report.act(directive, "there are no UNIX sockets; it is left out", "use a listener on 127.0.0.1");
    }
    let Some(bind) = address::bind(&directive.value) else {
        wrong::<()>(directive, "IP:PORT", &mut desk.report);
        return;
    };
    if protocol == "http" {
        match admin {
            None => *admin = Some((bind, directive)),
            Some((first, _)) => {
                let why = format!("there is one address for metrics, health and API, and it is {first}");
                desk.report.act(directive, why, "fetch them there");
            }
        }
        return;
    }
    let here = |option: &str| parts.of_listener(which, option);
    let opened =
        here("allow_anonymous_override").and_then(|directive| flag(directive, &mut desk.report)).unwrap_or(false);
    let mut listener = ListenerOut {
        name: if name == "default" { format!("{protocol}-default") } else { name.clone() },
        bind,
        origin: directive.clone(),
        anonymous: general.anonymous || opened,
        by_certificate: false,
        section: Section::default(),
        tls: None,
    };
    if protocol.starts_with("ws") {
        listener.section.set("transport", quoted("ws"), directive);
        listener.section.because("path", quoted("/mqtt"), "VerneMQ's path");
    }
    let encrypted = matches!(protocol.as_str(), "ssl" | "wss");
    if options(parts, which, general, &mut listener, &mut desk.report).is_none()
        || (encrypted && tls(parts, which, &mut listener, desk).is_none())
    {
        return;
    }
    finish::add_listener(listener, desk);
}

/// What is not TLS; `None` after a mistake.
fn options(
    parts: &Parts,
    which: &Which,
    general: &mut General,
    listener: &mut ListenerOut,
    report: &mut Report,
) -> Option<()> {
    let here = |option: &str| parts.of_listener(which, option);
    if let Some(directive) = here("max_connections")
        && directive.value != "infinity"
    {
        let most = number(directive, 0, i64::MAX, report)?.clamp(1, 1_000_000_000);
        listener.section.set("max_connections", most.to_string(), directive);
    }
    if let Some(directive) = here("allowed_protocol_versions") {
        let words: Vec<&str> = directive.value.split(',').map(str::trim).collect();
        if !words.iter().all(|word| matches!(*word, "3" | "4" | "5" | "131" | "132")) {
            return wrong(directive, "3, 4, 5, 131 and 132 with commas between them", report);
        }
        listener.section.set("allowed_protocol_versions", format!("[{}]", words.join(", ")), directive);
    }
    let mountpoint = here("mountpoint").filter(|directive| !matches!(directive.value.as_str(), "" | "off"));
    let value = mountpoint.map_or("", |directive| directive.value.as_str());
    if !general.mountpoints.iter().any(|other| other == value) {
        general.mountpoints.push(value.to_owned());
    }
    if let Some(directive) = mountpoint {
        listener.section.set("mountpoint", quoted(&format!("{value}/")), directive);
        let why = "it is a prefix of topics here and no world of its own";
        let advice = "keep clients without a mountpoint from topics below it (auth.acl_file), and ClientIDs different";
        report.act(directive, why, advice);
    }
    Some(())
}

/// TLS; `None` when there can be no such listener.
fn tls(parts: &Parts, which: &Which, listener: &mut ListenerOut, desk: &mut Desk<'_>) -> Option<()> {
    let here = |option: &str| parts.of_listener(which, option).filter(|directive| !directive.value.is_empty());
    let is_on =
        |option: &str, report: &mut Report| here(option).filter(|directive| flag(directive, report) == Some(true));
    let mut section = Section::default();
    for (option, ours, kind) in [("certfile", "cert_file", Kind::Certificates), ("keyfile", "key_file", Kind::Key)] {
        let Some(directive) = here(option) else {
            let why = format!("there is no {option}; the listener is left out");
            desk.report.act(&listener.origin, why, "write it with cert_file and key_file");
            return None;
        };
        let path = desk.reader.resolve(text(directive, &mut desk.report)?);
        pem::look(directive, &path, kind, desk);
        section.set(ours, quoted(&path), directive);
    }
    if let Some(directive) = here("tls_version") {
        section.set("min_version", tls_version(directive, &mut desk.report)?, directive);
    }
    let by_name = is_on("use_identity_as_username", &mut desk.report);
    match (is_on("require_certificate", &mut desk.report).or(by_name), here("cafile")) {
        (Some(required), Some(authorities)) => {
            let path = desk.reader.resolve(&authorities.value);
            pem::look(authorities, &path, Kind::Certificates, desk);
            section.set("client_ca_file", quoted(&path), authorities);
            section.set("require_client_certificate", "true", required);
            if let Some(directive) = here("crlfile") {
                let path = desk.reader.resolve(&directive.value);
                pem::look(directive, &path, Kind::Revoked, desk);
                section.set("crl_file", quoted(&path), directive);
            }
        }
        (Some(required), None) => {
            let why = "client certificates are asked for, and nothing says whose; the listener is left out";
            desk.report.act(required, why, "write it with client_ca_file");
            return None;
        }
        (None, _) => {
            for directive in [here("cafile"), here("crlfile")].into_iter().flatten() {
                let why = "without require_certificate no client is asked for a certificate; append intermediate certificates in it to certfile";
                desk.report.fine(directive, why);
            }
        }
    }
    if let Some(directive) = by_name {
        section.set("username_from", quoted("cn"), directive);
        listener.by_certificate = true;
    }
    listener.tls = Some(section);
    Some(())
}
