//! What holds for the configuration as a whole, whoever wrote it.
//!
//! In: listeners and bridges as they were found. Out: the same with names and addresses of their own, so that ours starts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::SideFile;
use crate::desk::Desk;
use crate::directive::Directive;
use crate::output::{ListenerOut, Section, name, quoted};

/// Where our HTTP listens when nothing says otherwise.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8888);

/// Adds a listener unless its address is taken, under a name of its own.
pub(crate) fn add_listener(mut listener: ListenerOut, desk: &mut Desk<'_>) {
    if let Some(other) = desk.output.listeners.iter().find(|other| collide(other.bind, listener.bind)) {
        let why = format!("{} is taken by listener {:?} already; it is left out", listener.bind, other.name);
        desk.report.act(&listener.origin, why, "give one of the two another address");
        return;
    }
    listener.name = name(&listener.name, desk.output.listeners.iter().map(|other| other.name.as_str()));
    desk.output.listeners.push(listener);
}

/// A name for the next bridge.
pub(crate) fn bridge_name(origin: &Directive, wanted: &str, desk: &mut Desk<'_>) -> String {
    let found = name(wanted, desk.output.bridges.iter().map(|bridge| bridge.name.as_str()));
    if found != wanted {
        let why = format!("its name is {found:?} here: 1 to 64 bytes without '/', '+' and '#', and each once");
        desk.report.act(origin, why, "look at its client_id, which has the name in it unless it is set");
    }
    found
}

/// A file beside the configuration that holds `text`; where it is.
pub(crate) fn side_file(
    path: &str,
    ending: &str,
    text: String,
    what: &'static str,
    files: &mut Vec<SideFile>,
) -> String {
    let is_free = |path: &str| !files.iter().any(|file| file.path == path);
    let mut whole = format!("{path}{ending}");
    // There are fewer files than numbers.
    for number in 2_u32.. {
        if is_free(&whole) {
            break;
        }
        whole = format!("{path}-{number}{ending}");
    }
    files.push(SideFile { path: whole.clone(), text, what });
    whole
}

/// One listener at least, or ours would open one of its own.
pub(crate) fn some_listener(desk: &mut Desk<'_>) {
    if !desk.output.listeners.is_empty() {
        return;
    }
    let origin = Directive::implied(desk.request.file, "listener", "");
    let why = "no listener could be taken over; one on 127.0.0.1:1883 that asks for a password is set";
    desk.report.act(&origin, why, "write the listeners");
    desk.output.listeners.push(ListenerOut {
        name: "default".into(),
        bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1883),
        origin,
        anonymous: false,
        by_certificate: false,
        section: Section::default(),
        tls: None,
    });
}

/// Keeps our HTTP out of the way of the listeners.
pub(crate) fn admin(bind: Option<(SocketAddr, &Directive)>, desk: &mut Desk<'_>) {
    let wanted = bind.map_or(ADMIN, |(address, _)| address);
    let taken = desk.output.listeners.iter().find(|listener| collide(listener.bind, wanted)).cloned();
    match (taken, bind) {
        (Some(listener), _) => {
            let why =
                format!("it has {}, where metrics, health and API would be; they are switched off", listener.bind);
            desk.report.act(&listener.origin, why, "set admin.bind to another address");
            desk.output.admin.because("bind", quoted("off"), "a listener has its address");
        }
        (None, Some((address, directive))) => desk.output.admin.set("bind", quoted(&address.to_string()), directive),
        (None, None) => {}
    }
}

/// Whether the system would refuse the second of the two. `[::]` takes IPv4 as well.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let takes = |one: IpAddr, other: IpAddr| one.is_unspecified() && (one.is_ipv6() || other.is_ipv4());
    a.port() == b.port() && (a.ip() == b.ip() || takes(a.ip(), b.ip()) || takes(b.ip(), a.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_collide_as_the_system_has_it() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (a, b, refused) in [
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "[::]:1", true),
            ("[::]:1", "127.0.0.1:1", true),
            ("[::]:1", "[::1]:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("127.0.0.1:1", "[::1]:1", false),
            ("127.0.0.1:1", "127.0.0.1:2", false),
        ] {
            assert_eq!((collide(at(a), at(b)), collide(at(b), at(a))), (refused, refused), "{a} {b}");
        }
    }
}
