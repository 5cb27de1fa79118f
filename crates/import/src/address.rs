//! Addresses, as other brokers write them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// `host[:port]` of a remote as one of our URLs; `None` when it is no address.
pub(crate) fn url(written: &str, tls: bool, default_port: Option<u16>) -> Option<String> {
    let (host, port) = split(written)?;
    let port: u16 = match port {
        Some(digits) => digits.parse().ok().filter(|port| *port > 0)?,
        None => default_port?,
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let host = if host.parse::<Ipv6Addr>().is_ok() {
        format!("[{host}]")
    } else if !host.is_empty() && host.len() <= 253 && host.chars().all(fits) {
        host.to_owned()
    } else {
        return None;
    };
    Some(format!("{}://{host}:{port}", if tls { "mqtts" } else { "mqtt" }))
}

/// Host and port; an IPv6 address with a port has brackets.
fn split(written: &str) -> Option<(&str, Option<&str>)> {
    if let Some(inner) = written.strip_prefix('[') {
        let (host, rest) = inner.split_once(']').filter(|(host, _)| host.parse::<Ipv6Addr>().is_ok())?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    if written.parse::<Ipv6Addr>().is_ok() {
        return Some((written, None));
    }
    Some(match written.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (written, None),
    })
}

/// An address to listen on; `None` for a name that would have to be looked up.
pub(crate) fn ip(host: &str) -> Option<IpAddr> {
    match host {
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        "*" => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        _ => host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host).parse().ok(),
    }
}

/// `ip:port` to listen on.
pub(crate) fn bind(written: &str) -> Option<SocketAddr> {
    let (host, port) = split(written)?;
    Some(SocketAddr::new(ip(host)?, port?.parse().ok().filter(|port| *port > 0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes_become_urls() {
        let plain = |text| url(text, false, Some(1883));
        assert_eq!(plain("hub").unwrap(), "mqtt://hub:1883");
        assert_eq!(plain("10.0.0.1:1884").unwrap(), "mqtt://10.0.0.1:1884");
        assert_eq!(plain("::1").unwrap(), "mqtt://[::1]:1883");
        assert_eq!(plain("[::1]:1884").unwrap(), "mqtt://[::1]:1884");
        assert_eq!(url("hub", true, Some(8883)).unwrap(), "mqtts://hub:8883");
        assert_eq!(url("hub", true, None), None);
        for bad in ["", ":1", "hub:", "hub:0", "hub:70000", "a b", "u@h:1", "[::1", "[x]:1", "h/p:1"] {
            assert_eq!(plain(bad), None, "{bad}");
        }
    }

    #[test]
    fn listening_needs_an_address() {
        assert_eq!(bind("0.0.0.0:1883").unwrap().to_string(), "0.0.0.0:1883");
        assert_eq!(bind("[::]:1883").unwrap().to_string(), "[::]:1883");
        assert_eq!(bind("localhost:1883").unwrap().to_string(), "127.0.0.1:1883");
        for bad in ["host.example:1883", "1.2.3.4", "1.2.3.4:x", "", "1.2.3.4:0"] {
            assert_eq!(bind(bad), None, "{bad}");
        }
    }
}
