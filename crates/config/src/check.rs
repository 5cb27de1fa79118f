//! What does not go together, across keys and tables.
//!
//! In: a configuration whose single values are right, and the reader that knows their places. Out: findings. Must
//! never: look at one value alone (that is `value`'s), or repeat a finding that the reader already has.

use std::net::{IpAddr, SocketAddr};

use crate::model::{Config, Listener, TlsServer, UsernameFrom};
use crate::reader::Reader;

/// Checks everything but what stands inside one bridge, which `check_bridge` does while the bridge is read.
pub(crate) fn all(reader: &mut Reader, config: &Config) {
    for (index, listener) in config.listeners.iter().enumerate() {
        let path = format!("listener[{index}]");
        if let Some(tls) = &listener.tls {
            client_certificates(reader, &path, tls);
        }
        somebody_can_log_in(reader, &path, listener, config);
    }
    listener_names(reader, config);
    addresses(reader, config);
    bridges(reader, config);
    if config.admin.bind.is_some_and(|bind| !bind.ip().is_loopback()) && config.admin.token_file.is_none() {
        reader.warn(
            "admin.bind",
            "HTTP is reachable from other machines and there is no admin.token_file: metrics and health are served, \
             the API answers nobody",
            "set admin.token_file, or bind to 127.0.0.1",
        );
    }
    if config.session.max_queued_bytes < u64::from(config.limits.max_packet_size) {
        reader.warn(
            "session.max_queued_bytes",
            "it is smaller than limits.max_packet_size: a message of that size is taken and can never wait for anybody",
            "raise session.max_queued_bytes or lower limits.max_packet_size",
        );
    }
}

fn client_certificates(reader: &mut Reader, path: &str, tls: &TlsServer) {
    if tls.client_ca_file.is_some() {
        return;
    }
    let authority = format!("{path}.tls.client_ca_file");
    let help = "set client_ca_file to the authorities that client certificates are checked against";
    if tls.require_client_certificate {
        let key = format!("{path}.tls.require_client_certificate");
        let message = "client certificates are required, but there is no client_ca_file to check them against";
        reader.contradiction(&key, std::slice::from_ref(&authority), message, help);
    }
    if tls.username_from != UsernameFrom::None {
        let key = format!("{path}.tls.username_from");
        let message = "the user name is to come from the client certificate, but there is no client_ca_file";
        reader.contradiction(&key, std::slice::from_ref(&authority), message, help);
    }
    if tls.crl_file.is_some() {
        let key = format!("{path}.tls.crl_file");
        let message = "there is a list of revoked client certificates, but no client_ca_file";
        reader.contradiction(&key, std::slice::from_ref(&authority), message, help);
    }
}

/// A listener that lets nobody in is a mistake: without anonymous clients there have to be passwords or certificates.
fn somebody_can_log_in(reader: &mut Reader, path: &str, listener: &Listener, config: &Config) {
    let by_certificate = listener
        .tls
        .as_ref()
        .is_some_and(|tls| tls.username_from != UsernameFrom::None && tls.client_ca_file.is_some());
    if listener.allow_anonymous || config.auth.password_file.is_some() || by_certificate {
        return;
    }
    let involved = [
        format!("{path}.bind"),
        format!("{path}.tls"),
        format!("{path}.tls.username_from"),
        format!("{path}.tls.client_ca_file"),
        "auth".into(),
        "auth.password_file".into(),
    ];
    let mut key = format!("{path}.allow_anonymous");
    if !reader.is_written(&key) {
        key = format!("{path}.bind");
    }
    let message = format!(
        "nobody could log in on listener \"{}\": allow_anonymous is false{}, and there is neither auth.password_file nor \
         a user name from a client certificate",
        listener.name,
        if listener.bind.ip().is_loopback() { "" } else { " (its default on anything but loopback)" }
    );
    reader.contradiction(
        &key,
        &involved,
        message,
        "set auth.password_file, or allow_anonymous = true to let everybody in",
    );
}

fn listener_names(reader: &mut Reader, config: &Config) {
    for (index, listener) in config.listeners.iter().enumerate() {
        let same = |other: &&Listener| other.name == listener.name;
        if config.listeners.iter().take(index).any(|other| same(&other)) {
            let message = format!("there is another listener with the name \"{}\"", listener.name);
            reader.contradiction(&format!("listener[{index}].name"), &[], message, "give each listener its own name");
        }
    }
}

fn addresses(reader: &mut Reader, config: &Config) {
    let mut taken: Vec<(String, String, SocketAddr)> = Vec::new();
    let listeners = config.listeners.iter().enumerate().map(|(index, listener)| {
        (format!("listener[{index}].bind"), format!("listener \"{}\"", listener.name), listener.bind)
    });
    let admin = config.admin.bind.map(|bind| ("admin.bind".to_owned(), "admin".to_owned(), bind));
    for (key, who, bind) in listeners.chain(admin) {
        if let Some((other, whose, at)) = taken.iter().find(|(_, _, at)| collide(*at, bind)) {
            let message = format!("{bind} is already taken: {whose} has {at}");
            let other = [other.clone()];
            reader.contradiction(&key, &other, message, "choose another port");
        }
        taken.push((key, who, bind));
    }
}

/// Whether the system would refuse the second of the two.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let everywhere = |ip: IpAddr| ip.is_unspecified();
    a.port() != 0
        && a.port() == b.port()
        && a.is_ipv4() == b.is_ipv4()
        && (a.ip() == b.ip() || everywhere(a.ip()) || everywhere(b.ip()))
}

fn bridges(reader: &mut Reader, config: &Config) {
    for (index, bridge) in config.bridges.iter().enumerate() {
        for (earlier, other) in config.bridges.iter().take(index).enumerate() {
            let name = format!("bridge[{index}].name");
            if bridge.name == other.name {
                let message = format!("there is another bridge with the name \"{}\"", bridge.name);
                let involved = [format!("bridge[{earlier}].name")];
                reader.contradiction(&name, &involved, message, "give each bridge its own name");
                continue;
            }
            let both = bridge.enabled && other.enabled;
            let shared = bridge.urls.iter().find(|url| other.urls.contains(url));
            let theirs: Vec<String> = other.client_ids().collect();
            let same = bridge.client_ids().find(|id| !id.is_empty() && theirs.contains(id));
            if let (true, Some(client_id), Some(url)) = (both, same, shared) {
                let message = format!(
                    "bridges \"{}\" and \"{}\" both dial {url} as \"{client_id}\" and would take the session from each other for ever",
                    other.name, bridge.name
                );
                let involved = [format!("bridge[{earlier}].client_id"), name];
                let help = "give each its own client_id, or remove the key";
                reader.contradiction(&format!("bridge[{index}].client_id"), &involved, message, help);
            }
        }
        if bridge.queue.max_bytes != config.session.max_queued_bytes
            && bridge.queue.max_bytes < u64::from(config.limits.max_packet_size)
        {
            let message =
                "it is smaller than limits.max_packet_size: a message of that size can never cross the bridge";
            reader.warn(
                &format!("bridge[{index}].queue.max_bytes"),
                message,
                "raise it, or lower limits.max_packet_size",
            );
        }
    }
}
